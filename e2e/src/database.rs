//! A database of the test's own.

use events::store::Database;
use events::store::schema::Schema;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::setting;

/// An empty database that goes when this is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    pub url: String,
}

impl TestDatabase {
    /// Makes the database.
    pub async fn create() -> Self {
        let server = setting("DATABASE_URL");
        let name = format!("rookery_test_{}", Uuid::now_v7().simple());
        let mut connection = PgConnection::connect(&server).await.expect("PostgreSQL answers");
        sqlx::query(AssertSqlSafe(format!("create database {name}")))
            .execute(&mut connection)
            .await
            .expect("the user of DATABASE_URL may create databases");
        let (address, _) = server.rsplit_once('/').expect("DATABASE_URL ends with /name");
        let url = format!("{address}/{name}");
        Self { name, url }
    }

    /// Makes the database with both schemas.
    pub async fn migrated() -> Self {
        let database = Self::create().await;
        let pool = database.pool().await;
        Schema::Log.migrate(&pool).await.expect("the log's schema is applied");
        Schema::Feed.migrate(&pool).await.expect("the feed's schema is applied");
        database
    }

    /// Connections to it, as the programs open them.
    pub async fn pool(&self) -> PgPool {
        self.database().connect(4).await.expect("the database answers")
    }

    /// The database, as the programs know it.
    #[must_use]
    pub fn database(&self) -> Database {
        Database::parse("DATABASE_URL", &self.url, "rookery test").expect("its URL is well-formed")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let drop = format!("drop database if exists {} with (force)", self.name);
        let server = setting("DATABASE_URL");
        // A thread of its own: a runtime cannot wait inside a runtime.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(async {
                let mut connection = PgConnection::connect(&server).await?;
                sqlx::query(AssertSqlSafe(drop)).execute(&mut connection).await
            })
        });
        if let Ok(Err(error)) = cleaning.join() {
            eprintln!("{} was left behind: {error}", self.name);
        }
    }
}

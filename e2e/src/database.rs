//! A database of the test's own.

use events::projection::ProjectionName;
use events::store::schema::Schema;
use events::store::{Connections, Database};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::gate::Gate;
use crate::{setting, until};

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

    /// A copy of it as it is now, as one would restore from a backup. Nobody may be connected to it.
    pub async fn backup(&self) -> Self {
        let server = setting("DATABASE_URL");
        let name = format!("rookery_test_{}", Uuid::now_v7().simple());
        let mut connection = PgConnection::connect(&server).await.expect("PostgreSQL answers");
        // Sessions of programs that were killed are still on their way out.
        let copy = format!("create database {name} template {}", self.name);
        until("nobody is connected to what is copied", async || {
            sqlx::query(AssertSqlSafe(copy.clone())).execute(&mut connection).await.ok()
        })
        .await;
        let (address, _) = server.rsplit_once('/').expect("DATABASE_URL ends with /name");
        let url = format!("{address}/{name}");
        Self { name, url }
    }

    /// Makes the database with all schemas.
    pub async fn migrated() -> Self {
        let database = Self::create().await;
        let pool = database.pool().await;
        Schema::Log.migrate(&pool).await.expect("the log's schema is applied");
        Schema::Feed.migrate(&pool).await.expect("the feed's schema is applied");
        let counts = database.counts().await;
        Schema::Counts.migrate(&counts).await.expect("the counts' schema is applied");
        database
    }

    /// Connections to it, as the programs open them.
    pub async fn pool(&self) -> Connections {
        self.database().connect(4).await.expect("the database answers")
    }

    /// Connections to it that find the tables of the counts.
    pub async fn counts(&self) -> Connections {
        self.database().of(ProjectionName::Counts).connect(2).await.expect("the database answers")
    }

    /// The database, as the programs know it.
    #[must_use]
    pub fn database(&self) -> Database {
        Database::parse("DATABASE_URL", &self.url, "rookery test").expect("its URL is well-formed")
    }
}

impl TestDatabase {
    /// The database behind a gate of its own.
    pub async fn behind_a_gate(&self) -> (Gate, Database) {
        let (gate, url) = self.gated_url().await;
        let gated = Database::parse("DATABASE_URL", &url, "rookery test");
        (gate, gated.expect("its URL is well-formed"))
    }

    /// A gate to the database, and the URL through it.
    pub async fn gated_url(&self) -> (Gate, String) {
        let options: PgConnectOptions = self.url.parse().expect("its URL is well-formed");
        let address = format!("{}:{}", options.get_host(), options.get_port());
        let target = tokio::net::lookup_host(&address)
            .await
            .expect("the server's host has an address")
            .next()
            .expect("at least one");
        let gate = Gate::to(target).await;
        let url = self.url.replace(&address, &gate.address.to_string());
        (gate, url)
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

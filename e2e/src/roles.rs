//! The roles of `scripts/roles`, under names of the test's own, because roles belong to the whole
//! server.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::database::TestDatabase;
use crate::setting;

/// What makes the roles.
pub const ROLES: &str = include_str!("../../scripts/roles/1_roles.sql");

/// What they may do in the log's database.
pub const LOG: &str = include_str!("../../scripts/roles/2_log.sql");

/// What they may do in the read model's.
pub const FEED: &str = include_str!("../../scripts/roles/3_feed.sql");

/// A role for each program. They go when this is dropped, after the databases in which they own or
/// may do something: make it before those.
#[derive(Debug)]
pub struct Roles {
    pub api: String,
    pub projector: String,
    password: String,
    server: String,
}

impl Roles {
    /// Makes the roles.
    pub async fn create() -> Self {
        let name = format!("rookery_test_{}", Uuid::now_v7().simple());
        let roles = Self {
            api: format!("{name}_api"),
            projector: format!("{name}_projector"),
            password: Uuid::now_v7().simple().to_string(),
            server: setting("DATABASE_URL"),
        };
        let mut connection = connect(&roles.server).await;
        roles.apply(ROLES, &mut connection).await;
        for role in [&roles.api, &roles.projector] {
            let statement = format!("alter role {role} password '{}'", roles.password);
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut connection)
                .await
                .expect("it is ours");
        }
        roles
    }

    /// Applies `files` to `database`, as its owner.
    pub async fn apply_to(&self, database: &TestDatabase, files: &[&str]) {
        let mut connection = connect(&database.url).await;
        for file in files {
            self.apply(file, &mut connection).await;
        }
    }

    async fn apply(&self, file: &str, connection: &mut PgConnection) {
        let statements =
            file.replace("rookery_api", &self.api).replace("rookery_projector", &self.projector);
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.expect(
            "the user of DATABASE_URL may create roles (scripts/services.sh up sees to it)",
        );
    }

    /// The URL of `database` for `role`.
    #[must_use]
    pub fn url(&self, role: &str, database: &TestDatabase) -> String {
        let (_, rest) = database.url.rsplit_once('@').expect("a URL with a user");
        format!("postgres://{role}:{}@{rest}", self.password)
    }
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("PostgreSQL answers")
}

impl Drop for Roles {
    fn drop(&mut self) {
        let drop = format!("drop role if exists {}, {}", self.api, self.projector);
        let server = self.server.clone();
        // A thread of its own: a runtime cannot wait inside a runtime.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(async {
                let mut connection = PgConnection::connect(&server).await?;
                sqlx::query(AssertSqlSafe(drop)).execute(&mut connection).await
            })
        });
        if let Ok(Err(error)) = cleaning.join() {
            eprintln!("{} and {} were left behind: {error}", self.api, self.projector);
        }
    }
}

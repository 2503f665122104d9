//! Bringing a database to the schema of this release, and telling whether it is there.
//!
//! The log and the read model have migrations of their own and are marked apart, because they can
//! be two databases.

use sqlx::PgPool;
use sqlx::migrate::{MigrateError, Migrator};

/// One of the two schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// The log, the outbox and the decision state: `DATABASE_URL`.
    Log,
    /// The read model: `FEED_DATABASE_URL`.
    Feed,
}

/// Why the schema of a database does not fit this release.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error(
        "the {schema} schema has migration {version}, which is newer than this release knows; \
         run the release that made it, or a later one"
    )]
    Newer { schema: &'static str, version: i64 },
    #[error("the {schema} schema could not be migrated: {source}")]
    Migrate { schema: &'static str, source: MigrateError },
}

impl Schema {
    const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Feed => "feed",
        }
    }

    fn migrator(self) -> Migrator {
        let mut migrator = match self {
            Self::Log => sqlx::migrate!("../migrations/log"),
            Self::Feed => sqlx::migrate!("../migrations/feed"),
        };
        migrator.dangerous_set_table_name(format!("{}_migrations", self.name()));
        migrator
    }

    /// Applies the migrations that are missing. Safe to run from several processes at once.
    ///
    /// # Errors
    /// [`SchemaError::Newer`] when a later release was here, [`SchemaError::Migrate`] otherwise.
    pub async fn migrate(self, pool: &PgPool) -> Result<(), SchemaError> {
        let schema = self.name();
        self.migrator().run(pool).await.map_err(|source| match source {
            MigrateError::VersionMissing(version) => SchemaError::Newer { schema, version },
            source => SchemaError::Migrate { schema, source },
        })
    }

    /// Whether each migration of this release was applied.
    ///
    /// # Errors
    /// [`sqlx::Error`] when the database is away.
    pub async fn is_current(self, pool: &PgPool) -> Result<bool, sqlx::Error> {
        let statement = match self {
            Self::Log => "select max(version) from log_migrations where success",
            Self::Feed => "select max(version) from feed_migrations where success",
        };
        let newest = self.migrator().iter().map(|migration| migration.version).max();
        match sqlx::query_scalar::<_, Option<i64>>(statement).fetch_one(pool).await {
            Ok(applied) => Ok(applied >= newest),
            // 42P01: no such table, so no migration was ever applied.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

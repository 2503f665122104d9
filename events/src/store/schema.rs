//! Bringing a database to the schema of this release, and telling whether it is there.
//!
//! The log and the read model have migrations of their own and are marked apart, because they can
//! be two databases.

use sqlx::AssertSqlSafe;
use sqlx::migrate::{MigrateError, Migrator};
use tokio_util::sync::CancellationToken;

use super::{Connections, Fault};
use crate::projection::ProjectionName;
use crate::retry::{Failure, Retry};

/// One of the schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// The log, the outbox and the decision state: `DATABASE_URL`.
    Log,
    /// The home feeds: `FEED_DATABASE_URL`.
    Feed,
    /// The counts, beside them in a schema of their own.
    Counts,
}

/// Makes where the counts are. Of several who do so at once, one is first and the others find it.
const SCHEMA_OF_COUNTS: &str = "do $$ begin create schema if not exists counts; \
    exception when unique_violation or duplicate_schema then null; end $$";

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
    #[error("the migrations of the {schema} schema cannot be looked at: {source}")]
    Look { schema: &'static str, source: sqlx::Error },
    #[error("the {schema} schema is not there yet, or older than this release")]
    Behind { schema: &'static str },
}

impl SchemaError {
    /// Whether the database refused because the role may not do it, so that another has to.
    fn is_denied(&self) -> bool {
        let (Self::Migrate {
            source: MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _),
            ..
        }
        | Self::Look { source: error, .. }) = self
        else {
            return false;
        };
        Fault::of(error) == Fault::Denied
    }
}

/// How a database stands to the schema of this release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Migrations are missing, or are not what they were.
    Behind,
    Same,
    /// It has a migration that this release does not know, and may be able to read it or write it all the same.
    Ahead {
        version: i64,
        is_readable: bool,
        is_writable: bool,
    },
}

/// The migrations that a release has to know in order to read a database, and to write it; `None` when nothing says so.
#[derive(Debug, Default)]
struct Compatibility {
    readable_since: Option<i64>,
    writable_since: Option<i64>,
}

impl Schema {
    const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Feed => ProjectionName::Feed.name(),
            Self::Counts => ProjectionName::Counts.name(),
        }
    }

    fn migrator(self) -> Migrator {
        let mut migrator = match self {
            Self::Log => sqlx::migrate!("../migrations/log"),
            Self::Feed => sqlx::migrate!("../migrations/feed"),
            Self::Counts => sqlx::migrate!("../migrations/counts"),
        };
        migrator.dangerous_set_table_name(format!("{}_migrations", self.name()));
        migrator
    }

    /// Applies the migrations that are missing. Safe to run from several processes at once. Where
    /// none is missing, a role that may only read is enough.
    ///
    /// # Errors
    /// [`SchemaError::Newer`] when a later release was here, another when it cannot be done.
    pub async fn migrate(self, database: &Connections) -> Result<(), SchemaError> {
        let schema = self.name();
        match self.standing(database).await? {
            Standing::Same => Ok(()),
            Standing::Ahead { version, .. } => Err(SchemaError::Newer { schema, version }),
            Standing::Behind => {
                let error = |source| SchemaError::Migrate { schema, source };
                let mut lent = database.lend().await.map_err(|source| error(source.into()))?;
                if self == Self::Counts {
                    sqlx::query(SCHEMA_OF_COUNTS)
                        .execute(&mut *lent)
                        .await
                        .map_err(|source| error(source.into()))?;
                }
                // When it fails it leaves a lock on the session, which goes with that.
                self.migrator().run(&mut *lent).await.map_err(|source| match source {
                    MigrateError::VersionMissing(version) => SchemaError::Newer { schema, version },
                    source => error(source),
                })?;
                lent.give_back();
                Ok(())
            }
        }
    }

    /// The same for a program that runs: a later release may have been here, if this one may [write](Self::may_be_written) what
    /// it made.
    ///
    /// # Errors
    /// As [`Self::migrate`].
    pub async fn migrate_to_write(self, database: &Connections) -> Result<(), SchemaError> {
        match self.migrate(database).await {
            Err(SchemaError::Newer { .. }) => self.may_be_written(database).await,
            end => end,
        }
    }

    /// Makes sure that this release may write the database.
    ///
    /// # Errors
    /// [`SchemaError::Newer`] when a later release was here and changed what this one writes.
    pub async fn may_be_written(self, database: &Connections) -> Result<(), SchemaError> {
        let schema = self.name();
        match self.standing(database).await? {
            Standing::Same | Standing::Ahead { is_writable: true, .. } => Ok(()),
            Standing::Behind => Err(SchemaError::Behind { schema }),
            Standing::Ahead { version, .. } => Err(SchemaError::Newer { schema, version }),
        }
    }

    /// As [`Self::migrate_to_write`], but where the role may not, waits until another has done it or `shutdown` is
    /// cancelled.
    ///
    /// # Errors
    /// As [`Self::migrate`].
    pub async fn migrate_or_wait(
        self,
        database: &Connections,
        shutdown: &CancellationToken,
    ) -> Result<(), SchemaError> {
        let mut retry = Retry::new("waiting for who may migrate the database");
        while !shutdown.is_cancelled() {
            match self.migrate_to_write(database).await {
                Err(error) if error.is_denied() => {
                    retry.after(Failure::Retry(error), shutdown).await?;
                }
                end => return end,
            }
        }
        Ok(())
    }

    /// Waits until each migration of this release was applied or `shutdown` is cancelled. `name` is
    /// what the log calls that.
    ///
    /// # Errors
    /// None today: whatever fails here can pass.
    pub async fn until_current(
        self,
        database: &Connections,
        name: &'static str,
        shutdown: &CancellationToken,
    ) -> Result<(), SchemaError> {
        let schema = self.name();
        let mut retry = Retry::new(name);
        while !shutdown.is_cancelled() {
            let error = match self.is_current(database).await {
                Ok(true) => return Ok(()),
                Ok(false) => SchemaError::Behind { schema },
                Err(source) => SchemaError::Look { schema, source },
            };
            retry.after(Failure::Retry(error), shutdown).await?;
        }
        Ok(())
    }

    /// Whether the database has a schema that this release can read, for those who only read it:
    /// another migrates it, before or after they start.
    ///
    /// # Errors
    /// [`SchemaError::Newer`] when a later release was here and changed what this one reads.
    pub async fn is_there(self, database: &Connections) -> Result<bool, SchemaError> {
        match self.standing(database).await? {
            Standing::Same | Standing::Ahead { is_readable: true, .. } => Ok(true),
            Standing::Behind => Ok(false),
            Standing::Ahead { version, .. } => {
                Err(SchemaError::Newer { schema: self.name(), version })
            }
        }
    }

    async fn standing(self, database: &Connections) -> Result<Standing, SchemaError> {
        let name = self.name();
        let statement =
            format!("select version, checksum, success from {name}_migrations order by version");
        let applied: Vec<(i64, Vec<u8>, bool)> = match sqlx::query_as(AssertSqlSafe(statement))
            .fetch_all(database)
            .await
        {
            Err(error) if Fault::of(&error) == Fault::Absent => Vec::new(),
            result => result.map_err(|source| SchemaError::Look { schema: self.name(), source })?,
        };
        let migrator = self.migrator();
        let unknown = applied.iter().find(|(version, ..)| !migrator.version_exists(*version));
        if let Some((version, ..)) = unknown {
            let newest_known = migrator.iter().map(|migration| migration.version).max();
            let is_known = |since: Option<i64>| since.is_some() && since <= newest_known;
            let Compatibility { readable_since, writable_since } =
                self.compatibility(database).await?;
            return Ok(Standing::Ahead {
                version: *version,
                is_readable: is_known(readable_since),
                is_writable: is_known(writable_since),
            });
        }
        let known = migrator.iter().map(|migration| (migration.version, &*migration.checksum));
        let is_same = applied.iter().all(|(.., success)| *success)
            && known.eq(applied.iter().map(|(version, checksum, _)| (*version, &**checksum)));
        Ok(if is_same { Standing::Same } else { Standing::Behind })
    }

    async fn compatibility(self, database: &Connections) -> Result<Compatibility, SchemaError> {
        let found =
            match self {
                // Who reads the log also understands what is written there, so one number is enough.
                Self::Log => sqlx::query_as!(
                    Compatibility,
                    "select writable_since as readable_since, writable_since from log_compatibility"
                )
                .fetch_optional(database)
                .await,
                Self::Feed | Self::Counts => {
                    sqlx::query_as!(
                        Compatibility,
                        "select readable_since, writable_since from compatibility"
                    )
                    .fetch_optional(database)
                    .await
                }
            };
        let found = found.map_err(|source| SchemaError::Look { schema: self.name(), source })?;
        Ok(found.unwrap_or_default())
    }

    /// Whether each migration of this release was applied.
    ///
    /// # Errors
    /// [`sqlx::Error`] when the database is away.
    pub async fn is_current(self, database: &Connections) -> Result<bool, sqlx::Error> {
        let statement = AssertSqlSafe(format!(
            "select max(version) from {}_migrations where success",
            self.name()
        ));
        let newest = self.migrator().iter().map(|migration| migration.version).max();
        match sqlx::query_scalar::<_, Option<i64>>(statement).fetch_one(database).await {
            Ok(applied) => Ok(applied >= newest),
            Err(error) if Fault::of(&error) == Fault::Absent => Ok(false),
            Err(error) => Err(error),
        }
    }
}

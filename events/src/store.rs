//! The log and its outbox in PostgreSQL. All SQL that touches them is below this module, except
//! what a command is decided against, which only the appender needs.

pub mod append;
pub mod explain;
pub mod follow;
pub mod outbox;
pub mod read;
pub mod schema;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection, PgPool};

/// The channel on which each appended batch announces the new head of the log.
pub const LOG_CHANNEL: &str = "rookery_log";

/// The channel on which the projector announces each move of the checkpoint.
pub const CHECKPOINT_CHANNEL: &str = "rookery_checkpoint";

/// How long a caller waits for a connection of the pool before it hears that the service is busy.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// PostgreSQL ends a transaction whose client fell silent for this long, so that a process that was
/// stopped in the middle of an append does not hold the head of the log for ever.
const IDLE_IN_TRANSACTION_MS: &str = "5000";

/// Settings for sessions whose statements each touch few rows, through an index that is there for
/// them, of tables that may be of any size.
///
/// Such a statement has one good plan, and its joins are written in the order of that plan. A
/// planner without fresh statistics, as in the first minutes of a new database, sometimes prefers to
/// read a whole table, by the table or row by row from another's side; here it may not (a first page
/// of 21 over 200,000 tweets took 438 ms then, and takes 4 ms now). Planning a feed page anew takes
/// ten times as long as running it, and compiling it longer still.
pub const INDEXED_PLANS: [(&str, &str); 7] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("join_collapse_limit", "1"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
];

/// A database that was named by a setting: where it is, and how sessions on it behave.
#[derive(Clone)]
pub struct Database {
    options: PgConnectOptions,
    setting: &'static str,
}

/// Without the options, which have the password among them.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("setting", &self.setting).finish_non_exhaustive()
    }
}

/// Why there is no connection to a database.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(
        "{setting} is not a PostgreSQL URL ({source}); it looks like postgres://user:password@host:5432/name"
    )]
    Url { setting: &'static str, source: sqlx::Error },
    #[error("no database at {setting}: {source}")]
    Unreachable { setting: &'static str, source: sqlx::Error },
}

impl Database {
    /// Reads the URL given by `setting` (the name of an environment variable, for messages).
    ///
    /// # Errors
    /// [`ConnectError::Url`] when it is not a PostgreSQL URL.
    pub fn parse(
        setting: &'static str,
        url: &str,
        application: &str,
    ) -> Result<Self, ConnectError> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            let source = sqlx::Error::Configuration("the scheme is not postgres".into());
            return Err(ConnectError::Url { setting, source });
        }
        let options = PgConnectOptions::from_str(url)
            .map_err(|source| ConnectError::Url { setting, source })?
            .application_name(application)
            .options([("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS)]);
        Ok(Self { options, setting })
    }

    /// The same database with `settings` for each session. They go before what the server or the
    /// role has set.
    #[must_use]
    pub fn with_settings<'a>(
        mut self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        self.options = self.options.options(settings);
        self
    }

    /// The same database, with `schema` as the one in which statements find their tables and make
    /// new ones.
    #[must_use]
    pub fn in_schema(self, schema: &str) -> Self {
        self.with_settings([("search_path", schema)])
    }

    /// The same database, to which sessions introduce themselves as `name`.
    #[must_use]
    pub fn with_application_name(mut self, name: &str) -> Self {
        self.options = self.options.application_name(name);
        self
    }

    /// The same database with a limit on how long a statement may run.
    #[must_use]
    pub fn with_statement_timeout(self, limit: Duration) -> Self {
        let milliseconds = limit.as_millis().to_string();
        self.with_settings([("statement_timeout", milliseconds.as_str())])
    }

    /// Opens a pool and makes sure that the server answers.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`] when it does not, or refuses us.
    pub async fn connect(&self, max_connections: u32) -> Result<PgPool, ConnectError> {
        PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // A ping before each use would double the round trips of a read. Statements that meet
            // a connection cut meanwhile are tried again where that is safe.
            .test_before_acquire(false)
            .connect_with(self.options.clone())
            .await
            .map_err(|source| ConnectError::Unreachable { setting: self.setting, source })
    }

    /// Opens one connection, for what has to end with it.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`] when the server does not answer, or refuses us.
    pub async fn connect_once(&self) -> Result<PgConnection, ConnectError> {
        self.options
            .connect()
            .await
            .map_err(|source| ConnectError::Unreachable { setting: self.setting, source })
    }

    /// Opens a connection of its own that hears what is announced on `channel`.
    ///
    /// # Errors
    /// [`sqlx::Error`] when the server is away.
    pub async fn listen(&self, channel: &str) -> Result<PgListener, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(self.options.clone())
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.ignore_pool_close_event(true);
        listener.listen(channel).await?;
        Ok(listener)
    }
}

/// Whether `error` says that the connection or the server failed, rather than the statement: the
/// same statement on another connection can then succeed.
#[must_use]
pub fn is_connection_failure(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::BeginFailed
        | sqlx::Error::WorkerCrashed => true,
        // 08 connection, 25P03 idle in transaction, 25006 a standby, 40 rolled back, 53 out of resources,
        // 55 object in use, 57 operator intervention, 58 system error
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code == "25P03"
                || code == "25006"
                || ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

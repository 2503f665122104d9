//! A database that was named by a setting: where it is, and how sessions on it behave.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use super::fault::late;
use crate::projection::ProjectionName;

/// How long a session may take to come about. One that takes longer leads nowhere.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// What a statement may take by our own clock where nothing else is said: the longest step of a
/// rebuild. It is for a server that is gone without a word.
const STATEMENT_TIMEOUT_MAX: Duration = Duration::from_hours(1);

/// How much longer than the server's own limit we wait for it to say that a statement was ended.
const SERVER_GRACE: Duration = Duration::from_secs(1);

/// PostgreSQL ends a transaction whose client fell silent for this long, so that a process that was
/// stopped in the middle of an append does not hold the appenders' lock for ever.
const IDLE_IN_TRANSACTION_MS: &str = "5000";

/// Each statement is planned once a session. That is safe because a statement has one plan by its shape
/// (ADR 0012), but for one thing: while a table is empty, reading all of it is thought to cost nothing,
/// so a look-up by key has to be told not to. Planning a page each time costs as much as running it.
const PLANNED_ONCE: [(&str, &str); 2] =
    [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")];

/// The opposite: planned each time, for the tables as they are, with nothing switched off. For who
/// reads whole tables, and to show that shapes alone do it.
pub const PLANNED_EACH_TIME: [(&str, &str); 2] =
    [("plan_cache_mode", "force_custom_plan"), ("enable_seqscan", "on")];

/// What sessions on [`Engine::Distributed`] have instead, whatever else was said (ADR 0029): a statement is planned for the reader
/// it is for; a transaction is one on each node, so that it becomes visible there in one moment; and what was
/// committed on the other nodes is never forgotten by the coordinator.
const DISTRIBUTED: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_custom_plan"),
    ("enable_seqscan", "on"),
    ("synchronous_commit", "on"),
    ("citus.multi_shard_modify_mode", "sequential"),
    ("citus.max_adaptive_executor_pool_size", "1"),
];

/// What keeps the tables of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// One PostgreSQL.
    Single,
    /// Citus: the rows of each reader are on one of several nodes.
    Distributed,
}

/// Compiling a statement takes longer than running any of ours.
const NO_COMPILER: (&str, &str) = ("jit", "off");

/// See the module.
#[derive(Clone)]
pub struct Database {
    options: PgConnectOptions,
    /// The name of the environment variable, for messages.
    setting: &'static str,
    /// Set in each session by a statement: what is sent at its start does not get through pgbouncer.
    session: Vec<(String, String)>,
    statement_timeout: Duration,
    writable: bool,
    /// How statements are to be written, where the database does not say.
    engine: Engine,
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
            .application_name(application);
        let idle = ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS);
        let statement_timeout = STATEMENT_TIMEOUT_MAX;
        let (session, writable, engine) = (Vec::new(), false, Engine::Single);
        let database = Self { options, setting, session, statement_timeout, writable, engine };
        Ok(database.with_settings([idle, NO_COMPILER]).with_settings(PLANNED_ONCE))
    }

    /// The same database with `settings` for each session. They go before what the server or the
    /// role has set.
    #[must_use]
    pub fn with_settings<'a>(
        mut self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let settings = settings.into_iter();
        self.session.extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    /// The same database, for statements that take as long as they take: none is logged for being slow.
    #[must_use]
    pub fn for_long_work(self) -> Self {
        Self { options: self.options.disable_statement_logging(), ..self }
    }

    /// The same database, with `schema` as the one in which statements find their tables and make
    /// new ones.
    #[must_use]
    pub fn in_schema(self, schema: &str) -> Self {
        self.with_settings([("search_path", schema)])
    }

    /// The same database, where the tables of `projection` are.
    #[must_use]
    pub fn of(self, projection: ProjectionName) -> Self {
        match projection.schema() {
            Some(schema) => self.in_schema(schema),
            None => self,
        }
    }

    /// Its server's address, which is no secret.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.options.get_host(), self.options.get_port())
    }

    /// The same database, to which sessions introduce themselves as `name`.
    #[must_use]
    pub fn with_application_name(mut self, name: &str) -> Self {
        self.options = self.options.application_name(name);
        self
    }

    /// The same database with a limit on how long a statement may run: the server's, and a little
    /// later our own, for a server that does not answer.
    #[must_use]
    pub fn with_statement_timeout(mut self, limit: Duration) -> Self {
        self.statement_timeout = limit + SERVER_GRACE;
        let milliseconds = limit.as_millis().to_string();
        self.with_settings([("statement_timeout", milliseconds.as_str())])
    }

    /// The same database with a limit by our own clock alone, for single statements on sessions that
    /// also run long ones.
    #[must_use]
    pub const fn with_patience(mut self, limit: Duration) -> Self {
        self.statement_timeout = limit;
        self
    }

    /// The same database for those who write to it: a session that leads to a standby is not taken,
    /// as happens for a while when an address moves from a server that failed to its successor.
    #[must_use]
    pub const fn writable(mut self) -> Self {
        self.writable = true;
        self
    }

    /// The same database, for which statements are written as for `engine`, whatever it is. What the projector does for
    /// [`Engine::Distributed`] means the same on one PostgreSQL, and a test says so; reads of several readers need the nodes.
    #[must_use]
    pub const fn written_for(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// What sessions introduce themselves as.
    pub(super) fn application(&self) -> &str {
        self.options.get_application_name().unwrap_or_default()
    }

    /// How long a statement may take by our own clock.
    pub(super) const fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    /// A set of at most `size` connections. None is opened before it is needed.
    #[must_use]
    pub fn connections(&self, size: usize) -> Connections {
        Connections::new(self.clone(), size)
    }

    /// The same, and makes sure that the server answers.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`] when it does not, or refuses us.
    pub async fn connect(&self, size: usize) -> Result<Connections, ConnectError> {
        let connections = self.connections(size);
        match connections.lend().await {
            Ok(lent) => lent.give_back(),
            Err(source) => return Err(ConnectError::Unreachable { setting: self.setting, source }),
        }
        Ok(connections)
    }

    /// Opens one connection, for what has to end with it.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`] when the server does not answer, or refuses us.
    pub async fn connect_once(&self) -> Result<(PgConnection, Engine), ConnectError> {
        let setting = self.setting;
        self.open().await.map_err(|source| ConnectError::Unreachable { setting, source })
    }

    /// Opens a session, within [`OPEN_TIMEOUT`].
    pub(super) async fn open(&self) -> Result<(PgConnection, Engine), sqlx::Error> {
        opened_apart(self.clone().log_in()).await
    }

    async fn log_in(self) -> Result<(PgConnection, Engine), sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let (is_standby, is_distributed) = configure(&mut connection, self.session).await?;
        if is_standby && self.writable {
            return Err(io::Error::other("the server is a standby and takes no writes").into());
        }
        let mut engine = self.engine;
        if is_distributed {
            let settings = DISTRIBUTED.map(|(name, value)| (name.to_owned(), value.to_owned()));
            configure(&mut connection, settings.into()).await?;
            engine = Engine::Distributed;
        }
        Ok((connection, engine))
    }

    /// Opens a connection of its own that hears what is announced on `channel`.
    ///
    /// # Errors
    /// [`sqlx::Error`] when the server is away, or is a standby, where nobody can listen.
    pub async fn listen(&self, channel: &str) -> Result<PgListener, sqlx::Error> {
        let (database, channel) = (self.clone(), channel.to_owned());
        let listening = async move {
            // sqlx's pool, without which it has no listener, does not say why it cannot connect.
            let (first, _) = database.clone().log_in().await?;
            first.close().await?;
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .max_lifetime(None)
                .idle_timeout(None)
                .acquire_timeout(OPEN_TIMEOUT)
                .connect_with(database.options)
                .await?;
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.ignore_pool_close_event(true);
            listener.listen(&channel).await?;
            Ok(listener)
        };
        opened_apart(listening).await
    }
}

/// Makes the settings of a session. Says whether its server is a standby, and whether its database is distributed.
async fn configure(
    connection: &mut PgConnection,
    settings: Vec<(String, String)>,
) -> Result<(bool, bool), sqlx::Error> {
    let (names, values): (Vec<_>, Vec<_>) = settings.into_iter().unzip();
    let (is_standby, is_distributed, _): (bool, bool, i64) = sqlx::query_as(
        "select pg_is_in_recovery(), exists (select from pg_extension where extname = 'citus'), \
             count(set_config(name, value, false)) \
         from unnest($1::text[], $2::text[]) as setting (name, value)",
    )
    .bind(names)
    .bind(values)
    .persistent(false)
    .fetch_one(connection)
    .await?;
    Ok((is_standby, is_distributed))
}

/// What `opening` opens, within [`OPEN_TIMEOUT`]. It is awaited on a thread of its own: PostgreSQL's log-in hashes 4,096
/// times, for which sqlx yields 819 times, and on the threads of a busy runtime each of these times is a turn of
/// everything else. It ends with its caller.
async fn opened_apart<T: Send + 'static>(
    opening: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static,
) -> Result<T, sqlx::Error> {
    let abandoned = CancellationToken::new();
    let _abandon = abandoned.clone().drop_guard();
    let runtime = Handle::current();
    let apart =
        spawn_blocking(move || runtime.block_on(abandoned.run_until_cancelled_owned(opening)));
    match timeout(OPEN_TIMEOUT, apart).await {
        Ok(Ok(Some(opened))) => opened,
        Ok(Ok(None)) | Err(_) => Err(late(OPEN_TIMEOUT)),
        Ok(Err(panicked)) => Err(io::Error::other(panicked).into()),
    }
}

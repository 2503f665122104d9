//! Generations of a projection's read model.
//!
//! The live generation is in the schema where every statement finds its tables. A new one is built
//! beside it in a schema of its own, by the same statements with another `search_path`, and takes its place in
//! one transaction (`swap`). The one that was live until then [stays](Layout::previous) until the next
//! swap. Each projection has generations of its own.
//!
//! **Invariant**: of those who build, swap or roll back, one is at it: the holder of an advisory
//! lock of the read model's database, which is also the connection that swaps. Who loses the
//! connection loses the lock and cannot swap any more. Nor can they write into what their successor builds: each attempt has a
//! schema that no other ever has.

mod swap;

use chrono::{DateTime, Utc};
use events::ProjectionName;
use events::store::schema::{Schema, SchemaError};
use events::store::{ConnectError, Connections, Database, Fault};
use sqlx::{AssertSqlSafe, PgConnection};

pub use swap::{SwapError, Swapped};

/// What a generation of a projection consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub projection: ProjectionName,
    pub schema: Schema,
    /// All of them. Its migrations are among them: a generation that was put aside before an upgrade is migrated when it
    /// is needed again.
    pub tables: &'static [&'static str],
    /// The number of the advisory lock of who works on generations, as no other projection has it.
    pub lock: i64,
}

impl Layout {
    /// How the names of schemas begin in which a next generation is built; the number of a transaction follows.
    fn next_prefix(self) -> String {
        format!("{}_next_", self.projection.name())
    }

    /// The schema in which the generation before is kept.
    #[must_use]
    pub fn previous(self) -> String {
        format!("{}_previous", self.projection.name())
    }
}

/// Matches the schemas of generations of `projection` that nobody reads.
pub(crate) fn unread(projection: ProjectionName) -> String {
    format!("^{}_(next_[0-9]+|previous)$", projection.name())
}

/// Why the generations cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("the read model cannot be written: {0}")]
    Database(#[from] sqlx::Error),
    #[error(
        "{holder} is at it since {} (pid {pid} of PostgreSQL); wait for it or end it",
        since.format("%Y-%m-%d %H:%M:%S UTC")
    )]
    Busy { holder: String, since: DateTime<Utc>, pid: i32 },
    #[error("somebody else has just begun; see projector status")]
    BusyJustNow,
    #[error("there is no generation before this one: nothing was rebuilt since it was made")]
    NoPrevious,
}

/// A generation that may take the place of the live one.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Where it is.
    pub schema: String,
    /// The database whose sessions find its tables.
    pub database: Database,
}

/// The right to build, swap and roll back. It ends with its connection.
#[derive(Debug)]
pub struct Claim {
    connection: PgConnection,
    database: Database,
    layout: Layout,
}

impl Claim {
    /// Claims the generations at `database`, which are laid out like `layout`, under `name`.
    ///
    /// # Errors
    /// [`GenerationError::Busy`] with who has it.
    pub async fn take(
        database: &Database,
        layout: Layout,
        name: &str,
    ) -> Result<Self, GenerationError> {
        let (mut connection, _) =
            database.clone().with_application_name(name).connect_once().await?;
        let lock = layout.lock;
        let taken = sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "taken!""#, lock)
            .fetch_one(&mut connection)
            .await?;
        if !taken {
            return Err(holder(&mut connection, layout).await?);
        }
        Ok(Self { connection, database: database.clone(), layout })
    }

    /// Makes the next generation, empty, in place of what an earlier attempt may have left.
    ///
    /// # Errors
    /// [`GenerationError`] when it cannot be made.
    pub async fn make_next(&mut self) -> Result<Incoming, GenerationError> {
        self.drop_next().await?;
        // A transaction's number is never given twice.
        let schema = sqlx::query_scalar!(
            r#"select $1 || pg_current_xact_id()::text as "schema!""#,
            self.layout.next_prefix()
        );
        let schema = schema.fetch_one(&mut self.connection).await?;
        let create = AssertSqlSafe(format!("create schema {schema}"));
        sqlx::query(create).execute(&mut self.connection).await?;
        let database = self.database.clone().in_schema(&schema);
        let connections = database.connect(1).await?;
        self.layout.schema.migrate(&connections).await?;
        let newest = newest_generation(&mut self.connection, self.layout).await?;
        sqlx::query!("update checkpoint set generation = $1", newest + 1)
            .execute(&connections)
            .await?;
        connections.close_idle();
        Ok(Incoming { schema, database })
    }

    /// Removes what was built of the next generation, by whomever.
    ///
    /// # Errors
    /// [`sqlx::Error`] when the database is away.
    pub async fn drop_next(&mut self) -> Result<(), sqlx::Error> {
        while let Some(schema) = next_schema(&mut self.connection, self.layout).await? {
            let drop = AssertSqlSafe(format!("drop schema if exists {schema} cascade"));
            sqlx::query(drop).execute(&mut self.connection).await?;
        }
        Ok(())
    }

    /// Brings the generation before to the schema of this release.
    ///
    /// # Errors
    /// [`GenerationError::NoPrevious`] when there is none.
    pub async fn open_previous(&mut self) -> Result<Incoming, GenerationError> {
        let schema = self.layout.previous();
        if generation_in(&mut self.connection, &schema).await?.is_none() {
            return Err(GenerationError::NoPrevious);
        }
        let database = self.database.clone().in_schema(&schema);
        let connections = database.connect(1).await?;
        self.layout.schema.migrate(&connections).await?;
        connections.close_idle();
        Ok(Incoming { schema, database })
    }
}

/// The numbers of the generations beside the live one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Aside {
    /// What is being built, or was left by someone who was killed at it.
    pub next: Option<i32>,
    /// What a rollback would go back to.
    pub previous: Option<i32>,
}

/// Looks what there is beside the live generation.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn aside(connections: &Connections, layout: Layout) -> Result<Aside, sqlx::Error> {
    let mut lent = connections.lend().await?;
    let next = match next_schema(&mut lent, layout).await? {
        Some(schema) => generation_in(&mut lent, &schema).await?,
        None => None,
    };
    let aside = Aside { next, previous: generation_in(&mut lent, &layout.previous()).await? };
    lent.give_back();
    Ok(aside)
}

/// Who has the claim now, if anyone.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn claimed_by(
    connections: &Connections,
    layout: Layout,
) -> Result<Option<String>, sqlx::Error> {
    let mut lent = connections.lend().await?;
    let held = holder(&mut lent, layout).await?;
    lent.give_back();
    Ok(match held {
        GenerationError::Busy { holder, .. } => Some(holder),
        _ => None,
    })
}

async fn holder(
    connection: &mut PgConnection,
    layout: Layout,
) -> Result<GenerationError, sqlx::Error> {
    // The lock's 64 bits are shown as two columns of 32.
    let row = sqlx::query!(
        r#"
        select
            activity.application_name as "holder!",
            activity.backend_start as "since!",
            activity.pid as "pid!"
        from pg_locks locks
        join pg_stat_activity activity using (pid)
        where locks.locktype = 'advisory' and locks.granted and locks.objsubid = 1
            and locks.database = (select oid from pg_database where datname = current_database())
            and locks.classid::bigint = $1::bigint >> 32
            and locks.objid::bigint = $1::bigint & x'ffffffff'::bigint
        "#,
        layout.lock
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map_or(GenerationError::BusyJustNow, |row| GenerationError::Busy {
        holder: row.holder,
        since: row.since,
        pid: row.pid,
    }))
}

/// The highest number that a generation has had, of those that are still there.
async fn newest_generation(
    connection: &mut PgConnection,
    layout: Layout,
) -> Result<i32, sqlx::Error> {
    let live = sqlx::query_scalar!("select generation from checkpoint")
        .fetch_one(&mut *connection)
        .await?;
    let previous = generation_in(connection, &layout.previous()).await?;
    Ok(live.max(previous.unwrap_or(live)))
}

/// The schema of a generation that is being built, or was left unfinished.
pub(crate) async fn next_schema(
    connection: &mut PgConnection,
    layout: Layout,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select nspname as "schema!" from pg_namespace
        where nspname ~ $1 and nspname <> $2
        order by nspname
        limit 1
        "#,
        unread(layout.projection),
        layout.previous(),
    )
    .fetch_optional(connection)
    .await
}

/// The number of the generation in `schema`, which nobody reads.
async fn generation_in(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<Option<i32>, sqlx::Error> {
    let select = AssertSqlSafe(format!("select generation from {schema}.checkpoint"));
    match sqlx::query_scalar(select).fetch_optional(connection).await {
        Err(error) if Fault::of(&error) == Fault::Absent => Ok(None),
        result => result,
    }
}

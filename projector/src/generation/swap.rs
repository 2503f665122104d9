//! Putting another generation in the place of the live one.
//!
//! **Invariant**: a reader sees one generation or the other, whole, and never an older position than
//! before. Every statement of a reader locks the tables that it reads, and the swap moves them only
//! while it has all of them locked. The projector stands still from before the incoming generation
//! catches up for the last time until it is live.
//!
//! Deadlocks with readers, who lock the same tables in other orders, cannot last: the swap waits for
//! its exclusive locks for less than PostgreSQL waits before it looks for deadlocks, then lets
//! everyone pass and tries again.

use std::time::Duration;

use events::store::{Fault, SWAP_STANDSTILL_MAX_MS};
use events::{Clock, Mark, Position};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{Claim, Layout};

/// How long the swap waits for vacuum and for the projector's transaction. Readers pass meanwhile.
const QUIET_LOCK_TIMEOUT: &str = "10s";

/// How long readers may have to wait for the swap: far less than they notice, and less than
/// PostgreSQL's `deadlock_timeout` of one second.
const EXCLUSIVE_LOCK_TIMEOUT: &str = "100ms";

/// Why the generations were not swapped. The live one goes on as if nothing had been.
#[derive(Debug, thiserror::Error)]
pub enum SwapError<E> {
    /// Worth another try.
    #[error("readers or vacuum hold the read model's tables")]
    Busy,
    /// Worth another try, once the incoming generation is closer.
    #[error("the incoming generation did not catch up within {SWAP_STANDSTILL_MAX_MS} ms")]
    Behind,
    #[error(
        "the live generation has migration {live}, the incoming one {incoming}: another release \
         migrated it meanwhile; run the command of that release"
    )]
    OtherRelease { live: i64, incoming: i64 },
    #[error("the read model cannot be written: {0}")]
    Database(#[source] sqlx::Error),
    #[error(transparent)]
    CatchUp(E),
}

impl<E> From<sqlx::Error> for SwapError<E> {
    fn from(error: sqlx::Error) -> Self {
        match Fault::of(&error) {
            Fault::Busy => Self::Busy,
            _ => Self::Database(error),
        }
    }
}

/// What a swap has brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swapped {
    /// The generation that is live now.
    pub generation: i32,
    /// The one that was.
    pub replaced: i32,
    pub position: Position,
}

impl Claim {
    /// Makes the generation in the schema `incoming` the live one, once `catch_up` has
    /// brought it to where the live one is, which it is given. It says how far it had to come.
    ///
    /// # Errors
    /// [`SwapError`]; nothing has changed. Only when the connection is cut in the very moment of the
    /// commit can it have come about in spite of [`SwapError::Database`].
    pub async fn swap<E>(
        &mut self,
        incoming: &str,
        catch_up: impl AsyncFnOnce(Mark) -> Result<Position, E>,
    ) -> Result<Swapped, SwapError<E>> {
        let mut transaction = self.connection.begin().await?;
        match swap_within(&mut transaction, self.layout, incoming, catch_up).await {
            Ok(swapped) => {
                transaction.commit().await?;
                Ok(swapped)
            }
            Err(error) => {
                // At once, not when the connection is used again: everyone waits for its locks.
                transaction.rollback().await?;
                Err(error)
            }
        }
    }
}

async fn swap_within<E>(
    transaction: &mut PgConnection,
    layout: Layout,
    incoming: &str,
    catch_up: impl AsyncFnOnce(Mark) -> Result<Position, E>,
) -> Result<Swapped, SwapError<E>> {
    let live = live_schema(transaction).await?;

    wait_at_most(transaction, QUIET_LOCK_TIMEOUT).await?;
    // Sends autovacuum away and keeps it away; nobody else notices.
    lock(transaction, &live, layout.tables, "share update exclusive").await?;
    // From here on the projector stands still; readers go on.
    lock(transaction, &live, &["checkpoint"], "share row exclusive").await?;
    let reached = sqlx::query_as!(
        Mark,
        r#"select position as "position: Position", event_id from checkpoint"#
    )
    .fetch_one(&mut *transaction)
    .await?;
    let needed =
        tokio::time::timeout(Duration::from_millis(SWAP_STANDSTILL_MAX_MS), catch_up(reached))
            .await
            .map_err(|_| SwapError::Behind)?
            .map_err(SwapError::CatchUp)?;
    same_release(transaction, layout, &live, incoming).await?;

    wait_at_most(transaction, EXCLUSIVE_LOCK_TIMEOUT).await?;
    lock(transaction, &live, layout.tables, "access exclusive").await?;
    let swapped = exchange(transaction, layout, &live, incoming).await?;
    if swapped.position < needed {
        return Err(SwapError::Behind);
    }
    Ok(swapped)
}

/// The schema in which unqualified statements find the read model, quoted.
async fn live_schema(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select quote_ident(nspname) as "schema!"
        from pg_namespace join pg_class on relnamespace = pg_namespace.oid
        where pg_class.oid = 'checkpoint'::regclass
        "#
    )
    .fetch_one(connection)
    .await
}

async fn wait_at_most(connection: &mut PgConnection, limit: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(r#"select set_config('lock_timeout', $1, true) as "set!""#, limit)
        .fetch_one(connection)
        .await?;
    Ok(())
}

async fn lock(
    connection: &mut PgConnection,
    schema: &str,
    tables: &[&str],
    mode: &str,
) -> Result<(), sqlx::Error> {
    let tables: Vec<String> = tables.iter().map(|table| format!("{schema}.{table}")).collect();
    let lock = format!("lock table {} in {mode} mode", tables.join(", "));
    sqlx::query(AssertSqlSafe(lock)).execute(connection).await?;
    Ok(())
}

/// A release that expects another schema may have migrated the live generation since the incoming
/// one was made.
async fn same_release<E>(
    connection: &mut PgConnection,
    layout: Layout,
    live: &str,
    incoming: &str,
) -> Result<(), SwapError<E>> {
    let name = layout.projection.name();
    let select = format!(
        "select (select max(version) from {live}.{name}_migrations), \
                (select max(version) from {incoming}.{name}_migrations)"
    );
    let (live, incoming): (i64, i64) =
        sqlx::query_as(AssertSqlSafe(select)).fetch_one(connection).await?;
    if live == incoming { Ok(()) } else { Err(SwapError::OtherRelease { live, incoming }) }
}

/// Exchanges the two. Both fences grow past what any projector holds, so that one that was working
/// on the old generation has to take over the new one first.
async fn exchange(
    transaction: &mut PgConnection,
    layout: Layout,
    live: &str,
    incoming: &str,
) -> Result<Swapped, sqlx::Error> {
    let previous = layout.previous();
    // Where the live generation is while its place is taken.
    let outgoing = format!("{}_outgoing", layout.projection.name());
    let mut run = async |statement: String| {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await
    };
    run(format!("drop schema if exists {outgoing} cascade")).await?;
    run(format!("create schema {outgoing}")).await?;
    for table in layout.tables {
        run(format!("alter table {live}.{table} set schema {outgoing}")).await?;
        run(format!("alter table {incoming}.{table} set schema {live}")).await?;
    }
    // What else was needed to build it.
    run(format!("drop schema {incoming} cascade")).await?;
    if incoming != previous {
        run(format!("drop schema if exists {previous} cascade")).await?;
    }
    run(format!("alter schema {outgoing} rename to {previous}")).await?;

    // What reads the answer of another statement may run on any node of a distributed database: each is one by itself.
    let mut one = async |statement: String| {
        sqlx::query_as(AssertSqlSafe(statement)).fetch_one(&mut *transaction).await
    };
    let (replaced, fence): (i32, i64) = one(format!(
        "update {previous}.checkpoint set fence = fence + 1 returning generation, fence"
    ))
    .await?;
    let (generation, position): (i32, i64) = one(format!(
        "update {live}.checkpoint set fence = greatest(fence, {fence}) + 1, moved_at = '{}' \
         returning generation, position",
        Clock::system().now().to_rfc3339()
    ))
    .await?;
    sqlx::query("select pg_notify($1, $2)")
        .bind(layout.projection.channel())
        .bind(position.to_string())
        .execute(transaction)
        .await?;
    Ok(Swapped { generation, replaced, position: Position(position) })
}

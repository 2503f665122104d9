//! The checkpoint: how far the log has been applied, and who may go on.
//!
//! **Invariant**: rows and checkpoint change in one transaction, which moves the checkpoint from
//! exactly what it was when that transaction began. An event is thus applied once, however often it arrives,
//! and by one projector at a time, however many run.

use events::store::{Connections, Engine, NEWEST_ONE};
use events::{Clock, Mark, Position, ProjectionName, TweetId};
use sqlx::{Connection, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::generation::unread;

/// The checkpoint as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which build of the read model this is: 1 for the first.
    pub generation: i32,
    pub position: Position,
    /// The event there: see [`Mark`].
    pub event_id: Uuid,
    pub fence: i64,
    /// What the projection still has under way is of no older tweet; `None` when nothing is. Fan-outs of the feed.
    pub under_way: Option<TweetId>,
}

impl Checkpoint {
    /// Up to where the log has been applied, and of which history that is.
    #[must_use]
    pub const fn mark(self) -> Mark {
        Mark { position: self.position, event_id: self.event_id }
    }

    /// Whether nothing was applied between the two, and nobody else took over.
    #[must_use]
    pub fn is_where(self, other: Self) -> bool {
        let under_way = None;
        Self { under_way, ..self } == Self { under_way, ..other }
    }

    /// What a projector that believes it to be this is told when it is not.
    fn fenced(self) -> AdvanceError {
        Fenced { fence: self.fence, position: self.position }.into()
    }
}

/// Another projector has written in between, or another generation went live.
#[derive(Debug, thiserror::Error)]
#[error(
    "another projector has taken over, or another generation went live: fence {fence}, position \
     {position} is no longer the checkpoint"
)]
pub struct Fenced {
    pub fence: i64,
    pub position: Position,
}

/// Why the checkpoint was neither moved nor held.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    #[error(transparent)]
    Fenced(#[from] Fenced),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Reads the checkpoint.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn load(executor: impl PgExecutor<'_>) -> Result<Checkpoint, sqlx::Error> {
    sqlx::query_as!(
        Checkpoint,
        r#"
        select generation, position as "position: Position", event_id, fence,
            under_way as "under_way: TweetId"
        from checkpoint
        order by position desc, fence desc
        limit $1
        "#,
        NEWEST_ONE
    )
    .fetch_one(executor)
    .await
}

/// Takes over: from now on nobody with an older fence can write.
///
/// This waits for the disk, whatever the session's `synchronous_commit`: a fence that a crash took
/// back would be handed out again, to someone whose predecessor may still be alive.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn take_over(feed: &Connections) -> Result<Checkpoint, sqlx::Error> {
    let mut lent = feed.lend().await?;
    let engine = lent.engine();
    loop {
        let mut transaction = lent.begin().await?;
        sqlx::query!("set local synchronous_commit = on").execute(&mut *transaction).await?;
        lock_everywhere(&mut transaction, engine).await?;
        let taken = sqlx::query_as!(
            Checkpoint,
            r#"
            update checkpoint set fence = fence + 1
            where (position, fence) = (
                select position, fence from checkpoint
                order by position desc, fence desc
                limit $1
            )
            returning
                generation, position as "position: Position", event_id, fence,
                under_way as "under_way: TweetId"
            "#,
            NEWEST_ONE
        )
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        // None: whoever projects has moved it in this very moment.
        if let Some(checkpoint) = taken {
            lent.give_back();
            return Ok(checkpoint);
        }
    }
}

/// Moves the checkpoint of `projection` forward from `old` to `last`, announced when the transaction commits:
/// but not for a generation that nobody reads. From then on fan-outs from `under_way` on are under way.
///
/// # Errors
/// [`AdvanceError::Fenced`] when it is not at `old` any more.
pub async fn advance(
    transaction: &mut PgConnection,
    engine: Engine,
    projection: ProjectionName,
    old: Checkpoint,
    last: Mark,
    under_way: Option<TweetId>,
) -> Result<Checkpoint, AdvanceError> {
    lock_everywhere(transaction, engine).await?;
    let was_moved = match engine {
        Engine::Single => move_and_announce(transaction, projection, old, last, under_way).await?,
        Engine::Distributed => {
            move_everywhere(&mut *transaction, old, last, under_way).await?
                && announce(transaction, projection, last.position).await?
        }
    };
    let Mark { position, event_id } = last;
    if was_moved {
        Ok(Checkpoint { position, event_id, under_way, ..old })
    } else {
        Err(old.fenced())
    }
}

/// In one round trip.
async fn move_and_announce(
    transaction: &mut PgConnection,
    projection: ProjectionName,
    old: Checkpoint,
    last: Mark,
    under_way: Option<TweetId>,
) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query!(
        r#"
        with moved as (
            update checkpoint set position = $3, event_id = $6, under_way = $7, moved_at = now()
            where fence = $1 and position = $2 and position <= $3 and under_way is not distinct from $8
            returning position
        )
        select case
            when current_schema() !~ $4 then pg_notify($5, position::text)::text
        end as announced
        from moved
        "#,
        old.fence,
        old.position.0,
        last.position.0,
        unread(projection),
        projection.channel(),
        last.event_id,
        under_way.map(|tweet| tweet.0),
        old.under_way.map(|tweet| tweet.0),
    );
    Ok(moved.fetch_optional(transaction).await?.is_some())
}

/// By itself: whatever reads its answer may run on any node, where nobody listens.
async fn move_everywhere(
    transaction: &mut PgConnection,
    old: Checkpoint,
    last: Mark,
    under_way: Option<TweetId>,
) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query!(
        r#"
        update checkpoint set position = $3, event_id = $4, under_way = $5, moved_at = $7
        where fence = $1 and position = $2 and position <= $3 and under_way is not distinct from $6
        "#,
        old.fence,
        old.position.0,
        last.position.0,
        last.event_id,
        under_way.map(|tweet| tweet.0),
        old.under_way.map(|tweet| tweet.0),
        Clock::system().now(),
    );
    Ok(moved.execute(transaction).await?.rows_affected() > 0)
}

async fn announce(
    transaction: &mut PgConnection,
    projection: ProjectionName,
    position: Position,
) -> Result<bool, sqlx::Error> {
    sqlx::query!(
        r#"
        select case
            when current_schema() !~ $1 then pg_notify($2, $3)::text
        end as announced
        "#,
        unread(projection),
        projection.channel(),
        position.0.to_string(),
    )
    .fetch_one(transaction)
    .await?;
    Ok(true)
}

/// Keeps the checkpoint at `at` until the transaction ends: for work that does not move it. The table's lock is the one that a
/// swap waits for.
///
/// # Errors
/// [`AdvanceError::Fenced`] when it is not at `at` any more.
pub async fn hold(
    transaction: &mut PgConnection,
    engine: Engine,
    at: Checkpoint,
) -> Result<(), AdvanceError> {
    sqlx::query!("lock table checkpoint in row exclusive mode").execute(&mut *transaction).await?;
    lock_everywhere(transaction, engine).await?;
    let held = sqlx::query!(
        "select from checkpoint
        where fence = $1 and position = $2 and under_way is not distinct from $3
        for update",
        at.fence,
        at.position.0,
        at.under_way.map(|tweet| tweet.0)
    );
    held.fetch_optional(transaction).await?.map(|_| ()).ok_or(at.fenced())
}

/// Locks the checkpoint of each node of a distributed database: what every transaction on one does first. What a node has
/// prepared and not committed yet, because it was away, is waited for here, and so is seen by everything that
/// follows. A condition would pass over what it waits for, and a lock alone be one on the first node only. One PostgreSQL
/// needs nothing of this, and gets no version of the row that an old snapshot would keep.
pub(crate) async fn lock_everywhere(
    transaction: &mut PgConnection,
    engine: Engine,
) -> Result<(), sqlx::Error> {
    if engine == Engine::Distributed {
        sqlx::query!("update checkpoint set moved_at = moved_at").execute(transaction).await?;
    }
    Ok(())
}

/// Says which fan-outs are under way, of a checkpoint that is [held](hold).
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn set_under_way(
    executor: impl PgExecutor<'_>,
    held: Checkpoint,
    under_way: Option<TweetId>,
) -> Result<Checkpoint, sqlx::Error> {
    if under_way != held.under_way {
        sqlx::query!(
            "update checkpoint set under_way = $3 where fence = $1 and position = $2",
            held.fence,
            held.position.0,
            under_way.map(|tweet| tweet.0),
        )
        .execute(executor)
        .await?;
    }
    Ok(Checkpoint { under_way, ..held })
}

//! The checkpoint: how far the log has been applied, and who may go on.
//!
//! **Invariant**: rows and checkpoint change in one transaction, which moves the checkpoint from
//! exactly what it was when that transaction began. An event is thus applied once, however often it arrives,
//! and by one projector at a time, however many run.

use events::store::NEWEST_ONE;
use events::{Mark, Position, ProjectionName, TweetId};
use sqlx::{PgConnection, PgExecutor};
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
pub async fn take_over(executor: impl PgExecutor<'_> + Copy) -> Result<Checkpoint, sqlx::Error> {
    loop {
        let row = sqlx::query!(
            r#"
            update checkpoint set fence = fence + 1
            where (position, fence) = (
                select position, fence from checkpoint
                order by position desc, fence desc
                limit $1
            )
            returning
                generation, position as "position: Position", event_id, fence,
                under_way as "under_way: TweetId",
                set_config('synchronous_commit', 'on', true)
            "#,
            NEWEST_ONE
        )
        .fetch_optional(executor)
        .await?;
        // None: whoever projects has moved it in this very moment.
        if let Some(row) = row {
            let (generation, fence) = (row.generation, row.fence);
            let (position, event_id, under_way) = (row.position, row.event_id, row.under_way);
            return Ok(Checkpoint { generation, position, event_id, fence, under_way });
        }
    }
}

/// Moves the checkpoint of `projection` forward from `old` to `last`, announced when the transaction commits:
/// but not for a generation that nobody reads. From then on fan-outs from `under_way` on are under way.
///
/// # Errors
/// [`AdvanceError::Fenced`] when it is not at `old` any more.
pub async fn advance(
    executor: impl PgExecutor<'_>,
    projection: ProjectionName,
    old: Checkpoint,
    last: Mark,
    under_way: Option<TweetId>,
) -> Result<Checkpoint, AdvanceError> {
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
    )
    .fetch_optional(executor)
    .await?;
    let Mark { position, event_id } = last;
    moved.map(|_| Checkpoint { position, event_id, under_way, ..old }).ok_or(old.fenced())
}

/// Keeps the checkpoint at `at` until the transaction ends: for work that does not move it. A lock, and not a version
/// of the row that an old snapshot would keep; the table's is the one that a swap waits for.
///
/// # Errors
/// [`AdvanceError::Fenced`] when it is not at `at` any more.
pub async fn hold(transaction: &mut PgConnection, at: Checkpoint) -> Result<(), AdvanceError> {
    sqlx::query!("lock table checkpoint in row exclusive mode").execute(&mut *transaction).await?;
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

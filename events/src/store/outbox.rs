//! The outbox: a cursor over the log, moved only by the relay that leads.
//!
//! **Invariant**: the cursor never moves backward, and never by a relay whose fence is not the
//! latest. A relay that lost its lease finds that out here, whatever it still believes.

use std::time::Duration;

use sqlx::PgExecutor;
use uuid::Uuid;

use super::{NEWEST_ONE, interval};
use crate::history::Mark;
use crate::id::Position;
use crate::slice::SliceKey;

/// The right to move the cursor, until another relay takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead {
    pub fence: i64,
    /// Where the cursor stood when the lead was taken.
    pub position: Position,
    /// The event there.
    pub event_id: Uuid,
}

/// Another relay leads now.
#[derive(Debug, thiserror::Error)]
pub enum LeadError {
    #[error("another relay has taken the lead (fence {0} is no longer the latest)")]
    Deposed(i64),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The state of the outbox, for those who watch it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    pub position: Position,
    /// The event there.
    pub event_id: Uuid,
    pub fence: i64,
    pub leader: Option<String>,
    /// Whether some relay holds the lease at this moment.
    pub led: bool,
}

/// Takes the lead when nobody holds it, for `lease` from now by the database's clock.
///
/// A lease that ends later than any lease could is void as well: it is left from before the
/// server's clock was set back.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn take_lead(
    executor: impl PgExecutor<'_>,
    leader: &str,
    lease: Duration,
) -> Result<Option<Lead>, sqlx::Error> {
    sqlx::query_as!(
        Lead,
        r#"
        update outbox
        set revision = revision + 1, fence = fence + 1, leader = $1, leased_until = now() + $2::interval
        where revision = (select revision from outbox order by revision desc limit 1)
            and (leased_until < now() or leased_until > now() + $2::interval)
        returning fence, position as "position: Position", event_id
        "#,
        leader,
        interval(lease),
    )
    .fetch_optional(executor)
    .await
}

/// Moves the cursor forward to `to` and renews the lease. With the position where it stands
/// already, it only renews.
///
/// # Errors
/// [`LeadError::Deposed`] when the fence is not the latest or the cursor is already further.
pub async fn move_cursor(
    executor: impl PgExecutor<'_>,
    fence: i64,
    to: Mark,
    lease: Duration,
) -> Result<(), LeadError> {
    let moved = sqlx::query!(
        r#"
        update outbox
        set revision = revision + 1, position = $2, event_id = $4, leased_until = now() + $3::interval
        where revision = (select revision from outbox order by revision desc limit 1) and fence = $1 and position <= $2
        "#,
        fence,
        to.position.0,
        interval(lease),
        to.event_id,
    )
    .execute(executor)
    .await?
    .rows_affected();
    if moved == 1 { Ok(()) } else { Err(LeadError::Deposed(fence)) }
}

/// Gives the lead up, so that another relay can take it at once.
///
/// # Errors
/// [`sqlx::Error`] when the database is away; the lease then runs out by itself.
pub async fn release_lead(executor: impl PgExecutor<'_>, fence: i64) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        update outbox set revision = revision + 1, leased_until = '-infinity', leader = null
        where revision = (select revision from outbox order by revision desc limit 1) and fence = $1
        "#,
        fence
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// The outbox as it is now.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn load(executor: impl PgExecutor<'_>) -> Result<Outbox, sqlx::Error> {
    sqlx::query_as!(
        Outbox,
        r#"
        select position as "position: Position", event_id, fence, leader, leased_until >= now() as "led!"
        from outbox
        order by revision desc
        limit $1
        "#,
        NEWEST_ONE
    )
    .fetch_one(executor)
    .await
}

/// The secret that signs slices.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn slice_key(executor: impl PgExecutor<'_>) -> Result<SliceKey, sqlx::Error> {
    let secret = sqlx::query_scalar!(
        "select slice_key from outbox order by revision desc limit $1",
        NEWEST_ONE
    )
    .fetch_one(executor)
    .await?;
    Ok(SliceKey::new(&secret))
}

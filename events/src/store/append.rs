//! Appending to the log.
//!
//! **Invariant**: an append has the appenders' lock from before its first event until its commit can
//! be seen, and adds to the end that its caller decided on, or adds nothing. So positions are dense
//! and in the order of the commits, whoever appends.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::{LOG_CHANNEL, NEWEST_ONE};
use crate::event::Event;
use crate::id::{Position, UserId};
use crate::recorded::Metadata;

/// Where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub position: Position,
    /// When its last event was recorded; `None` while there is none.
    pub recorded_at: Option<DateTime<Utc>>,
    /// The id that was given last.
    pub last_user_id: UserId,
}

/// An event that was decided and has its place, but is not yet in the log.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub position: Position,
    pub event_id: Uuid,
    /// Its version in its stream.
    pub version: i32,
    pub event: Event,
    pub metadata: Metadata,
}

/// Begins a transaction and takes the appenders' lock, in one round trip.
///
/// The lock is an advisory one, "append" as a number. It is no row, whose versions would pile up behind an old
/// snapshot, and it goes with the transaction: at its end, after what it wrote can be seen.
///
/// It has to be taken by a statement of its own, before any that reads what the decision depends on:
/// READ COMMITTED takes a snapshot per statement, and only a snapshot taken after the lock was granted
/// shows what the previous holder committed.
pub const BEGIN_LOCKED: &str = "begin; select pg_advisory_xact_lock(107135549927012)";

/// The head of the log: its last event, and the last user id that was given. Only who has the lock
/// can be sure that it stays.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn head(transaction: &mut PgConnection) -> Result<Head, sqlx::Error> {
    sqlx::query_as!(
        Head,
        r#"
        select
            coalesce(last.position, 0) as "position!: Position",
            last.recorded_at as "recorded_at?",
            coalesce((
                select (payload ->> 'user_id')::bigint from events
                where type = 'UserRegistered'
                order by (payload ->> 'user_id')::bigint desc
                limit $1
            ), 0) as "last_user_id!: UserId"
        from (select) as one
        left join lateral (
            select position, recorded_at from events order by position desc limit $1
        ) as last on true
        "#,
        NEWEST_ONE
    )
    .fetch_one(transaction)
    .await
}

/// Whether an append found that the log does not end where it was to go on, or that another is at
/// work on it. Nothing was appended, and who takes the lock first can.
#[must_use]
pub fn is_overtaken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::RowNotFound => true,
        // Between this statement's first look and the lock, another has appended here.
        sqlx::Error::Database(error) => {
            error.is_unique_violation() && error.table() == Some("events")
        }
        _ => false,
    }
}

/// Appends `events` after `old` and announces the new head at commit: one statement for the whole
/// batch.
///
/// It takes the lock if the transaction does not have it yet. So outside a transaction it is a whole
/// append in one round trip, for who is likely to be alone: the state that `events` were decided on may
/// have been read at any time after the log was seen to end at `old`, since it changes only with the
/// log, and the log has not.
///
/// # Errors
/// [`sqlx::Error`]; nothing is appended then, unless the connection was cut, when a whole append may
/// have been committed. See [`is_overtaken`] for one that came too late.
pub async fn append(
    connection: &mut PgConnection,
    old: Position,
    events: &[NewEvent],
    recorded_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let Some(last) = events.last() else { return Ok(()) };
    let positions: Vec<i64> = events.iter().map(|new| new.position.0).collect();
    let ids: Vec<Uuid> = events.iter().map(|new| new.event_id).collect();
    let streams: Vec<String> = events.iter().map(|new| new.event.stream(new.position)).collect();
    let versions: Vec<i32> = events.iter().map(|new| new.version).collect();
    let kinds: Vec<String> = events.iter().map(|new| new.event.kind().to_owned()).collect();
    let schema_versions: Vec<i16> = events.iter().map(|new| new.event.schema_version()).collect();
    let payloads: Vec<String> = events.iter().map(|new| new.event.payload()).collect();
    let metadata: Vec<Json<&Metadata>> = events.iter().map(|new| Json(&new.metadata)).collect();

    sqlx::query_file!(
        "src/store/append.sql",
        old.0,
        last.position.0,
        &positions,
        &ids,
        &streams,
        &versions,
        &kinds,
        &schema_versions,
        &payloads,
        &metadata as _,
        recorded_at,
        LOG_CHANNEL,
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

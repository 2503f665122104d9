//! Appending to the log. The caller holds the lock of the head for the whole transaction.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::event::Event;
use crate::id::{Position, UserId};
use crate::recorded::Metadata;

/// Where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub position: Position,
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

/// Locks the head of the log until the transaction ends.
///
/// This has to be a statement of its own, before any that reads what the decision depends on: READ
/// COMMITTED takes a snapshot per statement, and only a snapshot taken after the lock was granted
/// shows what the previous holder committed.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn lock_head(transaction: &mut PgConnection) -> Result<Head, sqlx::Error> {
    sqlx::query_as!(
        Head,
        r#"
        select position as "position: Position", last_user_id as "last_user_id: UserId"
        from log_head
        for update
        "#
    )
    .fetch_one(transaction)
    .await
}

/// Appends `events`, moves the head from `old` to `new`, and announces it at commit: one statement
/// for the whole batch.
///
/// # Errors
/// [`sqlx::Error`]; nothing is appended then. `RowNotFound` says that the head is not at `old`,
/// which only happens to a caller without the lock.
pub async fn append(
    transaction: &mut PgConnection,
    old: Head,
    new: Head,
    events: &[NewEvent],
    recorded_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    let positions: Vec<i64> = events.iter().map(|new| new.position.0).collect();
    let ids: Vec<Uuid> = events.iter().map(|new| new.event_id).collect();
    let streams: Vec<String> = events.iter().map(|new| new.event.stream(new.position)).collect();
    let versions: Vec<i32> = events.iter().map(|new| new.version).collect();
    let kinds: Vec<String> = events.iter().map(|new| new.event.kind().to_owned()).collect();
    let schema_versions: Vec<i16> = events.iter().map(|new| new.event.schema_version()).collect();
    let payloads: Vec<String> = events.iter().map(|new| new.event.payload()).collect();
    let metadata: Vec<Json<&Metadata>> = events.iter().map(|new| Json(&new.metadata)).collect();

    sqlx::query!(
        r#"
        with moved as (
            update log_head set position = $3, last_user_id = $4
            where position = $1 and last_user_id = $2
            returning position
        ), appended as (
            insert into events
                (position, event_id, stream, version, type, schema_version, payload, metadata, recorded_at)
            select position, event_id, stream, version, type, schema_version, payload::jsonb, metadata, $13
            from unnest($5::bigint[], $6::uuid[], $7::text[], $8::integer[], $9::text[],
                        $10::smallint[], $11::text[], $12::jsonb[])
                as new (position, event_id, stream, version, type, schema_version, payload, metadata)
        )
        select pg_notify('rookery_log', position::text) as "announced!: ()" from moved
        "#,
        old.position.0,
        old.last_user_id.0,
        new.position.0,
        new.last_user_id.0,
        &positions,
        &ids,
        &streams,
        &versions,
        &kinds,
        &schema_versions,
        &payloads,
        &metadata as _,
        recorded_at,
    )
    .fetch_one(transaction)
    .await?;
    Ok(())
}

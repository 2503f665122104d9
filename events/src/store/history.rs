//! Whether marks belong to the history of this log.

use sqlx::PgExecutor;
use uuid::Uuid;

use crate::history::Mark;
use crate::id::Position;

/// Those of `marks` that are not in the log: it ends before them, or has another event there. One
/// statement, and a look-up by key for each.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn foreign(log: impl PgExecutor<'_>, marks: &[Mark]) -> Result<Vec<Mark>, sqlx::Error> {
    let positions: Vec<i64> = marks.iter().map(|mark| mark.position.0).collect();
    let event_ids: Vec<Uuid> = marks.iter().map(|mark| mark.event_id).collect();
    sqlx::query_as!(
        Mark,
        r#"
        select mark.position as "position!: Position", mark.event_id as "event_id!"
        from unnest($1::bigint[], $2::uuid[]) as mark (position, event_id)
        where mark.position <> 0 and not exists (
            select from events
            where events.position = mark.position and events.event_id = mark.event_id
            offset 0
        )
        "#,
        &positions,
        &event_ids,
    )
    .fetch_all(log)
    .await
}

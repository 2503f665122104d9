//! Reading the log, in order.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::types::Json;
use uuid::Uuid;

use super::NEWEST_ONE;
use crate::id::{Position, UserId};
use crate::recorded::{Metadata, RecordedEvent};

/// The end of the log: the position of its last event, 0 while it is empty.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn head(executor: impl PgExecutor<'_>) -> Result<Position, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select coalesce((select position from events order by position desc limit $1), 0)
            as "head!: Position"
        "#,
        NEWEST_ONE
    )
    .fetch_one(executor)
    .await
}

/// The id of the event at `position`; `None` when the log does not reach so far.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn event_id_at(
    executor: impl PgExecutor<'_>,
    position: Position,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar!("select event_id from events where position = $1", position.0)
        .fetch_optional(executor)
        .await
}

/// When the event at `position` was recorded; `None` when the log does not reach so far.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn recorded_at(
    executor: impl PgExecutor<'_>,
    position: Position,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!("select recorded_at from events where position = $1", position.0)
        .fetch_optional(executor)
        .await
}

/// Where the log ended at `time`: the last position up to which every event had been recorded by then; `None` when that
/// is in a part that is archived. Times in the log never go back, so it is found by halving.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn position_at(
    executor: impl PgExecutor<'_>,
    time: DateTime<Utc>,
) -> Result<Option<Position>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with recursive archived (last_position, last_recorded_at) as (
            select last_position, last_recorded_at from archived_ranges order by first_position desc limit $2
        ), search (low, high) as (
            select
                coalesce((select last_position from archived), 0),
                coalesce((select position from events order by position desc limit $2), 0)
            union all
            select
                case when middle.recorded_at <= $1 then middle.position else low end,
                case when middle.recorded_at <= $1 then high else middle.position - 1 end
            from search
            cross join lateral (
                select position, recorded_at from events where position = (low + high + 1) / 2 limit 1
            ) as middle
            where low < high
        )
        select low as "position!: Position"
        from search
        where low = high and not exists (select from archived where low = last_position and last_recorded_at > $1)
        "#,
        time,
        NEWEST_ONE,
    )
    .fetch_optional(executor)
    .await
}

/// A row of the log as it comes from PostgreSQL.
struct Row {
    position: Position,
    event_id: Uuid,
    stream: String,
    version: i32,
    kind: String,
    schema_version: i16,
    payload: Json<Box<RawValue>>,
    metadata: Json<Metadata>,
    recorded_at: DateTime<Utc>,
}

impl From<Row> for RecordedEvent {
    fn from(row: Row) -> Self {
        Self {
            position: row.position,
            event_id: row.event_id,
            stream: row.stream,
            version: row.version,
            kind: row.kind,
            schema_version: row.schema_version,
            payload: row.payload.0,
            metadata: row.metadata.0,
            recorded_at: row.recorded_at,
        }
    }
}

/// The event at `position`; `None` when the log does not reach so far.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn at(
    executor: impl PgExecutor<'_>,
    position: Position,
) -> Result<Option<RecordedEvent>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select
            position as "position: Position", event_id, stream, version, type as kind,
            schema_version, payload as "payload: Json<Box<RawValue>>",
            metadata as "metadata: Json<Metadata>", recorded_at
        from events
        where position = $1
        "#,
        position.0
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.map(RecordedEvent::from))
}

/// The next events after `position`, at most `limit` of them, without holes: a reader that sees a
/// position has seen, or can see now, every position below it.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn after(
    executor: impl PgExecutor<'_>,
    position: Position,
    limit: usize,
) -> Result<Vec<RecordedEvent>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select
            position as "position: Position", event_id, stream, version, type as kind,
            schema_version, payload as "payload: Json<Box<RawValue>>",
            metadata as "metadata: Json<Metadata>", recorded_at
        from events
        where position > $1
        order by position
        limit $2
        "#,
        position.0,
        i64::try_from(limit).unwrap_or(i64::MAX),
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(RecordedEvent::from).collect())
}

/// The events after `after` up to `to` that take something out of feeds that are there, or bring in what was
/// written before.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn turns(
    executor: impl PgExecutor<'_>,
    after: Position,
    to: Position,
) -> Result<Vec<RecordedEvent>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select
            position as "position: Position", event_id, stream, version, type as kind,
            schema_version, payload as "payload: Json<Box<RawValue>>",
            metadata as "metadata: Json<Metadata>", recorded_at
        from events
        where position > $1 and position <= $2
            and type in ('Followed', 'Unfollowed', 'TweetDeleted', 'UserDeleted')
        order by position
        "#,
        after.0,
        to.0,
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(RecordedEvent::from).collect())
}

/// The newest events of each of `streams` up to `position`, at most `limit` of each, in order; but not
/// the creation of a tweet, whose place is its id.
///
/// Within a stream versions go with positions, so the newest by the key (stream, version) are the
/// newest in the log.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn newest_of_streams(
    executor: impl PgExecutor<'_>,
    streams: &[String],
    position: Position,
    limit: i64,
) -> Result<Vec<RecordedEvent>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select
            newest.position as "position: Position", newest.event_id, newest.stream, newest.version,
            newest.type as kind, newest.schema_version,
            newest.payload as "payload: Json<Box<RawValue>>",
            newest.metadata as "metadata: Json<Metadata>", newest.recorded_at
        from unnest($1::text[]) as wanted (stream)
        cross join lateral (
            select * from events
            where events.stream = wanted.stream and events.type <> 'TweetCreated' and events.position <= $2
            order by events.stream desc, events.version desc
            limit $3
        ) as newest
        order by newest.position
        "#,
        streams,
        position.0,
        limit,
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(RecordedEvent::from).collect())
}

/// The first event of each of `streams`, in no order; but not the creation of a tweet.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn first_of_streams(
    executor: impl PgExecutor<'_>,
    streams: &[String],
) -> Result<Vec<RecordedEvent>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select
            position as "position: Position", event_id, first.stream, version, type as kind,
            schema_version, payload as "payload: Json<Box<RawValue>>",
            metadata as "metadata: Json<Metadata>", recorded_at
        from unnest($1::text[]) as asked (stream)
        cross join lateral (
            select * from events
            where events.stream = asked.stream and events.version = 1 and events.type <> 'TweetCreated'
            limit 1
        ) as first
        "#,
        streams
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(RecordedEvent::from).collect())
}

/// Position and kind of the last event of each of `streams` that has one; of a tweet that was not deleted its
/// creation.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn last_of_streams(
    executor: impl PgExecutor<'_>,
    streams: &[String],
) -> Result<HashMap<String, (Position, String)>, sqlx::Error> {
    let tweets: Vec<Option<i64>> =
        streams.iter().map(|stream| stream.strip_prefix("tweet-")?.parse().ok()).collect();
    let rows = sqlx::query!(
        r#"
        select last.stream as "stream!", last.position as "position!: Position", last.type as "kind!"
        from unnest($1::text[], $2::bigint[]) as asked (stream, tweet_id)
        cross join lateral (
            (
                select stream, position, type from events
                where events.stream = asked.stream and type <> 'TweetCreated'
                order by events.stream desc, events.version desc
                limit 1
            )
            union all
            (
                select stream, position, type from events
                where events.position = asked.tweet_id and type = 'TweetCreated'
                limit 1
            )
            limit 1
        ) as last
        "#,
        streams,
        &tweets as _,
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(|row| (row.stream, (row.position, row.kind))).collect())
}

/// Whether one of the two ever followed the other, in this direction.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn have_related(
    executor: impl PgExecutor<'_>,
    follower: UserId,
    followed: UserId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select from relationships where follower_id = $1 and followed_id = $2
        ) as "have!"
        "#,
        follower.0,
        followed.0,
    )
    .fetch_one(executor)
    .await
}

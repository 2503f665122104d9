//! The ranges of positions that the log is kept in: see `migrations/log/0008_ranges.sql`.
//!
//! **Invariant**: what is archived is the beginning of the log, what is live is all the rest, and the last event is live. A
//! range is archived in the transaction that takes it out of the log, and live in the one that puts it back.

use std::time::Duration;

use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgExecutor};

use super::{Fault, NEWEST_ONE};
use crate::archive::Span;
use crate::id::{Position, UserId};
use crate::recorded::{Metadata, RecordedEvent};

/// Opens ranges of `size` positions until there is room for `through`. Returns how far there is room.
///
/// # Errors
/// [`sqlx::Error`] when the database is away or the role may not.
pub async fn open(
    log: impl PgExecutor<'_>,
    through: Position,
    size: i64,
) -> Result<Position, sqlx::Error> {
    sqlx::query_scalar!(r#"select open_log_ranges($1, $2) as "room!: Position""#, through.0, size)
        .fetch_one(log)
        .await
}

/// A part of the log is needed that is not in the database any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "positions 1 to {through} of the log are archived, and some of them are needed for this: \
     api restore brings them back (docs/archives.md)"
)]
pub struct Archived {
    pub through: Position,
    /// The last user who registered in what is archived.
    pub last_user_id: UserId,
}

/// How far the log is archived; `None` when all of it is live.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn archived(log: impl PgExecutor<'_>) -> Result<Option<Archived>, sqlx::Error> {
    sqlx::query_as!(
        Archived,
        r#"
        select last_position as "through: Position", last_user_id as "last_user_id: UserId"
        from archived_ranges
        order by first_position desc
        limit $1
        "#,
        NEWEST_ONE
    )
    .fetch_optional(log)
    .await
}

/// Makes sure that every event after `position` is live.
///
/// # Errors
/// [`NotLive::Archived`] when one is not, [`NotLive::Log`] when the database is away.
pub async fn live_after(log: impl PgExecutor<'_>, position: Position) -> Result<(), NotLive> {
    match archived(log).await? {
        Some(archived) if archived.through > position => Err(archived.into()),
        _ => Ok(()),
    }
}

/// Why the log cannot be read from a position on.
#[derive(Debug, thiserror::Error)]
pub enum NotLive {
    #[error(transparent)]
    Archived(#[from] Archived),
    #[error("the log cannot be read: {0}")]
    Log(#[from] sqlx::Error),
}

/// A range of the log that is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRange {
    pub table: String,
    pub span: Span,
}

/// The live ranges that end at or before `through` and before the last event, oldest first.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn to_archive(
    log: impl PgExecutor<'_>,
    through: Position,
) -> Result<Vec<LiveRange>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select range_table::text as "table!", first_position as "first!: Position",
            last_position as "last!: Position"
        from log_ranges
        where range_table is not null
            and last_position <= $1
            and last_position < (select position from events order by position desc limit $2)
        order by first_position
        "#,
        through.0,
        NEWEST_ONE,
    )
    .fetch_all(log)
    .await?;
    let range = |first, last, table| LiveRange { table, span: Span { first, last } };
    Ok(rows.into_iter().map(|row| range(row.first, row.last, row.table)).collect())
}

/// A range that is archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedRange {
    pub span: Span,
    pub sha256: Vec<u8>,
}

/// The archived ranges that end at or after `down_to`, newest first.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn to_restore(
    log: impl PgExecutor<'_>,
    down_to: Position,
) -> Result<Vec<ArchivedRange>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select first_position as "first: Position", last_position as "last: Position", sha256
        from archived_ranges
        where last_position >= $1
        order by first_position desc
        "#,
        down_to.0
    )
    .fetch_all(log)
    .await?;
    let range = |first, last, sha256| ArchivedRange { span: Span { first, last }, sha256 };
    Ok(rows.into_iter().map(|row| range(row.first, row.last, row.sha256)).collect())
}

/// Keeps who wrote the tweets of `range`: what a command may still be decided on when it is archived.
///
/// # Errors
/// [`sqlx::Error`] when it cannot be kept.
pub async fn keep_authors(log: impl PgExecutor<'_>, range: &LiveRange) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into archived_tweets (tweet_id, author_id)
        select position, (payload ->> 'author_id')::bigint
        from events
        where type = 'TweetCreated' and position between $1 and $2
        order by position
        on conflict (tweet_id) do nothing
        "#,
        range.span.first.0,
        range.span.last.0,
    )
    .execute(log)
    .await?;
    Ok(())
}

/// Takes `range`, the oldest that is live and whose archive has this SHA-256, out of the log.
///
/// Everybody who reads the log or appends to it waits for this, so it waits for them no longer than `patience`. `false` when
/// it was in vain.
///
/// # Errors
/// [`sqlx::Error`] when it cannot be done; the range is live then.
pub async fn take_out(
    log: &mut PgConnection,
    range: &LiveRange,
    sha256: &[u8],
    patience: Duration,
) -> Result<bool, sqlx::Error> {
    let mut transaction = log.begin().await?;
    let limit = format!("set local lock_timeout = {}", patience.as_millis());
    sqlx::query(AssertSqlSafe(limit)).execute(&mut *transaction).await?;
    sqlx::query!(
        r#"
        insert into archived_ranges (first_position, last_position, last_recorded_at, last_user_id, sha256)
        select $1, $2, last.recorded_at, greatest(
            (
                select max((payload ->> 'user_id')::bigint) from events
                where type = 'UserRegistered' and position between $1 and $2
            ),
            (select last_user_id from archived_ranges order by first_position desc limit $4),
            0
        ), $3
        from events last
        where last.position = $2
        "#,
        range.span.first.0,
        range.span.last.0,
        sha256,
        NEWEST_ONE,
    )
    .execute(&mut *transaction)
    .await?;
    // The name is from the catalog, as a name that may stand in a statement.
    let detach = format!("alter table events detach partition {0}; drop table {0}", range.table);
    match sqlx::raw_sql(AssertSqlSafe(detach)).execute(&mut *transaction).await {
        Ok(_) => {
            transaction.commit().await?;
            Ok(true)
        }
        Err(error) if Fault::of(&error) == Fault::Busy => {
            transaction.rollback().await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Makes the table of an archived range again, empty and not yet in the log.
///
/// # Errors
/// [`sqlx::Error`] when it cannot be made.
pub async fn make_table(log: &mut PgConnection, span: Span) -> Result<String, sqlx::Error> {
    // One that is there and not in the log is left from a restore that was cut off.
    let left = sqlx::query_scalar!(
        r#"
        select oid::regclass::text as "left!" from pg_class
        where oid = to_regclass('events_' || $1::bigint) and not relispartition
        "#,
        span.first.0
    )
    .fetch_optional(&mut *log)
    .await?;
    if let Some(left) = left {
        let drop = format!("drop table {left}");
        sqlx::query(AssertSqlSafe(drop)).execute(&mut *log).await?;
    }
    sqlx::query_scalar!(r#"select make_log_range($1)::text as "table!""#, span.first.0)
        .fetch_one(log)
        .await
}

/// Writes events into a table that [`make_table`] made.
///
/// # Errors
/// [`sqlx::Error`] when they cannot be written.
pub async fn fill(
    log: &mut PgConnection,
    table: &str,
    events: &[RecordedEvent],
) -> Result<(), sqlx::Error> {
    let column = |of: fn(&RecordedEvent) -> String| events.iter().map(of).collect::<Vec<_>>();
    let insert = format!(
        "insert into {table}
            (position, event_id, stream, version, type, schema_version, payload, metadata, recorded_at)
        select position, event_id, stream, version, type, schema_version, payload::jsonb, metadata, recorded_at
        from unnest($1::bigint[], $2::uuid[], $3::text[], $4::integer[], $5::text[], $6::smallint[],
                    $7::text[], $8::jsonb[], $9::timestamptz[])
            as event (position, event_id, stream, version, type, schema_version, payload, metadata, recorded_at)"
    );
    sqlx::query(AssertSqlSafe(insert))
        .bind(events.iter().map(|event| event.position.0).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.event_id).collect::<Vec<_>>())
        .bind(column(|event| event.stream.clone()))
        .bind(events.iter().map(|event| event.version).collect::<Vec<_>>())
        .bind(column(|event| event.kind.clone()))
        .bind(events.iter().map(|event| event.schema_version).collect::<Vec<_>>())
        .bind(column(|event| event.payload.get().to_owned()))
        .bind(events.iter().map(|event| Json(&event.metadata)).collect::<Vec<Json<&Metadata>>>())
        .bind(events.iter().map(|event| event.recorded_at).collect::<Vec<_>>())
        .execute(log)
        .await?;
    Ok(())
}

/// Puts a range, the newest that is archived, back into the log as what is in `table`.
///
/// # Errors
/// [`sqlx::Error`] when it cannot be done; the range is archived then.
pub async fn put_back(log: &mut PgConnection, table: &str, span: Span) -> Result<(), sqlx::Error> {
    let Span { first, last } = span;
    let mut transaction = log.begin().await?;
    let attach = format!(
        "alter table events attach partition {table} for values from ({first}) to ({})",
        last.0 + 1
    );
    sqlx::query(AssertSqlSafe(attach)).execute(&mut *transaction).await?;
    sqlx::query!("delete from archived_ranges where first_position = $1", first.0)
        .execute(&mut *transaction)
        .await?;
    sqlx::query!("delete from archived_tweets where tweet_id between $1 and $2", first.0, last.0)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

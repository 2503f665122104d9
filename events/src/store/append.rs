//! Appending to the log.
//!
//! **Invariant**: an append has the appenders' lock from before its first event until its commit can
//! be seen, and adds to the end that its caller decided on, or adds nothing. So positions are dense
//! and in the order of the commits, whoever appends.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::{LOG_CHANNEL, NEWEST_ONE};
use crate::event::{Event, Followed, TweetDeleted, Unfollowed, UserRegistered};
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
/// The log was seen to reach `seen`: its ranges before that are not looked at.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn head(transaction: &mut PgConnection, seen: Position) -> Result<Head, sqlx::Error> {
    let head = sqlx::query_as!(
        Head,
        r#"
        select
            coalesce(last.position, 0) as "position!: Position",
            last.recorded_at as "recorded_at?",
            (select user_id from last_user_id order by user_id desc limit $2) as "last_user_id!: UserId"
        from (select) as one
        left join lateral (
            select position, recorded_at from events where position >= $1 order by position desc limit $2
        ) as last on true
        "#,
        seen.0,
        NEWEST_ONE
    )
    .fetch_one(&mut *transaction)
    .await?;
    if head.position < seen {
        // What was seen is no longer there: an older log was put in its place.
        return Box::pin(self::head(transaction, Position::START)).await;
    }
    Ok(head)
}

/// Whether an append found that the log does not end where it was to go on, or that another is at
/// work on it. Nothing was appended, and who takes the lock first can.
#[must_use]
pub fn is_overtaken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::RowNotFound => true,
        // Between this statement's first look and the lock, another has appended here.
        sqlx::Error::Database(error) => {
            let table = error.table().unwrap_or_default();
            let is_range = table.starts_with("events_");
            error.is_unique_violation() && (is_range || table == "deleted_tweets")
        }
        _ => false,
    }
}

/// Whether an append found no range of the log that was open for it. Nothing was appended.
#[must_use]
pub fn has_no_room(error: &sqlx::Error) -> bool {
    /// `check_violation`; PostgreSQL has no other code for a row without a partition.
    const NO_PARTITION: &str = "23514";
    error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some(NO_PARTITION)
            && error.table() == Some("events")
            && error.constraint().is_none()
    })
}

/// Appends `events` after `old` and announces the new head at commit: one statement for the whole
/// batch. It also writes what the decision state says by these events alone.
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
    let Consequences { relationships, deleted_tweets, last_user_id } = Consequences::of(events);
    let followers: Vec<i64> = relationships.keys().map(|(follower, _)| follower.0).collect();
    let followed: Vec<i64> = relationships.keys().map(|(_, followed)| followed.0).collect();
    let last_versions: Vec<i32> = relationships.values().map(|last| last.version).collect();
    let follows: Vec<bool> = relationships.values().map(|last| last.follows).collect();

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
        &followers,
        &followed,
        &last_versions,
        &follows,
        &deleted_tweets,
        last_user_id,
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

/// What events say of the decision state, without a look at what was there before.
#[derive(Debug, Default)]
struct Consequences {
    /// The last event between two users, in the order of its table's key.
    relationships: BTreeMap<(UserId, UserId), Relationship>,
    deleted_tweets: Vec<i64>,
    last_user_id: Option<i64>,
}

/// The last event between two users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Relationship {
    pub version: i32,
    pub follows: bool,
}

impl Consequences {
    fn of(events: &[NewEvent]) -> Self {
        let mut found = Self::default();
        for NewEvent { event, version, .. } in events {
            let version = *version;
            match event {
                Event::UserRegistered(UserRegistered { user_id, .. }) => {
                    found.last_user_id = Some(user_id.0);
                }
                Event::TweetDeleted(TweetDeleted { tweet_id, .. }) => {
                    found.deleted_tweets.push(tweet_id.0);
                }
                Event::Followed(Followed { follower_id, followed_id }) => {
                    let last = Relationship { version, follows: true };
                    found.relationships.insert((*follower_id, *followed_id), last);
                }
                Event::Unfollowed(Unfollowed { follower_id, followed_id }) => {
                    let last = Relationship { version, follows: false };
                    found.relationships.insert((*follower_id, *followed_id), last);
                }
                // Accounts need more than that, and are the appender's.
                Event::UserDeleted(_) | Event::TweetCreated(_) => {}
            }
        }
        found
    }
}

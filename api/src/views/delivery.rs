//! How far a tweet has come, for its author: counts only, never who.

use chrono::{DateTime, Utc};
use events::{Position, TweetId, UserId};
use serde::Serialize;
use sqlx::PgExecutor;
use utoipa::ToSchema;

use crate::position::AsOf;

/// So many followers are looked at, those with the lowest ids of those who are not dormant first: a count of more would take longer than the
/// answer is worth. 100,000 take some tenths of a second.
pub const FOLLOWERS_MAX: i64 = 100_000;

/// The read model's part of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Delivered {
    /// How many follow the author, at most [`FOLLOWERS_MAX`].
    pub followers: i64,
    /// In how many of their feeds the tweet is.
    pub feeds: i64,
    /// The projector had it. `null`, as the other times, when its record does not go back so far.
    pub received_at: Option<DateTime<Utc>>,
    /// Its rows were written.
    pub applied_at: Option<DateTime<Utc>>,
    /// The last follower could read it.
    pub readable_at: Option<DateTime<Utc>>,
}

/// How far `tweet` of `author` has come; `None` when it is deleted.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn find(
    feed: impl PgExecutor<'_>,
    tweet: TweetId,
    author: UserId,
) -> Result<AsOf<Option<Delivered>>, sqlx::Error> {
    let found = sqlx::query_file!("src/views/delivery.sql", tweet.0, author.0, FOLLOWERS_MAX)
        .fetch_one(feed);
    let found = found.await?;
    let value = Delivered {
        followers: found.followers,
        feeds: found.feeds,
        received_at: found.received_at,
        applied_at: found.applied_at,
        readable_at: found.readable_at,
    };
    Ok(AsOf { position: found.position, value: (!found.is_deleted).then_some(value) })
}

//! How far a tweet has come, for its author: counts only, never who.

use chrono::{DateTime, Utc};
use events::store::nodes::position_of_every_node;
use events::store::{Connections, Engine};
use events::{Position, TweetId, UserId};
use serde::Serialize;
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
    feed: &Connections,
    tweet: TweetId,
    author: UserId,
) -> Result<AsOf<Option<Delivered>>, sqlx::Error> {
    match feed.engine().await? {
        Engine::Single => find_at_once(feed, tweet, author).await,
        Engine::Distributed => find_on_every_node(feed, tweet, author).await,
    }
}

async fn find_at_once(
    feed: &Connections,
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

/// The nodes count at the same time, so that there is nothing to gain from looking at fewer.
async fn find_on_every_node(
    feed: &Connections,
    tweet: TweetId,
    author: UserId,
) -> Result<AsOf<Option<Delivered>>, sqlx::Error> {
    let position = position_of_every_node(feed).await?;
    let counted = sqlx::query_file!("src/views/delivery_of_every_node.sql", tweet.0, author.0)
        .fetch_one(feed)
        .await?;
    let is_deleted = sqlx::query_scalar!(
        r#"select exists (select from tweets where tweet_id = $1 and deleted_position <> 0) as "is!""#,
        tweet.0
    )
    .fetch_one(feed)
    .await?;
    let hop = sqlx::query!(
        r#"
        select first_position, received_at, applied_at, readable_at from projector_hops
        where last_position >= $1
        order by last_position, first_position
        limit 1
        "#,
        tweet.0
    )
    .fetch_optional(feed)
    .await?
    .filter(|hop| hop.first_position <= tweet.0);
    let value = Delivered {
        followers: counted.followers.min(FOLLOWERS_MAX),
        feeds: counted.feeds.min(FOLLOWERS_MAX),
        received_at: hop.as_ref().map(|hop| hop.received_at),
        applied_at: hop.as_ref().map(|hop| hop.applied_at),
        readable_at: hop.as_ref().map(|hop| hop.readable_at),
    };
    Ok(AsOf { position, value: (!is_deleted).then_some(value) })
}

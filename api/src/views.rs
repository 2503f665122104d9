//! Reads of the read model. What each finds and the position that it names come from one statement, so
//! from one snapshot: every statement starts from `checkpoint` and joins the rest to it.

pub mod counts;
pub mod delivery;
pub mod feed;
pub mod follows;
pub mod pipeline;
pub mod tweets;
pub mod users;

use chrono::{DateTime, Utc};
use events::store::NEWEST_ONE;
use events::{Mark, Position, TweetId, UserId};
use serde::Serialize;
use sqlx::PgExecutor;
use utoipa::ToSchema;

use crate::domain::Account;

/// A user as everyone sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct User {
    pub id: UserId,
    #[schema(example = "ada")]
    pub username: String,
    pub created_at: DateTime<Utc>,
}

/// A user as they see themselves: nobody else is told their address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OwnUser {
    #[serde(flatten)]
    pub user: User,
    #[schema(example = "ada@example.org")]
    pub email: String,
}

/// A tweet as clients see one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Tweet {
    pub id: TweetId,
    pub author_id: UserId,
    #[schema(example = "hello, world")]
    pub content: String,
    pub created_at: DateTime<Utc>,
    pub author: User,
}

/// An item of a home feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FeedItem {
    pub tweet_id: TweetId,
    #[schema(example = "hello, world")]
    pub content: String,
    pub author_id: UserId,
    #[schema(example = "ada")]
    pub author_username: String,
    pub created_at: DateTime<Utc>,
}

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    pub skip: i64,
    pub limit: i64,
}

impl From<Account> for OwnUser {
    fn from(account: Account) -> Self {
        let Account { user_id: id, username, email, created_at } = account;
        Self { user: User { id, username, created_at }, email }
    }
}

/// What the projector that leads goes by, `messages` or the `log`; `None` while none leads.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn followed(executor: impl PgExecutor<'_>) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select case when leased_until >= now() then follows end from projector_lead
        order by revision desc
        limit $1
        "#,
        NEWEST_ONE
    )
    .fetch_one(executor)
    .await
}

/// How far a projection is, and who is at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projecting {
    pub generation: i32,
    pub position: Position,
    /// Whether a projector leads.
    pub led: bool,
    /// What it goes by: `messages`, or the `log` because RabbitMQ brings nothing.
    pub follows: String,
}

/// How far the projection is whose tables `executor` finds.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn projecting(executor: impl PgExecutor<'_>) -> Result<Projecting, sqlx::Error> {
    sqlx::query_as!(
        Projecting,
        r#"
        select generation, position as "position: Position", leased_until >= now() as "led!", follows
        from (
            select generation, position from checkpoint order by position desc, fence desc limit $1
        ) as newest
        cross join (
            select leased_until, follows from projector_lead order by revision desc limit $1
        ) as lead
        "#,
        NEWEST_ONE
    )
    .fetch_one(executor)
    .await
}

/// The position that the read model is at, and of which history.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn checkpoint(executor: impl PgExecutor<'_>) -> Result<Mark, sqlx::Error> {
    sqlx::query_as!(
        Mark,
        r#"
        select position as "position: Position", event_id from checkpoint
        order by position desc, fence desc
        limit $1
        "#,
        NEWEST_ONE
    )
    .fetch_one(executor)
    .await
}

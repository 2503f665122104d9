//! How much each user has, as the projection of counts has it: with a position of its own, beside that of the feeds.

use events::{Position, UserId};
use serde::Serialize;
use sqlx::PgExecutor;
use utoipa::ToSchema;

use crate::position::AsOf;

/// What a user has. Nothing in it is of users who are gone, or of tweets that are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Counts {
    /// What they wrote.
    #[schema(example = 3)]
    pub tweets: i64,
    /// Who follows them.
    #[schema(example = 12)]
    pub followers: i64,
    /// Whom they follow.
    #[schema(example = 5)]
    pub following: i64,
}

/// What `user_id` has, unless there is no such user, or no longer. `executor` finds the tables of the counts.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn find(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
) -> Result<AsOf<Option<Counts>>, sqlx::Error> {
    let row = sqlx::query_file!("src/views/counts.sql", user_id.0).fetch_one(executor).await?;
    let found = row.tweets.zip(row.followers).zip(row.following);
    let value =
        found.map(|((tweets, followers), following)| Counts { tweets, followers, following });
    Ok(AsOf { position: row.position, value })
}

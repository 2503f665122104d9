//! Tweets, as of a position. A tweet is readable while neither it nor its author is deleted.

use chrono::{DateTime, Utc};
use events::{Position, TweetId, UserId};
use sqlx::PgExecutor;

use super::{Page, Tweet, User};
use crate::position::AsOf;

/// A row of any list of tweets. Without a tweet it only brings the position.
struct TweetRow {
    position: Position,
    id: Option<TweetId>,
    content: Option<String>,
    created_at: Option<DateTime<Utc>>,
    author_id: Option<UserId>,
    username: Option<String>,
    author_created_at: Option<DateTime<Utc>>,
}

impl TweetRow {
    fn tweet(self) -> Option<Tweet> {
        let author_id = self.author_id?;
        Some(Tweet {
            id: self.id?,
            author_id,
            content: self.content?,
            created_at: self.created_at?,
            author: User {
                id: author_id,
                username: self.username?,
                created_at: self.author_created_at?,
            },
        })
    }
}

/// The tweet, unless there is none or no longer.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn find(
    executor: impl PgExecutor<'_>,
    tweet_id: TweetId,
) -> Result<AsOf<Option<Tweet>>, sqlx::Error> {
    let row = sqlx::query_as!(
        TweetRow,
        r#"
        select checkpoint.position as "position: Position", found.tweet_id as "id?: TweetId",
            content as "content?", found.created_at as "created_at?",
            found.author_id as "author_id?: UserId", username as "username?",
            author_created_at as "author_created_at?"
        from (select position from checkpoint order by position desc, fence desc limit 1) as checkpoint
        left join lateral (
            select tweet.*, username, author.created_at as author_created_at
            from (
                select * from tweets where tweet_id = $1 and deleted_position = 0 limit 1
            ) as tweet
            cross join lateral (
                select * from users
                where users.user_id = tweet.author_id and deleted_position = 0
                limit 1
            ) as author
        ) as found on true
        "#,
        tweet_id.0
    )
    .fetch_one(executor)
    .await?;
    Ok(AsOf { position: row.position, value: row.tweet() })
}

/// A user's tweets, newest first.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn by_author(
    executor: impl PgExecutor<'_>,
    author_id: UserId,
    before: TweetId,
    page: Page,
) -> Result<AsOf<Vec<Tweet>>, sqlx::Error> {
    let rows = sqlx::query_as!(
        TweetRow,
        r#"
        select checkpoint.position as "position: Position", page.tweet_id as "id?: TweetId",
            content as "content?", page.created_at as "created_at?",
            page.author_id as "author_id?: UserId", username as "username?",
            author.created_at as "author_created_at?"
        from (select position from checkpoint order by position desc, fence desc limit 1) as checkpoint
        left join lateral (
            select * from users where user_id = $1 and deleted_position = 0 limit 1
        ) as author on true
        left join lateral (
            select * from tweets
            where (author_id, deleted_position, tweet_id) < (author.user_id, 0, $2)
                and (author_id, deleted_position, tweet_id) > (author.user_id, 0, 0)
            order by author_id desc, deleted_position desc, tweet_id desc
            offset $3 limit $4
        ) as page on true
        order by page.tweet_id desc
        "#,
        author_id.0,
        before.0,
        page.skip,
        page.limit
    )
    .fetch_all(executor)
    .await?;
    let position = rows.first().map_or(Position::START, |row| row.position);
    Ok(AsOf { position, value: rows.into_iter().filter_map(TweetRow::tweet).collect() })
}

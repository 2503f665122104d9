//! Home feeds, as of a position: now, or as they were.

use chrono::{DateTime, Utc};
use events::{Position, TweetId, UserId};
use sqlx::PgExecutor;

use super::{FeedItem, Page};
use crate::position::AsOf;

/// Above every tweet: the first page.
pub const NEWEST: TweetId = TweetId(i64::MAX);

/// A row of a page. Without an item it only brings the position.
struct FeedRow {
    position: Position,
    known: bool,
    tweet_id: Option<TweetId>,
    content: Option<String>,
    author_id: Option<UserId>,
    author_username: Option<String>,
    created_at: Option<DateTime<Utc>>,
}

impl FeedRow {
    fn item(self) -> Option<FeedItem> {
        Some(FeedItem {
            tweet_id: self.tweet_id?,
            content: self.content?,
            author_id: self.author_id?,
            author_username: self.author_username?,
            created_at: self.created_at?,
        })
    }
}

/// A page of the feed of `reader`: tweets below `before`, newest first. `None` when there is no
/// such user. Exact at any depth: below the floor it goes on with the tweets of those followed.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn page(
    executor: impl PgExecutor<'_>,
    reader: UserId,
    before: TweetId,
    page: Page,
) -> Result<AsOf<Option<Vec<FeedItem>>>, sqlx::Error> {
    let rows = sqlx::query_file_as!(
        FeedRow,
        "src/views/feed/page.sql",
        reader.0,
        before.0,
        page.skip,
        page.limit
    )
    .fetch_all(executor)
    .await?;
    Ok(items(rows))
}

/// The same page as it was when the log ended at `at`, which has to be at or below the position
/// that is answered: above it nothing is known yet.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn page_at(
    executor: impl PgExecutor<'_>,
    reader: UserId,
    before: TweetId,
    page: Page,
    at: Position,
) -> Result<AsOf<Option<Vec<FeedItem>>>, sqlx::Error> {
    let rows = sqlx::query_file_as!(
        FeedRow,
        "src/views/feed/page_at.sql",
        reader.0,
        before.0,
        page.skip,
        page.limit,
        at.0
    )
    .fetch_all(executor)
    .await?;
    Ok(items(rows))
}

fn items(rows: Vec<FeedRow>) -> AsOf<Option<Vec<FeedItem>>> {
    let (position, known) =
        rows.first().map_or((Position::START, false), |row| (row.position, row.known));
    let items = rows.into_iter().filter_map(FeedRow::item).collect();
    AsOf { position, value: known.then_some(items) }
}

//! Home feeds, as of a position: now, or as they were.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use events::store::nodes::position_of_every_node;
use events::store::{Connections, Engine};
use events::{Position, TweetId, UserId};
use metrics::counter;
use sqlx::PgExecutor;

use super::{FeedItem, Page};
use crate::changes::{Cause, Stay};
use crate::metrics::FEED_READS;
use crate::position::AsOf;

/// Above every tweet: the first page.
pub const NEWEST: TweetId = TweetId(i64::MAX);

/// Of a feed whose rows are all kept.
const NO_FLOOR: TweetId = TweetId(0);

/// Whose last page was of more than rows: theirs is asked for like that at once.
static READ_MORE_THAN_ROWS: Hints = Hints::none();

/// Something about readers that is only true of most whom it says it of: a bit for each hash. Being wrong costs time alone.
struct Hints([AtomicU64; HINT_WORDS]);

/// 65,536 bits.
const HINT_WORDS: usize = 1_024;

impl Hints {
    const fn none() -> Self {
        Self([const { AtomicU64::new(0) }; HINT_WORDS])
    }

    /// Ids are given one after the other, so their lowest bits are as good as a hash.
    fn place(reader: UserId) -> (usize, u64) {
        let id = reader.0.unsigned_abs();
        let word = usize::try_from(id / 64 % HINT_WORDS as u64).unwrap_or_default();
        (word, 1 << (id % 64))
    }

    fn has(&self, reader: UserId) -> bool {
        let (word, bit) = Self::place(reader);
        self.0[word].load(Ordering::Relaxed) & bit != 0
    }

    fn set(&self, reader: UserId, is_so: bool) {
        let (word, bit) = Self::place(reader);
        if is_so {
            self.0[word].fetch_or(bit, Ordering::Relaxed);
        } else {
            self.0[word].fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

/// A row of a page. Without an item it only brings the position.
struct FeedRow {
    position: Position,
    known: bool,
    /// The oldest tweet that rows are kept for, where a page is made of them.
    floor: TweetId,
    /// Whether there is more than rows: what is pulled, or what a fan-out under way has yet to bring.
    is_partial: bool,
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
    executor: impl PgExecutor<'_> + Copy,
    reader: UserId,
    before: TweetId,
    page: Page,
) -> Result<AsOf<Option<Vec<FeedItem>>>, sqlx::Error> {
    let Page { skip, limit } = page;
    if !READ_MORE_THAN_ROWS.has(reader) {
        let page = sqlx::query_file_as!(
            FeedRow,
            "src/views/feed/page.sql",
            reader.0,
            before.0,
            skip,
            limit
        )
        .fetch_all(executor)
        .await?;
        if !page.first().is_some_and(|row| row.is_partial) {
            if let Some(page) = unless_it_runs_out(page, limit) {
                read_from("rows");
                return Ok(page);
            }
            return page_whole(executor, reader, before, Page { skip, limit }).await;
        }
    }
    let page = sqlx::query_file_as!(
        FeedRow,
        "src/views/feed/page_merged.sql",
        reader.0,
        before.0,
        skip,
        limit
    )
    .fetch_all(executor)
    .await?;
    READ_MORE_THAN_ROWS.set(reader, page.first().is_some_and(|row| row.is_partial));
    if let Some(page) = unless_it_runs_out(page, limit) {
        read_from("merged");
        return Ok(page);
    }
    page_whole(executor, reader, before, Page { skip, limit }).await
}

/// The page of `rows`, unless they are too few and end at a floor.
fn unless_it_runs_out(rows: Vec<FeedRow>, limit: i64) -> Option<AsOf<Option<Vec<FeedItem>>>> {
    let floor = rows.first().map_or(NO_FLOOR, |row| row.floor);
    let page = items(rows);
    let found = page.value.as_ref().map_or(0, Vec::len);
    let is_full = i64::try_from(found).is_ok_and(|found| found >= limit);
    (floor == NO_FLOOR || is_full).then_some(page)
}

/// Reads a page whole, so that all of it is of one position.
async fn page_whole(
    executor: impl PgExecutor<'_>,
    reader: UserId,
    before: TweetId,
    page: Page,
) -> Result<AsOf<Option<Vec<FeedItem>>>, sqlx::Error> {
    let Page { skip, limit } = page;
    read_from("authors");
    let rows = sqlx::query_file_as!(
        FeedRow,
        "src/views/feed/page_whole.sql",
        reader.0,
        before.0,
        skip,
        limit
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
    read_from("past");
    Ok(items(rows))
}

/// The oldest items of the feed of `reader` above `after`, at most `limit` of them. Exact at any
/// depth, like a page.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn since(
    executor: impl PgExecutor<'_>,
    reader: UserId,
    after: Position,
    limit: i64,
) -> Result<AsOf<Option<Vec<FeedItem>>>, sqlx::Error> {
    let rows = sqlx::query_file_as!(FeedRow, "src/views/feed/since.sql", reader.0, after.0, limit)
        .fetch_all(executor)
        .await?;
    read_from("above");
    Ok(items(rows))
}

/// How many unread items are counted at most: a screen has no room for more digits, and counting costs as reading does.
pub const UNREAD_MAX: i64 = 1_000;

/// How many items of the feed of `reader` are above `marker` and by somebody else, counted up to `limit`.
/// `None` when there is no such user.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn unread(
    executor: impl PgExecutor<'_>,
    reader: UserId,
    marker: TweetId,
    limit: i64,
) -> Result<AsOf<Option<i64>>, sqlx::Error> {
    let found = sqlx::query_file!("src/views/feed/unread.sql", reader.0, marker.0, limit)
        .fetch_one(executor)
        .await?;
    Ok(AsOf { position: found.position, value: found.known.then_some(found.unread) })
}

/// Counts a page by what it was made from.
fn read_from(source: &'static str) {
    counter!(FEED_READS.name, "source" => source).increment(1);
}

/// A row of stays. Without an item it only brings the position.
struct StayRow {
    position: Position,
    known: bool,
    tweet_id: Option<TweetId>,
    content: Option<String>,
    author_id: Option<UserId>,
    author_username: Option<String>,
    created_at: Option<DateTime<Utc>>,
    since: Option<Position>,
    /// 0 while it holds.
    until: Option<Position>,
    /// 0 while there is none.
    author_deleted: Option<Position>,
    /// 0 while there is none.
    tweet_deleted: Option<Position>,
}

impl StayRow {
    fn stay(self) -> Option<Stay> {
        let (tweet_id, since) = (self.tweet_id?, self.since?);
        let written = Position(tweet_id.0);
        let entered = if written > since {
            Cause { position: written, kind: "TweetCreated" }
        } else {
            Cause { position: since, kind: "Followed" }
        };
        let ends = [
            Cause { position: self.until?, kind: "Unfollowed" },
            Cause { position: self.author_deleted?, kind: "UserDeleted" },
            Cause { position: self.tweet_deleted?, kind: "TweetDeleted" },
        ];
        let left = ends.into_iter().filter(|end| end.position > Position::START).min();
        let item = FeedItem {
            tweet_id,
            content: self.content?,
            author_id: self.author_id?,
            author_username: self.author_username?,
            created_at: self.created_at?,
        };
        Some(Stay { item, entered, left })
    }
}

/// The stays in the feed of `reader` that did not end at or before `from`, of the newest tweets, at most
/// `limit` of them. `None` when there is no such user.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn stays(
    executor: impl PgExecutor<'_>,
    reader: UserId,
    from: Position,
    limit: i64,
) -> Result<AsOf<Option<Vec<Stay>>>, sqlx::Error> {
    let rows = sqlx::query_file_as!(StayRow, "src/views/feed/stays.sql", reader.0, from.0, limit)
        .fetch_all(executor)
        .await?;
    let (position, known) =
        rows.first().map_or((Position::START, false), |row| (row.position, row.known));
    let stays = rows.into_iter().filter_map(StayRow::stay).collect();
    Ok(AsOf { position, value: known.then_some(stays) })
}

/// What is new in the feeds of several readers.
#[derive(Debug, Default)]
pub struct News {
    /// The tweets, in order, each with the readers in whose feeds it is.
    pub tweets: Vec<(FeedItem, Vec<UserId>)>,
    /// Readers of whose feeds so much is new that it is not all kept.
    pub too_much: Vec<UserId>,
}

/// What is new in the feeds of `readers` above `after`, up to `to` or to where the read model is, if
/// that is less. Two statements, however many readers there are; three, where they are on several nodes.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn news(
    feed: &Connections,
    readers: &[UserId],
    after: Position,
    to: Position,
) -> Result<AsOf<News>, sqlx::Error> {
    let (position, rows) = match feed.engine().await? {
        Engine::Single => {
            let rows = sqlx::query_file!("src/views/feed/news.sql", readers as _, after.0, to.0)
                .fetch_all(feed)
                .await?;
            let position = rows.first().map_or(Position::START, |row| row.position).min(to);
            let rows: Vec<_> = rows.into_iter().map(|row| (row.reader, row.tweet_id)).collect();
            (position, rows)
        }
        Engine::Distributed => {
            let position = position_of_every_node(feed).await?.min(to);
            let rows = sqlx::query_file!(
                "src/views/feed/news_of_every_node.sql",
                readers as _,
                after.0,
                position.0
            )
            .fetch_all(feed)
            .await?;
            (position, rows.into_iter().map(|row| (row.reader, row.tweet_id)).collect())
        }
    };
    let mut readers_of: BTreeMap<TweetId, Vec<UserId>> = BTreeMap::new();
    let mut too_much = Vec::new();
    for row in rows {
        match row {
            (Some(reader), Some(tweet)) => readers_of.entry(tweet).or_default().push(reader),
            (Some(reader), None) => too_much.push(reader),
            (None, _) => {}
        }
    }
    let mut tweets = Vec::with_capacity(readers_of.len());
    if !readers_of.is_empty() {
        let ids: Vec<TweetId> = readers_of.keys().copied().collect();
        // A tweet that was deleted in between is not among them.
        for item in items_of(feed, &ids).await? {
            let readers = readers_of.remove(&item.tweet_id).unwrap_or_default();
            tweets.push((item, readers));
        }
    }
    Ok(AsOf { position, value: News { tweets, too_much } })
}

async fn items_of(
    executor: impl PgExecutor<'_>,
    tweets: &[TweetId],
) -> Result<Vec<FeedItem>, sqlx::Error> {
    sqlx::query_as!(
        FeedItem,
        r#"
        select
            tweets.tweet_id as "tweet_id: TweetId", tweets.content,
            tweets.author_id as "author_id: UserId", author.username as author_username,
            tweets.created_at
        from unnest($1::bigint[]) as wanted (tweet_id)
        cross join lateral (
            select * from tweets
            where tweets.tweet_id = wanted.tweet_id and deleted_position = 0
            limit 1
        ) as tweets
        cross join lateral (
            select username from users
            where users.user_id = tweets.author_id and deleted_position = 0
            limit 1
        ) as author
        order by tweets.tweet_id
        "#,
        tweets as _
    )
    .fetch_all(executor)
    .await
}

fn items(rows: Vec<FeedRow>) -> AsOf<Option<Vec<FeedItem>>> {
    let (position, known) =
        rows.first().map_or((Position::START, false), |row| (row.position, row.known));
    let items = rows.into_iter().filter_map(FeedRow::item).collect();
    AsOf { position, value: known.then_some(items) }
}

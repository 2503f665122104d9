//! The feeds of a new generation, made at once from who follows whom and what everyone wrote.
//!
//! This is the second implementation of what a feed is, beside the live one in `feed_items.rs`: for
//! speed, since a row costs a fraction of what it costs one by one. The test
//! `a_rebuilt_generation_equals_the_live_one` holds the two together.

use std::sync::atomic::{AtomicI64, Ordering};

use sqlx::PgPool;

use crate::progress::Progress;

/// How many readers one statement serves: with a thousand tweets each, half a million rows.
const READERS_PER_STATEMENT: i64 = 500;

/// Not checked when this is compiled, as the other statements are: `tweets_per_author` is no part
/// of the schema.
const FLOORS: &str = include_str!("floors.sql");
const TWEETS_PER_AUTHOR: &str = include_str!("tweets_per_author.sql");

/// Writes `feed_items` and `floors` for every reader in `next`, over `connections` at a time.
pub(super) async fn write(
    next: &PgPool,
    kept: i64,
    connections: u32,
    progress: &Progress,
) -> Result<(), sqlx::Error> {
    let last: i64 =
        sqlx::query_scalar!(r#"select coalesce(max(user_id), 0) as "last!" from users"#)
            .fetch_one(next)
            .await?;
    progress.expect(last.unsigned_abs());
    count_tweets_per_author(next).await?;
    let first = AtomicI64::new(1);
    let worker = async || {
        loop {
            let from = first.fetch_add(READERS_PER_STATEMENT, Ordering::Relaxed);
            if from > last {
                return Ok::<_, sqlx::Error>(());
            }
            let before = from + READERS_PER_STATEMENT;
            sqlx::query(FLOORS).bind(from).bind(before).bind(kept).execute(next).await?;
            let written =
                sqlx::query_file!("src/rebuild/feeds.sql", from, before).execute(next).await?;
            progress.deliver(written.rows_affected());
            progress.advance((before.min(last + 1) - from).unsigned_abs());
        }
    };
    futures_util::future::try_join_all((0..connections).map(|_| worker())).await?;
    Ok(())
}

/// Once for all readers, who would else count the same tweets again and again.
async fn count_tweets_per_author(next: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(TWEETS_PER_AUTHOR).execute(next).await?;
    Ok(())
}

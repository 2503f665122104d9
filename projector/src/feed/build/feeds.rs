//! The feeds of a new generation, made at once from who follows whom and what everyone wrote.
//!
//! This is the second implementation of what a feed is, beside the live one in `read_model/feed_items.rs`: for
//! speed, since a row costs a fraction of what it costs one by one. The test
//! `a_rebuilt_generation_equals_the_live_one` holds the two together.
//!
//! Several connections work out feeds while one more takes their rows in: a copy writes half of what
//! inserting the same rows writes to PostgreSQL's own log, and one that fills a new table may mark
//! its rows as seen by everyone, which vacuum would else come back for.

use std::sync::atomic::{AtomicI64, Ordering};

use events::store::{Connections, Engine};
use sqlx::Connection;
use tokio::sync::mpsc;

use super::{copy, everywhere};
use crate::feed::read_model::dormant::DORMANT_FLOOR;
use crate::progress::Progress;

/// How many readers one statement serves: with a thousand tweets each, 2.6 MB for the copy.
const READERS_PER_STATEMENT: i64 = 100;

/// Not checked when this is compiled, as the other statements are: `tweets_per_author` is no part
/// of the schema.
const FLOORS: &str = include_str!("floors.sql");
const TWEETS_PER_AUTHOR: &str = include_str!("tweets_per_author.sql");

const COPY: &str = "copy feed_items (user_id, tweet_id) from stdin (format binary, freeze)";

/// Writes `feed_items` and `floors` for every reader in `next` who is not dormant. `connections` at a time work them
/// out, one more takes them in.
pub(super) async fn write(
    next: &Connections,
    kept: i64,
    connections: usize,
    progress: &Progress,
) -> Result<(), sqlx::Error> {
    let last: i64 =
        sqlx::query_scalar!(r#"select coalesce(max(user_id), 0) as "last!" from users"#)
            .fetch_one(next)
            .await?;
    progress.expect(last.unsigned_abs());
    if next.engine().await? == Engine::Distributed {
        return everywhere::write(next, last, kept, connections, progress).await;
    }
    // Once for all readers, who would else count the same tweets again and again.
    sqlx::raw_sql(TWEETS_PER_AUTHOR).execute(next).await?;

    let (rows, worked_out) = mpsc::channel(1);
    let first = AtomicI64::new(1);
    let worker = async |rows: mpsc::Sender<Vec<u8>>| {
        loop {
            let from = first.fetch_add(READERS_PER_STATEMENT, Ordering::Relaxed);
            if from > last {
                return Ok::<_, sqlx::Error>(());
            }
            let before = from + READERS_PER_STATEMENT;
            sqlx::query(FLOORS).bind(from).bind(before).bind(kept).execute(next).await?;
            let feeds =
                sqlx::query_file!("src/feed/build/feeds.sql", from, before, DORMANT_FLOOR.0)
                    .fetch_all(next)
                    .await?;
            let mut copied = Vec::new();
            for feed in &feeds {
                for tweet in &feed.tweets {
                    copy::row(&mut copied, [feed.user_id, *tweet]);
                }
                progress.deliver(feed.tweets.len() as u64);
            }
            if rows.send(copied).await.is_err() {
                // The copy has failed, and says why.
                return Ok(());
            }
            progress.advance((before.min(last + 1) - from).unsigned_abs());
        }
    };
    let workers: Vec<_> = (0..connections).map(|_| worker(rows.clone())).collect();
    drop(rows);
    tokio::try_join!(futures_util::future::try_join_all(workers), take_in(next, worked_out))?;
    Ok(())
}

/// Copies what comes into `feed_items`, in one transaction: only rows of a table that is empty in
/// the same transaction may be frozen.
async fn take_in(next: &Connections, mut rows: mpsc::Receiver<Vec<u8>>) -> Result<(), sqlx::Error> {
    let mut lent = next.lend().await?;
    let mut transaction = lent.begin().await?;
    sqlx::query!("truncate feed_items").execute(&mut *transaction).await?;
    let mut copy = transaction.copy_in_raw(COPY).await?;
    copy.send(copy::HEADER).await?;
    while let Some(rows) = rows.recv().await {
        copy.send(rows).await?;
    }
    copy.send(copy::TRAILER).await?;
    copy.finish().await?;
    transaction.commit().await?;
    lent.give_back();
    Ok(())
}

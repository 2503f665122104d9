//! `feed_items`: the kept part of each feed, complete from its floor up.
//!
//! The plan of each statement comes from its shape: what is looked up for a row is a subquery with a
//! limit, an offset or a group, which can only be run for that row, through its key; and rows to delete are
//! named by where they are, so that nothing is left to join. A distributed database does not know rows by that, and
//! plans each time for the tables as they are: there rows to delete are joined by their key.
//!
//! Rows come and go through a reader's own `follows`, so that on each node they are those of the readers who are there.

use events::TweetId;
use events::store::Engine;
use sqlx::PgConnection;

use crate::changes::{FeedChanges, columns};
use crate::feed::read_model::floor::ROWS_PER_LOOK;

/// What a statement delivered that returns its rows.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    pub delivered: u64,
    /// Readers whose feed is due for a look at its size.
    pub sampled: Vec<i64>,
}

/// Delivers the tweets of this run to those who followed their authors before it. Returns how many rows that were.
pub(crate) async fn fan_out(
    transaction: &mut PgConnection,
    changes: &FeedChanges,
) -> Result<u64, sqlx::Error> {
    let (tweets, authors): (Vec<i64>, Vec<i64>) =
        changes.delivered.iter().map(|(tweet, author)| (tweet.0, author.0)).unzip();
    if tweets.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query_file!("src/feed/read_model/feed_items/fan_out.sql", &tweets, &authors)
        .execute(transaction)
        .await?;
    Ok(done.rows_affected())
}

/// Delivers to those who began to follow in this run what is there, from their floor up, but not what a fan-out
/// under way will bring them.
pub(crate) async fn backfill(
    transaction: &mut PgConnection,
    changes: &FeedChanges,
    kept: i64,
    under_way: Option<TweetId>,
) -> Result<Delivered, sqlx::Error> {
    let (readers, authors) = columns(changes.started.iter().copied());
    if readers.is_empty() {
        return Ok(Delivered::default());
    }
    let row = sqlx::query_file!(
        "src/feed/read_model/feed_items/backfill.sql",
        &readers,
        &authors,
        ROWS_PER_LOOK - 1,
        kept,
        under_way.map(|tweet| tweet.0)
    )
    .fetch_one(transaction)
    .await?;
    Ok(Delivered { delivered: row.delivered.unsigned_abs(), sampled: row.sampled })
}

/// Takes the tweets of those who are no longer followed out of their readers' feeds. The floor
/// stays: what is above it is as complete as before. Rows of deleted tweets stay as well, since every
/// read passes over them.
pub(crate) async fn remove_unfollowed(
    transaction: &mut PgConnection,
    engine: Engine,
    changes: &FeedChanges,
) -> Result<(), sqlx::Error> {
    let (readers, authors) = columns(changes.stopped.iter().copied());
    if readers.is_empty() {
        return Ok(());
    }
    match engine {
        Engine::Single => {
            sqlx::query_file!(
                "src/feed/read_model/feed_items/remove_unfollowed.sql",
                &readers,
                &authors
            )
            .execute(transaction)
            .await?
        }
        Engine::Distributed => {
            sqlx::query_file!(
                "src/feed/read_model/feed_items/remove_unfollowed_distributed.sql",
                &readers,
                &authors
            )
            .execute(transaction)
            .await?
        }
    };
    Ok(())
}

/// Takes a range out of each feed: the tweets from the first to before the end.
pub(crate) async fn remove_ranges(
    transaction: &mut PgConnection,
    engine: Engine,
    readers: &[i64],
    first: &[i64],
    end: &[i64],
) -> Result<(), sqlx::Error> {
    match engine {
        Engine::Single => {
            sqlx::query!(
                r#"
                delete from feed_items where ctid = any(array(
                    select item.ctid
                    from unnest($1::bigint[], $2::bigint[], $3::bigint[]) as range (user_id, first, before)
                    cross join lateral (
                        select ctid from feed_items
                        where feed_items.user_id = range.user_id
                            and feed_items.tweet_id >= range.first and feed_items.tweet_id < range.before
                        offset 0
                    ) as item
                ))
                "#,
                readers,
                first,
                end
            )
            .execute(transaction)
            .await?
        }
        Engine::Distributed => {
            sqlx::query!(
                r#"
                delete from feed_items
                using unnest($1::bigint[], $2::bigint[], $3::bigint[]) as range (user_id, first, before)
                where feed_items.user_id = range.user_id
                    and feed_items.tweet_id >= range.first and feed_items.tweet_id < range.before
                "#,
                readers,
                first,
                end
            )
            .execute(transaction)
            .await?
        }
    };
    Ok(())
}

/// Drops the feeds of the users deleted in this run: nobody reads them.
pub(crate) async fn remove_of_deleted(
    transaction: &mut PgConnection,
    changes: &FeedChanges,
) -> Result<(), sqlx::Error> {
    let deleted: Vec<i64> = changes.gone.keys().map(|user| user.0).collect();
    if deleted.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        with gone as (delete from floors where user_id = any($1))
        delete from feed_items where user_id = any($1)
        "#,
        &deleted
    )
    .execute(transaction)
    .await?;
    Ok(())
}

//! The feeds of a new generation on a distributed database: each node writes those of its own readers, as it does for readers who
//! come back, and nothing of them passes through here.

use std::sync::atomic::{AtomicI64, Ordering};

use events::store::{Connections, Engine};
use sqlx::Connection;

use crate::checkpoint;
use crate::feed::read_model::dormant::{DORMANT_FLOOR, write_whole};
use crate::progress::Progress;

/// How many readers one transaction serves: enough for every node to have some.
const READERS_PER_TRANSACTION: i64 = 500;

/// Writes `feed_items` and `floors` for every reader up to `last` in `next` who is not dormant, over `connections` at a time.
pub(super) async fn write(
    next: &Connections,
    last: i64,
    kept: i64,
    connections: usize,
    progress: &Progress,
) -> Result<(), sqlx::Error> {
    // What the replay wrote is on every node once this is.
    let mut lent = next.lend().await?;
    let mut transaction = lent.begin().await?;
    checkpoint::lock_everywhere(&mut transaction, Engine::Distributed).await?;
    transaction.commit().await?;
    lent.give_back();
    let first = AtomicI64::new(1);
    let worker = async || {
        loop {
            let from = first.fetch_add(READERS_PER_TRANSACTION, Ordering::Relaxed);
            if from > last {
                return Ok::<_, sqlx::Error>(());
            }
            let before = from + READERS_PER_TRANSACTION;
            progress.deliver(write_range(next, from, before, kept).await?);
            progress.advance((before.min(last + 1) - from).unsigned_abs());
        }
    };
    futures_util::future::try_join_all((0..connections).map(|_| worker())).await?;
    Ok(())
}

async fn write_range(
    next: &Connections,
    from: i64,
    before: i64,
    kept: i64,
) -> Result<u64, sqlx::Error> {
    let dormant = sqlx::query_scalar!(
        "select user_id from floors where user_id >= $1 and user_id < $2 and floor = $3",
        from,
        before,
        DORMANT_FLOOR.0
    )
    .fetch_all(next)
    .await?;
    let readers = sqlx::query_scalar!(
        r#"
        select user_id from users
        where user_id >= $1 and user_id < $2 and deleted_position = 0 and user_id <> all($3)
        "#,
        from,
        before,
        &dormant
    )
    .fetch_all(next)
    .await?;
    let mut lent = next.lend().await?;
    let mut transaction = lent.begin().await?;
    let rows = write_whole(&mut transaction, Engine::Distributed, &readers, kept, None).await?;
    transaction.commit().await?;
    lent.give_back();
    Ok(rows)
}

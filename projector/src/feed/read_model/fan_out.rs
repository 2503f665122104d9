//! Fan-outs that are under way: a tweet with more readers than one transaction should write for enters their feeds
//! step by step, in the order of the readers, while the projection goes on with everything else.
//!
//! **Invariant**: those before a fan-out's `next_reader` have their row of the tweet, and those from it on have none and read
//! it from `fan_outs`. So each feed is exact from the transaction that applied the tweet on, at every position in
//! between, and a projector that is killed goes on where the last step ended. What changes meanwhile needs no look at
//! the tweet that is under way: who is a reader is asked when a step comes to them.

use std::time::Instant;

use chrono::{DateTime, Utc};
use events::store::Connections;
use events::{Clock, TweetId, UserId};
use metrics::{counter, histogram};
use sqlx::{Connection, PgConnection, PgExecutor};

use crate::bounds::Bounds;
use crate::changes::FeedChanges;
use crate::checkpoint::{self, AdvanceError, Checkpoint};
use crate::feed::read_model::floor::{self, FannedOut, ROWS_PER_LOOK};
use crate::metrics::{DELIVERIES, FAN_OUT_STEP};

/// The most fan-outs under way. Each is looked at by every page of its author's readers; beyond, new ones wait until
/// others have ended.
pub const FAN_OUTS_MAX: i64 = 256;

/// Begins those of this run: from now on their readers have them.
pub(crate) async fn begin(
    transaction: &mut PgConnection,
    begun: &[(TweetId, UserId)],
) -> Result<(), sqlx::Error> {
    if begun.is_empty() {
        return Ok(());
    }
    let (tweets, authors): (Vec<i64>, Vec<i64>) =
        begun.iter().map(|(tweet, author)| (tweet.0, author.0)).unzip();
    sqlx::query!(
        r#"
        insert into fan_outs (tweet_id, author_id, next_reader)
        select tweet_id, author_id, 0 from unnest($1::bigint[], $2::bigint[]) as begun (tweet_id, author_id)
        "#,
        &tweets,
        &authors,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Ends those of tweets and authors that were deleted in this run: every read passes over them.
pub(crate) async fn end_of_deleted(
    transaction: &mut PgConnection,
    changes: &FeedChanges,
    under_way: Option<TweetId>,
) -> Result<(), sqlx::Error> {
    let Some(under_way) = under_way else { return Ok(()) };
    if changes.withdrawn.is_empty() && changes.gone.is_empty() {
        return Ok(());
    }
    let tweets: Vec<i64> = changes.withdrawn.iter().map(|tweet| tweet.0).collect();
    let authors: Vec<i64> = changes.gone.keys().map(|user| user.0).collect();
    sqlx::query!(
        "delete from fan_outs where tweet_id >= $1 and (tweet_id = any($2) or author_id = any($3))",
        under_way.0,
        &tweets,
        &authors,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// How many are under way, of those from `under_way` on.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn count(feed: impl PgExecutor<'_>, under_way: TweetId) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from fan_outs where tweet_id >= $1"#,
        under_way.0
    )
    .fetch_one(feed)
    .await
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stepped {
    /// The checkpoint, at its position still.
    pub checkpoint: Checkpoint,
    /// Rows of `feed_items` that it brought.
    pub deliveries: u64,
    /// When its rows were written and only the commit was left.
    pub applied_at: DateTime<Utc>,
}

/// Goes one step on with the oldest fan-out under way and with those that stand where it does: one transaction.
///
/// # Errors
/// [`AdvanceError`]; the read model is as it was.
pub async fn step(
    feed: &Connections,
    checkpoint: Checkpoint,
    bounds: Bounds,
) -> Result<Stepped, AdvanceError> {
    let Some(under_way) = checkpoint.under_way else {
        return Ok(Stepped { checkpoint, deliveries: 0, applied_at: Clock::system().now() });
    };
    let started = Instant::now();
    let mut lent = feed.lend().await?;
    let mut transaction = lent.begin().await?;
    checkpoint::hold(&mut transaction, checkpoint).await?;
    let step = sqlx::query_file!(
        "src/feed/read_model/fan_out/step.sql",
        under_way.0,
        bounds.step_rows(),
        ROWS_PER_LOOK - 1
    )
    .fetch_one(&mut *transaction)
    .await?;
    floor::trim(&mut transaction, FannedOut::NONE, &step.sampled, bounds.kept).await?;
    let checkpoint =
        checkpoint::set_under_way(&mut *transaction, checkpoint, step.under_way).await?;
    let applied_at = Clock::system().now();
    transaction.commit().await?;
    lent.give_back();

    let deliveries = step.delivered.unsigned_abs();
    counter!(DELIVERIES.name).increment(deliveries);
    histogram!(FAN_OUT_STEP.name).record(started.elapsed());
    tracing::debug!(
        deliveries,
        fan_outs.from = checkpoint.under_way.map(|tweet| tweet.0),
        feed.position = checkpoint.position.0,
        elapsed_s = started.elapsed().as_secs_f64(),
        "went on with fan-outs"
    );
    Ok(Stepped { checkpoint, deliveries, applied_at })
}

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
use crate::feed::read_model::feed_items::Delivered;
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
    let engine = lent.engine();
    let mut transaction = lent.begin().await?;
    checkpoint::hold(&mut transaction, engine, checkpoint).await?;
    let standing = standing_together(&mut transaction, under_way, bounds.step_rows()).await?;
    let delivered = match &standing {
        Some(standing) => go_on(&mut transaction, standing, bounds.step_rows()).await?,
        None => Delivered::default(),
    };
    floor::trim(&mut transaction, engine, FannedOut::NONE, &delivered.sampled, bounds.kept).await?;
    let oldest = oldest(&mut transaction, under_way).await?;
    let checkpoint = checkpoint::set_under_way(&mut *transaction, checkpoint, oldest).await?;
    let applied_at = Clock::system().now();
    transaction.commit().await?;
    lent.give_back();

    let deliveries = delivered.delivered;
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

/// Fan-outs of one author that stand at the same reader.
struct Standing {
    tweets: Vec<i64>,
    author: i64,
    next_reader: i64,
}

/// The oldest fan-out under way and those that stand where it does, `most` at most. None is of an older tweet than `under_way`.
async fn standing_together(
    transaction: &mut PgConnection,
    under_way: TweetId,
    most: i64,
) -> Result<Option<Standing>, sqlx::Error> {
    let found = sqlx::query_file!("src/feed/read_model/fan_out/under_way.sql", under_way.0, most)
        .fetch_all(transaction)
        .await?;
    Ok(found.first().map(|first| Standing {
        tweets: found.iter().map(|fan_out| fan_out.tweet_id).collect(),
        author: first.author_id,
        next_reader: first.next_reader,
    }))
}

/// Delivers to the next readers, about `rows` in all, and stands after the last of them; or ends, when there are no more.
async fn go_on(
    transaction: &mut PgConnection,
    standing: &Standing,
    rows: i64,
) -> Result<Delivered, sqlx::Error> {
    let Standing { tweets, author, next_reader } = standing;
    let readers = (rows / i64::try_from(tweets.len()).unwrap_or(rows).max(1)).max(1);
    let last = sqlx::query_file_scalar!(
        "src/feed/read_model/fan_out/last_reader.sql",
        author,
        next_reader,
        readers - 1
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let row = sqlx::query_file!(
        "src/feed/read_model/fan_out/step.sql",
        tweets,
        author,
        next_reader,
        last.unwrap_or(i64::MAX),
        ROWS_PER_LOOK - 1
    )
    .fetch_one(&mut *transaction)
    .await?;
    match last {
        Some(last) => {
            sqlx::query!(
                "update fan_outs set next_reader = $2 where tweet_id = any($1)",
                tweets,
                last + 1
            )
            .execute(transaction)
            .await?
        }
        None => {
            sqlx::query!("delete from fan_outs where tweet_id = any($1)", tweets)
                .execute(transaction)
                .await?
        }
    };
    Ok(Delivered { delivered: row.delivered.unsigned_abs(), sampled: row.sampled })
}

/// The oldest tweet that is under way. None is older than `under_way`.
async fn oldest(
    transaction: &mut PgConnection,
    under_way: TweetId,
) -> Result<Option<TweetId>, sqlx::Error> {
    let oldest = sqlx::query_scalar!(
        r#"
        select tweet_id as "tweet_id: TweetId" from fan_outs
        where tweet_id >= $1
        order by tweet_id
        limit 1
        "#,
        under_way.0,
    );
    oldest.fetch_optional(transaction).await
}

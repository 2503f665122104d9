//! Applying a run of events to the read model: one transaction, a fixed number of statements.

use std::time::Instant;

use chrono::{DateTime, Utc};
use events::projection::ProjectionName;
use events::store::{Connections, Engine};
use events::{Clock, RecordedEvent, TweetId};
use metrics::counter;
use sqlx::{Connection, PgConnection};

use crate::changes::{Changes, FeedChanges, Ways};
use crate::checkpoint::{self, Checkpoint};
use crate::feed::read_model::floor::FannedOut;
use crate::feed::read_model::{fan_out, feed_items, floor, follows, reader_counts, tweets, users};
use crate::feed::work::WorkError;
use crate::metrics::{DELIVERIES, PULLED};
use crate::projection::{ApplyError, measure_applied, run_after};

impl From<WorkError> for ApplyError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Decode(error) => Self::Decode(error),
            WorkError::Database(error) => Self::Database(error),
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Where the read model stands now.
    pub checkpoint: Checkpoint,
    /// Rows of `feed_items` that it brought.
    pub deliveries: u64,
    /// When its rows were written and only the commit was left.
    pub applied_at: DateTime<Utc>,
}

/// Applies `events`, which begin right after `checkpoint`. Feeds keep their newest `kept` tweets, which come into them in these
/// `ways`.
///
/// # Errors
/// [`ApplyError`]; the read model is as it was.
pub async fn apply(
    feed: &Connections,
    checkpoint: Checkpoint,
    events: &[RecordedEvent],
    ways: &Ways,
    kept: i64,
) -> Result<Applied, ApplyError> {
    let Some(last) = run_after(checkpoint.position, events)? else {
        return Ok(Applied { checkpoint, deliveries: 0, applied_at: Clock::system().now() });
    };
    let started = Instant::now();
    let changes = Changes::of(events)?;
    let in_feeds = changes.in_feeds(ways);
    let begun = in_feeds.begun.first().map(|(tweet, _)| *tweet);

    let mut lent = feed.lend().await?;
    let engine = lent.engine();
    let mut transaction = lent.begin().await?;
    let under_way = checkpoint.under_way.or(begun);
    let moved = checkpoint::advance(
        &mut transaction,
        engine,
        ProjectionName::Feed,
        checkpoint,
        last,
        under_way,
    )
    .await?;
    write_users_and_tweets(&mut transaction, &changes, ways).await?;
    let writing = write_feeds(&mut transaction, engine, &changes, &in_feeds, kept, under_way);
    let deliveries = writing.await?;
    reader_counts::add(&mut transaction, &changes, last.position).await?;
    let applied_at = Clock::system().now();
    transaction.commit().await?;
    lent.give_back();

    measure_applied(ProjectionName::Feed, events, started);
    counter!(DELIVERIES.name).increment(deliveries);
    counter!(PULLED.name).increment(changes.pulled_of(ways) as u64);
    tracing::debug!(
        events = events.len(),
        deliveries,
        feed.position = last.position.0,
        elapsed_s = started.elapsed().as_secs_f64(),
        "applied"
    );
    Ok(Applied { checkpoint: moved, deliveries, applied_at })
}

/// Applies `events`, which begin right after `checkpoint`, except for the feeds and the counts of readers: for a generation
/// where both are written at once, when everything that they follow from is there. Returns the new
/// checkpoint.
///
/// # Errors
/// [`ApplyError`]; the read model is as it was.
pub async fn apply_without_feeds(
    feed: &Connections,
    checkpoint: Checkpoint,
    events: &[RecordedEvent],
    changes: &Changes,
    ways: &Ways,
) -> Result<Checkpoint, ApplyError> {
    let Some(last) = run_after(checkpoint.position, events)? else { return Ok(checkpoint) };
    let in_feeds = changes.in_feeds(ways);
    let mut lent = feed.lend().await?;
    let engine = lent.engine();
    let mut transaction = lent.begin().await?;
    let moved = checkpoint::advance(
        &mut transaction,
        engine,
        ProjectionName::Feed,
        checkpoint,
        last,
        checkpoint.under_way,
    )
    .await?;
    write_users_and_tweets(&mut transaction, changes, ways).await?;
    write_follows(&mut transaction, engine, changes, &in_feeds).await?;
    transaction.commit().await?;
    lent.give_back();
    Ok(moved)
}

/// Writes who reads whom, and the feeds; returns how many feed items that delivered.
///
/// The order matters: tweets of this run go to those who followed their author before it; then the
/// follows change, and whoever began to follow gets everything at once, the tweets of this run
/// among it. So no item is written twice.
async fn write_feeds(
    transaction: &mut PgConnection,
    engine: Engine,
    changes: &Changes,
    in_feeds: &FeedChanges,
    kept: i64,
    under_way: Option<TweetId>,
) -> Result<u64, sqlx::Error> {
    fan_out::end_of_deleted(transaction, in_feeds, under_way).await?;
    fan_out::begin(transaction, &in_feeds.begun).await?;
    let rows = feed_items::fan_out(transaction, in_feeds).await?;
    write_follows(transaction, engine, changes, in_feeds).await?;
    feed_items::remove_unfollowed(transaction, engine, in_feeds).await?;
    floor::raise_for_long_authors(transaction, engine, in_feeds, kept).await?;
    let backfilled = feed_items::backfill(transaction, in_feeds, kept, under_way).await?;
    feed_items::remove_of_deleted(transaction, in_feeds).await?;

    let fanned_out = FannedOut { tweets: &in_feeds.delivered, rows };
    floor::trim(transaction, engine, fanned_out, &backfilled.sampled, kept).await?;
    Ok(rows + backfilled.delivered)
}

async fn write_users_and_tweets(
    transaction: &mut PgConnection,
    changes: &Changes,
    ways: &Ways,
) -> Result<(), sqlx::Error> {
    users::insert(transaction, changes).await?;
    users::mark_deleted(transaction, changes).await?;
    tweets::insert(transaction, changes, &ways.pulled).await?;
    tweets::mark_deleted(transaction, changes).await
}

async fn write_follows(
    transaction: &mut PgConnection,
    engine: Engine,
    changes: &Changes,
    in_feeds: &FeedChanges,
) -> Result<(), sqlx::Error> {
    follows::end(transaction, changes).await?;
    follows::begin(transaction, engine, changes).await?;
    follows::end_of_deleted(transaction, &in_feeds.gone).await
}

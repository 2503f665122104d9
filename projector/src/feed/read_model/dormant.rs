//! Dormant readers: no row is kept for them, and pages take everything from the authors, as they do below any floor.
//!
//! **Invariant**: who is dormant has a floor above everything, no row, and says so in each of their `follows`, so that no fan-out
//! writes one. All three change in one transaction, which leaves the checkpoint where it is: a feed is what it was, and every page
//! is exact before, after and in between. This is the only place where a floor goes down: everything from there up is
//! written with it.

use events::store::Connections;
use events::{TweetId, UserId};
use sqlx::Connection;

use crate::bounds::Bounds;
use crate::checkpoint::{self, AdvanceError, Checkpoint};

/// The floor of who is dormant: above every tweet that there can be.
pub const DORMANT_FLOOR: TweetId = TweetId(i64::MAX);

/// What came of a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Readers that are as they should be: so many, of those named first.
    pub readers: usize,
    /// Of how many that was not so before.
    pub changed: u64,
    /// Rows of `feed_items` that it brought.
    pub deliveries: u64,
}

/// Makes the first of `readers`, each of whom is named once, dormant: as many as one transaction has room for.
///
/// # Errors
/// [`AdvanceError`]; the read model is as it was.
pub async fn drop_rows(
    feed: &Connections,
    checkpoint: Checkpoint,
    readers: &[UserId],
    bounds: Bounds,
) -> Result<Served, AdvanceError> {
    let mut lent = feed.lend().await?;
    let mut transaction = lent.begin().await?;
    checkpoint::hold(&mut transaction, checkpoint).await?;
    let done = sqlx::query_file!(
        "src/feed/read_model/dormant/drop_rows.sql",
        readers as _,
        bounds.step_rows(),
        DORMANT_FLOOR.0
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    lent.give_back();
    Ok(Served::of(done.served, done.changed, 0))
}

/// Brings back the rows of the first of `readers`, each of whom is named once: as many as one transaction has room for.
///
/// # Errors
/// [`AdvanceError`]; the read model is as it was.
pub async fn bring_back(
    feed: &Connections,
    checkpoint: Checkpoint,
    readers: &[UserId],
    bounds: Bounds,
) -> Result<Served, AdvanceError> {
    let mut lent = feed.lend().await?;
    let mut transaction = lent.begin().await?;
    checkpoint::hold(&mut transaction, checkpoint).await?;
    let done = sqlx::query_file!(
        "src/feed/read_model/dormant/bring_back.sql",
        readers as _,
        bounds.step_rows(),
        DORMANT_FLOOR.0,
        bounds.kept,
        checkpoint.under_way.map(|tweet| tweet.0)
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    lent.give_back();
    Ok(Served::of(done.served, done.changed, done.delivered))
}

impl Served {
    fn of(readers: i64, changed: i64, deliveries: i64) -> Self {
        Self {
            readers: usize::try_from(readers).unwrap_or_default(),
            changed: changed.unsigned_abs(),
            deliveries: deliveries.unsigned_abs(),
        }
    }
}

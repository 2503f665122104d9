//! Dormant readers: no row is kept for them, and pages take everything from the authors, as they do below any floor.
//!
//! **Invariant**: who is dormant has a floor above everything, no row, and says so in each of their `follows`, so that no fan-out
//! writes one. All three change in one transaction, which leaves the checkpoint where it is: a feed is what it was, and every page
//! is exact before, after and in between. This is the only place where a floor goes down: everything from there up is
//! written with it.

use std::collections::HashMap;

use events::store::{Connections, Engine};
use events::{TweetId, UserId};
use sqlx::{Connection, PgConnection};

use crate::bounds::Bounds;
use crate::checkpoint::{self, AdvanceError, Checkpoint};
use crate::feed::read_model::{feed_items, floor, follows};

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

/// Makes the first of `readers`, each of whom is named once, dormant: as many as one transaction has room for. Who is not there any
/// more is passed over.
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
    let engine = lent.engine();
    let mut transaction = lent.begin().await?;
    checkpoint::hold(&mut transaction, engine, checkpoint).await?;
    let weighed = weigh(&mut transaction, readers, bounds).await?;
    let served = in_turn(readers, bounds, |reader| {
        weighed.get(&reader).map_or(0, |weighed| weighed.rows + weighed.follows)
    });
    let falling: Vec<(i64, i64)> = served
        .iter()
        .filter_map(|reader| Some((reader.0, weighed.get(reader)?.floor.unwrap_or(TweetId(0)).0)))
        .filter(|(_, floor)| *floor != DORMANT_FLOOR.0)
        .collect();
    if !falling.is_empty() {
        let (falling, floors): (Vec<i64>, Vec<i64>) = falling.iter().copied().unzip();
        let above_all = vec![DORMANT_FLOOR.0; falling.len()];
        feed_items::remove_ranges(&mut transaction, engine, &falling, &floors, &above_all).await?;
        floor::set(&mut transaction, &falling, &above_all).await?;
        follows::mark(&mut transaction, engine, &falling, true).await?;
    }
    transaction.commit().await?;
    lent.give_back();
    Ok(Served { readers: served.len(), changed: falling.len() as u64, deliveries: 0 })
}

/// Brings back the rows of the first of `readers`, each of whom is named once: as many as one transaction has room for. Who is not
/// dormant is passed over.
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
    let engine = lent.engine();
    let mut transaction = lent.begin().await?;
    checkpoint::hold(&mut transaction, engine, checkpoint).await?;
    let mut weighed = weigh(&mut transaction, readers, bounds).await?;
    weighed.retain(|_, weighed| weighed.floor == Some(DORMANT_FLOOR));
    let served = in_turn(readers, bounds, |reader| {
        weighed.get(&reader).map_or(0, |weighed| bounds.kept + weighed.follows)
    });
    let returned: Vec<i64> = served
        .iter()
        .filter(|reader| weighed.contains_key(reader))
        .map(|reader| reader.0)
        .collect();
    let mut deliveries = 0;
    if !returned.is_empty() {
        follows::mark(&mut transaction, engine, &returned, false).await?;
        let under_way = checkpoint.under_way;
        deliveries =
            write_whole(&mut transaction, engine, &returned, bounds.kept, under_way).await?;
    }
    transaction.commit().await?;
    lent.give_back();
    Ok(Served { readers: served.len(), changed: returned.len() as u64, deliveries })
}

/// How much it is to drop somebody's rows, or to bring them back.
struct Weighed {
    user_id: UserId,
    floor: Option<TweetId>,
    rows: i64,
    follows: i64,
}

/// Those of `readers` who are there.
async fn weigh(
    transaction: &mut PgConnection,
    readers: &[UserId],
    bounds: Bounds,
) -> Result<HashMap<UserId, Weighed>, sqlx::Error> {
    let weighed = sqlx::query_file_as!(
        Weighed,
        "src/feed/read_model/dormant/weighed.sql",
        readers as _,
        bounds.step_rows()
    )
    .fetch_all(transaction)
    .await?;
    Ok(weighed.into_iter().map(|weighed| (weighed.user_id, weighed)).collect())
}

/// The first of `readers`, for whom one transaction has room: whoever comes while it has not had its rows yet, so one at least.
fn in_turn(readers: &[UserId], bounds: Bounds, rows: impl Fn(UserId) -> i64) -> &[UserId] {
    let mut before = 0;
    let has_room = |reader: &&UserId| {
        let has_room = before < bounds.step_rows();
        before += rows(**reader);
        has_room
    };
    let served = readers.iter().take_while(has_room).count();
    &readers[..served]
}

/// Writes the rows of `readers`, who have none, and their floors: each feed has its newest `kept` tweets, but for what a fan-out under
/// way will bring, none of which is of an older tweet than `under_way`. Returns how many rows that were.
pub(crate) async fn write_whole(
    transaction: &mut PgConnection,
    engine: Engine,
    readers: &[i64],
    kept: i64,
    under_way: Option<TweetId>,
) -> Result<u64, sqlx::Error> {
    let floors = match engine {
        Engine::Single => {
            sqlx::query_file_as!(Lower, "src/feed/read_model/dormant/floors.sql", readers, kept)
                .fetch_all(&mut *transaction)
                .await?
        }
        Engine::Distributed => {
            sqlx::query_file_as!(
                Lower,
                "src/feed/read_model/dormant/floors_distributed.sql",
                readers,
                kept
            )
            .fetch_all(&mut *transaction)
            .await?
        }
    };
    sqlx::query!("delete from floors where user_id = any($1)", readers)
        .execute(&mut *transaction)
        .await?;
    let (low, floors): (Vec<i64>, Vec<i64>) =
        floors.iter().map(|lower| (lower.user_id.0, lower.floor.0)).unzip();
    floor::set(transaction, &low, &floors).await?;
    let under_way = under_way.map(|tweet| tweet.0);
    let delivered =
        sqlx::query_file!("src/feed/read_model/dormant/deliver.sql", readers, under_way)
            .execute(transaction)
            .await?;
    Ok(delivered.rows_affected())
}

struct Lower {
    user_id: UserId,
    floor: TweetId,
}

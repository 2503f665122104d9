//! The floor of a feed: from it up `feed_items` has all that is not pulled, below it there is nothing and a read
//! goes on with the tweets of those followed.
//!
//! **Invariant**: a floor only rises, and in the transaction that raises it every row below it goes.
//! So removal never leaves a hole, and the cap bounds storage without cutting any feed short.
//!
//! Below the floor that a feed had there is nothing to remove, so the index is entered there: while
//! somebody holds an old snapshot, every row that was ever removed is still in it.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use events::store::Engine;
use events::{TweetId, UserId};
use sqlx::PgConnection;

use crate::changes::{FeedChanges, columns};
use crate::feed::read_model::feed_items;

/// One delivered row in so many has the size of its feed looked at. A count per feed would be one more write per reader
/// and batch; like this a feed is found a quarter above the cap on average, and the look costs each delivered row about
/// four index entries read. A power of two.
pub(crate) const ROWS_PER_LOOK: i64 = 256;

/// At least so many ranges of readers for each tweet of a transaction, so that its tweets seldom choose the same one: a
/// second look at a feed in one transaction is none.
const RANGES_PER_TWEET: i64 = 32;

/// A floor that is to rise.
struct Higher {
    user_id: i64,
    from: TweetId,
    floor: TweetId,
}

/// Raises floors: every row from where each is to where it is to be goes.
async fn raise(
    transaction: &mut PgConnection,
    engine: Engine,
    higher: &[Higher],
) -> Result<(), sqlx::Error> {
    if higher.is_empty() {
        return Ok(());
    }
    let readers: Vec<i64> = higher.iter().map(|higher| higher.user_id).collect();
    let from: Vec<i64> = higher.iter().map(|higher| higher.from.0).collect();
    let floors: Vec<i64> = higher.iter().map(|higher| higher.floor.0).collect();
    feed_items::remove_ranges(transaction, engine, &readers, &from, &floors).await?;
    set(transaction, &readers, &floors).await
}

/// Sets the floors of readers, each of whom is named once.
pub(crate) async fn set(
    transaction: &mut PgConnection,
    readers: &[i64],
    floors: &[i64],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into floors (user_id, floor)
        select user_id, floor from unnest($1::bigint[], $2::bigint[]) as higher (user_id, floor)
        on conflict (user_id) do update set floor = excluded.floor
        "#,
        readers,
        floors
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Raises the floors of readers who began to follow an author with more than `kept` tweets that are not pulled, so that
/// what such an author brings in is bounded too.
pub(crate) async fn raise_for_long_authors(
    transaction: &mut PgConnection,
    engine: Engine,
    changes: &FeedChanges,
    kept: i64,
) -> Result<(), sqlx::Error> {
    let (readers, authors) = columns(changes.started.iter().copied());
    if readers.is_empty() {
        return Ok(());
    }
    let higher = sqlx::query_file_as!(
        Higher,
        "src/feed/read_model/floor/long_authors.sql",
        &readers,
        &authors,
        kept
    )
    .fetch_all(&mut *transaction)
    .await?;
    raise(transaction, engine, &higher).await
}

/// What a fan-out brought, of which some feeds are due for a look.
pub(crate) struct FannedOut<'a> {
    pub tweets: &'a [(TweetId, UserId)],
    pub rows: u64,
}

impl FannedOut<'_> {
    /// Nothing.
    pub(crate) const NONE: Self = Self { tweets: &[], rows: 0 };

    /// Into how many ranges of ids the readers are divided, one of which is looked at for each tweet; `None` when no
    /// feed is due. A few rows are looked at as often as many, but seldom, and then a larger part of them, so that not
    /// every small transaction asks the database about it.
    fn ranges(&self) -> Option<i64> {
        let (last, _) = self.tweets.last()?;
        let rows = i64::try_from(self.rows).unwrap_or(ROWS_PER_LOOK);
        let tweets = i64::try_from(self.tweets.len()).unwrap_or(ROWS_PER_LOOK);
        let ranges = rows.max(tweets.saturating_mul(RANGES_PER_TWEET)).clamp(1, ROWS_PER_LOOK);
        // A hash that has no rhythm of its own: with a product of the id the tweets of somebody who writes at every
        // twenty-second position would go without a look for very long.
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(last.0);
        (hash % ROWS_PER_LOOK.unsigned_abs() < ranges.unsigned_abs()).then_some(ranges)
    }
}

/// Cuts feeds that have grown back to their newest `kept` rows, where they have more: those that are due after
/// `fanned_out`, and those of `grown`.
pub(crate) async fn trim(
    transaction: &mut PgConnection,
    engine: Engine,
    fanned_out: FannedOut<'_>,
    grown: &[i64],
    kept: i64,
) -> Result<(), sqlx::Error> {
    let ranges = fanned_out.ranges();
    if ranges.is_none() && grown.is_empty() {
        return Ok(());
    }
    let due = if ranges.is_some() { fanned_out.tweets } else { &[] };
    let (tweets, authors): (Vec<i64>, Vec<i64>) =
        due.iter().map(|(tweet, author)| (tweet.0, author.0)).unzip();
    let higher = sqlx::query_file_as!(
        Higher,
        "src/feed/read_model/floor/trim.sql",
        &tweets,
        &authors,
        grown,
        kept,
        ranges.unwrap_or(ROWS_PER_LOOK)
    )
    .fetch_all(&mut *transaction)
    .await?;
    raise(transaction, engine, &higher).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Transactions of one tweet each, of which `stride` positions lie between one and the next.
    fn transactions(rows: u64, stride: i64) -> impl Iterator<Item = Option<i64>> {
        (1..=6_000).map(move |number| {
            let tweets = [(TweetId(number * stride), UserId(1))];
            FannedOut { tweets: &tweets, rows }.ranges()
        })
    }

    #[test]
    fn a_row_is_looked_at_as_often_in_small_transactions_as_in_large_ones() {
        for rows in [1, 10, 100, 256, 1_000_000] {
            let (mut looks, mut count) = (0.0, 0.0);
            for ranges in (1..=20).flat_map(|stride| transactions(rows, stride)) {
                looks += ranges.map_or(0.0, |ranges| 1.0 / ranges as f64);
                count += 1.0;
            }
            let ratio = looks / count * ROWS_PER_LOOK as f64;
            assert!((0.9..1.1).contains(&ratio), "{rows} rows: {ratio}");
        }
    }

    #[test]
    fn in_whatever_rhythm_somebody_writes_the_next_look_is_never_far() {
        for (rows, stride) in [8, 20].into_iter().flat_map(|rows| (1..300).map(move |n| (rows, n)))
        {
            let (mut gap, mut longest) = (0, 0);
            for ranges in transactions(rows, stride) {
                gap = if ranges.is_some() { 0 } else { gap + 1 };
                longest = longest.max(gap);
            }
            // By chance alone one gap in a million is fourteen times as long as the average.
            let average = ROWS_PER_LOOK.unsigned_abs() / rows;
            assert!(longest < 20 * average, "{rows} rows, every {stride}: {longest}");
        }
    }
}

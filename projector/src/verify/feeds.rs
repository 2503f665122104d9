//! Holding `feed_items` and `floors` against the definition of a feed, reader by reader.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use events::event::relationship_stream;
use events::store::Connections;
use events::{TweetId, UserId};

use super::{Differences, Part};
use crate::feed::read_model::dormant::DORMANT_FLOOR;
use crate::progress::Progress;

/// How many readers one statement serves.
const READERS_PER_STATEMENT: i64 = 500;

/// Statements at a time: each keeps a core of PostgreSQL busy.
const CONNECTIONS: usize = 2;

/// Compares every feed; returns how many rows there are.
pub(super) async fn compare(
    feed: &Connections,
    differences: &mut Differences,
    progress: &Progress,
) -> Result<u64, sqlx::Error> {
    let last: i64 = sqlx::query_scalar!(
        r#"
        select coalesce(greatest(
            (select max(user_id) from users),
            (select max(user_id) from feed_items),
            (select max(user_id) from floors)
        ), 0) as "last!"
        "#
    )
    .fetch_one(feed)
    .await?;
    progress.expect(last.unsigned_abs());
    let first = AtomicI64::new(1);
    let found = Mutex::new((differences, 0));
    let worker = async || {
        loop {
            let from = first.fetch_add(READERS_PER_STATEMENT, Ordering::Relaxed);
            if from > last {
                return Ok::<_, sqlx::Error>(());
            }
            let before = from + READERS_PER_STATEMENT;
            let range = sqlx::query_file!("src/verify/digests.sql", from, before, DORMANT_FLOOR.0)
                .fetch_one(feed)
                .await?;
            let wrong = look_at(feed, &range.suspects).await?;
            let mut found = found.lock().expect("no holder panics");
            found.1 += range.rows.unsigned_abs();
            if let Some(wrong) = wrong {
                wrong.report(found.0);
            }
            progress.deliver(range.rows.unsigned_abs());
            progress.advance((before.min(last + 1) - from).unsigned_abs());
        }
    };
    futures_util::future::try_join_all((0..CONNECTIONS).map(|_| worker())).await?;
    let (_, rows) = found.into_inner().expect("no holder panics");
    Ok(rows)
}

/// Differences listed of one range.
const LISTED_PER_RANGE: i64 = 100;

/// What is wrong with some feeds.
struct Wrong {
    count: i64,
    readers: Vec<UserId>,
    tweets: Vec<TweetId>,
    authors: Vec<UserId>,
    missing: Vec<bool>,
    stray: Vec<UserId>,
    /// Readers whose floor and whose follows disagree about whether they are dormant.
    unlike: Vec<UserId>,
    /// Readers whose floor is where no tweet can be.
    beyond: Vec<UserId>,
    floors: Vec<TweetId>,
}

async fn look_at(feed: &Connections, suspects: &[i64]) -> Result<Option<Wrong>, sqlx::Error> {
    if suspects.is_empty() {
        return Ok(None);
    }
    let (listed, dormant) = (LISTED_PER_RANGE, DORMANT_FLOOR.0);
    sqlx::query_file_as!(Wrong, "src/verify/suspects.sql", suspects, listed, dormant)
        .fetch_optional(feed)
        .await
}

impl Wrong {
    fn report(&self, differences: &mut Differences) {
        let rows = self.readers.iter().zip(&self.tweets).zip(&self.authors).zip(&self.missing);
        for (((reader, tweet), author), missing) in rows {
            let what = if *missing {
                format!("tweet {tweet} is missing in the feed of user {reader}")
            } else {
                format!("tweet {tweet} does not belong into the feed of user {reader}")
            };
            let mut streams = vec![format!("tweet-{tweet}"), format!("user-{reader}")];
            if reader != author {
                streams.push(relationship_stream(*reader, *author));
                streams.push(format!("user-{author}"));
            }
            differences.add(Part::Feeds, what, streams);
        }
        differences.add_unlisted(self.count.unsigned_abs() - self.readers.len() as u64);
        for reader in &self.stray {
            let what = format!("there is a floor for user {reader}, who is not there");
            differences.add(Part::Floors, what, vec![format!("user-{reader}")]);
        }
        for reader in &self.unlike {
            let what =
                format!("the floor and the follows of user {reader} disagree about who is dormant");
            differences.add(Part::Floors, what, vec![format!("user-{reader}")]);
        }
        for (reader, floor) in self.beyond.iter().zip(&self.floors) {
            let what = format!("the floor of user {reader} is at {floor}, where no tweet can be");
            differences.add(Part::Floors, what, vec![format!("user-{reader}")]);
        }
    }
}

//! How much of a run goes into one transaction: bounded in events, and in what they bring about.
//!
//! Two thousand tweets by someone with a hundred thousand readers are two hundred million rows. As one transaction nobody
//! would read any of them until all are written, and a projector that is killed on the way would begin from the start.
//! So a run is cut; and a tweet that is too much for one transaction by itself enters the feeds step by step
//! (`fan_out`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use events::event::{DecodeError, Followed, TweetCreated, Unfollowed, UserDeleted};
use events::{Event, RecordedEvent, UserId};
use sqlx::PgExecutor;

use crate::bounds::{APPLY_MAX_EVENTS, APPLY_MAX_ROWS, Bounds};

/// The most fan-outs that one transaction begins.
pub const FAN_OUTS_BEGUN_MAX: i64 = 64;

/// How a run is applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// How many events go into each transaction, from the first on.
    pub transactions: Vec<usize>,
    /// Authors whose tweets enter feeds step by step.
    pub many_read: BTreeSet<UserId>,
}

impl Work {
    /// Weighs `events`: once for all of them, and those who begin to follow on the way are counted with the others. What
    /// `counted` knows is not asked again.
    ///
    /// # Errors
    /// [`WorkError`] when an event cannot be read or the read model is away.
    pub async fn of(
        feed: impl PgExecutor<'_>,
        events: &[RecordedEvent],
        bounds: Bounds,
        counted: &mut Counted,
    ) -> Result<Self, WorkError> {
        let decoded = events.iter().map(RecordedEvent::event).collect::<Result<Vec<_>, _>>()?;
        counted.forget_what_is_old();
        counted.count(feed, &decoded, bounds).await?;
        let mut many_read = BTreeSet::new();
        let weights = decoded.iter().map(|event| counted.weigh(event, bounds, &mut many_read));
        let transactions = cut(weights, APPLY_MAX_EVENTS, APPLY_MAX_ROWS);
        Ok(Self { transactions, many_read })
    }
}

/// Why a run could not be weighed.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// For how long counts are believed. They are of how much there is to do, never of what: what is a little too high or too low
/// only makes a transaction larger or smaller.
const COUNTED_FOR: Duration = Duration::from_secs(10);

/// Users whose counts are kept.
const COUNTED_MAX: usize = 10_000;

/// What there is of users, in about as many rows as an event of theirs writes or takes out. Kept from run to run, so that where
/// a few events come at a time these need not be counted for each.
#[derive(Debug)]
pub struct Counted {
    since: Instant,
    users: BTreeMap<UserId, Counts>,
}

/// What there is of a user, counted no further than matters, and with what came since; `None` is not counted yet.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    readers: Option<i64>,
    tweets: Option<i64>,
    authors: Option<i64>,
}

impl Default for Counted {
    fn default() -> Self {
        Self { since: Instant::now(), users: BTreeMap::new() }
    }
}

impl Counted {
    fn forget_what_is_old(&mut self) {
        if self.since.elapsed() >= COUNTED_FOR || self.users.len() >= COUNTED_MAX {
            *self = Self::default();
        }
    }

    /// About as many rows as `event` writes or takes out.
    fn weigh(&mut self, event: &Event, bounds: Bounds, many_read: &mut BTreeSet<UserId>) -> i64 {
        let Bounds { kept, fan_out_rows } = bounds;
        let users = &mut self.users;
        match event {
            Event::TweetCreated(TweetCreated { author_id, .. }) => {
                let author = users.entry(*author_id).or_default();
                author.tweets = author.tweets.map(|tweets| tweets + 1);
                // Authors read themselves.
                let readers = author.readers.unwrap_or_default().max(1);
                if readers > fan_out_rows {
                    many_read.insert(*author_id);
                    return APPLY_MAX_ROWS / FAN_OUTS_BEGUN_MAX;
                }
                readers
            }
            // What an author brings in or leaves behind in a feed is bounded by what it keeps.
            Event::Followed(Followed { followed_id, .. }) => {
                let author = users.entry(*followed_id).or_default();
                author.readers = author.readers.map(|readers| readers + 1);
                1 + author.tweets.unwrap_or_default().min(kept)
            }
            Event::Unfollowed(Unfollowed { followed_id, .. }) => {
                1 + users.entry(*followed_id).or_default().tweets.unwrap_or_default().min(kept)
            }
            Event::UserDeleted(UserDeleted { user_id }) => {
                1 + kept + users.entry(*user_id).or_default().authors.unwrap_or_default()
            }
            Event::UserRegistered(_) | Event::TweetDeleted(_) => 1,
        }
    }

    /// Counts what `events` need and is not known yet: one statement, or none.
    async fn count(
        &mut self,
        feed: impl PgExecutor<'_>,
        events: &[Event],
        bounds: Bounds,
    ) -> Result<(), sqlx::Error> {
        let mut wanted: BTreeMap<UserId, Counts> = BTreeMap::new();
        for event in events {
            match event {
                Event::TweetCreated(TweetCreated { author_id, .. }) => {
                    if self.known(*author_id).readers.is_none() {
                        let most = bounds.fan_out_rows + 1;
                        wanted.entry(*author_id).or_default().readers = Some(most);
                    }
                }
                Event::Followed(Followed { followed_id, .. })
                | Event::Unfollowed(Unfollowed { followed_id, .. }) => {
                    if self.known(*followed_id).tweets.is_none() {
                        wanted.entry(*followed_id).or_default().tweets = Some(bounds.kept);
                    }
                }
                Event::UserDeleted(UserDeleted { user_id }) => {
                    if self.known(*user_id).authors.is_none() {
                        wanted.entry(*user_id).or_default().authors = Some(APPLY_MAX_ROWS);
                    }
                }
                Event::UserRegistered(_) | Event::TweetDeleted(_) => {}
            }
        }
        for found in count(feed, &wanted).await? {
            let known = self.users.entry(found.user_id).or_default();
            let most = wanted[&found.user_id];
            known.readers = most.readers.and(Some(found.readers)).or(known.readers);
            known.tweets = most.tweets.and(Some(found.tweets)).or(known.tweets);
            known.authors = most.authors.and(Some(found.authors)).or(known.authors);
        }
        Ok(())
    }

    fn known(&self, user: UserId) -> Counts {
        self.users.get(&user).copied().unwrap_or_default()
    }
}

/// What was counted of a user.
struct Found {
    user_id: UserId,
    readers: i64,
    tweets: i64,
    authors: i64,
}

/// Counts what there is of users, each no further than `wanted` says.
async fn count(
    feed: impl PgExecutor<'_>,
    wanted: &BTreeMap<UserId, Counts>,
) -> Result<Vec<Found>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let users: Vec<i64> = wanted.keys().map(|user| user.0).collect();
    let readers: Vec<i64> = wanted.values().map(|most| most.readers.unwrap_or(0)).collect();
    let tweets: Vec<i64> = wanted.values().map(|most| most.tweets.unwrap_or(0)).collect();
    let authors: Vec<i64> = wanted.values().map(|most| most.authors.unwrap_or(0)).collect();
    sqlx::query_as!(
        Found,
        r#"
        select
            wanted.user_id as "user_id!: UserId",
            reader.count as "readers!",
            tweet.count as "tweets!",
            author.count as "authors!"
        from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
            as wanted (user_id, readers, tweets, authors)
        cross join lateral (
            select count(*) from (
                select from follows
                where follows.followed_id = wanted.user_id and follows.until_position = 0
                limit wanted.readers
            ) as counted
        ) as reader
        cross join lateral (
            select count(*) from (
                select from tweets
                where (author_id, deleted_position, tweet_id) > (wanted.user_id, 0, 0)
                    and (author_id, deleted_position, tweet_id) < (wanted.user_id, 1, 0)
                limit wanted.tweets
            ) as counted
        ) as tweet
        cross join lateral (
            select count(*) from (
                select from follows
                where follows.follower_id = wanted.user_id and follows.until_position = 0
                limit wanted.authors
            ) as counted
        ) as author
        "#,
        &users,
        &readers,
        &tweets,
        &authors,
    )
    .fetch_all(feed)
    .await
}

/// Cuts into parts of at most `events_max` events, which weigh at most `rows_max` unless one does so alone.
fn cut(weights: impl Iterator<Item = i64>, events_max: usize, rows_max: i64) -> Vec<usize> {
    let (mut parts, mut events, mut rows) = (Vec::new(), 0, 0);
    for weight in weights {
        if events > 0 && (events == events_max || rows + weight > rows_max) {
            parts.push(events);
            (events, rows) = (0, 0);
        }
        events += 1;
        rows += weight;
    }
    if events > 0 {
        parts.push(events);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_cut_by_events_and_by_rows() {
        let cut = |weights: &[i64]| cut(weights.iter().copied(), 4, 10);
        assert_eq!(cut(&[1; 10]), [4, 4, 2]);
        assert_eq!(cut(&[5, 5, 5, 1, 1]), [2, 3]);
        assert_eq!(cut(&[30, 1, 30, 30]), [1, 1, 1, 1], "what is too much by itself goes alone");
        assert_eq!(cut(&[1, 30]), [1, 1]);
        assert_eq!(cut(&[10]), [1]);
        assert_eq!(cut(&[]), [0; 0]);
    }
}

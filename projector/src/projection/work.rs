//! How much of a run goes into one transaction: bounded in events, and in what they bring about.
//!
//! Two thousand tweets by someone with a hundred thousand readers are two hundred million rows. As one transaction nobody
//! would read any of them until all are written, and a projector that is killed on the way would begin from the start.
//! So a run is cut; and a tweet that is too much for one transaction by itself enters the feeds step by step
//! (`fan_out`).

use std::collections::{BTreeMap, BTreeSet};

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
    /// Weighs `events`: once for all of them, and those who begin to follow on the way are counted with the others.
    ///
    /// # Errors
    /// [`WorkError`] when an event cannot be read or the read model is away.
    pub async fn of(
        feed: impl PgExecutor<'_>,
        events: &[RecordedEvent],
        bounds: Bounds,
    ) -> Result<Self, WorkError> {
        let decoded = events.iter().map(RecordedEvent::event).collect::<Result<Vec<_>, _>>()?;
        let mut scale = Scale::for_events(feed, &decoded, bounds).await?;
        let weights: Vec<i64> = decoded.iter().map(|event| scale.weigh(event)).collect();
        let transactions = cut(weights.into_iter(), APPLY_MAX_EVENTS, APPLY_MAX_ROWS);
        Ok(Self { transactions, many_read: scale.many_read })
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

/// Weighs events in about as many rows as each writes or takes out.
struct Scale {
    counts: BTreeMap<UserId, Counts>,
    bounds: Bounds,
    many_read: BTreeSet<UserId>,
}

/// What there is of a user, counted no further than matters.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    readers: i64,
    tweets: i64,
    authors: i64,
}

impl Scale {
    fn weigh(&mut self, event: &Event) -> i64 {
        let Bounds { kept, fan_out_rows } = self.bounds;
        match event {
            Event::TweetCreated(TweetCreated { author_id, .. }) => {
                let author = self.counts.entry(*author_id).or_default();
                author.tweets += 1;
                // Authors read themselves.
                let readers = author.readers.max(1);
                if readers > fan_out_rows {
                    self.many_read.insert(*author_id);
                    return APPLY_MAX_ROWS / FAN_OUTS_BEGUN_MAX;
                }
                readers
            }
            // What an author brings in or leaves behind in a feed is bounded by what it keeps.
            Event::Followed(Followed { followed_id, .. }) => {
                let author = self.counts.entry(*followed_id).or_default();
                author.readers += 1;
                1 + author.tweets.min(kept)
            }
            Event::Unfollowed(Unfollowed { followed_id, .. }) => {
                1 + self.counts.entry(*followed_id).or_default().tweets.min(kept)
            }
            Event::UserDeleted(UserDeleted { user_id }) => {
                1 + kept + self.counts.entry(*user_id).or_default().authors
            }
            Event::UserRegistered(_) | Event::TweetDeleted(_) => 1,
        }
    }

    async fn for_events(
        feed: impl PgExecutor<'_>,
        events: &[Event],
        bounds: Bounds,
    ) -> Result<Self, sqlx::Error> {
        let mut wanted: BTreeMap<UserId, Counts> = BTreeMap::new();
        for event in events {
            match event {
                Event::TweetCreated(TweetCreated { author_id, .. }) => {
                    wanted.entry(*author_id).or_default().readers = bounds.fan_out_rows + 1;
                }
                Event::Followed(Followed { followed_id, .. })
                | Event::Unfollowed(Unfollowed { followed_id, .. }) => {
                    wanted.entry(*followed_id).or_default().tweets = bounds.kept;
                }
                Event::UserDeleted(UserDeleted { user_id }) => {
                    wanted.entry(*user_id).or_default().authors = APPLY_MAX_ROWS;
                }
                Event::UserRegistered(_) | Event::TweetDeleted(_) => {}
            }
        }
        let counts = count(feed, &wanted).await?;
        Ok(Self { counts, bounds, many_read: BTreeSet::new() })
    }
}

/// Counts what there is of users, each no further than `wanted` says.
async fn count(
    feed: impl PgExecutor<'_>,
    wanted: &BTreeMap<UserId, Counts>,
) -> Result<BTreeMap<UserId, Counts>, sqlx::Error> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let users: Vec<i64> = wanted.keys().map(|user| user.0).collect();
    let readers: Vec<i64> = wanted.values().map(|most| most.readers).collect();
    let tweets: Vec<i64> = wanted.values().map(|most| most.tweets).collect();
    let authors: Vec<i64> = wanted.values().map(|most| most.authors).collect();
    let rows = sqlx::query!(
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
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let (readers, tweets, authors) = (row.readers, row.tweets, row.authors);
            (row.user_id, Counts { readers, tweets, authors })
        })
        .collect())
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

//! How much of a run goes into one transaction: bounded in events, and in what they bring about.
//!
//! Two thousand tweets by someone with a hundred thousand readers are two hundred million rows. As one transaction nobody
//! would read any of them until all are written, and a projector that is killed on the way would begin from the start.
//! So a run is cut; and a tweet that is too much for one transaction by itself enters the feeds step by step
//! (`fan_out`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use events::event::{DecodeError, Followed, TweetCreated, Unfollowed, UserDeleted};
use events::{Event, RecordedEvent, TweetId, UserId};
use sqlx::PgExecutor;

use crate::bounds::{APPLY_MAX_EVENTS, APPLY_MAX_ROWS, Bounds};
use crate::changes::Ways;
use crate::feed::pulled::{PullFrom, change_of_readers};
use crate::feed::read_model::rules;

/// The most fan-outs that one transaction begins.
pub const FAN_OUTS_BEGUN_MAX: i64 = 64;

/// How a run is applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// How many events go into each transaction, from the first on.
    pub transactions: Vec<usize>,
    /// How its tweets come to their readers.
    pub ways: Ways,
}

impl Work {
    /// Weighs `events`, which come next: once for all of them, and those who begin to follow on the way are counted with the
    /// others. What `counted` knows is not asked again, and it knows afterwards what is so when all of `events` are applied.
    ///
    /// # Errors
    /// [`WorkError`] when an event cannot be read or the read model is away.
    pub async fn of(
        feed: impl PgExecutor<'_> + Copy,
        events: &[RecordedEvent],
        bounds: Bounds,
        counted: &mut Counted,
    ) -> Result<Self, WorkError> {
        let decoded = events.iter().map(RecordedEvent::event).collect::<Result<Vec<_>, _>>()?;
        counted.forget_what_is_old();
        counted.count(feed, &decoded, bounds).await?;
        let rule = counted.rule(feed, bounds.pull_from).await?;
        let mut ways = Ways::default();
        let weights = events.iter().zip(&decoded).map(|(recorded, event)| {
            let tweet = TweetId::from(recorded.position);
            counted.weigh(tweet, event, bounds, rule, &mut ways)
        });
        let transactions = cut(weights, APPLY_MAX_EVENTS, APPLY_MAX_ROWS);
        Ok(Self { transactions, ways })
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

/// For how long counts are believed. Those of tweets and of authors are of how much there is to do, never of what: what is a
/// little too high or too low only makes a transaction larger or smaller.
const COUNTED_FOR: Duration = Duration::from_secs(10);

/// Users whose counts are kept.
const COUNTED_MAX: usize = 10_000;

/// What there is of users, in about as many rows as an event of theirs writes or takes out. Kept from run to run, so that where
/// a few events come at a time these need not be counted for each.
///
/// How many readers there are has to be exact, because [what is pulled](crate::feed::pulled) follows from it: it is so at the
/// checkpoint where the last run ended, since nobody else writes without moving that. Anywhere else this is of no use.
#[derive(Debug)]
pub struct Counted {
    since: Instant,
    rule: Option<PullFrom>,
    users: BTreeMap<UserId, Counts>,
}

/// What there is of a user, tweets and authors no further than matters, and with what came since; `None` is not counted yet.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// Without the user, who is one.
    readers: Option<i64>,
    tweets: Option<i64>,
    authors: Option<i64>,
}

impl Default for Counted {
    fn default() -> Self {
        Self { since: Instant::now(), rule: None, users: BTreeMap::new() }
    }
}

impl Counted {
    fn forget_what_is_old(&mut self) {
        if self.since.elapsed() >= COUNTED_FOR || self.users.len() >= COUNTED_MAX {
            *self = Self { rule: self.rule, ..Self::default() };
        }
    }

    /// What is pulled in this generation.
    async fn rule(
        &mut self,
        feed: impl PgExecutor<'_> + Copy,
        wanted: PullFrom,
    ) -> Result<PullFrom, sqlx::Error> {
        if let Some(rule) = self.rule {
            return Ok(rule);
        }
        let rule = rules::laid_down(feed, wanted).await?;
        if rule != wanted {
            tracing::warn!(
                feed.pull_from = rule.0,
                wanted = wanted.0,
                "this read model was begun with another PULL_FROM, which holds until `projector rebuild`"
            );
        }
        self.rule = Some(rule);
        Ok(rule)
    }

    /// About as many rows as `event` writes or takes out. If it is a tweet, it is `tweet`, and `ways` says how it comes to
    /// its readers.
    fn weigh(
        &mut self,
        tweet: TweetId,
        event: &Event,
        bounds: Bounds,
        rule: PullFrom,
        ways: &mut Ways,
    ) -> i64 {
        let Bounds { kept, fan_out_rows, .. } = bounds;
        let users = &mut self.users;
        if let Some((author, change)) = change_of_readers(event) {
            let readers = &mut users.entry(author).or_default().readers;
            *readers = readers.map(|readers| readers + change);
        }
        match event {
            Event::TweetCreated(TweetCreated { author_id, .. }) => {
                let author = users.entry(*author_id).or_default();
                author.tweets = author.tweets.map(|tweets| tweets + 1);
                let readers = author.readers.unwrap_or_default();
                if rule.pulls(readers) {
                    ways.pulled.insert(tweet);
                    return 1;
                }
                // Authors read themselves.
                let rows = readers + 1;
                if rows > fan_out_rows {
                    ways.step_by_step.insert(*author_id);
                    return APPLY_MAX_ROWS / FAN_OUTS_BEGUN_MAX;
                }
                rows
            }
            // What an author brings in or leaves behind in a feed is bounded by what it keeps.
            Event::Followed(Followed { followed_id, .. })
            | Event::Unfollowed(Unfollowed { followed_id, .. }) => {
                1 + users.entry(*followed_id).or_default().tweets.unwrap_or_default().min(kept)
            }
            Event::UserDeleted(UserDeleted { user_id }) => {
                1 + kept + users.entry(*user_id).or_default().authors.unwrap_or_default()
            }
            Event::UserRegistered(_) | Event::TweetDeleted(_) => 1,
        }
    }

    /// Counts what `events` need and is not known yet: a statement for authors, one for who leaves, or none.
    async fn count(
        &mut self,
        feed: impl PgExecutor<'_> + Copy,
        events: &[Event],
        bounds: Bounds,
    ) -> Result<(), sqlx::Error> {
        let mut wanted: BTreeMap<UserId, Counts> = BTreeMap::new();
        for event in events {
            match event {
                Event::TweetCreated(TweetCreated { author_id, .. }) => {
                    if self.known(*author_id).readers.is_none() {
                        wanted.entry(*author_id).or_default().readers = Some(ALL);
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
        count(feed, &wanted, &mut self.users).await
    }

    fn known(&self, user: UserId) -> Counts {
        self.users.get(&user).copied().unwrap_or_default()
    }
}

/// However many there are: that is known without counting.
const ALL: i64 = i64::MAX;

/// Adds to `known` what there is of readers, tweets and authors, no further than `wanted` says.
async fn count(
    feed: impl PgExecutor<'_> + Copy,
    wanted: &BTreeMap<UserId, Counts>,
    known: &mut BTreeMap<UserId, Counts>,
) -> Result<(), sqlx::Error> {
    let of_authors = |most: &Counts| most.readers.is_some() || most.tweets.is_some();
    let authors = || wanted.iter().filter(|(_, most)| of_authors(most));
    if authors().next().is_some() {
        let users: Vec<i64> = authors().map(|(user, _)| user.0).collect();
        let tweets: Vec<i64> = authors().map(|(_, most)| most.tweets.unwrap_or(0)).collect();
        for found in count_of_authors(feed, &users, &tweets).await? {
            let known = known.entry(found.user_id).or_default();
            let most = wanted[&found.user_id];
            known.readers = most.readers.and(Some(found.readers)).or(known.readers);
            known.tweets = most.tweets.and(Some(found.tweets)).or(known.tweets);
        }
    }
    let leaving = wanted.iter().filter(|(_, most)| most.authors.is_some());
    let leaving: Vec<i64> = leaving.map(|(user, _)| user.0).collect();
    if !leaving.is_empty() {
        for (user, authors) in count_of_readers(feed, &leaving).await? {
            known.entry(user).or_default().authors = Some(authors);
        }
    }
    Ok(())
}

/// What was counted of an author.
struct Found {
    user_id: UserId,
    readers: i64,
    tweets: i64,
}

/// Counts the readers of `users`, and of their tweets as many as are wanted at most.
async fn count_of_authors(
    feed: impl PgExecutor<'_>,
    users: &[i64],
    tweets: &[i64],
) -> Result<Vec<Found>, sqlx::Error> {
    sqlx::query_as!(
        Found,
        r#"
        select
            wanted.user_id as "user_id!: UserId",
            coalesce(reader_counts.readers, 0) as "readers!",
            tweet.count as "tweets!"
        from unnest($1::bigint[], $2::bigint[]) as wanted (user_id, tweets)
        left join lateral (
            select readers from reader_counts
            where reader_counts.author_id = wanted.user_id
            order by author_id desc, position desc
            limit 1
        ) as reader_counts on true
        cross join lateral (
            select count(*) from (
                select from tweets
                where author_id = any(array[wanted.user_id]) and not pulled and deleted_position = 0
                order by author_id, tweet_id
                limit wanted.tweets
            ) as counted
        ) as tweet
        "#,
        users,
        tweets
    )
    .fetch_all(feed)
    .await
}

/// Counts whom each of `users` follows, up to [`APPLY_MAX_ROWS`].
async fn count_of_readers(
    feed: impl PgExecutor<'_>,
    users: &[i64],
) -> Result<Vec<(UserId, i64)>, sqlx::Error> {
    let counted = sqlx::query!(
        r#"
        select reader.user_id as "user_id: UserId", author.count as "authors!"
        from unnest($1::bigint[]) as wanted (user_id)
        cross join lateral (
            select follower_id as user_id from follows
            where follower_id = wanted.user_id and until_position = 0 and followed_id = wanted.user_id
            group by follower_id
        ) as reader
        cross join lateral (
            select count(*) from (
                select from follows
                where follows.follower_id = reader.user_id and follows.until_position = 0
                limit $2
            ) as counted
        ) as author
        "#,
        users,
        APPLY_MAX_ROWS
    )
    .fetch_all(feed)
    .await?;
    Ok(counted.into_iter().map(|counted| (counted.user_id, counted.authors)).collect())
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

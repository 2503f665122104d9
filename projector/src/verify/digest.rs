//! Facts summed up, so that they can be counted together in any order.
//!
//! Two sets of facts are the same if the sums of their hashes are, bucket by bucket, except for one
//! case in 2^64. So the log is read once in its order and each table once in the order of its key,
//! nothing is sorted, and what is kept of both are the sums. Only of buckets that differ the facts
//! themselves are looked at.

use std::collections::HashSet;

use events::{Event, Position, RecordedEvent, UserId};

use super::fact::{BUCKETS, Fact, Place};
use super::{Differences, Part};
use crate::feed::pulled::{PullFrom, ReaderCounts};

/// How many buckets that differ are looked at again. Beyond them differences are only counted, so
/// that a table that is wholly wrong does not have to fit into memory.
const BUCKETS_LOOKED_AT: usize = 32;

/// The sums of the hashes of facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest {
    users: Vec<u64>,
    tweets: Vec<u64>,
    follows: Vec<u64>,
}

impl Default for Digest {
    fn default() -> Self {
        let sums = vec![0; BUCKETS];
        Self { users: sums.clone(), tweets: sums.clone(), follows: sums }
    }
}

impl Digest {
    pub(super) fn add(&mut self, fact: &Fact) {
        let sum = self.sum_mut(fact.place());
        *sum = sum.wrapping_add(fact.hash_of());
    }

    pub(super) fn take_away(&mut self, fact: &Fact) {
        let sum = self.sum_mut(fact.place());
        *sum = sum.wrapping_sub(fact.hash_of());
    }

    fn sum_mut(&mut self, place: Place) -> &mut u64 {
        let sums = match place.part {
            Part::Users => &mut self.users,
            Part::Tweets => &mut self.tweets,
            _ => &mut self.follows,
        };
        &mut sums[place.bucket]
    }

    /// Where the two differ, as far as that is looked at again; the rest is counted among `differences`.
    pub(super) fn to_look_at(&self, other: &Self, differences: &mut Differences) -> HashSet<Place> {
        let places = self.differing(other);
        differences.add_unlisted(places.len().saturating_sub(BUCKETS_LOOKED_AT) as u64);
        places.into_iter().take(BUCKETS_LOOKED_AT).collect()
    }

    fn differing(&self, other: &Self) -> Vec<Place> {
        let parts = [
            (Part::Users, &self.users, &other.users),
            (Part::Tweets, &self.tweets, &other.tweets),
            (Part::Follows, &self.follows, &other.follows),
        ];
        let mut places = Vec::new();
        for (part, ours, theirs) in parts {
            let buckets = (0..BUCKETS).filter(|bucket| ours[*bucket] != theirs[*bucket]);
            places.extend(buckets.map(|bucket| Place { part, bucket }));
        }
        places
    }
}

/// What the log says up to a position.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    position: Position,
    last_user: UserId,
    events: u64,
    count: u64,
    digest: Digest,
    says: Says,
}

/// What events say, one after the other from the first: what a tweet is follows from those before it.
#[derive(Debug, Clone, Default)]
pub(super) struct Says {
    /// Nothing is pulled as long as nobody has said from when on.
    rule: Option<PullFrom>,
    reader_counts: ReaderCounts,
}

impl Says {
    pub(super) fn by(rule: Option<PullFrom>) -> Self {
        Self { rule, ..Self::default() }
    }

    /// The facts of the next event, and whether it is a tweet that is pulled.
    pub(super) fn next(
        &mut self,
        recorded: &RecordedEvent,
        event: &Event,
    ) -> (impl Iterator<Item = Fact>, bool) {
        self.reader_counts.add(event);
        let is_pulled = match (event, self.rule) {
            (Event::TweetCreated(tweet), Some(rule)) => {
                rule.pulls(self.reader_counts.of(tweet.author_id))
            }
            _ => false,
        };
        (Fact::of(recorded, event, is_pulled), is_pulled)
    }
}

impl Facts {
    /// From now on tweets are pulled by this rule.
    pub fn go_by(&mut self, rule: PullFrom) {
        self.says.rule = Some(rule);
    }

    /// Adds what the next event says. Returns whether it is a tweet that is pulled.
    pub fn add(&mut self, recorded: &RecordedEvent, event: &Event) -> bool {
        self.position = recorded.position;
        self.events += 1;
        if let Event::UserRegistered(registered) = event {
            self.last_user = registered.user_id;
        }
        let (facts, is_pulled) = self.says.next(recorded, event);
        for fact in facts {
            self.count += 1;
            self.digest.add(&fact);
        }
        is_pulled
    }

    /// How many readers everyone has.
    pub(crate) const fn reader_counts(&self) -> &ReaderCounts {
        &self.says.reader_counts
    }

    pub(super) const fn rule(&self) -> Option<PullFrom> {
        self.says.rule
    }

    /// The last event that was added.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// How many events were added.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// How many facts there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The user who registered last.
    pub(super) const fn last_user(&self) -> UserId {
        self.last_user
    }

    pub(super) const fn digest(&self) -> &Digest {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use events::TweetId;

    use super::*;

    fn deleted(tweet_id: i64) -> Fact {
        Fact::TweetDeleted { tweet_id: TweetId(tweet_id), at: Position(tweet_id + 1) }
    }

    #[test]
    fn the_order_of_facts_does_not_matter_and_each_counts() {
        let (mut one, mut other) = (Digest::default(), Digest::default());
        for tweet in 1..100 {
            one.add(&deleted(tweet));
            other.add(&deleted(100 - tweet));
        }
        assert_eq!(one.differing(&other), []);
        one.add(&deleted(7));
        assert_eq!(one.differing(&other), [deleted(7).place()]);
        one.take_away(&deleted(7));
        assert_eq!(one, other);
    }
}

//! The definition of a feed, in memory: what everything else is held against.
//!
//! feed(u) = every tweet, not deleted, whose author is u or someone u follows now (neither deleted),
//! newest first, without end.

use std::collections::{BTreeMap, BTreeSet};

use api::views::counts::Counts;
use events::store::Connections;
use events::{Event, Position, RecordedEvent, TweetId, UserId};

/// The state of the world after a run of the log from its beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    pub position: i64,
    pub users: BTreeSet<UserId>,
    pub tweets: BTreeMap<TweetId, UserId>,
    pub follows: BTreeSet<(UserId, UserId)>,
}

impl Model {
    /// The state after `events`.
    #[must_use]
    pub fn of(events: &[RecordedEvent]) -> Self {
        let mut model = Self::default();
        for recorded in events {
            assert_eq!(recorded.position.0, model.position + 1, "the log is dense");
            model.apply(recorded.position, &recorded.event().expect("every event decodes"));
        }
        model
    }

    /// The state at the head of the log.
    pub async fn of_log(log: &Connections) -> Self {
        Self::of(&read_log(log).await)
    }

    /// Carries out what `event` says.
    pub fn apply(&mut self, position: Position, event: &Event) {
        self.position = position.0;
        match event {
            Event::UserRegistered(event) => {
                self.users.insert(event.user_id);
            }
            Event::UserDeleted(event) => {
                self.users.remove(&event.user_id);
            }
            Event::TweetCreated(event) => {
                self.tweets.insert(TweetId::from(position), event.author_id);
            }
            Event::TweetDeleted(event) => {
                self.tweets.remove(&event.tweet_id);
            }
            Event::Followed(event) => {
                self.follows.insert((event.follower_id, event.followed_id));
            }
            Event::Unfollowed(event) => {
                self.follows.remove(&(event.follower_id, event.followed_id));
            }
        }
    }

    /// How many tweets, followers and authors followed `user` has.
    #[must_use]
    pub fn counts(&self, user: UserId) -> Counts {
        let there =
            |pair: &&(UserId, UserId)| self.users.contains(&pair.0) && self.users.contains(&pair.1);
        let count = |number: usize| i64::try_from(number).expect("a test has few");
        let held = || self.follows.iter().filter(there);
        Counts {
            tweets: count(self.tweets.values().filter(|author| **author == user).count()),
            followers: count(held().filter(|pair| pair.1 == user).count()),
            following: count(held().filter(|pair| pair.0 == user).count()),
        }
    }

    /// The feed of `reader`, to its end.
    #[must_use]
    pub fn feed(&self, reader: UserId) -> Vec<TweetId> {
        let is_read =
            |author: &UserId| *author == reader || self.follows.contains(&(reader, *author));
        self.tweets
            .iter()
            .rev()
            .filter(|(_, author)| self.users.contains(author) && is_read(author))
            .map(|(tweet, _)| *tweet)
            .collect()
    }
}

/// The whole log.
pub async fn read_log(log: &Connections) -> Vec<RecordedEvent> {
    events::store::read::after(log, Position::START, usize::MAX).await.expect("the log is readable")
}

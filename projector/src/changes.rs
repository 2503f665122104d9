//! The net effect of a run of events on the read model: pure, so that it can be written set by set
//! instead of event by event.
//!
//! A feed is defined by what is so at a position, not by the order in which it came about. So of
//! all that happened between two users within a run only the first and the last event matter to
//! the feed, and a tweet that came and went never enters it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use events::event::{
    DecodeError, Followed, TweetCreated, TweetDeleted, Unfollowed, UserDeleted, UserRegistered,
};
use events::{Event, Position, RecordedEvent, TweetId, UserId};

/// A user as the read model holds one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub user_id: UserId,
    pub username: String,
    pub email: String,
    pub created_at: DateTime<Utc>,
    pub deleted: Option<Position>,
}

/// A tweet as the read model holds one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tweet {
    pub tweet_id: TweetId,
    pub author_id: UserId,
    pub content: String,
    pub created_at: DateTime<Utc>,
    pub deleted: Option<Position>,
}

/// From which position until which a follow held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    pub since: Position,
    pub until: Option<Position>,
}

/// Reader and author.
pub type Pair = (UserId, UserId);

/// How tweets of a run come to their readers, those that do not enter all feeds at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ways {
    /// Authors whose tweets enter feeds step by step.
    pub step_by_step: BTreeSet<UserId>,
    /// Tweets that are [pulled](crate::feed::pulled).
    pub pulled: BTreeSet<TweetId>,
}

/// What a run of events changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Registered in this run, and perhaps deleted in it.
    pub users: BTreeMap<UserId, User>,
    /// Created in this run, and perhaps deleted in it.
    pub tweets: BTreeMap<TweetId, Tweet>,
    /// Deleted in this run, registered before it.
    pub deleted_users: BTreeMap<UserId, Position>,
    /// Deleted in this run, created before it.
    pub deleted_tweets: BTreeMap<TweetId, Position>,
    /// Follows that held before this run and ended in it.
    pub ended: BTreeMap<Pair, Position>,
    /// Follows that began in this run, in order, for each pair.
    pub begun: BTreeMap<Pair, Vec<Interval>>,
}

impl Changes {
    /// The net effect of `events`, which are in order.
    ///
    /// # Errors
    /// [`DecodeError`] when this release cannot read one of them.
    pub fn of(events: &[RecordedEvent]) -> Result<Self, DecodeError> {
        let mut changes = Self::default();
        for recorded in events {
            changes.add(recorded, recorded.event()?);
        }
        Ok(changes)
    }

    /// Adds the next event.
    pub(crate) fn add(&mut self, recorded: &RecordedEvent, event: Event) {
        let (position, created_at) = (recorded.position, recorded.recorded_at);
        match event {
            Event::UserRegistered(UserRegistered { user_id, username, email }) => {
                let user = User { user_id, username, email, created_at, deleted: None };
                self.users.insert(user_id, user);
                // Everyone reads their own tweets.
                self.begin((user_id, user_id), position);
            }
            Event::UserDeleted(UserDeleted { user_id }) => match self.users.get_mut(&user_id) {
                Some(user) => user.deleted = Some(position),
                None => {
                    self.deleted_users.insert(user_id, position);
                }
            },
            Event::TweetCreated(TweetCreated { author_id, content }) => {
                let tweet_id = TweetId::from(position);
                let tweet = Tweet { tweet_id, author_id, content, created_at, deleted: None };
                self.tweets.insert(tweet_id, tweet);
            }
            Event::TweetDeleted(TweetDeleted { tweet_id, .. }) => {
                match self.tweets.get_mut(&tweet_id) {
                    Some(tweet) => tweet.deleted = Some(position),
                    None => {
                        self.deleted_tweets.insert(tweet_id, position);
                    }
                }
            }
            Event::Followed(Followed { follower_id, followed_id }) => {
                self.begin((follower_id, followed_id), position);
            }
            Event::Unfollowed(Unfollowed { follower_id, followed_id }) => {
                self.end((follower_id, followed_id), position);
            }
        }
    }

    fn begin(&mut self, pair: Pair, since: Position) {
        self.begun.entry(pair).or_default().push(Interval { since, until: None });
    }

    fn end(&mut self, pair: Pair, until: Position) {
        match self.begun.get_mut(&pair).and_then(|begun| begun.last_mut()) {
            Some(last) => last.until = Some(until),
            None => {
                self.ended.insert(pair, until);
            }
        }
    }

    /// How many tweets of this run are pulled.
    #[must_use]
    pub fn pulled_of(&self, ways: &Ways) -> usize {
        self.tweets.keys().filter(|tweet| ways.pulled.contains(tweet)).count()
    }

    /// How many more readers authors have after this run than before it, where that is not as many.
    #[must_use]
    pub fn readers_gained(&self) -> BTreeMap<UserId, i64> {
        let mut gained: BTreeMap<UserId, i64> = BTreeMap::new();
        for (_, author) in self.ended.keys() {
            *gained.entry(*author).or_default() -= 1;
        }
        for ((reader, author), begun) in &self.begun {
            // Authors read themselves without an event.
            if reader != author && begun.last().is_some_and(|last| last.until.is_none()) {
                *gained.entry(*author).or_default() += 1;
            }
        }
        gained.retain(|_, gained| *gained != 0);
        gained
    }

    /// What that does to feeds, into which tweets come in these `ways`.
    #[must_use]
    pub fn in_feeds(&self, ways: &Ways) -> FeedChanges {
        let within = self.users.values().filter_map(|user| Some((user.user_id, user.deleted?)));
        let gone: BTreeMap<_, _> =
            within.chain(self.deleted_users.iter().map(|(user, at)| (*user, *at))).collect();
        let entering = self
            .tweets
            .values()
            .filter(|tweet| tweet.deleted.is_none() && !gone.contains_key(&tweet.author_id))
            .filter(|tweet| !ways.pulled.contains(&tweet.tweet_id));
        let (begun, delivered) = entering
            .map(|tweet| (tweet.tweet_id, tweet.author_id))
            .partition(|(_, author)| ways.step_by_step.contains(author));
        let holds = |begun: &[Interval]| begun.last().is_some_and(|last| last.until.is_none());
        let started = self.begun.iter().filter(|(pair, begun)| {
            holds(begun) && !self.ended.contains_key(pair) && !gone.contains_key(&pair.0)
        });
        let stopped = self
            .ended
            .keys()
            .filter(|pair| !self.begun.get(pair).is_some_and(|begun| holds(begun)));
        FeedChanges {
            delivered,
            begun,
            started: started.map(|(pair, _)| *pair).collect(),
            stopped: stopped.copied().collect(),
            withdrawn: self.deleted_tweets.keys().copied().collect(),
            gone,
        }
    }
}

/// What a run of events does to feeds: what is left of it at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedChanges {
    /// Tweets of this run, with their authors, that enter feeds in one go.
    pub delivered: Vec<(TweetId, UserId)>,
    /// The same, which enter them step by step, because so many read their authors.
    pub begun: Vec<(TweetId, UserId)>,
    /// Pairs that did not hold before this run and hold after it: the reader gets what the author already wrote.
    pub started: BTreeSet<Pair>,
    /// Pairs that held before this run and do not hold after it: the reader loses what the author wrote.
    pub stopped: BTreeSet<Pair>,
    /// Tweets from before this run that were deleted in it.
    pub withdrawn: Vec<TweetId>,
    /// Everyone who was deleted in this run.
    pub gone: BTreeMap<UserId, Position>,
}

/// Readers and authors, as two columns of one length.
pub(crate) fn columns(pairs: impl IntoIterator<Item = Pair>) -> (Vec<i64>, Vec<i64>) {
    pairs.into_iter().map(|(reader, author)| (reader.0, author.0)).unzip()
}

#[cfg(test)]
mod tests {
    use events::recorded::Metadata;
    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;

    fn record(events: Vec<Event>) -> Vec<RecordedEvent> {
        (1..)
            .map(Position)
            .zip(events)
            .map(|(position, event)| RecordedEvent {
                position,
                event_id: Uuid::nil(),
                stream: event.stream(position),
                version: 1,
                kind: event.kind().to_owned(),
                schema_version: event.schema_version(),
                payload: RawValue::from_string(event.payload()).unwrap(),
                metadata: Metadata::default(),
                recorded_at: DateTime::UNIX_EPOCH,
            })
            .collect()
    }

    fn changes(events: Vec<Event>) -> Changes {
        Changes::of(&record(events)).unwrap()
    }

    fn in_feeds(events: Vec<Event>) -> FeedChanges {
        changes(events).in_feeds(&Ways::default())
    }

    fn followed(follower: i64, followed: i64) -> Event {
        let (follower_id, followed_id) = (UserId(follower), UserId(followed));
        Event::Followed(Followed { follower_id, followed_id })
    }

    fn unfollowed(follower: i64, followed: i64) -> Event {
        let (follower_id, followed_id) = (UserId(follower), UserId(followed));
        Event::Unfollowed(Unfollowed { follower_id, followed_id })
    }

    fn tweeted(author: i64) -> Event {
        Event::TweetCreated(TweetCreated { author_id: UserId(author), content: "hello".to_owned() })
    }

    fn pairs(pairs: &[(i64, i64)]) -> BTreeSet<Pair> {
        pairs.iter().map(|(reader, author)| (UserId(*reader), UserId(*author))).collect()
    }

    #[test]
    fn a_follow_that_came_and_went_leaves_the_feed_alone_but_not_the_history() {
        let changes = changes(vec![followed(1, 2), unfollowed(1, 2)]);
        assert_eq!(changes.in_feeds(&Ways::default()), FeedChanges::default());
        assert_eq!(changes.readers_gained(), BTreeMap::new());
        let interval = Interval { since: Position(1), until: Some(Position(2)) };
        assert_eq!(changes.begun[&(UserId(1), UserId(2))], [interval]);
    }

    #[test]
    fn a_follow_that_ended_and_began_again_leaves_the_feed_alone() {
        let changes = changes(vec![unfollowed(1, 2), followed(1, 2)]);
        assert_eq!(changes.in_feeds(&Ways::default()), FeedChanges::default());
        assert_eq!(changes.readers_gained(), BTreeMap::new());
        assert_eq!(changes.ended[&(UserId(1), UserId(2))], Position(1));
    }

    #[test]
    fn only_the_last_state_of_a_pair_counts() {
        let begins = in_feeds(vec![followed(1, 2), unfollowed(1, 2), followed(1, 2)]);
        assert_eq!((begins.started, begins.stopped), (pairs(&[(1, 2)]), pairs(&[])));
        let ends = in_feeds(vec![unfollowed(1, 2), followed(1, 2), unfollowed(1, 2)]);
        assert_eq!((ends.started, ends.stopped), (pairs(&[]), pairs(&[(1, 2)])));
    }

    #[test]
    fn a_tweet_that_came_and_went_is_kept_but_not_delivered() {
        let deleted = TweetDeleted { tweet_id: TweetId(1), author_id: UserId(7) };
        let changes = changes(vec![tweeted(7), tweeted(7), Event::TweetDeleted(deleted)]);
        let in_feeds = changes.in_feeds(&Ways::default());
        assert_eq!(in_feeds.delivered, [(TweetId(2), UserId(7))]);
        assert_eq!(changes.tweets[&TweetId(1)].deleted, Some(Position(3)));
    }

    #[test]
    fn a_new_user_reads_their_own_tweets_until_they_leave() {
        let registered = UserRegistered {
            user_id: UserId(7),
            username: "ada".to_owned(),
            email: "ada@example.org".to_owned(),
        };
        let stays = in_feeds(vec![Event::UserRegistered(registered.clone()), tweeted(7)]);
        assert_eq!(stays.started, pairs(&[(7, 7)]));

        let deleted = Event::UserDeleted(UserDeleted { user_id: UserId(7) });
        let leaves = in_feeds(vec![Event::UserRegistered(registered), tweeted(7), deleted]);
        assert_eq!(leaves.started, pairs(&[]));
        assert_eq!(leaves.delivered, []);
        assert_eq!(leaves.gone[&UserId(7)], Position(3));
    }

    #[test]
    fn readers_are_gained_and_lost_by_those_who_are_followed_and_no_longer_followed() {
        let events = vec![followed(1, 7), followed(2, 7), unfollowed(3, 7), unfollowed(3, 8)];
        let gained = changes(events).readers_gained();
        assert_eq!(gained, BTreeMap::from([(UserId(7), 1), (UserId(8), -1)]));
    }

    #[test]
    fn a_tweet_that_is_pulled_is_kept_but_enters_no_feed() {
        let changes = changes(vec![tweeted(7), tweeted(7)]);
        let pulled = BTreeSet::from([TweetId(2)]);
        let in_feeds = changes.in_feeds(&Ways { pulled, ..Ways::default() });
        assert_eq!(in_feeds.delivered, [(TweetId(1), UserId(7))]);
        assert_eq!(in_feeds.begun, []);
        assert_eq!(changes.tweets.len(), 2);
    }

    #[test]
    fn tweets_of_an_author_whom_many_read_only_begin_to_enter_feeds() {
        let changes = changes(vec![tweeted(7), tweeted(8), tweeted(7)]);
        let step_by_step = BTreeSet::from([UserId(7)]);
        let in_feeds = changes.in_feeds(&Ways { step_by_step, ..Ways::default() });
        assert_eq!(in_feeds.begun, [(TweetId(1), UserId(7)), (TweetId(3), UserId(7))]);
        assert_eq!(in_feeds.delivered, [(TweetId(2), UserId(8))]);
    }
}

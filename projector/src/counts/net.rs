//! What is left of a run of events when all of it has happened.

use std::collections::{BTreeMap, BTreeSet};

use events::event::{
    DecodeError, Followed, TweetCreated, TweetDeleted, Unfollowed, UserDeleted, UserRegistered,
};
use events::{Event, RecordedEvent, UserId};

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Net {
    /// Who came and stayed.
    pub registered: BTreeSet<UserId>,
    /// Who left.
    pub gone: BTreeSet<UserId>,
    /// By how many tweets authors have more, or fewer.
    pub tweets: BTreeMap<UserId, i64>,
    /// Who follows whom at the end, where something was said of it: whether they do. Not of who has left by then.
    pub follows: BTreeMap<(UserId, UserId), bool>,
}

impl Net {
    /// The net effect of `events`.
    ///
    /// # Errors
    /// [`DecodeError`] when an event cannot be read.
    pub(super) fn of(events: &[RecordedEvent]) -> Result<Self, DecodeError> {
        let mut net = Self::default();
        for recorded in events {
            match recorded.event()? {
                Event::UserRegistered(UserRegistered { user_id, .. }) => {
                    net.registered.insert(user_id);
                }
                Event::UserDeleted(UserDeleted { user_id }) => {
                    net.registered.remove(&user_id);
                    net.gone.insert(user_id);
                }
                Event::TweetCreated(TweetCreated { author_id, .. }) => {
                    *net.tweets.entry(author_id).or_default() += 1;
                }
                Event::TweetDeleted(TweetDeleted { author_id, .. }) => {
                    *net.tweets.entry(author_id).or_default() -= 1;
                }
                Event::Followed(Followed { follower_id, followed_id }) => {
                    net.follows.insert((follower_id, followed_id), true);
                }
                Event::Unfollowed(Unfollowed { follower_id, followed_id }) => {
                    net.follows.insert((follower_id, followed_id), false);
                }
            }
        }
        net.follows.retain(|(follower, _), _| !net.gone.contains(follower));
        Ok(net)
    }
}

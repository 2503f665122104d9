//! What the log says, and what a table shows, as facts of the same form.

use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::{DateTime, Utc};
use events::event::{
    Followed, TweetCreated, TweetDeleted, Unfollowed, UserDeleted, UserRegistered,
    relationship_stream,
};
use events::{Event, Position, RecordedEvent, TweetId, UserId};

use super::Part;

/// How many sums there are for each part. More make the second look at a bucket shorter.
pub(super) const BUCKETS: usize = 1 << 14;

/// One thing that the log says, or a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Fact {
    Registered {
        user_id: UserId,
        details: Fingerprint,
        created_at: DateTime<Utc>,
    },
    UserDeleted {
        user_id: UserId,
        at: Position,
    },
    Created {
        tweet_id: TweetId,
        author_id: UserId,
        content: Fingerprint,
        created_at: DateTime<Utc>,
        pulled: bool,
    },
    TweetDeleted {
        tweet_id: TweetId,
        at: Position,
    },
    Began {
        follower_id: UserId,
        followed_id: UserId,
        at: Position,
    },
    Ended {
        follower_id: UserId,
        followed_id: UserId,
        at: Position,
    },
    /// What the decision state has of two users: the version of the last event between them, and so whether one follows
    /// the other.
    Related {
        follower_id: UserId,
        followed_id: UserId,
        version: i32,
        follows: bool,
    },
    /// What the decision state has of a tweet that was deleted.
    TakenBack {
        tweet_id: TweetId,
    },
}

/// Stands for a text, so that facts are small and no report shows what people wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(texts: &[&str]) -> Self {
        let mut hasher = DefaultHasher::new();
        texts.hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Fact {
    /// What `recorded` says by itself; and of a tweet, whether it is `pulled`. The end of a user also ends what they follow: that
    /// follows from it, and is no fact of its own.
    pub(super) fn of(
        recorded: &RecordedEvent,
        event: &Event,
        pulled: bool,
    ) -> impl Iterator<Item = Self> + use<> {
        let (at, created_at) = (recorded.position, recorded.recorded_at);
        let (fact, own_feed) = match event {
            Event::UserRegistered(UserRegistered { user_id, username, email }) => {
                let details = Fingerprint::of(&[username, email]);
                let own = Self::Began { follower_id: *user_id, followed_id: *user_id, at };
                (Self::Registered { user_id: *user_id, details, created_at }, Some(own))
            }
            Event::UserDeleted(UserDeleted { user_id }) => {
                (Self::UserDeleted { user_id: *user_id, at }, None)
            }
            Event::TweetCreated(TweetCreated { author_id, content }) => {
                let (tweet_id, content) = (TweetId::from(at), Fingerprint::of(&[content]));
                let author_id = *author_id;
                (Self::Created { tweet_id, author_id, content, created_at, pulled }, None)
            }
            Event::TweetDeleted(TweetDeleted { tweet_id, .. }) => {
                (Self::TweetDeleted { tweet_id: *tweet_id, at }, None)
            }
            Event::Followed(Followed { follower_id, followed_id }) => {
                (Self::Began { follower_id: *follower_id, followed_id: *followed_id, at }, None)
            }
            Event::Unfollowed(Unfollowed { follower_id, followed_id }) => {
                (Self::Ended { follower_id: *follower_id, followed_id: *followed_id, at }, None)
            }
        };
        [Some(fact), own_feed].into_iter().flatten()
    }

    pub(super) fn place(&self) -> Place {
        let (part, key) = match self {
            Self::Registered { user_id, .. } | Self::UserDeleted { user_id, .. } => {
                (Part::Users, user_id.0)
            }
            Self::Created { tweet_id, .. }
            | Self::TweetDeleted { tweet_id, .. }
            | Self::TakenBack { tweet_id } => (Part::Tweets, tweet_id.0),
            Self::Began { follower_id, .. }
            | Self::Ended { follower_id, .. }
            | Self::Related { follower_id, .. } => (Part::Follows, follower_id.0),
        };
        let bucket = usize::try_from(key.unsigned_abs() % BUCKETS as u64).unwrap_or_default();
        Place { part, bucket }
    }

    /// The stream in which the log says it, if it does.
    pub(super) fn stream(&self) -> String {
        match self {
            Self::Registered { user_id, .. } | Self::UserDeleted { user_id, .. } => {
                format!("user-{user_id}")
            }
            Self::Created { tweet_id, .. }
            | Self::TweetDeleted { tweet_id, .. }
            | Self::TakenBack { tweet_id } => format!("tweet-{tweet_id}"),
            Self::Began { follower_id, followed_id, .. }
            | Self::Ended { follower_id, followed_id, .. }
                if follower_id == followed_id =>
            {
                format!("user-{follower_id}")
            }
            Self::Began { follower_id, followed_id, .. }
            | Self::Ended { follower_id, followed_id, .. }
            | Self::Related { follower_id, followed_id, .. } => {
                relationship_stream(*follower_id, *followed_id)
            }
        }
    }

    /// The fact as a clause: "user 7 is registered".
    pub(super) fn clause(&self) -> String {
        match self {
            Self::Registered { user_id, .. } => {
                format!("user {user_id} is registered with these details")
            }
            Self::UserDeleted { user_id, at } => format!("user {user_id} was deleted at {at}"),
            Self::Created { tweet_id, author_id, pulled, .. } => {
                let way = if *pulled { ", pulled" } else { "" };
                format!("user {author_id} wrote tweet {tweet_id} with this content{way}")
            }
            Self::TweetDeleted { tweet_id, at } => format!("tweet {tweet_id} was deleted at {at}"),
            Self::Began { follower_id, followed_id, at } => {
                format!("user {follower_id} began to read user {followed_id} at {at}")
            }
            Self::Ended { follower_id, followed_id, at } => {
                format!("user {follower_id} ceased to read user {followed_id} at {at}")
            }
            Self::Related { follower_id, followed_id, version, follows } => {
                let way = if *follows { "follows" } else { "does not follow" };
                format!("user {follower_id} {way} user {followed_id}, as of version {version}")
            }
            Self::TakenBack { tweet_id } => format!("tweet {tweet_id} is taken back"),
        }
    }

    pub(super) fn hash_of(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// Where a fact is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub part: Part,
    pub bucket: usize,
}

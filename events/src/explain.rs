//! Why a tweet is in a home feed or not: pure, from the few events that bear on it.
//!
//! feed(u) = every tweet, not deleted, whose author is u or someone u follows now (neither
//! deleted). There is a [`Reason`] for each way in which a tweet can miss that definition; a tweet
//! that misses it in no way is in the feed.

mod facts;
mod sentence;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde::Serialize;

use self::facts::Facts;
use crate::event::{DecodeError, Event, TweetCreated, relationship_stream};
use crate::id::{Position, TweetId, UserId};
use crate::recorded::RecordedEvent;

/// Whether a tweet is in a feed at a position, and what makes it so.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub user: UserId,
    pub tweet: TweetId,
    /// Who wrote it; nothing when there is no such tweet.
    pub author: Option<UserId>,
    /// The position that all of this is true at.
    pub at: Position,
    pub present: bool,
    /// All of it in one sentence.
    #[cfg_attr(
        feature = "openapi",
        schema(
            example = "Tweet 42 is in the feed of user 7, who follows its author, user 3, since position 12."
        )
    )]
    pub verdict: String,
    /// The one why it is there, or each why it is not, the decisive first.
    pub reasons: Vec<Reason>,
    /// The events behind the reasons, in order.
    pub steps: Vec<Step>,
    /// How many follows and unfollows between the two there are before those among the steps.
    pub earlier_left_out: i32,
}

/// An event that bears on it.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    pub position: Position,
    pub recorded_at: DateTime<Utc>,
    #[cfg_attr(feature = "openapi", schema(example = "Followed"))]
    pub kind: String,
    #[cfg_attr(feature = "openapi", schema(example = "relationship-7-3"))]
    pub stream: String,
    #[cfg_attr(feature = "openapi", schema(example = "user 7 began to follow user 3"))]
    pub sentence: String,
}

/// Why a tweet is in a feed, or one cause why it is not. A `position` is that of the event that did
/// it.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// There: the reader wrote it.
    Own,
    /// There: the reader follows the author, for the first time or `again`.
    Follows { author: UserId, position: Position, again: bool },
    /// Nobody with the reader's id was registered.
    NoSuchUser,
    /// The reader left.
    UserDeleted { position: Position },
    /// The log has no event at the position that is the tweet's id.
    NoSuchEvent,
    /// The event there is another one than `TweetCreated`.
    NotATweet { kind: String },
    /// The tweet is younger than the position that is asked about.
    WrittenLater { position: Position },
    /// The author took the tweet back.
    TweetDeleted { position: Position },
    /// The author was not registered, which is so before a tweet that was written later.
    NoSuchAuthor { author: UserId },
    /// The author left.
    AuthorDeleted { author: UserId, position: Position },
    /// The reader and the author are there, and the one never followed the other.
    NeverFollowed { author: UserId },
    /// The reader followed the author, but no longer.
    Unfollowed { author: UserId, position: Position },
}

impl Reason {
    /// Whether this is why a tweet is in a feed.
    #[must_use]
    pub const fn is_for(&self) -> bool {
        matches!(self, Self::Own | Self::Follows { .. })
    }
}

/// Who wrote the tweet that `named`, the event at the position of the tweet's id, created. `None`
/// when it is another event.
///
/// # Errors
/// [`DecodeError`] when this release cannot read it.
pub fn author_of(named: &RecordedEvent) -> Result<Option<UserId>, DecodeError> {
    Ok(match named.event()? {
        Event::TweetCreated(TweetCreated { author_id, .. }) => Some(author_id),
        _ => None,
    })
}

/// The streams that have every event that bears on `tweet` of `author` in the feed of `user`.
#[must_use]
pub fn streams(user: UserId, tweet: TweetId, author: Option<UserId>) -> Vec<String> {
    let mut streams = vec![format!("user-{user}")];
    if let Some(author) = author {
        streams.push(format!("tweet-{tweet}"));
        if author != user {
            streams.push(format!("user-{author}"));
            streams.push(relationship_stream(user, author));
        }
    }
    streams
}

/// Why `tweet` is in the feed of `user` at `at` or not.
///
/// `events` are, in order, those of [`streams`] up to `at`, and whatever the log has at the
/// position that the tweet's id names. Of the follows and unfollows between the two the newest
/// are enough.
///
/// # Errors
/// [`DecodeError`] when this release cannot read one of them.
pub fn explain(
    user: UserId,
    tweet: TweetId,
    at: Position,
    events: &[RecordedEvent],
) -> Result<Explanation, DecodeError> {
    let named = events.iter().find(|recorded| TweetId::from(recorded.position) == tweet);
    let author = named.map(author_of).transpose()?.flatten();
    let mut facts = Facts::new(user, tweet, author);
    let mut steps = Vec::new();
    for recorded in events {
        let event = recorded.event()?;
        let bears = recorded.position <= at && facts.apply(recorded, &event);
        if bears || TweetId::from(recorded.position) == tweet {
            steps.push(Step::of(recorded, &event));
        }
    }

    let mut reasons = facts.reasons(named, at);
    let present = reasons.iter().all(Reason::is_for);
    if !present {
        reasons.retain(|reason| !reason.is_for());
    }
    let verdict = sentence::verdict(user, tweet, at, &reasons);
    let earlier_left_out = facts.earlier_left_out;
    Ok(Explanation { user, tweet, author, at, present, verdict, reasons, steps, earlier_left_out })
}

impl Step {
    fn of(recorded: &RecordedEvent, event: &Event) -> Self {
        Self {
            position: recorded.position,
            recorded_at: recorded.recorded_at,
            kind: recorded.kind.clone(),
            stream: recorded.stream.clone(),
            sentence: sentence::step(recorded, event),
        }
    }
}

//! Explaining from the log: three statements, whatever the history.

use super::{Connections, read};
use crate::event::DecodeError;
use crate::explain::{Explanation, author_of, explain, streams};
use crate::id::{Position, TweetId, UserId};
use crate::recorded::RecordedEvent;

/// Of the follows and unfollows between two users only the last decides. The ones before it are
/// read for the person who asks, who sees in twenty what has been going on; there may be thousands.
/// The other streams never have more than two events.
pub const STREAM_EVENTS_MAX: i64 = 20;

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error("position {at} is beyond the end of the log, which is at {head}")]
    Beyond { at: Position, head: Position },
    #[error("the log cannot be read: {0}")]
    Log(#[from] sqlx::Error),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A question about a feed, with what is the same at every position.
#[derive(Debug)]
pub struct Question {
    user: UserId,
    tweet: TweetId,
    /// Where the log ended when this was asked.
    pub head: Position,
    /// What the log has at the position that the tweet's id names.
    named: Option<RecordedEvent>,
}

impl Question {
    /// Asks `log` about `tweet` in the feed of `user`.
    ///
    /// # Errors
    /// [`ExplainError::Log`] when the database is away.
    pub async fn ask(
        log: &Connections,
        user: UserId,
        tweet: TweetId,
    ) -> Result<Self, ExplainError> {
        let head = read::head(log).await?;
        let named = read::at(log, Position(tweet.0)).await?;
        Ok(Self { user, tweet, head, named })
    }

    /// The answer as of `at`.
    ///
    /// # Errors
    /// [`ExplainError::Beyond`] when the log did not reach `at`, [`ExplainError::Decode`] when this
    /// release cannot read an event, [`ExplainError::Log`] when the database is away.
    pub async fn answer(
        &self,
        log: &Connections,
        at: Position,
    ) -> Result<Explanation, ExplainError> {
        if at > self.head {
            return Err(ExplainError::Beyond { at, head: self.head });
        }
        let author = self.named.as_ref().map(author_of).transpose()?.flatten();
        let streams = streams(self.user, self.tweet, author);
        let mut events = read::newest_of_streams(log, &streams, at, STREAM_EVENTS_MAX).await?;
        // The named event is among them only if it is the tweet's own and not younger than `at`.
        events.extend(self.named.clone());
        events.sort_by_key(|recorded| recorded.position);
        events.dedup_by_key(|recorded| recorded.position);
        Ok(explain(self.user, self.tweet, at, &events)?)
    }
}

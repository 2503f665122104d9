//! Explaining from the log: four statements, whatever the history; six where a part of it is archived.

use super::ranges::{self, Archived};
use super::{Connections, read};
use crate::event::{DecodeError, relationship_stream};
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
    #[error(transparent)]
    Archived(#[from] Archived),
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
    /// How far it is archived.
    archived: Option<Archived>,
}

impl Question {
    /// Asks `log` about `tweet` in the feed of `user`.
    ///
    /// # Errors
    /// [`ExplainError::Archived`] when the tweet is, [`ExplainError::Log`] when the database is away.
    pub async fn ask(
        log: &Connections,
        user: UserId,
        tweet: TweetId,
    ) -> Result<Self, ExplainError> {
        let head = read::head(log).await?;
        let named = read::at(log, Position(tweet.0)).await?;
        let archived = ranges::archived(log).await?;
        match archived {
            Some(archived) if tweet.0 <= archived.through.0 => Err(archived.into()),
            _ => Ok(Self { user, tweet, head, named, archived }),
        }
    }

    /// The answer as of `at`.
    ///
    /// # Errors
    /// [`ExplainError::Beyond`] when the log did not reach `at`, [`ExplainError::Decode`] when this
    /// release cannot read an event, [`ExplainError::Archived`] when one that decides is, [`ExplainError::Log`] when the
    /// database is away.
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
        if let Some(archived) = self.archived {
            self.is_answered_by(&events, author, archived, log).await?;
        }
        // The named event is among them only if it is the tweet's own and not younger than `at`.
        events.extend(self.named.clone());
        events.sort_by_key(|recorded| recorded.position);
        events.dedup_by_key(|recorded| recorded.position);
        Ok(explain(self.user, self.tweet, at, &events)?)
    }
    /// Makes sure that nothing that decides is `archived`, where `events` are what the log still has of it. Where it has any
    /// event of a stream it has the last, which says how things are. Where it has none they are from before, or there is
    /// none.
    async fn is_answered_by(
        &self,
        events: &[RecordedEvent],
        author: Option<UserId>,
        archived: Archived,
        log: &Connections,
    ) -> Result<(), ExplainError> {
        let has = |stream: &str| events.iter().any(|event| event.stream == stream);
        let mut users = [Some(self.user), author].into_iter().flatten();
        if users.any(|user| user <= archived.last_user_id && !has(&format!("user-{user}"))) {
            return Err(archived.into());
        }
        let Some(author) = author.filter(|author| *author != self.user) else { return Ok(()) };
        let stream = relationship_stream(self.user, author);
        if has(&stream) {
            return Ok(());
        }
        // Either the first is younger than what was asked about, or there is none, or it is archived.
        let is_live = !read::first_of_streams(log, &[stream]).await?.is_empty();
        if !is_live && read::have_related(log, self.user, author).await? {
            return Err(archived.into());
        }
        Ok(())
    }
}

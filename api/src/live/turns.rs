//! What a stream tells beside new items: that something left the feed, or that an author was followed
//! whose older tweets came in. One definition for both who ask: the watcher for all open streams, and a
//! stream that reads for itself what it missed.

use std::collections::HashMap;

use events::event::{Followed, TweetDeleted, Unfollowed, UserDeleted};
use events::store::{Connections, read};
use events::{Event, Position, RecordedEvent, TweetId, UserId};
use serde::Serialize;

use super::LiveEvent;
use crate::changes::Cause;
use crate::views::follows;

/// What is told of a turn.
#[derive(Debug, Serialize)]
struct Turn {
    #[serde(skip_serializing_if = "Option::is_none")]
    tweet_id: Option<TweetId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author_id: Option<UserId>,
    cause: Cause,
}

/// An event of the log, and whom of the readers that were asked about it concerns: often nobody.
#[derive(Debug)]
pub struct Told {
    pub event: LiveEvent,
    /// The tweet that it took away, if it was one.
    pub tweet: Option<TweetId>,
    /// The user who left by it.
    pub gone: Option<UserId>,
    pub readers: Vec<UserId>,
}

/// The turns in the feeds of `readers` after `after` up to `to`, which the read model has reached. Two
/// statements, however many there are of both.
///
/// # Errors
/// [`sqlx::Error`] when a database is away, or has an event that this release cannot read.
pub async fn turns(
    log: &Connections,
    feed: &Connections,
    readers: &[UserId],
    after: Position,
    to: Position,
) -> Result<Vec<Told>, sqlx::Error> {
    let recorded = read::turns(log, after, to).await?;
    let events = recorded.iter().map(RecordedEvent::event).collect::<Result<Vec<_>, _>>();
    let events = events.map_err(|error| sqlx::Error::Decode(error.into()))?;
    let authors: Vec<UserId> = events.iter().filter_map(author).collect();
    let followers = if authors.is_empty() {
        HashMap::new()
    } else {
        follows::among(feed, &authors, readers).await?
    };
    let told = recorded.iter().zip(&events).filter_map(|(recorded, event)| {
        let cause = Cause { position: recorded.position, kind: event.kind() };
        let (name, tweet, author_id, readers) = match event {
            Event::Followed(Followed { follower_id, followed_id }) => {
                ("followed", None, Some(*followed_id), one_of(readers, *follower_id))
            }
            Event::Unfollowed(Unfollowed { follower_id, followed_id }) => {
                ("removed", None, Some(*followed_id), one_of(readers, *follower_id))
            }
            Event::TweetDeleted(TweetDeleted { tweet_id, author_id }) => {
                ("removed", Some(*tweet_id), None, followers.get(author_id).cloned())
            }
            Event::UserDeleted(UserDeleted { user_id }) => {
                ("removed", None, Some(*user_id), followers.get(user_id).cloned())
            }
            Event::UserRegistered(_) | Event::TweetCreated(_) => return None,
        };
        let turn = Turn { tweet_id: tweet, author_id, cause };
        let json = serde_json::to_string(&turn).expect("numbers and words always have a JSON form");
        let event = LiveEvent { position: recorded.position, name: Some(name), json };
        let gone = author_id.filter(|_| cause.kind == "UserDeleted");
        Some(Told { event, tweet, gone, readers: readers.unwrap_or_default() })
    });
    Ok(told.collect())
}

/// Whose followers have to be known.
fn author(event: &Event) -> Option<UserId> {
    match event {
        Event::TweetDeleted(TweetDeleted { author_id, .. }) => Some(*author_id),
        Event::UserDeleted(UserDeleted { user_id }) => Some(*user_id),
        _ => None,
    }
}

fn one_of(readers: &[UserId], reader: UserId) -> Option<Vec<UserId>> {
    readers.contains(&reader).then(|| vec![reader])
}

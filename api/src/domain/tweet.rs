//! Tweets: what one may say, and who may take it back.

use std::fmt;

use events::event::{TweetCreated, TweetDeleted};
use events::{Event, TweetId, UserId};
use serde::Serialize;

use super::visible::is_visible;
use super::{DecisionState, Rejection};

/// The most characters (Unicode scalar values) of a tweet, after trimming.
const CONTENT_MAX_CHARS: usize = 280;

/// The text of a tweet: 1 to 280 characters, trimmed, of which at least one can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Content(String);

impl Content {
    /// Reads the text of a tweet.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let count = text.chars().count();
        if count == 0 || count > CONTENT_MAX_CHARS {
            return Err(format!("must have 1 to {CONTENT_MAX_CHARS} characters, has {count}"));
        }
        if !text.contains(is_visible) {
            return Err("must have something that can be seen".to_owned());
        }
        // PostgreSQL's text cannot hold it.
        if text.contains('\0') {
            return Err("must not contain the NUL character".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn create(author_id: UserId, content: &Content) -> Event {
    Event::TweetCreated(TweetCreated { author_id, content: content.to_string() })
}

pub(super) fn delete(
    state: &DecisionState,
    author_id: UserId,
    tweet_id: TweetId,
) -> Result<Event, Rejection> {
    match state.author_of(tweet_id) {
        Some(author) if author == author_id => {
            Ok(Event::TweetDeleted(TweetDeleted { tweet_id, author_id }))
        }
        _ => Err(Rejection::TweetUnknown(tweet_id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_has_1_to_280_characters_after_trimming() {
        assert_eq!(Content::parse(" hello\n").unwrap().to_string(), "hello");
        assert!(Content::parse(" \n ").is_err());
        assert!(Content::parse(&"🐦".repeat(280)).is_ok());
        assert!(Content::parse(&"🐦".repeat(281)).is_err());
        assert!(Content::parse("\u{200b}\u{200b} \u{2060}").is_err());
        assert!(Content::parse("\u{200b}a").is_ok());
        assert!(Content::parse("nul\0nul").is_err());
    }
}

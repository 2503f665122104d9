//! The six things that can happen, and how each is written down.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::{Position, TweetId, UserId};

/// Something that happened. Each kind has a name, a schema version and a stream of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum Event {
    UserRegistered(UserRegistered),
    UserDeleted(UserDeleted),
    TweetCreated(TweetCreated),
    TweetDeleted(TweetDeleted),
    Followed(Followed),
    Unfollowed(Unfollowed),
}

/// A user came to be. Stream `user-<user_id>`, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRegistered {
    pub user_id: UserId,
    pub username: String,
    pub email: String,
}

/// A user left: their tweets and follows no longer count. Stream `user-<user_id>`, version 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDeleted {
    pub user_id: UserId,
}

/// A user wrote a tweet. Its id is the position of this event. Stream `tweet-<position>`, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TweetCreated {
    pub author_id: UserId,
    pub content: String,
}

/// The author took a tweet back. Stream `tweet-<tweet_id>`, version 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TweetDeleted {
    pub tweet_id: TweetId,
    pub author_id: UserId,
}

/// One user began to follow another. Stream `relationship-<follower_id>-<followed_id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    pub follower_id: UserId,
    pub followed_id: UserId,
}

/// One user ceased to follow another. Same stream as [`Followed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfollowed {
    pub follower_id: UserId,
    pub followed_id: UserId,
}

/// Why a stored or received event could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A release that knows this kind or version wrote it. Skipping it would corrupt the read
    /// model in silence, so whoever meets it has to stop.
    #[error(
        "event type {kind} with schema version {schema_version} is unknown to this release; \
         install the release that wrote it"
    )]
    Unknown { kind: String, schema_version: i16 },
    /// The payload does not have the form that its type and schema version promise.
    #[error("payload of {kind} (schema version {schema_version}) is malformed: {source}")]
    Malformed { kind: String, schema_version: i16, source: serde_json::Error },
}

/// The version in which every kind of event is written today.
const SCHEMA_VERSION: i16 = 1;

impl Event {
    /// The name of this kind of event, as stored in `events.type`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::UserRegistered(_) => "UserRegistered",
            Self::UserDeleted(_) => "UserDeleted",
            Self::TweetCreated(_) => "TweetCreated",
            Self::TweetDeleted(_) => "TweetDeleted",
            Self::Followed(_) => "Followed",
            Self::Unfollowed(_) => "Unfollowed",
        }
    }

    /// The version of the payload's form, as stored in `events.schema_version`.
    #[must_use]
    pub const fn schema_version(&self) -> i16 {
        SCHEMA_VERSION
    }

    /// The stream that this event belongs to when it is appended at `position`.
    #[must_use]
    pub fn stream(&self, position: Position) -> String {
        match self {
            Self::UserRegistered(UserRegistered { user_id, .. })
            | Self::UserDeleted(UserDeleted { user_id }) => format!("user-{user_id}"),
            Self::TweetCreated(_) => format!("tweet-{position}"),
            Self::TweetDeleted(TweetDeleted { tweet_id, .. }) => format!("tweet-{tweet_id}"),
            Self::Followed(Followed { follower_id, followed_id })
            | Self::Unfollowed(Unfollowed { follower_id, followed_id }) => {
                relationship_stream(*follower_id, *followed_id)
            }
        }
    }

    /// The payload as JSON text.
    #[must_use]
    pub fn payload(&self) -> String {
        let payload = match self {
            Self::UserRegistered(payload) => serde_json::to_string(payload),
            Self::UserDeleted(payload) => serde_json::to_string(payload),
            Self::TweetCreated(payload) => serde_json::to_string(payload),
            Self::TweetDeleted(payload) => serde_json::to_string(payload),
            Self::Followed(payload) => serde_json::to_string(payload),
            Self::Unfollowed(payload) => serde_json::to_string(payload),
        };
        payload.expect("strings and numbers always have a JSON form")
    }

    /// Reads an event back. An older schema version is upcast here, one arm per version, so that
    /// the rest of the code sees only today's form.
    ///
    /// # Errors
    /// [`DecodeError::Unknown`] for a kind or version of a newer release,
    /// [`DecodeError::Malformed`] for a payload that does not fit.
    pub fn decode(kind: &str, schema_version: i16, payload: &str) -> Result<Self, DecodeError> {
        fn read<T: DeserializeOwned>(
            kind: &str,
            schema_version: i16,
            payload: &str,
        ) -> Result<T, DecodeError> {
            serde_json::from_str(payload).map_err(|source| DecodeError::Malformed {
                kind: kind.to_owned(),
                schema_version,
                source,
            })
        }

        match (kind, schema_version) {
            ("UserRegistered", 1) => read(kind, 1, payload).map(Self::UserRegistered),
            ("UserDeleted", 1) => read(kind, 1, payload).map(Self::UserDeleted),
            ("TweetCreated", 1) => read(kind, 1, payload).map(Self::TweetCreated),
            ("TweetDeleted", 1) => read(kind, 1, payload).map(Self::TweetDeleted),
            ("Followed", 1) => read(kind, 1, payload).map(Self::Followed),
            ("Unfollowed", 1) => read(kind, 1, payload).map(Self::Unfollowed),
            _ => Err(DecodeError::Unknown { kind: kind.to_owned(), schema_version }),
        }
    }
}

/// The stream of everything between one follower and one followed user.
#[must_use]
pub fn relationship_stream(follower_id: UserId, followed_id: UserId) -> String {
    format!("relationship-{follower_id}-{followed_id}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use strum::VariantNames;

    use super::*;

    /// One file per kind and schema version, kept for ever: whatever was once written must be
    /// readable by every later release.
    fn fixtures() -> BTreeMap<(String, i16), String> {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures")).unwrap();
        let files = folder.map(|file| file.unwrap().path());
        files
            .map(|file| {
                let name = file.file_name().unwrap().to_str().unwrap();
                let (kind, version) = name.strip_suffix(".json").unwrap().split_once(".v").unwrap();
                let payload = std::fs::read_to_string(&file).unwrap();
                ((kind.to_owned(), version.parse().unwrap()), payload)
            })
            .collect()
    }

    #[test]
    fn every_event_ever_written_still_decodes() {
        for ((kind, schema_version), payload) in fixtures() {
            let event = Event::decode(&kind, schema_version, &payload).unwrap();
            assert_eq!(event.kind(), kind);
            if schema_version < event.schema_version() {
                continue;
            }
            let written: serde_json::Value = serde_json::from_str(&event.payload()).unwrap();
            let fixture: serde_json::Value = serde_json::from_str(&payload).unwrap();
            assert_eq!(written, fixture, "{kind} is no longer written as its fixture says");
        }
    }

    #[test]
    fn every_kind_of_event_has_a_fixture_and_decodes() {
        let fixtures = fixtures();
        for kind in Event::VARIANTS {
            let payload = fixtures.get(&((*kind).to_owned(), SCHEMA_VERSION));
            let payload =
                payload.unwrap_or_else(|| panic!("fixtures/{kind}.v{SCHEMA_VERSION}.json"));
            assert_eq!(Event::decode(kind, SCHEMA_VERSION, payload).unwrap().kind(), *kind);
        }
    }

    #[test]
    fn an_event_of_a_newer_release_is_refused_by_name() {
        let error = Event::decode("TweetLiked", 1, "{}").unwrap_err();
        assert!(matches!(error, DecodeError::Unknown { .. }));
        assert!(error.to_string().contains("TweetLiked"));

        let error = Event::decode("TweetCreated", 2, "{}").unwrap_err();
        assert!(matches!(error, DecodeError::Unknown { schema_version: 2, .. }));
    }

    #[test]
    fn a_payload_that_does_not_fit_is_malformed() {
        let error = Event::decode("TweetCreated", 1, r#"{"author_id":"one"}"#).unwrap_err();
        assert!(matches!(error, DecodeError::Malformed { .. }));
    }

    #[test]
    fn a_tweet_has_the_stream_of_its_position() {
        let created =
            Event::TweetCreated(TweetCreated { author_id: UserId(1), content: "hello".into() });
        let deleted =
            Event::TweetDeleted(TweetDeleted { tweet_id: TweetId(9), author_id: UserId(1) });
        assert_eq!(created.stream(Position(9)), deleted.stream(Position(12)));
    }
}

//! Users: what a name and an address look like, and when they are free.

use std::fmt;

use events::event::{UserDeleted, UserRegistered};
use events::fold::fold;
use events::{Event, UserId};
use serde::Serialize;

use super::{DecisionState, Rejection};

/// The fewest and the most characters of a username.
const USERNAME_CHARS: std::ops::RangeInclusive<usize> = 3..=50;

/// The most characters of an e-mail address: the limit of RFC 5321 for a path, less its brackets.
const EMAIL_MAX_CHARS: usize = 254;

/// A username: 3 to 50 characters, trimmed, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Username(String);

/// An e-mail address, trimmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Email(String);

impl Username {
    /// Reads a username.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters".to_owned());
        }
        let count = text.chars().count();
        if !USERNAME_CHARS.contains(&count) {
            return Err(format!("must have 3 to 50 characters, has {count}"));
        }
        Ok(Self(text.to_owned()))
    }

    /// What "taken" compares.
    #[must_use]
    pub fn key(&self) -> String {
        fold(&self.0)
    }
}

impl Email {
    /// Reads an e-mail address.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.chars().count() > EMAIL_MAX_CHARS {
            return Err(format!("must have at most {EMAIL_MAX_CHARS} characters"));
        }
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters".to_owned());
        }
        garde::rules::email::parse_email(text)
            .map_err(|error| format!("is not an e-mail address: {error}"))?;
        Ok(Self(text.to_owned()))
    }

    /// What "taken" compares.
    #[must_use]
    pub fn key(&self) -> String {
        fold(&self.0)
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn register(
    state: &DecisionState,
    username: &Username,
    email: &Email,
) -> Result<Event, Rejection> {
    if state.username_is_taken(username) {
        return Err(Rejection::UsernameTaken(username.to_string()));
    }
    if state.email_is_taken(email) {
        return Err(Rejection::EmailTaken(email.to_string()));
    }
    Ok(Event::UserRegistered(UserRegistered {
        user_id: state.next_user_id(),
        username: username.to_string(),
        email: email.to_string(),
    }))
}

pub(super) fn delete(user_id: UserId) -> Event {
    Event::UserDeleted(UserDeleted { user_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_username_has_3_to_50_characters_after_trimming() {
        assert_eq!(Username::parse("  ada ").unwrap().to_string(), "ada");
        assert!(Username::parse("  a ").is_err());
        assert!(Username::parse(&"é".repeat(50)).is_ok());
        assert!(Username::parse(&"é".repeat(51)).is_err());
        assert!(Username::parse("a\0da").is_err());
    }

    #[test]
    fn an_email_is_an_address() {
        assert!(Email::parse("ada@example.org").is_ok());
        for not_an_address in ["", "ada", "ada@", "@example.org", "a da@example.org", "a\0@b.org"] {
            assert!(Email::parse(not_an_address).is_err(), "{not_an_address:?}");
        }
    }
}

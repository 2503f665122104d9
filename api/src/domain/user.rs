//! Users: what a name and an address look like, and when they are free.

use std::fmt;

use events::event::{UserDeleted, UserRegistered};
use events::name_key::name_key;
use events::{Event, UserId};
use serde::Serialize;
use unicode_script::{Script, UnicodeScript};
use unicode_security::MixedScript;
use unicode_security::mixed_script::AugmentedScriptSet;

use super::visible::{is_mark, is_visible};
use super::{DecisionState, Rejection};

/// The fewest and the most characters of a username.
const USERNAME_CHARS: std::ops::RangeInclusive<usize> = 3..=50;

/// The most characters of an e-mail address: the limit of RFC 5321 for a path, less its brackets.
const EMAIL_MAX_CHARS: usize = 254;

/// A username: 3 to 50 characters, trimmed, each of which can be seen or is one space between two
/// that can, in letters of one script.
///
/// What may be a name is looked at here only, so a change of these rules touches no name that is in
/// the log; what makes two names one is [`name_key`].
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
        let count = text.chars().count();
        if !USERNAME_CHARS.contains(&count) {
            return Err(format!("must have 3 to 50 characters, has {count}"));
        }
        all_visible(&text.replace(' ', ""))?;
        if text.contains("  ") {
            return Err("must have single spaces between words".to_owned());
        }
        if text.starts_with(is_mark) {
            return Err("must not begin with a combining mark".to_owned());
        }
        if !has_one_script(text) {
            return Err("must not mix scripts, such as Latin and Cyrillic letters".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// What "taken" compares.
    #[must_use]
    pub fn key(&self) -> String {
        name_key(&self.0)
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
        all_visible(text)?;
        garde::rules::email::parse_email(text)
            .map_err(|error| format!("is not an e-mail address: {error}"))?;
        Ok(Self(text.to_owned()))
    }

    /// What "taken" compares.
    #[must_use]
    pub fn key(&self) -> String {
        name_key(&self.0)
    }
}

fn all_visible(text: &str) -> Result<(), String> {
    match text.chars().find(|character| !is_visible(*character)) {
        Some(unseen) => {
            let number = u32::from(unseen);
            Err(format!("must not contain U+{number:04X}, which cannot be seen"))
        }
        None => Ok(()),
    }
}

/// Whether a name looks as if it were of one script and is: the highly restrictive level of UTS 39,
/// section 5.2, which lets Latin stand beside Chinese, Japanese and Korean.
fn has_one_script(name: &str) -> bool {
    let without_latin: String =
        name.chars().filter(|letter| letter.script() != Script::Latin).collect();
    let AugmentedScriptSet { hanb, jpan, kore, .. } = without_latin.as_str().into();
    name.is_single_script() || hanb || jpan || kore
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
    }

    #[test]
    fn a_username_can_be_told_from_others_by_looking() {
        let names = [
            "Ada Lovelace",
            "josé",
            "jose\u{301}",
            "νικος",
            "Владимир",
            "太郎taro",
            "김민수",
            "🐦🐦🐦",
        ];
        for name in names {
            assert!(Username::parse(name).is_ok(), "{name}");
        }
        let tricks = [
            "a\0da",
            "\u{200b}\u{200b}\u{200b}",
            "ada\u{200d}",
            "\u{202e}ada",
            "a\u{a0}da",
            "a  da",
            "a\nda",
            "\u{301}ada",
            "\u{3164}\u{3164}\u{3164}",
            "p\u{430}ypal",
        ];
        for trick in tricks {
            assert!(Username::parse(trick).is_err(), "{trick:?}");
        }
    }

    #[test]
    fn an_email_is_an_address() {
        assert!(Email::parse("ada@example.org").is_ok());
        for not_an_address in ["", "ada", "ada@", "@example.org", "a da@example.org", "a\0@b.org"] {
            assert!(Email::parse(not_an_address).is_err(), "{not_an_address:?}");
        }
    }
}

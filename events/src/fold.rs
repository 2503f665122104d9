//! When two names are the same.

/// What two usernames, or two e-mail addresses, have in common when only one of them can be taken:
/// `Ada` and `ada` are one name, since people who differ only in case would be taken for each other.
#[must_use]
pub fn fold(text: &str) -> String {
    text.to_lowercase()
}

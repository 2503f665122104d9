//! Bearer tokens: JSON Web Tokens (RFC 7519) whose `sub` is a user id.

use std::str::FromStr;
use std::time::Duration;

use chrono::DateTime;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Key, Proof, ring_provider, user_id};

/// How far the clock of whoever signs may be off ours: clocks that are kept by NTP differ by far
/// less, and a token that was stolen lives this much longer.
pub const LEEWAY_SECONDS: u64 = 30;

/// Checks tokens.
#[derive(Debug)]
pub struct Tokens {
    key: Key,
    validation: Validation,
    watcher: Option<WatcherClaim>,
}

/// The claim of those who may watch the pipeline: `NAME`, which has to be true, or `NAME=VALUE`, which has to be
/// the claim's value, one of its words, or in its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatcherClaim {
    name: String,
    value: Option<String>,
}

impl FromStr for WatcherClaim {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() || value.as_ref().is_some_and(String::is_empty) {
            return Err("must be the NAME of a claim, or NAME=VALUE");
        }
        Ok(Self { name: name.to_owned(), value })
    }
}

impl WatcherClaim {
    fn is_in(&self, claims: &Map<String, Value>) -> bool {
        match (claims.get(&self.name), self.value.as_deref()) {
            (Some(claim), None) => *claim == Value::Bool(true),
            (Some(Value::String(words)), Some(value)) => {
                words == value || words.split_whitespace().any(|word| word == value)
            }
            (Some(Value::Array(list)), Some(value)) => list.iter().any(|one| one == value),
            _ => false,
        }
    }
}

/// Why a token proves nothing. None of these repeats what is in it, and which part of a signature is
/// wrong is nobody's business.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("this is not a JWT that was signed for this service with {0}")]
    Untrusted(&'static str),
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    Early,
    #[error("the token is meant for another service: its aud is not what this one is called")]
    Audience,
    #[error("the token's {0} is missing or is not of its kind")]
    Claim(String),
    #[error("the token's sub must be a user id: a string with a number from 1 up")]
    Subject,
}

/// The claims that [`Validation`] does not look at by itself.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: Value,
    #[serde(default)]
    exp: Value,
}

impl Tokens {
    /// Accepts what was signed for `key` and, when there is an `audience`, is meant for it. A token
    /// that is meant for someone is never accepted by a service that does not know its own name.
    #[must_use]
    pub fn new(key: Key, audience: Option<&str>, watcher: Option<WatcherClaim>) -> Self {
        ring_provider::install();
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp"]);
        if let Some(audience) = audience {
            validation.set_audience(&[audience]);
            validation.set_required_spec_claims(&["exp", "aud"]);
        }
        Self { key, validation, watcher }
    }

    /// The algorithm, as the header of a token calls it.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self.key.algorithm {
            Algorithm::HS256 => "HS256",
            Algorithm::RS256 => "RS256",
            Algorithm::ES256 => "ES256",
            _ => "EdDSA",
        }
    }

    /// The user to whom `token` was given, and until when.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn proof(&self, token: &str) -> Result<Proof, TokenError> {
        let decoded = decode::<Claims>(token, &self.key.decoding, &self.validation);
        let claims = decoded.map_err(|error| self.error(error.into_kind()))?.claims;
        let user = claims.sub.as_str().and_then(user_id).ok_or(TokenError::Subject)?;
        // A date beyond all calendars is as good as none.
        let since_epoch = claims.exp.as_f64().and_then(|exp| Duration::try_from_secs_f64(exp).ok());
        let since_epoch = since_epoch.and_then(|since| chrono::Duration::from_std(since).ok());
        let expires = since_epoch.and_then(|since| DateTime::UNIX_EPOCH.checked_add_signed(since));
        Ok(Proof { user, expires })
    }

    /// Whether `token`, of which the [proof](Self::proof) holds, is of somebody who may watch the pipeline.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn may_watch(&self, token: &str) -> Result<bool, TokenError> {
        let Some(watcher) = &self.watcher else { return Ok(false) };
        let decoded = decode::<Map<String, Value>>(token, &self.key.decoding, &self.validation);
        let claims = decoded.map_err(|error| self.error(error.into_kind()))?.claims;
        Ok(watcher.is_in(&claims))
    }

    fn error(&self, kind: ErrorKind) -> TokenError {
        match kind {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            ErrorKind::ImmatureSignature => TokenError::Early,
            ErrorKind::InvalidAudience => TokenError::Audience,
            ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
                TokenError::Claim(claim)
            }
            _ => TokenError::Untrusted(self.algorithm()),
        }
    }
}

#[cfg(test)]
mod tests;

//! Finding out who is calling, in the one way that was chosen at start.

mod key;
mod ring_provider;
mod token;

use axum::http::{HeaderMap, HeaderName, header};
use chrono::{DateTime, Utc};
use events::UserId;

pub use key::{Key, KeyError, SECRET_MIN_BYTES};
pub use token::{LEEWAY_SECONDS, TokenError, Tokens, WatcherClaim};

use crate::header::once;
use crate::problem::{Challenge, Problem};

/// How a caller says who they are.
#[derive(Debug)]
pub enum Authentication {
    /// `X-User-ID`, which is believed as it stands: see `Config::address` for where that is allowed.
    UserHeader,
    /// `Authorization: Bearer` with a signed token (RFC 6750). `X-User-ID` means nothing.
    Tokens(Box<Tokens>),
}

/// Who is calling, and until when that is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    pub user: UserId,
    /// `None` where nothing says so.
    pub expires: Option<DateTime<Utc>>,
}

const USER_ID: HeaderName = HeaderName::from_static("x-user-id");

impl Authentication {
    /// Who sent `headers`. Whether there is such a user is decided with the command or found with
    /// the read.
    ///
    /// # Errors
    /// 401 when they do not say, or cannot prove it; 400 when they say it twice.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Proof, Problem> {
        self.caller_if_any(headers)?.ok_or_else(|| match self {
            Self::UserHeader => {
                let detail = "send your user id in X-User-ID";
                Problem::unauthenticated(Challenge::UserHeader, detail)
            }
            Self::Tokens(_) if headers.contains_key(USER_ID) => {
                let detail =
                    "X-User-ID is not believed here; send a token in Authorization: Bearer";
                Problem::unauthenticated(Challenge::Bearer, detail)
            }
            Self::Tokens(_) => {
                let detail = "send a token in Authorization: Bearer";
                Problem::unauthenticated(Challenge::Bearer, detail)
            }
        })
    }

    /// The same, where nobody has to say who they are: `None` when they do not.
    ///
    /// # Errors
    /// 401 when they say it and cannot prove it; 400 when they say it twice.
    pub fn caller_if_any(&self, headers: &HeaderMap) -> Result<Option<Proof>, Problem> {
        match self {
            Self::UserHeader => named(headers),
            Self::Tokens(tokens) => proven(tokens, headers),
        }
    }

    /// Whether who sent `headers` may watch the pipeline. With the development login everyone may.
    ///
    /// # Errors
    /// As [`Self::caller`], and 403 when they may not.
    pub fn ensure_watcher(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Self::Tokens(tokens) = self else { return Ok(()) };
        self.caller(headers)?;
        let token = bearer(headers)?.unwrap_or_default();
        match tokens.may_watch(token) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let detail = "the pipeline is shown to those whose token has the claim that \
                              --pipeline-claim names";
                Err(Problem::forbidden(detail))
            }
            Err(error) => Err(untrusted(&error)),
        }
    }

    /// What a caller is asked for.
    #[must_use]
    pub fn challenge(&self) -> Challenge {
        match self {
            Self::UserHeader => Challenge::UserHeader,
            Self::Tokens(_) => Challenge::Bearer,
        }
    }

    /// How callers say who they are, for the log.
    #[must_use]
    pub fn description(&self) -> &'static str {
        match self {
            Self::UserHeader => "X-User-ID",
            Self::Tokens(tokens) => tokens.algorithm(),
        }
    }
}

fn named(headers: &HeaderMap) -> Result<Option<Proof>, Problem> {
    let Some(value) = once(headers, &USER_ID, "X-User-ID")? else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let user = user_id(text.trim()).ok_or_else(|| {
        let detail = "X-User-ID must be a user id: a number from 1 up";
        Problem::unauthenticated(Challenge::UserHeader, detail)
    })?;
    Ok(Some(Proof { user, expires: None }))
}

fn proven(tokens: &Tokens, headers: &HeaderMap) -> Result<Option<Proof>, Problem> {
    let Some(token) = bearer(headers)? else { return Ok(None) };
    tokens.proof(token).map(Some).map_err(|error| untrusted(&error))
}

fn untrusted(error: &TokenError) -> Problem {
    Problem::unauthenticated(Challenge::InvalidToken, error.to_string())
}

/// The token that came, if one did.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let value = once(headers, &header::AUTHORIZATION, "Authorization")
        .map_err(|problem| problem.challenging(Challenge::InvalidRequest))?;
    let Some(value) = value else { return Ok(None) };
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty())
        .map(Some)
        .ok_or_else(|| {
            let detail = "Authorization must be the word Bearer and a token";
            Problem::unauthenticated(Challenge::Bearer, detail)
        })
}

/// The user id that `text` is, if it is one.
fn user_id(text: &str) -> Option<UserId> {
    text.parse::<UserId>().ok().filter(|user_id| user_id.0 > 0)
}

//! Finding out who is calling, in the one way that was chosen at start.

mod key;
mod ring_provider;
mod token;

use axum::http::{HeaderMap, StatusCode, header};
use events::UserId;

pub use key::{Key, KeyError, SECRET_MIN_BYTES};
pub use token::{LEEWAY_SECONDS, TokenError, Tokens};

use crate::problem::{Challenge, Problem};

/// How a caller says who they are.
#[derive(Debug)]
pub enum Authentication {
    /// `X-User-ID`, which is believed as it stands: see `Config::address` for where that is allowed.
    UserHeader,
    /// `Authorization: Bearer` with a signed token (RFC 6750). `X-User-ID` means nothing.
    Tokens(Box<Tokens>),
}

const USER_ID: &str = "x-user-id";

impl Authentication {
    /// Who sent `headers`. Whether there is such a user is decided with the command or found with
    /// the read.
    ///
    /// # Errors
    /// 401 when they do not say, or cannot prove it; 400 when they say it twice.
    pub fn caller(&self, headers: &HeaderMap) -> Result<UserId, Problem> {
        match self {
            Self::UserHeader => named(headers),
            Self::Tokens(tokens) => proven(tokens, headers),
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

fn named(headers: &HeaderMap) -> Result<UserId, Problem> {
    let refuse = |detail| Problem::unauthenticated(Challenge::UserHeader, detail);
    let mut values = headers.get_all(USER_ID).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(refuse("send your user id in one X-User-ID header"));
    };
    let text = value.to_str().unwrap_or_default();
    user_id(text.trim()).ok_or_else(|| refuse("X-User-ID must be a user id: a number from 1 up"))
}

fn proven(tokens: &Tokens, headers: &HeaderMap) -> Result<UserId, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value,
        (None, _) if headers.contains_key(USER_ID) => {
            let detail = "X-User-ID is not believed here; send a token in Authorization: Bearer";
            return Err(Problem::unauthenticated(Challenge::Bearer, detail));
        }
        (None, _) => {
            let detail = "send a token in Authorization: Bearer";
            return Err(Problem::unauthenticated(Challenge::Bearer, detail));
        }
        (Some(_), Some(_)) => {
            let problem = Problem::malformed(StatusCode::BAD_REQUEST, "send Authorization once");
            return Err(problem.challenging(Challenge::InvalidRequest));
        }
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty())
        .ok_or_else(|| {
            let detail = "Authorization must be the word Bearer and a token";
            Problem::unauthenticated(Challenge::Bearer, detail)
        })?;
    tokens
        .user(token)
        .map_err(|error| Problem::unauthenticated(Challenge::InvalidToken, error.to_string()))
}

/// The user id that `text` is, if it is one.
fn user_id(text: &str) -> Option<UserId> {
    text.parse::<UserId>().ok().filter(|user_id| user_id.0 > 0)
}

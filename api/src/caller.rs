//! Who is calling.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use events::UserId;

use crate::problem::Problem;

/// The user named by `X-User-ID`. A development login: see `Config::address` for where it is allowed.
/// Whether there is such a user is decided with the command or found with the read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller(pub UserId);

const USER_ID: &str = "x-user-id";

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(USER_ID).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Problem::unauthenticated("send your user id in one X-User-ID header"));
        };
        value
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse::<UserId>().ok())
            .filter(|user_id| user_id.0 > 0)
            .map(Self)
            .ok_or_else(|| {
                Problem::unauthenticated("X-User-ID must be a user id: a number from 1 up")
            })
    }
}

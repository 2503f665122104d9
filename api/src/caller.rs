//! Who is calling.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use events::UserId;

use crate::problem::Problem;
use crate::state::AppState;

/// The user who sent the request: named or proven, see [`crate::authentication`]. Whether there is
/// such a user is decided with the command or found with the read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller(pub UserId);

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        state.authentication.caller(&parts.headers).map(|proof| Self(proof.user))
    }
}

impl OptionalFromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AppState,
    ) -> Result<Option<Self>, Problem> {
        Ok(state.authentication.caller_if_any(&parts.headers)?.map(|proof| Self(proof.user)))
    }
}

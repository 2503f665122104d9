//! Consistency tokens: which position of the log an answer holds for, and which one a read asks for.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use events::Position;

use crate::header;
use crate::problem::Problem;

/// On an answer: the position of the command's event, or the position that a read is exact at.
pub const LOG_POSITION: HeaderName = HeaderName::from_static("x-log-position");

/// On a read: the position that it must at least be exact at.
const MIN_LOG_POSITION: HeaderName = HeaderName::from_static("x-min-log-position");

/// What a read found, and the position of the log for which that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsOf<T> {
    pub position: Position,
    pub value: T,
}

/// The position that the client asks a read to have reached; 0 when it does not ask.
#[derive(Debug, Clone, Copy)]
pub struct MinPosition(pub Position);

impl MinPosition {
    /// The later of the two.
    #[must_use]
    pub fn and(self, position: Position) -> Self {
        Self(self.0.max(position))
    }
}

/// Sets `X-Log-Position` on an answer.
#[derive(Debug, Clone, Copy)]
pub struct LogPosition(pub Position);

impl<S: Sync> FromRequestParts<S> for MinPosition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let position = header::position(&parts.headers, &MIN_LOG_POSITION, "X-Min-Log-Position")?;
        Ok(Self(position.unwrap_or(Position::START)))
    }
}

impl IntoResponseParts for LogPosition {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        parts.headers_mut().insert(LOG_POSITION, HeaderValue::from(self.0.0));
        Ok(parts)
    }
}

impl<T: serde::Serialize> IntoResponse for AsOf<T> {
    fn into_response(self) -> Response {
        (LogPosition(self.position), axum::Json(self.value)).into_response()
    }
}

impl<T> AsOf<Option<T>> {
    /// What was found, or 404 with `detail`: that too holds for a position.
    ///
    /// # Errors
    /// 404 when nothing was found.
    pub fn or_not_found(self, detail: impl FnOnce() -> String) -> Result<AsOf<T>, Problem> {
        match self.value {
            Some(value) => Ok(AsOf { position: self.position, value }),
            None => Err(Problem::not_found(detail()).at(self.position)),
        }
    }
}

//! Request headers that mean something here: each may come once. Of two values one would have to be
//! ignored, and a client would not know which.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use events::Position;

use crate::problem::Problem;

/// The value of the header `name`, which is written `shown` in an answer about it.
///
/// # Errors
/// 400 when it comes more than once.
pub fn once<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    shown: &str,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Problem::malformed(StatusCode::BAD_REQUEST, format!("send {shown} once"))),
    }
}

/// The position of the log that the header `name` holds.
///
/// # Errors
/// 400 when it comes more than once, 422 when it is no position.
pub fn position(
    headers: &HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<Position>, Problem> {
    let Some(value) = once(headers, name, shown)? else { return Ok(None) };
    value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse::<Position>().ok())
        .filter(|position| *position >= Position::START)
        .map(Some)
        .ok_or_else(|| Problem::invalid(shown, "must be a position of the log: a number from 0 up"))
}

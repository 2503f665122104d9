//! The body of a request, read whole before anyone answers.
//!
//! **Invariant**: an answer that leaves a connection open comes after the whole body; any other says
//! `Connection: close`. Otherwise what is left of the body would be taken for the next request, or
//! break the connection under a client that has begun to send one.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use tokio::time::timeout;

use crate::lingering::Linger;
use crate::problem::Problem;

/// The largest request body. A tweet of 280 characters, each escaped in JSON as a surrogate pair,
/// is 3.4 KiB.
pub const BODY_MAX_BYTES: usize = 16 * 1024;

/// How long a body may take: 16 KiB take a second at the speed of a modem.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// Hands the request on with its whole body, or refuses it and closes the connection.
///
/// A body that says beforehand that it is too large is not read at all: a client that asked first
/// (`Expect: 100-continue`) need not send it.
pub async fn whole_body_first(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let linger = parts.extensions.get::<Linger>().cloned().unwrap_or_default();
    if body.size_hint().lower() > BODY_MAX_BYTES as u64 {
        return and_close(too_large(), &linger);
    }
    match timeout(BODY_TIMEOUT, to_bytes(body, BODY_MAX_BYTES)).await {
        Ok(Ok(whole)) => next.run(Request::from_parts(parts, Body::from(whole))).await,
        Ok(Err(error)) if error.source().is_some_and(<dyn Error>::is::<LengthLimitError>) => {
            and_close(too_large(), &linger)
        }
        Ok(Err(error)) => {
            let detail = format!("the body could not be read: {error}");
            and_close(Problem::malformed(StatusCode::BAD_REQUEST, detail), &linger)
        }
        Err(_) => {
            let detail = format!("the body was not here within {} s", BODY_TIMEOUT.as_secs());
            and_close(Problem::malformed(StatusCode::REQUEST_TIMEOUT, detail), &linger)
        }
    }
}

fn too_large() -> Problem {
    let detail = format!("a body has at most {BODY_MAX_BYTES} bytes");
    Problem::malformed(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn and_close(problem: Problem, linger: &Linger) -> Response {
    linger.expect_more();
    let mut response = problem.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

//! Every refusal, as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use events::Position;
use events::store::Fault;
use events::store::ranges::Archived;
use serde::Serialize;
use utoipa::ToSchema;

use crate::appender::Refusal;
use crate::domain::Rejection;
use crate::extract::LIMIT_MAX;
use crate::position::LOG_POSITION;

/// When a client that was refused for lack of room should try again, in seconds.
const RETRY_AFTER_SECONDS: u16 = 1;

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    #[schema(example = "content")]
    pub field: &'static str,
    #[schema(example = "must be 1 to 280 characters after trimming")]
    pub detail: String,
}

/// A refusal.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    /// The last part of `type`, a name that a program can match on.
    name: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    position: Option<Position>,
    challenge: Option<Challenge>,
}

/// What a caller is asked for in `WWW-Authenticate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// `X-User-ID`, the development login.
    UserHeader,
    /// A bearer token: there was none.
    Bearer,
    /// The same, in a form that can be understood.
    InvalidRequest,
    /// The same: the one that came proves nothing.
    InvalidToken,
}

impl Challenge {
    /// RFC 6750, section 3, for bearer tokens.
    const fn header(self) -> &'static str {
        match self {
            Self::UserHeader => "X-User-ID",
            Self::Bearer => "Bearer realm=\"rookery\"",
            Self::InvalidRequest => "Bearer realm=\"rookery\", error=\"invalid_request\"",
            Self::InvalidToken => "Bearer realm=\"rookery\", error=\"invalid_token\"",
        }
    }
}

/// A refusal (RFC 9457). Programs match on `type`.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body {
    #[schema(example = "urn:rookery:problem:invalid")]
    r#type: String,
    #[schema(example = "Invalid request")]
    title: &'static str,
    status: u16,
    #[schema(example = "content must be 1 to 280 characters after trimming")]
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

impl Problem {
    fn new(
        status: StatusCode,
        name: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let detail = detail.into();
        Self { status, name, title, detail, errors: Vec::new(), position: None, challenge: None }
    }

    /// For who has to say who they are, as `challenge` has it.
    #[must_use]
    pub fn unauthenticated(challenge: Challenge, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Who is calling?", detail)
            .challenging(challenge)
    }

    /// The same, saying what to send instead.
    #[must_use]
    pub fn challenging(self, challenge: Challenge) -> Self {
        Self { challenge: Some(challenge), ..self }
    }

    /// For who is known, and may not do this.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not yours", detail)
    }

    /// For a request that is meant for another host, or comes from a page of another.
    #[must_use]
    pub fn foreign(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "foreign", "From elsewhere", detail)
    }

    /// For what is not there, or not the caller's to see.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// A request that was understood but says something that cannot be.
    #[must_use]
    pub fn invalid(field: &'static str, detail: impl Into<String>) -> Self {
        Self::invalid_fields(vec![FieldError { field, detail: detail.into() }])
    }

    /// The same of several fields at once.
    #[must_use]
    pub fn invalid_fields(errors: Vec<FieldError>) -> Self {
        let detail = errors
            .iter()
            .map(|error| format!("{} {}", error.field, error.detail))
            .collect::<Vec<_>>()
            .join("; ");
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self { errors, ..Self::new(status, "invalid", "Invalid request", detail) }
    }

    /// A request that was refused before anyone looked at what it says.
    #[must_use]
    pub fn malformed(status: StatusCode, detail: impl Into<String>) -> Self {
        let (name, title) = match status {
            StatusCode::PAYLOAD_TOO_LARGE => ("too-large", "Request too large"),
            StatusCode::REQUEST_TIMEOUT => ("too-slow", "Request too slow"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ("media-type", "Not JSON"),
            StatusCode::METHOD_NOT_ALLOWED => ("method-not-allowed", "Method not allowed"),
            _ => ("malformed", "Malformed request"),
        };
        Self::new(status, name, title, detail)
    }

    /// The service cannot do it now; the client may try again.
    #[must_use]
    pub fn unavailable(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, name, "Not now", detail)
    }

    /// A failure of ours, of which the log has the cause.
    #[must_use]
    pub fn internal() -> Self {
        let detail = "something went wrong here; the request id finds it in the log";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }

    /// What a refusal with `status` can look like.
    #[must_use]
    pub fn example(status: StatusCode) -> serde_json::Value {
        let problem = match status {
            StatusCode::UNAUTHORIZED => {
                Self::unauthenticated(Challenge::UserHeader, "send your user id in X-User-ID")
            }
            StatusCode::FORBIDDEN => Self::forbidden("a user can only be deleted by themselves"),
            StatusCode::NOT_FOUND => Self::not_found("there is no tweet 42"),
            StatusCode::CONFLICT => Rejection::UsernameTaken("ada".to_owned()).into(),
            StatusCode::UNPROCESSABLE_ENTITY => {
                Self::invalid("limit", format!("must be from 1 to {LIMIT_MAX}"))
            }
            StatusCode::INTERNAL_SERVER_ERROR => Self::internal(),
            StatusCode::SERVICE_UNAVAILABLE => Refusal::Busy.into(),
            _ => Self::malformed(status, "in words, what was wrong with the request"),
        };
        serde_json::json!(problem.body())
    }

    fn body(self) -> Body {
        Body {
            r#type: format!("urn:rookery:problem:{}", self.name),
            title: self.title,
            status: self.status.as_u16(),
            detail: self.detail,
            errors: self.errors,
        }
    }

    /// The same, saying at which position of the log it holds.
    #[must_use]
    pub fn at(self, position: Position) -> Self {
        Self { position: Some(position), ..self }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Rejected(rejection) => rejection.into(),
            Refusal::KeyReused => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Self::new(status, "idempotency-key-reused", "Idempotency-Key reused", detail)
            }
            Refusal::Busy => Self::unavailable("busy", detail),
            Refusal::Unavailable => Self::unavailable("log-unavailable", detail),
            Refusal::Unknown => Self::unavailable("outcome-unknown", detail),
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        let conflict = |name, title| Self::new(StatusCode::CONFLICT, name, title, detail.clone());
        let absent = |name, title| Self::new(StatusCode::NOT_FOUND, name, title, detail.clone());
        match rejection {
            Rejection::UsernameTaken(_) => conflict("username-taken", "Username taken"),
            Rejection::EmailTaken(_) => conflict("email-taken", "E-mail address taken"),
            Rejection::AlreadyFollowing(_) => conflict("already-following", "Already following"),
            Rejection::CallerUnknown(_) => absent("caller-unknown", "Unknown caller"),
            Rejection::UserUnknown(_) => absent("user-unknown", "Unknown user"),
            Rejection::TweetUnknown(_) => absent("tweet-unknown", "Unknown tweet"),
            Rejection::NotFollowing(_) => absent("not-following", "Not following"),
            Rejection::FollowsSelf => {
                Self::invalid("followed_id", "is you: you cannot follow yourself")
            }
        }
    }
}

/// What a read needs is not in the log now.
impl From<Archived> for Problem {
    fn from(archived: Archived) -> Self {
        let through = archived.through;
        let detail = format!("this needs events up to position {through}, which are archived now");
        Self::unavailable("archived", detail)
    }
}

/// A read that failed. The log and the read model are away or slow: nothing that a client did.
impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        match Fault::of(&error) {
            Fault::Absent => Self::unavailable(
                "read-model-absent",
                "the read model is not there yet, or of another release; the projector makes it",
            ),
            Fault::Away | Fault::ReadOnly | Fault::Busy | Fault::Full => {
                tracing::warn!(%error, "a read found no database");
                Self::unavailable(
                    "database-unavailable",
                    "the read model cannot be reached or is too slow now",
                )
            }
            Fault::Denied | Fault::Refused => {
                tracing::error!(%error, "a read failed");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, challenge, position, .. } = self;
        let mut response = (status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        }
        if let Some(challenge) = challenge {
            let challenge = HeaderValue::from_static(challenge.header());
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(position) = position {
            headers.insert(LOG_POSITION, position.0.into());
        }
        response
    }
}

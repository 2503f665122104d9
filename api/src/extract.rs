//! Reading requests: bodies, paths and queries, each refused with a sentence when it does not fit.

use std::fmt;
use std::marker::PhantomData;

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use chrono::{DateTime, Utc};
use events::recorded::Metadata;
use events::trace::TraceParent;
use events::{Position, TweetId, UserId};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tower_http::request_id::RequestId;

use crate::appender::IdempotencyKey;
use crate::header::once;
use crate::problem::Problem;
use crate::views::Page;
use crate::views::feed::NEWEST;

/// The largest page of any list.
pub const LIMIT_MAX: i64 = 100;

/// How many users a page has that does not say.
pub const LIMIT_USERS: i64 = 100;

/// How many tweets a page has that does not say.
pub const LIMIT_TWEETS: i64 = 20;

/// The most that a list skips. Skipping reads what it skips; a cursor does not.
pub const SKIP_MAX: i64 = 10_000;

/// The most items that a client keeps of a feed, for [`ChangesQuery`]: fifty pages of twenty, as many as
/// are kept ready.
pub const WINDOW_MAX: i64 = 1_000;

/// The most characters of an idempotency key: room for a UUID and a prefix, twice over.
pub const IDEMPOTENCY_KEY_MAX_CHARS: usize = 200;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A JSON body: an object. Members that nobody asks for are ignored, so that a client may be newer
/// than the service; a member that comes twice is refused.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

/// A number in the path.
#[derive(Debug, Clone, Copy)]
pub struct Id<T>(pub T);

/// Where a page of a list of users begins.
#[derive(Debug, Clone, Copy)]
pub struct UserQuery {
    pub page: Page,
    /// Only users above this id.
    pub after: UserId,
}

/// Where a page of a list of tweets begins.
#[derive(Debug, Clone, Copy)]
pub struct TweetQuery {
    pub page: Page,
    /// Only tweets below this id.
    pub before: TweetId,
}

/// Which page of a feed.
#[derive(Debug, Clone, Copy)]
pub enum FeedQuery {
    /// Down from the newest, or from `before`; as it was at a moment, if given.
    Down { page: Page, before: Option<TweetId>, at: Option<Moment> },
    /// Up from a tweet.
    Up { page: Page, after: TweetId },
}

/// From when on changes are wanted, to how many of the newest items.
#[derive(Debug, Clone, Copy)]
pub struct ChangesQuery {
    pub from: Moment,
    pub window: i64,
}

/// Which tweet is explained, and as of when.
#[derive(Debug, Clone, Copy)]
pub struct ExplainQuery {
    pub tweet: TweetId,
    pub at: Option<Moment>,
}

/// A moment in the life of the log.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    Position(Position),
    /// The last position up to which every event had been recorded by then.
    Time(DateTime<Utc>),
}

impl Moment {
    fn parse(text: &str, field: &'static str) -> Result<Self, Problem> {
        let position = text.parse::<Position>().ok().filter(|at| *at >= Position::START);
        let time = || DateTime::parse_from_rfc3339(text).ok().map(|time| Self::Time(time.to_utc()));
        position.map(Self::Position).or_else(time).ok_or_else(|| {
            let detail =
                "must be a position of the log, a number from 0 up, or a time as in RFC 3339";
            Problem::invalid(field, detail)
        })
    }
}

/// What a command brings with it beside what it says.
#[derive(Debug, Clone)]
pub struct CommandContext {
    pub key: Option<IdempotencyKey>,
    pub metadata: Metadata,
}

/// What an object says. serde would take the members of a struct from an array too, in their order.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        once(request.headers(), &header::CONTENT_TYPE, "Content-Type")?;
        match axum::Json::<Object<T>>::from_request(request, state).await {
            Ok(axum::Json(Object(value))) => Ok(Self(value)),
            Err(JsonRejection::JsonDataError(error)) => {
                Err(Problem::malformed(StatusCode::UNPROCESSABLE_ENTITY, error.body_text()))
            }
            Err(error) => Err(Problem::malformed(error.status(), error.body_text())),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(PathRejection::FailedToDeserializePathParams(_)) => {
                Err(Problem::invalid("id", "in the path must be a whole number"))
            }
            Err(error) => Err(Problem::malformed(error.status(), error.body_text())),
        }
    }
}

impl CommandContext {
    /// Only a POST has an idempotency key; the other commands are idempotent as they are.
    #[must_use]
    pub fn without_key(self) -> Self {
        Self { key: None, ..self }
    }
}

/// The parameters of every list; each list has its own default for `limit`.
#[derive(Deserialize)]
struct ListQuery {
    skip: Option<i64>,
    limit: Option<i64>,
    before: Option<i64>,
    after: Option<i64>,
    at: Option<String>,
    from: Option<String>,
    tweet: Option<i64>,
}

/// Reads the query of a request.
///
/// # Errors
/// 422 when a parameter does not fit or comes twice.
pub async fn query<T: DeserializeOwned, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<T, Problem> {
    match Query::<T>::from_request_parts(parts, state).await {
        Ok(Query(query)) => Ok(query),
        Err(error) => Err(Problem::malformed(StatusCode::UNPROCESSABLE_ENTITY, error.body_text())),
    }
}

impl ListQuery {
    /// The page, for a list whose cursor is called `cursor`.
    fn page(&self, default_limit: i64, cursor: &str) -> Result<Page, Problem> {
        let (skip, limit) = (self.skip.unwrap_or(0), self.limit.unwrap_or(default_limit));
        if !(0..=SKIP_MAX).contains(&skip) {
            let detail = format!("must be from 0 to {SKIP_MAX}; `{cursor}` goes on without end");
            return Err(Problem::invalid("skip", detail));
        }
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Problem::invalid("limit", format!("must be from 1 to {LIMIT_MAX}")));
        }
        Ok(Page { skip, limit })
    }

    fn before(&self) -> Result<Option<TweetId>, Problem> {
        if self.before.is_some_and(|before| before < 1) {
            return Err(Problem::invalid("before", "must be a tweet id: a number from 1 up"));
        }
        Ok(self.before.map(TweetId))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for UserQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = query::<ListQuery, _>(parts, state).await?;
        let after = query.after.unwrap_or(0);
        if after < 0 {
            return Err(Problem::invalid("after", "must be a user id: a number from 0 up"));
        }
        Ok(Self { page: query.page(LIMIT_USERS, "after")?, after: UserId(after) })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TweetQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = query::<ListQuery, _>(parts, state).await?;
        let before = query.before()?.unwrap_or(NEWEST);
        Ok(Self { page: query.page(LIMIT_TWEETS, "before")?, before })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for FeedQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = query::<ListQuery, _>(parts, state).await?;
        let (before, page) = (query.before()?, query.page(LIMIT_TWEETS, "before")?);
        let at = query.at.as_deref().map(|at| Moment::parse(at, "at")).transpose()?;
        let Some(after) = query.after else { return Ok(Self::Down { page, before, at }) };
        if after < 0 {
            return Err(Problem::invalid("after", "must be a tweet id: a number from 0 up"));
        }
        if before.is_some() || query.skip.is_some() || at.is_some() {
            return Err(Problem::invalid("after", "does not go with before, skip or at"));
        }
        Ok(Self::Up { page, after: TweetId(after) })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ChangesQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = query::<ListQuery, _>(parts, state).await?;
        let Some(from) = &query.from else {
            return Err(Problem::invalid("from", "is required: from where on changes are wanted"));
        };
        let window = query.limit.unwrap_or(LIMIT_TWEETS);
        if !(1..=WINDOW_MAX).contains(&window) {
            return Err(Problem::invalid("limit", format!("must be from 1 to {WINDOW_MAX}")));
        }
        Ok(Self { from: Moment::parse(from, "from")?, window })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ExplainQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = query::<ListQuery, _>(parts, state).await?;
        let tweet = query.tweet.filter(|tweet| *tweet > 0).map(TweetId).ok_or_else(|| {
            Problem::invalid("tweet", "is required: the id of a tweet, a number from 1 up")
        })?;
        let at = query.at.as_deref().map(|at| Moment::parse(at, "at")).transpose()?;
        Ok(Self { tweet, at })
    }
}

impl<S: Sync> FromRequestParts<S> for CommandContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let key = match once(&parts.headers, &IDEMPOTENCY_KEY, "Idempotency-Key")? {
            None => None,
            Some(value) => {
                let text = value.to_str().unwrap_or_default().trim();
                if text.is_empty() || text.len() > IDEMPOTENCY_KEY_MAX_CHARS {
                    let detail = format!(
                        "must have 1 to {IDEMPOTENCY_KEY_MAX_CHARS} visible ASCII characters"
                    );
                    return Err(Problem::invalid("Idempotency-Key", detail));
                }
                Some(IdempotencyKey(text.to_owned()))
            }
        };
        let request_id = parts
            .extensions
            .get::<RequestId>()
            .and_then(|id| id.header_value().to_str().ok())
            .map(ToOwned::to_owned);
        let traceparent = parts.extensions.get::<TraceParent>().copied();
        Ok(Self { key, metadata: Metadata { request_id, traceparent } })
    }
}

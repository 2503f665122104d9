//! `/api/feed`

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use events::store::explain::{ExplainError, Question};
use events::store::read;
use events::{Explanation, Position, TweetId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::changes::{Change, TooMany, changes};
use crate::extract::{ChangesQuery, ExplainQuery, FeedQuery, Moment};
use crate::position::{AsOf, MinPosition};
use crate::problem::Problem;
use crate::state::AppState;
use crate::views::feed::NEWEST;
use crate::views::{self, FeedItem, Page};

/// A page of the caller's home feed, newest first.
#[utoipa::path(
    get,
    path = "/feed",
    tag = "feed",
    params(MinPosition, FeedQuery),
    security(("caller" = [])),
    responses((status = OK, body = Vec<FeedItem>), (status = NOT_FOUND))
)]
pub async fn page(
    State(state): State<AppState>,
    Caller(reader): Caller,
    min: MinPosition,
    query: FeedQuery,
) -> Result<Response, Problem> {
    let unknown = || format!("the calling user {reader} does not exist");
    let feeds = &state.feeds;
    let response = match query {
        FeedQuery::Down { page, before, at: None } => {
            let (before, wanted) = (before.unwrap_or(NEWEST), page.and_one_more());
            let read = |feed| async move { views::feed::page(&feed, reader, before, wanted).await };
            let found = feeds.read(reader, min, read).await?.or_not_found(unknown)?;
            page.answer(found, |last| next(page, None, last))
        }
        FeedQuery::Down { page, before, at: Some(at) } => {
            let (before, wanted) = (before.unwrap_or(NEWEST), page.and_one_more());
            let at = reachable(&state, at, "at").await?;
            let read =
                |feed| async move { views::feed::page_at(&feed, reader, before, wanted, at).await };
            let found = feeds.read(reader, min.and(at), read).await?.or_not_found(unknown)?;
            page.answer(AsOf { position: at, ..found }, |last| next(page, Some(at), last))
        }
        FeedQuery::Up { page, after } => {
            let limit = page.and_one_more().limit;
            let after = Position(after.0);
            let read = |feed| async move { views::feed::since(&feed, reader, after, limit).await };
            let found = feeds.read(reader, min, read).await?.or_not_found(unknown)?;
            page.answer_upward(found, |first| {
                format!("/api/feed/?after={}&limit={}", first.tweet_id, page.limit)
            })
        }
    };
    state.readings.note(reader);
    Ok(response)
}

/// What a client that holds the newest items as of `from` needs in order to hold them as of `to`.
#[derive(Debug, Serialize, ToSchema)]
struct FeedChanges {
    from: Position,
    to: Position,
    /// Why a page has to be read anew instead.
    #[schema(example = "so much has changed that a page is shorter than the changes")]
    reset: Option<&'static str>,
    changes: Vec<Change>,
}

/// So many stays are read for each item that the client holds: enough for as many changes as it has
/// items. Where there are more, a page anew is the shorter answer.
const STAYS_PER_ITEM: i64 = 2;

/// What changed in the newest part of the caller's home feed.
#[utoipa::path(
    get,
    path = "/feed/changes",
    tag = "feed",
    params(MinPosition, ChangesQuery),
    security(("caller" = [])),
    responses((status = OK, body = FeedChanges), (status = NOT_FOUND))
)]
pub async fn changes_since(
    State(state): State<AppState>,
    Caller(reader): Caller,
    min: MinPosition,
    ChangesQuery { from, window }: ChangesQuery,
) -> Result<Response, Problem> {
    let from = reachable(&state, from, "from").await?;
    let wanted = STAYS_PER_ITEM * window;
    let read = |feed| async move { views::feed::stays(&feed, reader, from, wanted).await };
    let AsOf { position: to, value: stays } = state
        .feeds
        .read(reader, min.and(from), read)
        .await?
        .or_not_found(|| format!("the calling user {reader} does not exist"))?;
    state.readings.note(reader);
    let are_all = i64::try_from(stays.len()).is_ok_and(|count| count < wanted);
    let window = usize::try_from(window).unwrap_or(usize::MAX);
    let (reset, changes) = match changes(&stays, are_all, from, to, window) {
        Ok(changes) => (None, changes),
        Err(TooMany) => {
            (Some("so much has changed that a page is shorter than the changes"), Vec::new())
        }
    };
    let value = FeedChanges { from, to, reset, changes };
    Ok(AsOf { position: to, value }.into_response())
}

/// Why a tweet is in the caller's feed, or not: at a past position, or as the log is now.
#[utoipa::path(
    get,
    path = "/feed/explain",
    tag = "feed",
    params(MinPosition, ExplainQuery),
    security(("caller" = [])),
    responses((status = OK, body = Explanation))
)]
pub async fn explain(
    State(state): State<AppState>,
    Caller(reader): Caller,
    min: MinPosition,
    ExplainQuery { tweet, at }: ExplainQuery,
) -> Result<AsOf<Explanation>, Problem> {
    let log = &state.log;
    let question = Question::ask(log, reader, tweet).await?;
    let at = match at {
        Some(at) => reachable(&state, at, "at").await?,
        None => question.head,
    };
    if min.0 > at {
        let detail = format!("position {} is past the one that is explained, {at}", min.0);
        return Err(Problem::unavailable("not-there-yet", detail).at(at));
    }
    let explanation = question.answer(log, at).await?;
    Ok(AsOf { position: at, value: explanation })
}

impl From<ExplainError> for Problem {
    fn from(error: ExplainError) -> Self {
        match error {
            ExplainError::Beyond { .. } => Self::invalid("at", error.to_string()),
            ExplainError::Archived(archived) => archived.into(),
            ExplainError::Log(error) => error.into(),
            ExplainError::Decode(error) => {
                tracing::error!(%error, "an event cannot be read");
                Self::internal()
            }
        }
    }
}

/// The position that `moment` is. One that the log does not have will not come by waiting; `name` is what
/// asked for it.
pub(super) async fn reachable(
    state: &AppState,
    moment: Moment,
    name: &'static str,
) -> Result<Position, Problem> {
    let at = match moment {
        Moment::Position(at) => at,
        Moment::Time(time) => {
            let detail = "is in a part of the log that is archived: name a position";
            let found = read::position_at(&state.log, time).await?;
            return found.ok_or_else(|| Problem::invalid(name, detail));
        }
    };
    if at <= *state.log_head.borrow() {
        return Ok(at);
    }
    let head = read::head(&state.log).await?;
    if at > head {
        let detail = format!("is past the end of the log, which is {head}");
        return Err(Problem::invalid(name, detail));
    }
    Ok(at)
}

/// The next page by cursor, whichever way this one was asked for.
fn next(page: Page, at: Option<Position>, last: &FeedItem) -> String {
    let TweetId(before) = last.tweet_id;
    let limit = page.limit;
    let at = at.map(|at| format!("&at={at}")).unwrap_or_default();
    format!("/api/feed/?before={before}&limit={limit}{at}")
}

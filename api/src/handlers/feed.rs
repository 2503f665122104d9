//! `/api/feed`

use axum::extract::State;
use axum::response::Response;
use events::{Position, TweetId};

use crate::caller::Caller;
use crate::extract::FeedQuery;
use crate::position::{AsOf, MinPosition};
use crate::problem::Problem;
use crate::state::AppState;
use crate::views::feed::NEWEST;
use crate::views::{self, FeedItem};

pub async fn page(
    State(state): State<AppState>,
    Caller(reader): Caller,
    min: MinPosition,
    query: FeedQuery,
) -> Result<Response, Problem> {
    let page = query.page.and_one_more();
    let before = query.before.unwrap_or(NEWEST);
    let found = match query.at {
        None => {
            let read = || views::feed::page(&state.feed, reader, before, page);
            state.freshness.read(min, read).await?
        }
        Some(at) => {
            let min = MinPosition(min.0.max(reachable(&state, at, "at").await?));
            let read = || views::feed::page_at(&state.feed, reader, before, page, at);
            AsOf { position: at, ..state.freshness.read(min, read).await? }
        }
    };
    let found = found.or_not_found(|| format!("the calling user {reader} does not exist"))?;
    Ok(query.page.answer(found, |last| next(&query, last)))
}

/// A position that the log does not have will not come by waiting.
/// `name` is what asked for it.
pub(super) async fn reachable(
    state: &AppState,
    at: Position,
    name: &'static str,
) -> Result<Position, Problem> {
    if at <= *state.log_head.borrow() {
        return Ok(at);
    }
    let head = events::store::read::head(&state.log).await?;
    if at > head {
        let detail = format!("is past the end of the log, which is {head}");
        return Err(Problem::invalid(name, detail));
    }
    Ok(at)
}

/// The next page by cursor, whichever way this one was asked for.
fn next(query: &FeedQuery, last: &FeedItem) -> String {
    let TweetId(before) = last.tweet_id;
    let limit = query.page.limit;
    let at = query.at.map(|at| format!("&at={at}")).unwrap_or_default();
    format!("/api/feed/?before={before}&limit={limit}{at}")
}

//! `/api/feed`

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use events::{Position, TweetId};

use crate::caller::Caller;
use crate::extract::FeedQuery;
use crate::position::{AsOf, MinPosition};
use crate::problem::Problem;
use crate::state::AppState;
use crate::views::feed::NEWEST;
use crate::views::{self, FeedItem, Page};

/// One item more than asked for is read: whether it is there says whether there is a next page.
pub async fn page(
    State(state): State<AppState>,
    Caller(reader): Caller,
    min: MinPosition,
    query: FeedQuery,
) -> Result<Response, Problem> {
    let page = Page { limit: query.page.limit + 1, ..query.page };
    let before = query.before.unwrap_or(NEWEST);
    let found = match query.at {
        None => {
            let read = || views::feed::page(&state.feed, reader, before, page);
            state.freshness.read(min, read).await?
        }
        Some(at) => {
            let min = MinPosition(min.0.max(reachable(&state, at, "at").await?));
            let read = || views::feed::page_at(&state.feed, reader, before, page, at);
            state.freshness.read(min, read).await?
        }
    };
    let AsOf { position, value: mut items } =
        found.or_not_found(|| format!("the calling user {reader} does not exist"))?;
    let limit = usize::try_from(query.page.limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);

    let next = items.last().filter(|_| more).map(|last| next_link(&query, last));
    let mut response = AsOf { position, value: items }.into_response();
    if let Some(link) = next {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
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
fn next_link(query: &FeedQuery, last: &FeedItem) -> HeaderValue {
    let TweetId(before) = last.tweet_id;
    let limit = query.page.limit;
    let at = query.at.map(|at| format!("&at={at}")).unwrap_or_default();
    let link = format!("</api/feed/?before={before}&limit={limit}{at}>; rel=\"next\"");
    HeaderValue::try_from(link).expect("digits and ASCII are a valid header")
}

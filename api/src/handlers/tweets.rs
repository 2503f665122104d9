//! `/api/tweets`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use events::{TweetId, UserId};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Message, accept, done};
use crate::caller::Caller;
use crate::domain::{Command, Content};
use crate::extract::{CommandContext, Id, Json, TweetQuery};
use crate::position::{AsOf, LogPosition, MinPosition};
use crate::problem::Problem;
use crate::state::AppState;
use crate::views::{self, OwnUser, Tweet};

#[derive(Debug, Deserialize, ToSchema)]
pub struct NewTweet {
    #[schema(min_length = 1, max_length = 280, example = "hello, world")]
    content: String,
}

/// Writes a tweet.
#[utoipa::path(
    post,
    path = "/tweets",
    tag = "tweets",
    params(CommandContext),
    request_body = NewTweet,
    security(("caller" = [])),
    responses((status = CREATED, body = Tweet), (status = NOT_FOUND))
)]
pub async fn create(
    State(state): State<AppState>,
    Caller(author_id): Caller,
    context: CommandContext,
    Json(body): Json<NewTweet>,
) -> Result<Response, Problem> {
    let content =
        Content::parse(&body.content).map_err(|detail| Problem::invalid("content", detail))?;
    let command = Command::Tweet { author_id, content: content.clone() };
    let accepted = accept(&state, command, context).await?;
    let tweet = Tweet {
        id: TweetId::from(accepted.position),
        author_id,
        content: content.to_string(),
        created_at: accepted.recorded_at,
        author: OwnUser::from(accepted.account).user,
    };
    Ok((StatusCode::CREATED, LogPosition(accepted.position), axum::Json(tweet)).into_response())
}

/// One tweet.
#[utoipa::path(
    get,
    path = "/tweets/{id}",
    tag = "tweets",
    params(MinPosition),
    responses((status = OK, body = Tweet), (status = NOT_FOUND))
)]
pub async fn find(
    State(state): State<AppState>,
    min: MinPosition,
    Id(tweet_id): Id<TweetId>,
) -> Result<AsOf<Tweet>, Problem> {
    let read = || views::tweets::find(&state.feed.connections, tweet_id);
    state
        .feed
        .freshness
        .read(min, read)
        .await?
        .or_not_found(|| format!("there is no tweet {tweet_id}"))
}

/// What a user has written, newest first.
#[utoipa::path(
    get,
    path = "/tweets/user/{user_id}",
    tag = "tweets",
    params(MinPosition, TweetQuery),
    responses((status = OK, body = Vec<Tweet>))
)]
pub async fn by_author(
    State(state): State<AppState>,
    min: MinPosition,
    Id(author_id): Id<UserId>,
    TweetQuery { page, before }: TweetQuery,
) -> Result<Response, Problem> {
    let read = || {
        views::tweets::by_author(&state.feed.connections, author_id, before, page.and_one_more())
    };
    let found = state.feed.freshness.read(min, read).await?;
    let limit = page.limit;
    let next =
        |last: &Tweet| format!("/api/tweets/user/{author_id}?before={}&limit={limit}", last.id);
    Ok(page.answer(found, next))
}

/// Takes a tweet of the caller back.
#[utoipa::path(
    delete,
    path = "/tweets/{id}",
    tag = "tweets",
    security(("caller" = [])),
    responses((status = OK, body = Message), (status = NOT_FOUND))
)]
pub async fn delete(
    State(state): State<AppState>,
    Caller(author_id): Caller,
    Id(tweet_id): Id<TweetId>,
    context: CommandContext,
) -> Result<Response, Problem> {
    let command = Command::DeleteTweet { author_id, tweet_id };
    let accepted = accept(&state, command, context.without_key()).await?;
    Ok(done(&accepted, format!("tweet {tweet_id} is deleted")))
}

//! `/api/subscriptions`

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use events::UserId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Message, accept, done};
use crate::caller::Caller;
use crate::domain::Command;
use crate::extract::{CommandContext, Id, Json, UserQuery};
use crate::position::{LogPosition, MinPosition};
use crate::problem::Problem;
use crate::state::AppState;
use crate::views::{self, Page, User};

#[derive(Debug, Deserialize, ToSchema)]
pub struct Follow {
    followed_id: UserId,
}

#[derive(Debug, Serialize, ToSchema)]
struct Following {
    #[schema(example = "following")]
    message: String,
    follower_id: UserId,
    followed_id: UserId,
}

/// The caller begins to follow a user.
#[utoipa::path(
    post,
    path = "/subscriptions/follow",
    tag = "subscriptions",
    params(CommandContext),
    request_body = Follow,
    security(("caller" = [])),
    responses((status = OK, body = Following), (status = NOT_FOUND), (status = CONFLICT))
)]
pub async fn follow(
    State(state): State<AppState>,
    Caller(follower_id): Caller,
    context: CommandContext,
    Json(Follow { followed_id }): Json<Follow>,
) -> Result<Response, Problem> {
    let accepted = accept(&state, Command::Follow { follower_id, followed_id }, context).await?;
    let message = format!("you follow user {followed_id}");
    let following = Following { message, follower_id, followed_id };
    Ok((LogPosition(accepted.position), axum::Json(following)).into_response())
}

/// The caller no longer follows a user.
#[utoipa::path(
    delete,
    path = "/subscriptions/unfollow/{followed_id}",
    tag = "subscriptions",
    security(("caller" = [])),
    responses((status = OK, body = Message), (status = NOT_FOUND))
)]
pub async fn unfollow(
    State(state): State<AppState>,
    Caller(follower_id): Caller,
    Id(followed_id): Id<UserId>,
    context: CommandContext,
) -> Result<Response, Problem> {
    let command = Command::Unfollow { follower_id, followed_id };
    let accepted = accept(&state, command, context.without_key()).await?;
    Ok(done(&accepted, format!("you no longer follow user {followed_id}")))
}

/// Who follows a user, by id.
#[utoipa::path(
    get,
    path = "/subscriptions/{user_id}/followers",
    tag = "subscriptions",
    params(MinPosition, UserQuery),
    responses((status = OK, body = Vec<User>), (status = NOT_FOUND))
)]
pub async fn followers(
    State(state): State<AppState>,
    min: MinPosition,
    Id(user_id): Id<UserId>,
    UserQuery { page, after }: UserQuery,
) -> Result<Response, Problem> {
    let read =
        || views::follows::followers(&state.feed.connections, user_id, after, page.and_one_more());
    let found = state.feed.freshness.read(min, read).await?;
    let found = found.or_not_found(|| format!("there is no user {user_id}"))?;
    Ok(page.answer(found, |last| next(user_id, "followers", last, page)))
}

/// Whom a user follows, by id.
#[utoipa::path(
    get,
    path = "/subscriptions/{user_id}/following",
    tag = "subscriptions",
    params(MinPosition, UserQuery),
    responses((status = OK, body = Vec<User>), (status = NOT_FOUND))
)]
pub async fn following(
    State(state): State<AppState>,
    min: MinPosition,
    Id(user_id): Id<UserId>,
    UserQuery { page, after }: UserQuery,
) -> Result<Response, Problem> {
    let read =
        || views::follows::following(&state.feed.connections, user_id, after, page.and_one_more());
    let found = state.feed.freshness.read(min, read).await?;
    let found = found.or_not_found(|| format!("there is no user {user_id}"))?;
    Ok(page.answer(found, |last| next(user_id, "following", last, page)))
}

fn next(user_id: UserId, list: &str, last: &User, page: Page) -> String {
    let (after, limit) = (last.id, page.limit);
    format!("/api/subscriptions/{user_id}/{list}?after={after}&limit={limit}")
}

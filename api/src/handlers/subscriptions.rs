//! `/api/subscriptions`

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use events::UserId;
use serde::{Deserialize, Serialize};

use super::{accept, done};
use crate::caller::Caller;
use crate::domain::Command;
use crate::extract::{CommandContext, Id, Json, UserPage};
use crate::position::{AsOf, LogPosition, MinPosition};
use crate::problem::Problem;
use crate::state::AppState;
use crate::views::{self, User};

#[derive(Debug, Deserialize)]
pub struct Follow {
    followed_id: UserId,
}

#[derive(Debug, Serialize)]
struct Following {
    message: String,
    follower_id: UserId,
    followed_id: UserId,
}

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

pub async fn followers(
    State(state): State<AppState>,
    min: MinPosition,
    Id(user_id): Id<UserId>,
    UserPage(page): UserPage,
) -> Result<AsOf<Vec<User>>, Problem> {
    let read = || views::follows::followers(&state.feed, user_id, page);
    state.freshness.read(min, read).await?.or_not_found(|| format!("there is no user {user_id}"))
}

pub async fn following(
    State(state): State<AppState>,
    min: MinPosition,
    Id(user_id): Id<UserId>,
    UserPage(page): UserPage,
) -> Result<AsOf<Vec<User>>, Problem> {
    let read = || views::follows::following(&state.feed, user_id, page);
    state.freshness.read(min, read).await?.or_not_found(|| format!("there is no user {user_id}"))
}

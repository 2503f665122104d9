//! `/api/users`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use events::UserId;
use serde::Deserialize;

use super::{accept, done};
use crate::caller::Caller;
use crate::domain::{Command, Email, Username};
use crate::extract::{CommandContext, Id, Json, UserQuery};
use crate::position::{AsOf, LogPosition, MinPosition};
use crate::problem::{FieldError, Problem};
use crate::state::AppState;
use crate::views::{self, OwnUser, User};

#[derive(Debug, Deserialize)]
pub struct NewUser {
    username: String,
    email: String,
}

pub async fn register(
    State(state): State<AppState>,
    context: CommandContext,
    Json(body): Json<NewUser>,
) -> Result<Response, Problem> {
    let command = body.parse().map_err(Problem::invalid_fields)?;
    let accepted = accept(&state, command, context).await?;
    let user = OwnUser::from(accepted.account);
    Ok((StatusCode::CREATED, LogPosition(accepted.position), axum::Json(user)).into_response())
}

pub async fn find(
    State(state): State<AppState>,
    caller: Option<Caller>,
    min: MinPosition,
    Id(user_id): Id<UserId>,
) -> Result<Response, Problem> {
    let read = || views::users::find(&state.feed, user_id);
    let found = state.freshness.read(min, read).await?;
    let AsOf { position, value: user } =
        found.or_not_found(|| format!("there is no user {user_id}"))?;
    Ok(if caller == Some(Caller(user_id)) {
        AsOf { position, value: user }.into_response()
    } else {
        AsOf { position, value: user.user }.into_response()
    })
}

pub async fn list(
    State(state): State<AppState>,
    min: MinPosition,
    UserQuery { page, after }: UserQuery,
) -> Result<Response, Problem> {
    let read = || views::users::list(&state.feed, after, page.and_one_more());
    let found = state.freshness.read(min, read).await?;
    let next = |last: &User| format!("/api/users/?after={}&limit={}", last.id, page.limit);
    Ok(page.answer(found, next))
}

pub async fn delete(
    State(state): State<AppState>,
    Caller(caller): Caller,
    Id(user_id): Id<UserId>,
    context: CommandContext,
) -> Result<Response, Problem> {
    if user_id != caller {
        return Err(Problem::forbidden("a user can only be deleted by themselves"));
    }
    let accepted = accept(&state, Command::DeleteUser { user_id }, context.without_key()).await?;
    Ok(done(&accepted, format!("user {user_id} is deleted")))
}

impl NewUser {
    /// Both fields are looked at, so that a client hears of both.
    fn parse(&self) -> Result<Command, Vec<FieldError>> {
        match (Username::parse(&self.username), Email::parse(&self.email)) {
            (Ok(username), Ok(email)) => Ok(Command::Register { username, email }),
            (username, email) => {
                let username =
                    username.err().map(|detail| FieldError { field: "username", detail });
                let email = email.err().map(|detail| FieldError { field: "email", detail });
                Err(username.into_iter().chain(email).collect())
            }
        }
    }
}

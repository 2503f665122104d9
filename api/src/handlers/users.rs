//! `/api/users`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use events::UserId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Message, accept, done};
use crate::caller::Caller;
use crate::domain::{Command, Email, Username};
use crate::extract::{CommandContext, Id, Json, UserQuery};
use crate::position::{AsOf, LogPosition, MinPosition};
use crate::problem::{FieldError, Problem};
use crate::state::{AppState, ReadModel};
use crate::views::counts::Counts;
use crate::views::{self, OwnUser, User};

#[derive(Debug, Deserialize, ToSchema)]
pub struct NewUser {
    #[schema(min_length = 3, max_length = 50, example = "ada")]
    username: String,
    #[schema(format = Email, max_length = 254, example = "ada@example.org")]
    email: String,
}

/// Registers a user.
#[utoipa::path(
    post,
    path = "/users",
    tag = "users",
    params(CommandContext),
    request_body = NewUser,
    responses((status = CREATED, body = OwnUser), (status = CONFLICT))
)]
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

/// A user as the caller may see them.
#[derive(Debug, Serialize, ToSchema)]
pub struct FoundUser {
    #[serde(flatten)]
    user: User,
    /// For the user themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "ada@example.org")]
    email: Option<String>,
}

/// One user; the caller themselves with their address.
#[utoipa::path(
    get,
    path = "/users/{id}",
    tag = "users",
    params(MinPosition),
    security((), ("caller" = [])),
    responses((status = OK, body = FoundUser), (status = NOT_FOUND))
)]
pub async fn find(
    State(state): State<AppState>,
    caller: Option<Caller>,
    min: MinPosition,
    Id(user_id): Id<UserId>,
) -> Result<AsOf<FoundUser>, Problem> {
    let read = || views::users::find(&state.feed.connections, user_id);
    let found = state.feed.freshness.read(min, read).await?;
    let AsOf { position, value: OwnUser { user, email } } =
        found.or_not_found(|| format!("there is no user {user_id}"))?;
    let email = (caller == Some(Caller(user_id))).then_some(email);
    Ok(AsOf { position, value: FoundUser { user, email } })
}

/// How many tweets, followers and users followed somebody has.
///
/// It has a position of its own, which X-Min-Log-Position waits for as everywhere.
#[utoipa::path(
    get,
    path = "/users/{id}/counts",
    tag = "users",
    params(MinPosition),
    responses((status = OK, body = Counts), (status = NOT_FOUND))
)]
pub async fn counts(
    State(state): State<AppState>,
    min: MinPosition,
    Id(user_id): Id<UserId>,
) -> Result<AsOf<Counts>, Problem> {
    let ReadModel { connections, freshness } = &state.counts;
    let found = freshness.read(min, || views::counts::find(connections, user_id)).await?;
    found.or_not_found(|| format!("there is no user {user_id}"))
}

/// Everybody, by id.
#[utoipa::path(
    get,
    path = "/users",
    tag = "users",
    params(MinPosition, UserQuery),
    responses((status = OK, body = Vec<User>))
)]
pub async fn list(
    State(state): State<AppState>,
    min: MinPosition,
    UserQuery { page, after }: UserQuery,
) -> Result<Response, Problem> {
    let read = || views::users::list(&state.feed.connections, after, page.and_one_more());
    let found = state.feed.freshness.read(min, read).await?;
    let next = |last: &User| format!("/api/users/?after={}&limit={}", last.id, page.limit);
    Ok(page.answer(found, next))
}

/// The caller leaves.
#[utoipa::path(
    delete,
    path = "/users/{id}",
    tag = "users",
    security(("caller" = [])),
    responses((status = OK, body = Message), (status = NOT_FOUND))
)]
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

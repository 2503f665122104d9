//! One module per resource. A handler parses, hands over, and answers.

pub mod docs;
pub mod feed;
pub mod health;
pub mod marker;
pub mod pipeline;
pub mod stream;
pub mod subscriptions;
pub mod tweets;
pub mod users;
pub mod web;

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::appender::Accepted;
use crate::domain::Command;
use crate::extract::CommandContext;
use crate::position::LogPosition;
use crate::problem::Problem;
use crate::state::AppState;

/// What a command without a result of its own is answered with.
#[derive(Debug, Serialize, ToSchema)]
struct Message {
    #[schema(example = "deleted")]
    message: String,
}

/// Appends `command`; its answer is still to be written.
async fn accept(
    state: &AppState,
    command: Command,
    context: CommandContext,
) -> Result<Accepted, Problem> {
    let accepted = state.appender.submit(command, context.key, context.metadata).await?;
    Ok(accepted)
}

fn done(accepted: &Accepted, message: impl Into<String>) -> Response {
    let message = Message { message: message.into() };
    (LogPosition(accepted.position), axum::Json(message)).into_response()
}

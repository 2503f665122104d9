//! `/health` and `/metrics`

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::relay::RelayState;
use crate::state::AppState;

#[derive(Debug, Serialize, ToSchema)]
struct Readiness {
    #[schema(example = "ready")]
    status: &'static str,
    #[schema(example = "ready")]
    log_database: &'static str,
    #[schema(example = "ready")]
    feed_database: &'static str,
    /// Said for the operator. It does not make the service unready: commands are accepted without
    /// the broker, and the feeds catch up when it is back.
    #[schema(example = "connected; this relay leads")]
    broker: &'static str,
    /// The same.
    #[schema(example = "applies what RabbitMQ brings")]
    projector: &'static str,
    log_position: i64,
    feed_position: i64,
}

#[derive(Debug, Serialize, ToSchema)]
struct Liveness {
    #[schema(example = "live")]
    status: &'static str,
}

/// The process runs and answers.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "operations",
    responses((status = OK, body = Liveness))
)]
pub async fn live() -> impl IntoResponse {
    Json(Liveness { status: "live" })
}

/// The service can do its work: both databases answer and have a schema that this release can use.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "operations",
    responses((status = OK, body = Readiness), (status = SERVICE_UNAVAILABLE, body = Readiness))
)]
pub async fn ready(State(state): State<AppState>) -> impl IntoResponse {
    let found = state.readiness.look().await;
    let ready = found.is_ready();
    let readiness = Readiness {
        status: if ready { "ready" } else { "not ready" },
        log_database: found.log.describe(),
        feed_database: found.feed.describe(),
        broker: match state.relay.as_ref().map(|relay| relay.borrow().state) {
            None => "not used by this process",
            Some(RelayState::Disconnected) => "unreachable: commands wait in the log",
            Some(RelayState::WithoutLog) => "not looked for: the relay waits for the log",
            Some(RelayState::Standby) => "connected; another relay leads",
            Some(RelayState::Leading) => "connected; this relay leads",
        },
        projector: found.projector.describe(),
        log_position: state.log_head.borrow().0,
        feed_position: state.checkpoint.borrow().0,
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

/// What Prometheus scrapes.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = OK, body = String, content_type = "text/plain"))
)]
pub async fn metrics(State(state): State<AppState>) -> Result<impl IntoResponse, Problem> {
    let elsewhere = || Problem::not_found("the metrics have an address of their own".to_owned());
    let metrics = state.metrics.as_ref().ok_or_else(elsewhere)?;
    let text_format = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, text_format)], metrics.render()))
}

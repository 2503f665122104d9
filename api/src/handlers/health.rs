//! `/health` and `/metrics`

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use events::store::schema::Schema;
use serde::Serialize;

use crate::relay::RelayState;
use crate::state::AppState;

#[derive(Debug, Serialize)]
struct Readiness {
    status: &'static str,
    log_database: &'static str,
    feed_database: &'static str,
    /// Said for the operator. It does not make the service unready: commands are accepted without
    /// the broker, and the feeds catch up when it is back.
    broker: &'static str,
    log_position: i64,
    feed_position: i64,
}

/// The process runs and answers.
pub async fn live() -> impl IntoResponse {
    Json(serde_json::json!({ "status": "live" }))
}

/// The service can do its work: both databases answer and have this release's schema.
pub async fn ready(State(state): State<AppState>) -> impl IntoResponse {
    let (log, feed) =
        tokio::join!(Schema::Log.is_current(&state.log), Schema::Feed.is_current(&state.feed));
    let ready = matches!((&log, &feed), (Ok(true), Ok(true)));
    let readiness = Readiness {
        status: if ready { "ready" } else { "not ready" },
        log_database: describe(&log),
        feed_database: describe(&feed),
        broker: match state.relay.as_ref().map(|relay| *relay.borrow()) {
            None => "not used by this process",
            Some(RelayState::Disconnected) => "unreachable: commands wait in the log",
            Some(RelayState::Standby) => "connected; another relay leads",
            Some(RelayState::Leading) => "connected; this relay leads",
        },
        log_position: state.log_head.borrow().0,
        feed_position: state.checkpoint.borrow().0,
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

/// What Prometheus scrapes.
pub async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    let text_format = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, text_format)], state.metrics.render())
}

fn describe(current: &Result<bool, sqlx::Error>) -> &'static str {
    match current {
        Ok(true) => "ready",
        Ok(false) => "its schema is not there yet, or older than this release",
        Err(_) => "unreachable",
    }
}

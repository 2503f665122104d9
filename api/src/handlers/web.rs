//! `/`: the page, and `/assets`: its files.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;

use crate::problem::Problem;
use crate::state::AppState;
use crate::web::{VERSION, asset as asset_of};

pub async fn index(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, Problem> {
    state.web.index(&headers).ok_or_else(Problem::internal)
}

/// A version that is not this one's is not there: its page will be loaded anew.
pub async fn asset(
    Path((version, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = (version == VERSION).then(|| asset_of(&name, &headers)).flatten();
    found.ok_or_else(|| Problem::not_found(format!("there is no /assets/{version}/{name}")))
}

//! `/openapi.json`, and `/docs`: Swagger UI, which shows it and sends requests. Its files are in the binary.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use utoipa_swagger_ui::{Config, SwaggerFile, serve};

use crate::problem::Problem;

/// Swagger UI sets styles from its scripts, and has its arrows as data. Nothing comes from elsewhere.
const HEADERS: [(HeaderName, HeaderValue); 2] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
             img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// The description of the service.
pub fn description(written: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(written)).into_response()
}

/// The page's own links are relative to a file.
pub async fn index() -> Redirect {
    Redirect::permanent("/docs/index.html")
}

pub async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    let config = Config::from("/openapi.json").validator_url("none");
    let found = serve(&name, Arc::new(config)).map_err(|error| {
        tracing::error!(%error, "a file of the documentation cannot be served");
        Problem::internal()
    })?;
    let SwaggerFile { bytes, content_type, .. } =
        found.ok_or_else(|| Problem::not_found(format!("there is no /docs/{name}")))?;
    Ok((HEADERS, [(header::CONTENT_TYPE, content_type)], bytes.into_owned()).into_response())
}

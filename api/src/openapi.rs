//! `/openapi.json`: what the service understands and answers, as OpenAPI 3.1.
//!
//! A handler says what is its own: its path, what it takes, what it answers, and the refusals that only it
//! has. What holds for all of a kind is added here, once: who calls, how an answer is dated, and what
//! may be wrong with any request.

mod links;
pub mod parameters;

use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

use crate::problem::{self, Problem};

/// What a handler names as its security where somebody has to call; here it becomes both logins.
const CALLER: &str = "caller";

/// What no handler names.
#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(problem::Body, problem::FieldError)))]
struct Shared;

/// Where the handlers' descriptions are gathered.
#[must_use]
pub fn begun() -> OpenApi {
    Shared::openapi()
}

/// The description, written out.
#[must_use]
pub fn written(described: &OpenApi) -> Bytes {
    // It is made of strings and numbers alone, and so can be written.
    Bytes::from(completed(described).to_string())
}

/// `described` with what holds for all.
fn completed(described: &OpenApi) -> Value {
    let mut whole = json!(described);
    whole["info"] = json!({
        "title": "Rookery",
        "version": env!("CARGO_PKG_VERSION"),
        "summary": "Home timelines from an append-only log",
        "description": INTRODUCTION,
        "license": { "name": "MIT", "identifier": "MIT" },
    });
    whole["tags"] = json!([
        { "name": "users", "description": "Who is there" },
        { "name": "tweets", "description": "What they write" },
        { "name": "subscriptions", "description": "Who reads whom" },
        { "name": "feed", "description": "The caller's home feed" },
        { "name": "pipeline", "description": "Events on their way" },
        { "name": "operations", "description": "For who runs it" },
    ]);
    whole["components"]["securitySchemes"] = json!({
        "userId": {
            "type": "apiKey", "in": "header", "name": "X-User-ID",
            "description": "The development login: the caller's user id, believed as it stands.",
        },
        "bearer": {
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "With JWT_SECRET or JWT_PUBLIC_KEY: a signed token whose `sub` is the user id.",
        },
    });
    let Some(paths) = whole["paths"].as_object_mut() else { return whole };
    for (path, item) in &mut *paths {
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            complete(path, operation);
        }
    }
    links::add(paths);
    whole
}

const INTRODUCTION: &str = "\
Every accepted command answers with `X-Log-Position`, the position of its event in the log. A read that is sent \
with that number in `X-Min-Log-Position` is at least as new, and every read names the position that it is exact at.\n\n\
Each path is also answered with a slash at its end. Every refusal is `application/problem+json`; programs match on \
its `type`.";

fn complete(path: &str, operation: &mut Value) {
    // Handlers of two resources may have one name.
    if let (Some(tag), Some(handler)) =
        (operation["tags"][0].as_str(), operation["operationId"].as_str())
    {
        operation["operationId"] = format!("{tag}_{handler}").into();
    }
    let is_called = operation.get("security").is_some();
    if let Some(security) = operation.get_mut("security").and_then(Value::as_array_mut) {
        let needed = security.iter().position(|one| one.get(CALLER).is_some());
        if let Some(needed) = needed {
            security.splice(needed..=needed, [json!({ "userId": [] }), json!({ "bearer": [] })]);
        }
    }
    // A body is read before anyone asks whether it is wanted.
    let mut refusals = vec![400, 408, 413, 500];
    if path.starts_with("/api") {
        refusals.extend([403, 422, 503]);
    }
    if is_called {
        refusals.push(401);
    }
    if operation.get("requestBody").is_some() {
        refusals.push(415);
    }
    let named = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let ids = named.map(|name| {
        let schema = json!({ "type": "integer", "format": "int64" });
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let ids: Vec<Value> = ids.collect();
    if !ids.is_empty() {
        let parameters = operation["parameters"].take();
        let others = parameters.as_array().cloned().unwrap_or_default();
        operation["parameters"] = ids.into_iter().chain(others).collect();
    }
    let takes = |name: &str| {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        parameters.clone().any(|parameter| parameter["name"] == name)
    };
    let is_list = takes("skip");
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for refusal in refusals {
        responses.entry(refusal.to_string()).or_insert_with(|| json!({}));
    }
    for (status, response) in responses {
        let code = status.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
        let Some(code) = code else { continue };
        if response["description"].as_str().unwrap_or_default().is_empty() {
            response["description"] = code.canonical_reason().unwrap_or_default().into();
        }
        if code.is_client_error() || code.is_server_error() {
            refuse(code, response);
        } else if is_list {
            response["headers"]["Link"] = header(
                "The next page, `rel=\"next\"`, or the one above, `rel=\"prev\"`; absent on the last.",
                &json!({ "type": "string" }),
            );
        }
        if path.starts_with("/api") {
            let dated =
                code.is_success() && !matches!(path, "/api/feed/ticket" | "/api/feed/marker");
            if dated || matches!(code, StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE) {
                response["headers"]["X-Log-Position"] = header(
                    "After a command, the position of its event; on a read, the one that it is exact at.",
                    &json!({ "type": "integer", "format": "int64", "minimum": 0 }),
                );
            }
        }
    }
}

/// Completes a refusal: its form, an example, and the headers that go with it. An answer for which another
/// form is given keeps it.
fn refuse(status: StatusCode, response: &mut Value) {
    if response.get("content").is_none() {
        let example = Problem::example(status);
        response["content"] = json!({
            "application/problem+json": {
                "schema": { "$ref": "#/components/schemas/Problem" },
                "example": example,
            },
        });
    }
    match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            response["headers"]["Retry-After"] =
                header("Seconds until it is worth another try.", &json!({ "type": "integer" }));
        }
        StatusCode::UNAUTHORIZED => {
            response["headers"]["WWW-Authenticate"] =
                header("What to send instead.", &json!({ "type": "string" }));
        }
        _ => {}
    }
}

fn header(description: &str, schema: &Value) -> Value {
    json!({ "description": description, "schema": schema })
}

//! Every URL of the service.

use std::any::Any;
use std::time::{Duration, Instant};

use axum::error_handling::HandleErrorLayer;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{BoxError, Router};
use metrics::{counter, histogram};
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::normalize_path::NormalizePath;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use tracing::field::Empty;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::appender::Refusal;
use crate::body::whole_body_first;
use crate::handlers::{
    docs, feed, health, marker, pipeline, stream, subscriptions, tweets, users, web,
};
use crate::metrics::{HTTP_FAILURES, HTTP_REQUEST, HTTP_REQUESTS, HTTP_SHED};
use crate::openapi;
use crate::own_hosts::only_own_hosts;
use crate::problem::Problem;
use crate::state::AppState;
use crate::traced::traced;

/// The most requests in work at once; the next one hears 503. More than the appender's queue
/// holds, so that reads find room beside waiting commands.
const IN_FLIGHT_MAX: usize = 4_096;

/// From a request, whose body is there, to the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Room for a UUID and a prefix.
const REQUEST_ID_MAX_BYTES: usize = 64;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The whole service. A path with a slash at its end is the path without it.
pub fn service(state: AppState) -> NormalizePath<Router> {
    let api = OpenApiRouter::new()
        // /users
        .routes(routes!(users::register, users::list))
        .routes(routes!(users::find, users::delete))
        .routes(routes!(users::counts))
        // /tweets
        .routes(routes!(tweets::create))
        .routes(routes!(tweets::find, tweets::delete))
        .routes(routes!(tweets::by_author))
        .routes(routes!(pipeline::delivery))
        // /subscriptions
        .routes(routes!(subscriptions::follow))
        .routes(routes!(subscriptions::unfollow))
        .routes(routes!(subscriptions::followers))
        .routes(routes!(subscriptions::following))
        // /feed
        .routes(routes!(feed::page))
        .routes(routes!(feed::changes_since))
        .routes(routes!(feed::explain))
        .routes(routes!(marker::unread))
        .routes(routes!(marker::advance))
        .routes(routes!(stream::open))
        .routes(routes!(stream::ticket))
        // /pipeline
        .routes(routes!(pipeline::look));

    let limited = ServiceBuilder::new()
        .layer(middleware::from_fn(traced))
        .layer(HandleErrorLayer::new(overloaded))
        .load_shed()
        .layer(GlobalConcurrencyLimitLayer::new(IN_FLIGHT_MAX))
        .layer(middleware::from_fn(in_time));

    let own_hosts = middleware::from_fn_with_state(state.own_hosts.clone(), only_own_hosts);
    let (router, described) = OpenApiRouter::with_openapi(openapi::begun())
        .nest("/api", api.layer(limited))
        .route("/", get(web::index))
        .route("/assets/{version}/{*path}", get(web::asset))
        .route("/docs", get(docs::index))
        .route("/docs/{*path}", get(docs::file))
        .route_layer(own_hosts)
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .split_for_parts();
    let description = openapi::written(&described);
    let router = router
        .route("/openapi.json", get(async move || docs::description(description)))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(state)
        .layer(CatchPanicLayer::custom(panicked))
        .route_layer(middleware::from_fn(measure))
        .layer(
            ServiceBuilder::new()
                .map_request(without_odd_request_id)
                .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
                .layer(TraceLayer::new_for_http().make_span_with(span).on_failure(()))
                .layer(PropagateRequestIdLayer::new(REQUEST_ID))
                .layer(middleware::from_fn(whole_body_first)),
        );
    NormalizePath::trim_trailing_slash(router)
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::not_found(format!("there is no {}", uri.path()))
}

async fn no_such_method(request: Request) -> Problem {
    let detail = format!("{} is not possible here", request.method());
    Problem::malformed(StatusCode::METHOD_NOT_ALLOWED, detail)
}

async fn overloaded(_: BoxError) -> Problem {
    counter!(HTTP_SHED.name).increment(1);
    Problem::unavailable("busy", "too many requests are in work")
}

/// A command that takes too long may still be appended, so its client has to hear that it may have
/// been; 408 would invite to send it again as if nothing had happened.
async fn in_time(request: Request, next: Next) -> Response {
    let is_read = request.method().is_safe();
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    answer.unwrap_or_else(|_| {
        if is_read {
            let detail = format!("not done within {} s", REQUEST_TIMEOUT.as_secs());
            Problem::unavailable("too-slow", detail).into_response()
        } else {
            Problem::from(Refusal::Unknown).into_response()
        }
    })
}

/// The panic itself is in the log by now.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::internal().into_response()
}

/// Counts and times by route, never by path: a path has as many values as there are tweets.
async fn measure(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = known_method(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
        counter!(HTTP_FAILURES.name).increment(1);
    }
    let status = response.status().as_u16().to_string();
    let labels = [("method", method.to_owned()), ("route", route), ("status", status)];
    counter!(HTTP_REQUESTS.name, &labels).increment(1);
    histogram!(HTTP_REQUEST.name, &labels[..2]).record(started.elapsed());
    response
}

/// A client may send any word as a method; each would be a time series of its own.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

/// A client's request id goes into the log and the event's metadata; one that is long, no plain
/// word, or one of several is replaced by ours.
fn without_odd_request_id(mut request: Request) -> Request {
    let is_odd = |value: &HeaderValue| {
        value.len() > REQUEST_ID_MAX_BYTES || !value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    let mut ids = request.headers().get_all(REQUEST_ID).iter();
    if ids.next().is_some_and(is_odd) || ids.next().is_some() {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

fn span(request: &Request) -> tracing::Span {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let method = request.method();
    tracing::info_span!("request", http.method = %method, request.id = id, trace.id = Empty)
}

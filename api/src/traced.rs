//! One span for each request to the API, in the caller's trace if it names one.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;
use events::trace::{self, SpanKind, TRACEPARENT, TraceParent};

/// Answers `request` within a span, and leaves its place for the command that it may carry.
///
/// Where no spans are sent, that place is the caller's own: an event is kept with it all the same.
pub async fn traced(mut request: Request, next: Next) -> Response {
    let parent = traceparent(request.headers());
    let method = request.method().as_str().to_owned();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(String::new, |route| route.as_str().to_owned());
    let mut span = trace::begin(SpanKind::Server, format!("{method} {route}"), parent);
    if let Some(place) = span.as_ref().map(trace::Span::traceparent).or(parent) {
        tracing::Span::current().record("trace.id", place.trace_id());
        request.extensions_mut().insert(place);
    }
    let response = next.run(request).await;
    if let Some(span) = &mut span {
        let status = response.status();
        span.set("http.request.method", method);
        span.set("http.route", route);
        span.set("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.failed(status.to_string());
        }
    }
    response
}

/// What the caller names. One that is malformed or comes twice is as if there were none: W3C asks for that.
fn traceparent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut named = headers.get_all(HeaderName::from_static(TRACEPARENT)).iter();
    let parent = named.next()?.to_str().ok()?.parse().ok()?;
    named.next().is_none().then_some(parent)
}

//! Traces: what one request brought about, from its answer to the feeds, for OpenTelemetry.
//!
//! The `traceparent` of a command's append is kept in its event's metadata and travels with the event, in the log and in
//! messages alike. So whoever publishes or applies it, on whatever machine and however much later, adds to the one trace
//! that the request began.
//!
//! **Invariant**: traces are best effort. Spans wait in a bounded queue, from which a thread of its own sends them; where
//! nobody takes them they are dropped, and no request, append or projection waits.

mod client;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::recorded::RecordedEvent;
use crate::runtime::host_and_process;
use client::BlockingClient;

pub use opentelemetry::trace::SpanKind;

/// The name of the header, the attribute and the member of the metadata.
pub const TRACEPARENT: &str = "traceparent";

/// Where spans go: traces are sent if one of them is set. The rest of what OpenTelemetry's specification has as variables is read by
/// its library: <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// How long the last spans may take when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// A place in a trace, as W3C's `traceparent` names it (<https://www.w3.org/TR/trace-context/#traceparent-header>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct NoTraceParent;

impl TraceParent {
    /// The trace, as 32 digits in base 16.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.trace.to_string()
    }

    /// The place itself as a context, in which spans can begin.
    fn context(self) -> Context {
        let state = TraceState::default();
        let span = SpanContext::new(self.trace, self.span, self.flags, true, state);
        Context::new().with_remote_span_context(span)
    }
}

impl From<&SpanContext> for TraceParent {
    fn from(span: &SpanContext) -> Self {
        let flags = span.trace_flags() & TraceFlags::SAMPLED;
        Self { trace: span.trace_id(), span: span.span_id(), flags }
    }
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        struct Only<'a>(&'a str);

        impl Extractor for Only<'_> {
            fn get(&self, key: &str) -> Option<&str> {
                (key == TRACEPARENT).then_some(self.0)
            }

            fn keys(&self) -> Vec<&str> {
                vec![TRACEPARENT]
            }
        }

        let context =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Only(text));
        let span = context.span();
        let span = span.span_context();
        if span.is_valid() { Ok(Self::from(span)) } else { Err(NoTraceParent) }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads what may be a `traceparent`. An event does not become unreadable by another text there.
///
/// # Errors
/// The deserializer's own, when it is no text at all.
pub fn lenient<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<TraceParent>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Sends the spans of this process for as long as it is kept; those that wait when it is dropped, within a second.
#[derive(Debug)]
pub struct Exporting(SdkTracerProvider);

impl Exporting {
    /// Begins to send spans as `service`, where a variable says whereto.
    ///
    /// # Errors
    /// A sentence that names the variables when what they say is of no use.
    pub fn start(service: &'static str) -> Result<Option<Self>, String> {
        let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let Some(name) = ENDPOINTS.iter().find(|name| is_set(name)) else { return Ok(None) };
        let exporter =
            SpanExporter::builder().with_http().with_http_client(BlockingClient::new()).build();
        let exporter = exporter.map_err(|error| format!("{name} is of no use: {error}"))?;
        let mut resource = Resource::builder()
            .with_attribute(KeyValue::new("service.instance.id", host_and_process()));
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(service);
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        TRACER.get_or_init(|| provider.tracer("rookery"));
        Ok(Some(Self(provider)))
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(FLUSH_TIMEOUT) {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

/// A span that has begun, and ends when this is dropped.
#[derive(Debug)]
pub struct Span(opentelemetry_sdk::trace::Span);

impl Span {
    /// Its own place, for what it brings about.
    #[must_use]
    pub fn traceparent(&self) -> TraceParent {
        TraceParent::from(self.0.span_context())
    }

    /// Adds what is known of it by now.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.set_attribute(KeyValue::new(key, value));
    }

    /// Says that it failed.
    pub fn failed(&mut self, description: impl Into<Cow<'static, str>>) {
        self.0.set_status(Status::error(description));
    }
}

/// Begins a span below `parent`, or with a trace of its own. `None` when spans are not sent, or those of its trace are not.
#[must_use]
pub fn begin(
    kind: SpanKind,
    name: impl Into<Cow<'static, str>>,
    parent: Option<TraceParent>,
) -> Option<Span> {
    let tracer = TRACER.get()?;
    let builder = SpanBuilder::from_name(name).with_kind(kind);
    let parent = parent.map_or_else(Context::new, TraceParent::context);
    let span = tracer.build_with_context(builder, &parent);
    span.is_recording().then_some(Span(span))
}

/// What was done with many events at once.
#[derive(Debug)]
pub struct BatchSpan {
    pub kind: SpanKind,
    pub name: String,
    pub began: DateTime<Utc>,
    pub ended: DateTime<Utc>,
    pub attributes: Vec<KeyValue>,
}

impl BatchSpan {
    /// Adds itself to the trace of each of `events` that has one.
    pub fn add_to_traces_of<'a>(&self, events: impl IntoIterator<Item = &'a RecordedEvent>) {
        let Some(tracer) = TRACER.get() else { return };
        for event in events {
            let Some(parent) = event.metadata.traceparent else { continue };
            if !parent.flags.is_sampled() {
                continue;
            }
            let mut attributes = self.attributes.clone();
            attributes.push(KeyValue::new("rookery.position", event.position.0));
            attributes.push(KeyValue::new("rookery.event.type", event.kind.clone()));
            let builder = SpanBuilder::from_name(self.name.clone())
                .with_kind(self.kind.clone())
                .with_start_time(self.began)
                .with_attributes(attributes);
            let mut span = tracer.build_with_context(builder, &parent.context());
            span.end_with_timestamp(self.ended.into());
        }
    }
}

/// An attribute of a span.
#[must_use]
pub fn attribute(key: &'static str, value: impl Into<Value>) -> KeyValue {
    KeyValue::new(key, value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn it_is_written_as_it_was_read() {
        let parent: TraceParent = PARENT.parse().unwrap();
        assert_eq!(parent.to_string(), PARENT);
        assert_eq!(parent.trace_id(), "0af7651916cd43dd8448eb211c80319c");
    }

    #[test]
    fn what_is_none_is_none() {
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for text in [
            "",
            "00",
            zero,
            &PARENT[..52],
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(NoTraceParent), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_and_what_is_read_is_read_again(text in "[0-9a-f-]{0,60}|\\PC*") {
            if let Ok(parent) = text.parse::<TraceParent>() {
                prop_assert_eq!(parent.to_string().parse(), Ok(parent));
            }
        }
    }
}

//! A small receiver of traces, as OpenTelemetry's protocol sends them over HTTP.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::until;

/// Takes spans until it is dropped.
#[derive(Debug)]
pub struct Collector {
    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` names.
    pub url: String,
    spans: Arc<Mutex<Vec<Seen>>>,
    serving: JoinHandle<()>,
}

/// A span that was received.
#[derive(Debug, Clone)]
pub struct Seen {
    pub service: String,
    pub name: String,
    /// 32 digits in base 16.
    pub trace: String,
    /// 16 digits in base 16, like its parent's, which is empty for the first span of a trace.
    pub id: String,
    pub parent: String,
    /// Nanoseconds since 1970.
    pub began: u64,
    pub ended: u64,
    pub attributes: BTreeMap<String, String>,
}

impl Collector {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let spans = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&spans));
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves until it is dropped");
        });
        Self { url: format!("http://{address}"), spans, serving }
    }

    /// What it was sent so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Seen> {
        self.spans.lock().expect("no holder panics").clone()
    }

    /// Waits for the spans of `trace` that are called `names`, one each, and returns them in that order.
    pub async fn spans_of<const N: usize>(&self, trace: &str, names: [&str; N]) -> [Seen; N] {
        until(&format!("{names:?} in trace {trace}"), async || {
            let spans = self.spans();
            let find = |name| spans.iter().find(|span| span.trace == trace && span.name == name);
            let found: Option<Vec<Seen>> = names.iter().map(|name| find(*name).cloned()).collect();
            found?.try_into().ok()
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(State(spans): State<Arc<Mutex<Vec<Seen>>>>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).expect("it is protobuf");
    let mut spans = spans.lock().expect("no holder panics");
    for of_resource in request.resource_spans {
        let resource = text_of(of_resource.resource.unwrap_or_default().attributes);
        let received = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(received.map(|span| Seen {
            service: resource["service.name"].clone(),
            name: span.name,
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            began: span.start_time_unix_nano,
            ended: span.end_time_unix_nano,
            attributes: text_of(span.attributes),
        }));
    }
}

fn text_of(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |pair: KeyValue| Some((pair.key, text(pair.value?.value?)));
    attributes.into_iter().filter_map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a String takes all that is written");
        digits
    })
}

//! Traces: one for a request and all that it brought about, whichever way that went; and none of it matters to the rest.

use e2e::client::{Answer, Rookery};
use e2e::collector::{Collector, Seen};
use e2e::database::TestDatabase;
use e2e::process::run;
use e2e::system::{start_api, start_projector};
use e2e::until;
use e2e::vhost::Vhost;
use events::recorded::Metadata;
use events::store::read;
use events::{Position, UserId};
use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpListener;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// Posts a tweet within the caller's own trace.
async fn tweet_within(client: &Rookery, author: UserId, traceparents: &[&str]) -> Position {
    let mut request = client.request(Method::POST, "/api/tweets/", Some(author));
    for traceparent in traceparents {
        request = request.header("traceparent", *traceparent);
    }
    let answer = Answer::of(request.json(&json!({ "content": "traced" }))).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.position.unwrap()
}

async fn metadata_at(database: &TestDatabase, position: Position) -> Metadata {
    let log = database.pool().await;
    let events = read::after(&log, Position(position.0 - 1), 1).await.unwrap();
    events[0].metadata.clone()
}

fn follows(spans: &[&Seen]) {
    for pair in spans.windows(2) {
        assert!(pair[0].began <= pair[1].began, "{pair:?}");
        assert!(pair[1].began <= pair[1].ended, "{pair:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_shows_a_tweet_from_its_request_to_the_feeds() {
    let (collector, database, vhost) =
        (Collector::start().await, TestDatabase::create().await, Vhost::create().await);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let (mut api, client) = start_api(&database.url, &vhost.url, &variables, &[]).await;
    let mut projector = start_projector(&database.url, &vhost.url, &variables, &[]).await;
    let connection = vhost.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let spy = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
    let (exchange, none) = (events::amqp::EXCHANGE, FieldTable::default());
    let options = QueueBindOptions::default();
    channel
        .queue_bind(spy.name().clone(), exchange.into(), "".into(), options, none)
        .await
        .unwrap();

    let ada = client.register("ada").await;
    let position = tweet_within(&client, ada, &[&traceparent("01")]).await;
    let names = ["POST /api/tweets", "append", "publish", "apply feed"];
    let [request, append, publish, apply] = &collector.spans_of(TRACE, names).await;
    assert_eq!(request.parent, CALLER);
    assert_eq!(append.parent, request.id);
    assert_eq!(publish.parent, append.id);
    assert_eq!(apply.parent, append.id);
    follows(&[request, append, publish, apply]);
    assert_eq!(append.service, "rookery-api");
    assert_eq!(apply.service, "rookery-projector");
    assert_eq!(request.attributes["http.response.status_code"], "201");
    assert_eq!(publish.attributes["messaging.destination.name"], exchange);
    for span in [append, publish, apply] {
        assert_eq!(span.attributes["rookery.position"], position.to_string());
    }

    // The log and the message say the same, the message in the body and in a header.
    let kept = format!("00-{TRACE}-{}-01", append.id);
    let metadata = metadata_at(&database, position).await;
    assert_eq!(metadata.traceparent.unwrap().to_string(), kept);
    let message = until("the message of the tweet", async || {
        let got = channel.basic_get(spy.name().clone(), BasicGetOptions { no_ack: true }).await;
        let message = got.unwrap()?.delivery;
        let body = String::from_utf8(message.data.clone()).unwrap();
        body.contains("TweetCreated").then_some((message, body))
    })
    .await;
    assert!(message.1.contains(&kept), "{}", message.1);
    let headers = message.0.properties.headers().as_ref().unwrap();
    let header = headers.inner().get("traceparent").unwrap().as_long_string().unwrap();
    assert_eq!(header.to_string(), kept);

    // A refusal is a trace too, one of its own; what the caller does not want sampled is none.
    client.post("/api/tweets/", Some(UserId(99)), json!({ "content": "by nobody" })).await;
    let unsampled = traceparent("00").replace(TRACE, &TRACE.replace('0', "1"));
    let position = tweet_within(&client, ada, &[&unsampled]).await;
    let metadata = metadata_at(&database, position).await;
    assert_eq!(metadata.traceparent.unwrap().to_string(), unsampled);
    until("the refusal's trace", async || {
        let status = |span: &Seen| span.attributes.get("http.response.status_code").cloned();
        collector.spans().into_iter().find(|span| status(span).as_deref() == Some("404"))
    })
    .await;
    for process in [&mut api, &mut projector] {
        process.signal("-TERM").await;
        assert!(process.ended().await.success(), "{}", process.log().join("\n"));
    }
    assert!(!collector.spans().iter().any(|span| span.trace == TRACE.replace('0', "1")));
    vhost.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_message_brings_is_in_its_trace_all_the_same() {
    let (collector, database, vhost) =
        (Collector::start().await, TestDatabase::create().await, Vhost::create().await);
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*format!("{}/v1/traces", collector.url)),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_SERVICE_NAME", "timeline"),
    ];
    let (_api, client) = start_api(&database.url, &vhost.url, &variables, &["--no-relay"]).await;
    let _projector = start_projector(&database.url, &vhost.url, &variables, &[]).await;
    let ada = client.register("ada").await;
    tweet_within(&client, ada, &[&traceparent("01")]).await;
    let [append, apply] = &collector.spans_of(TRACE, ["append", "apply feed"]).await;
    assert_eq!(apply.parent, append.id);
    assert_eq!(apply.service, "timeline");
    follows(&[append, apply]);
    assert!(!collector.spans().iter().any(|span| span.name == "publish"));
    vhost.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_an_event_is_kept_with_its_callers_own_place() {
    let database = TestDatabase::create().await;
    let (_api, client) = start_api(&database.url, "amqp://127.0.0.1:1", &[], &[]).await;
    let ada = client.register("ada").await;
    let given = traceparent("01");
    let position = tweet_within(&client, ada, &[&given]).await;
    let metadata = metadata_at(&database, position).await;
    assert_eq!(metadata.traceparent.unwrap().to_string(), given);

    // As if there were none.
    let other = traceparent("01").replace(CALLER, &CALLER.replace('b', "c"));
    for odd in [&[&*given, &*other][..], &["nonsense"], &[&given[3..]], &[""], &[]] {
        let position = tweet_within(&client, ada, odd).await;
        assert_eq!(metadata_at(&database, position).await.traceparent, None, "{odd:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_answers_nothing_keeps_nobody_waiting() {
    let (database, vhost) = (TestDatabase::create().await, Vhost::create().await);
    // The system takes the connections, and nobody ever reads them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
    ];
    let (mut api, client) = start_api(&database.url, &vhost.url, &variables, &[]).await;
    let mut projector = start_projector(&database.url, &vhost.url, &variables, &[]).await;
    let ada = client.register("ada").await;
    let mut last = Position::START;
    for _ in 0..20 {
        last = tweet_within(&client, ada, &[]).await;
    }
    assert_eq!(client.feed(ada, last).await.len(), 20);
    for process in [&mut api, &mut projector] {
        process.signal("-TERM").await;
        assert!(process.ended().await.success(), "{}", process.log().join("\n"));
    }
    vhost.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_none_is_bad_usage() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url");
    let elsewhere = [
        ("DATABASE_URL", "postgres://127.0.0.1:1/x"),
        ("AMQP_URL", "amqp://127.0.0.1:1"),
        endpoint,
    ];
    for (program, arguments) in [("api", &[][..]), ("projector", &["run"])] {
        let ended = run(program, arguments, &elsewhere).await;
        assert_eq!(ended.status.code(), Some(2));
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.contains("OTEL_EXPORTER_OTLP_ENDPOINT is of no use"), "{said}");
    }
}

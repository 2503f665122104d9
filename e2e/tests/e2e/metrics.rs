//! What the programs measure, and whether somebody hears of it: in a real Prometheus, by making happen what each alarm is for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use api::metrics::OF_THE_API;
use e2e::client::Rookery;
use e2e::database::TestDatabase;
use e2e::gate::Gate;
use e2e::live::LiveFeed;
use e2e::own_broker::OwnBroker;
use e2e::process::{Process, run};
use e2e::prometheus::{Prometheus, dashboard_queries, free_address};
use e2e::system::{start_api, start_projector};
use e2e::until;
use e2e::vhost::Vhost;
use events::amqp::EXCHANGE;
use events::metrics::{Kind, Metric, OF_BOTH};
use events::store::Connections;
use events::{Position, UserId};
use futures_util::future::join_all;
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use projector::feed::HomeFeeds;
use projector::metrics::OF_THE_PROJECTOR;
use projector::progress;
use projector::projection::ReadModel;
use reqwest::StatusCode;
use serde_json::json;

use crate::generations::reading;

/// All that is declared.
fn declared() -> impl Iterator<Item = &'static Metric> {
    OF_BOTH.iter().chain(OF_THE_API).chain(OF_THE_PROJECTOR)
}

/// The metrics served at `address` that are ours.
async fn served(address: &str) -> BTreeMap<String, String> {
    let answer = reqwest::get(format!("http://{address}/metrics")).await.expect("it answers");
    let text = answer.text().await.expect("it is text");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE rookery_"));
    let types = types.map(|line| line.split_once(' ').expect("a name and a type"));
    types.map(|(name, kind)| (format!("rookery_{name}"), kind.to_owned())).collect()
}

/// That an alarm goes off, and that all have.
struct Alarms {
    prometheus: Prometheus,
    heard: BTreeSet<String>,
}

impl Alarms {
    async fn expression(&self, name: &str) -> String {
        let alerts = self.prometheus.alerts().await;
        let alert = alerts.into_iter().find(|alert| alert.name == name);
        alert.unwrap_or_else(|| panic!("{name} is no alert")).expression
    }

    async fn goes_off(&mut self, name: &str) {
        let expression = self.expression(name).await;
        until(&format!("{name}: {expression}"), async || {
            (!self.prometheus.query(&expression).await.is_empty()).then_some(())
        })
        .await;
        self.heard.insert(name.to_owned());
    }

    /// No disk is filled here: that the figures are there, and are below all of it, is what can be seen.
    async fn would_hear_of_a_full_disk(&mut self) {
        let disk = self.expression("RookeryDiskAlmostFull").await;
        let (free, _) = disk.split_once(" < ").expect("a comparison");
        assert!(!self.prometheus.query(&format!("{free} < 1")).await.is_empty(), "{free}");
        self.heard.insert("RookeryDiskAlmostFull".to_owned());
    }

    async fn goes_off_while_shut(&mut self, name: &str, gate: &Gate) {
        gate.shut();
        self.goes_off(name).await;
        gate.open();
        self.is_over(name).await;
    }

    async fn is_over(&self, name: &str) {
        let expression = self.expression(name).await;
        until(&format!("{name} is over: {expression}"), async || {
            self.prometheus.query(&expression).await.is_empty().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alarm_goes_off_for_its_cause_and_every_metric_and_query_has_something_to_say() {
    let (database, vhost) = (TestDatabase::create().await, Vhost::create().await);
    let log = database.pool().await;
    let (database_gate, gated_url) = database.gated_url().await;
    let broker_address = vhost.url.split(['@', '/']).nth(3).expect("an AMQP URL").to_owned();
    let target = tokio::net::lookup_host(&broker_address).await.unwrap().next().unwrap();
    let broker_gate = Gate::to(target).await;
    let amqp_url = vhost.url.replace(&broker_address, &broker_gate.address.to_string());
    let (replica_gate, replica_url) = database.gated_url().await;
    let [at_api, at_projector, at_rebuild] = [(); 3].map(|()| free_address());
    let (mut api, client) = start_api(
        &gated_url,
        &amqp_url,
        &[("API_METRICS_BIND", &at_api), ("FEED_REPLICA_URLS", &replica_url)],
        &["--feed-connections", "1"],
    )
    .await;
    let measured = [("PROJECTOR_METRICS_BIND", at_projector.as_str())];
    // So that those with many readers have fan-outs.
    let step_by_step = ["--pull-from", "1000"];
    let mut projector = start_projector(&database.url, &amqp_url, &measured, &step_by_step).await;
    let prometheus = Prometheus::watching(&at_api, &at_projector).await;
    let mut alarms = Alarms { prometheus, heard: BTreeSet::new() };

    // While all is well nobody hears anything.
    let ada = client.register("ada").await;
    four_readers_of(&client, ada).await;
    let mut stream = LiveFeed::open(&client, ada, None).await;
    let tweet = client.tweet(ada, "hello").await;
    assert_eq!(stream.take(1).await, [tweet]);
    drop(stream);
    join_all((0..50).map(|_| client.get("/api/feed/", Some(ada)))).await;
    for alert in alarms.prometheus.alerts().await {
        let found = alarms.prometheus.query(&alert.expression).await;
        assert!(found.is_empty() || alert.name == "RookeryDiskAlmostFull", "{alert:?}: {found:?}");
    }

    let mut seen = kill_a_rebuild(&log, &database.url, &at_rebuild).await;

    // Without a projector, and without RabbitMQ.
    projector.kill().await;
    broker_gate.shut();
    client.tweet(ada, "nobody brings it").await;
    alarms.goes_off("RookeryDown").await;
    alarms.goes_off("RookeryNoProjector").await;
    alarms.goes_off("RookeryNoRelay").await;
    alarms.goes_off("RookeryProjectionBehind").await;
    alarms.goes_off("RookeryNotPublished").await;
    alarms.goes_off("RookeryGenerationLeftBehind").await;
    alarms.goes_off("RookeryProjectionStalled").await;

    // With a projector, still without RabbitMQ.
    let mut projector = start_projector_alone(&database.url, &amqp_url, &measured);
    alarms.goes_off("RookeryFollowsLog").await;
    let projecting = ["RookeryNoProjector", "RookeryProjectionBehind", "RookeryProjectionStalled"];
    for name in [&["RookeryDown"], &projecting[..]].concat() {
        alarms.is_over(name).await;
    }
    broker_gate.open();
    for name in ["RookeryNoRelay", "RookeryNotPublished", "RookeryFollowsLog"] {
        client.tweet(ada, "it is brought again").await;
        alarms.is_over(name).await;
    }

    // A message that somebody made by hand.
    let connection = vhost.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel
        .basic_publish(EXCHANGE.into(), "".into(), options, b"by hand", properties)
        .await
        .unwrap();
    alarms.goes_off("RookeryDeadLetters").await;

    be_full(&log).await;
    let posts = (0..100).map(|_| client.post("/api/tweets", Some(ada), json!({ "content": "no" })));
    for refused in join_all(posts).await {
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    alarms.goes_off("RookeryDatabaseFull").await;
    alarms.goes_off("RookeryRefusesRequests").await;
    sqlx::query("drop trigger is_full on events").execute(&log).await.unwrap();

    // A statement that PostgreSQL refuses, because somebody changed a table under it.
    assert_eq!(client.get(&format!("/api/tweets/{tweet}"), None).await.status, StatusCode::OK);
    sqlx::query("alter table tweets alter column content type varchar(500)")
        .execute(&log)
        .await
        .unwrap();
    let failed = client.get(&format!("/api/tweets/{tweet}"), None).await;
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR, "{failed:?}");
    alarms.goes_off("RookeryFails").await;

    alarms.goes_off_while_shut("RookeryReplicaLeftOut", &replica_gate).await;
    alarms.goes_off_while_shut("RookeryDatabaseAway", &database_gate).await;
    alarms.would_hear_of_a_full_disk().await;
    // That one takes a RabbitMQ of its own, see below.
    alarms.heard.insert("RookeryBrokerBlocked".to_owned());
    let all = alarms.prometheus.alerts().await.into_iter().map(|alert| alert.name);
    assert_eq!(all.collect::<BTreeSet<_>>(), alarms.heard);

    // And the one who looks at the dashboard sees something in each panel.
    for (panel, expression) in dashboard_queries() {
        let found = alarms.prometheus.query(&expression).await;
        assert!(!found.is_empty(), "{panel}: {expression}");
    }

    seen.extend(served(&at_api).await);
    seen.extend(served(&at_projector).await);
    let declared: BTreeMap<_, _> =
        declared().map(|metric| (metric.name.to_owned(), metric.kind.name().to_owned())).collect();
    // What is not served is declared in vain, what is not declared is documented nowhere.
    assert_eq!(seen, declared);
    api.kill().await;
    projector.kill().await;
    log.close_idle();
    vhost.remove().await;
}

/// Registers them, and waits until feeds have them.
async fn four_readers_of(client: &Rookery, author: UserId) {
    for number in 0..4 {
        let reader = client.register(&format!("reader_{number}")).await;
        let position = client.follow(reader, author).await;
        client.feed(author, position).await;
    }
}

/// Kills a rebuild in the middle and returns what it has measured until then.
async fn kill_a_rebuild(log: &Connections, url: &str, address: &str) -> BTreeMap<String, String> {
    // It cannot be swapped in while this transaction reads.
    let reader = reading(log, "feed_items").await;
    let variables = [("DATABASE_URL", url), ("REBUILD_METRICS_BIND", address)];
    let mut rebuild = Process::start("projector", &["rebuild"], &variables);
    until("it has said how far it is", async || {
        progress::stored(log, HomeFeeds::LAYOUT).await.ok()?
    })
    .await;
    let seen = served(address).await;
    rebuild.kill().await;
    drop(reader);
    seen
}

/// Makes the log's server say that its disk is full, as it says it.
async fn be_full(log: &Connections) {
    let mut lent = log.lend().await.unwrap();
    sqlx::raw_sql(
        "create function is_full() returns trigger language plpgsql as \
         $$ begin raise exception 'could not extend file' using errcode = 'disk_full'; end $$; \
         create trigger is_full before insert on events execute function is_full()",
    )
    .execute(&mut *lent)
    .await
    .unwrap();
    lent.give_back();
}

/// Without waiting for RabbitMQ.
fn start_projector_alone(database_url: &str, amqp_url: &str, measured: &[(&str, &str)]) -> Process {
    let variables = [("DATABASE_URL", database_url), ("AMQP_URL", amqp_url), ("FAN_OUT_ROWS", "2")];
    Process::start("projector", &["run"], &[&variables, measured].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_disk_is_heard_of_and_feeds_go_on() {
    let own = match OwnBroker::start("broker-without-disk") {
        Ok(own) => own,
        Err(why) => return println!("did not run: {why}"),
    };
    own.kill();
    own.start_again_wanting_disk("1000000GB");
    let database = TestDatabase::create().await;
    let [at_api, at_projector] = [(); 2].map(|()| free_address());
    let variables = [("API_METRICS_BIND", at_api.as_str())];
    let (mut api, client) = start_api(&database.url, &own.url, &variables, &[]).await;
    let variables = [("PROJECTOR_METRICS_BIND", at_projector.as_str())];
    let mut projector = start_projector_alone(&database.url, &own.url, &variables);
    let prometheus = Prometheus::watching(&at_api, &at_projector).await;
    let mut alarms = Alarms { prometheus, heard: BTreeSet::new() };

    let ada = client.register("ada").await;
    let tweet = client.tweet(ada, "hello").await;
    alarms.goes_off("RookeryBrokerBlocked").await;
    assert_eq!(client.feed(ada, Position(tweet.0)).await, [tweet]);
    api.kill().await;
    projector.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_with_an_address_of_their_own_are_not_where_the_world_is() {
    let (database, vhost) = (TestDatabase::create().await, Vhost::create().await);
    let [at_api, at_relay] = [(); 2].map(|()| free_address());
    let variables = [("API_METRICS_BIND", at_api.as_str())];
    let (mut api, client) = start_api(&database.url, &vhost.url, &variables, &["--no-relay"]).await;
    assert_eq!(client.get("/metrics", None).await.status, StatusCode::NOT_FOUND);
    assert!(served(&at_api).await.contains_key("rookery_appended_events_total"));

    // A relay alone has nothing else to be reached by.
    let variables = [
        ("DATABASE_URL", database.url.as_str()),
        ("AMQP_URL", vhost.url.as_str()),
        ("API_METRICS_BIND", at_relay.as_str()),
    ];
    let mut relay = Process::start("api", &["--no-http"], &variables);
    relay.logged("relay started").await;
    let ada = client.register("ada").await;
    client.tweet(ada, "hello").await;
    until("the relay alone says how far it is", async || {
        let answer = reqwest::get(format!("http://{at_relay}/metrics")).await.ok()?;
        let text = answer.text().await.ok()?;
        let is_there = |line: &str| text.lines().any(|found| found == line);
        (is_there("rookery_relay_position 2") && is_there("rookery_relay_lag_events 0"))
            .then_some(())
    })
    .await;
    assert!(!served(&at_relay).await.contains_key("rookery_projector_lag_seconds"));

    let taken = run("api", &["--no-http"], &variables).await;
    let words = String::from_utf8_lossy(&taken.stderr);
    assert_eq!(taken.status.code(), Some(1), "{words}");
    assert!(words.contains(&format!("the metrics cannot be served on {at_relay}")), "{words}");
    api.kill().await;
    relay.kill().await;
    vhost.remove().await;
}

/// The table of `docs/metrics.md`, from the code.
fn table() -> String {
    let mut table = String::new();
    let groups = [("both programs", OF_BOTH), ("api", OF_THE_API), ("projector", OF_THE_PROJECTOR)];
    for (program, metrics) in groups {
        writeln!(table, "\n### {program}\n\n| name | kind | labels | meaning |\n|---|---|---|---|")
            .unwrap();
        for metric in metrics {
            let Metric { name, kind, labels, values, help } = metric;
            let labels = match (labels, values) {
                ([], _) => String::new(),
                (labels, []) => labels.join(", "),
                ([label, ..], values) => format!("{label}: {}", values.join(", ")),
            };
            writeln!(table, "| `{name}` | {} | {labels} | {help} |", kind.name()).unwrap();
        }
    }
    table
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn the_table_of_metrics_is_that_of_the_code() {
    const BEGIN: &str =
        "<!-- from the code, by UPDATE_DOCS=1 cargo test -p e2e the_table_of_metrics -->\n";
    let path = root().join("docs/metrics.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (prose, found) = text.split_once(BEGIN).expect("the line where the table begins");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{prose}{BEGIN}{}", table())).unwrap();
    } else {
        assert_eq!(found, table(), "UPDATE_DOCS=1 writes it");
    }
}

#[test]
fn names_follow_the_conventions() {
    let mut names = BTreeSet::new();
    for metric in declared() {
        assert!(names.insert(metric.name), "{} is declared twice", metric.name);
        assert!(metric.name.starts_with("rookery_"), "{}", metric.name);
        let is_total = metric.name.ends_with("_total");
        assert_eq!(is_total, metric.kind == Kind::Counter, "{}", metric.name);
        for unit in ["_ms", "_milliseconds", "_kb", "_mb"] {
            assert!(!metric.name.contains(unit), "{}: base units", metric.name);
        }
        assert!(metric.help.ends_with('.'), "{}: a sentence", metric.name);
    }
}

#[test]
fn each_alarm_says_what_to_do() {
    let rules = std::fs::read_to_string(root().join("monitoring/alerts.yml")).unwrap();
    let docs = std::fs::read_to_string(root().join("docs/alarms.md")).unwrap();
    let named: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let explained: BTreeSet<&str> =
        docs.lines().filter_map(|line| line.strip_prefix("## Rookery")).collect();
    let named: BTreeSet<&str> =
        named.into_iter().map(|name| name.trim_start_matches("Rookery")).collect();
    assert_eq!(named, explained);
}

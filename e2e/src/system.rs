//! The whole system: a database, a virtual host behind a gate, an api and a projector.

use std::net::SocketAddr;

use events::projection::ProjectionName;
use events::store::Connections;
use events::{Position, UserId};
use serde_json::json;

use crate::client::Rookery;
use crate::database::TestDatabase;
use crate::gate::Gate;
use crate::model::Model;
use crate::process::Process;
use crate::vhost::Vhost;
use crate::{RANGE_EVENTS, until};

/// See the module.
#[derive(Debug)]
pub struct System {
    pub database: TestDatabase,
    pub vhost: Vhost,
    /// Between the programs and RabbitMQ.
    pub gate: Gate,
    pub api: Process,
    pub projector: Process,
    pub client: Rookery,
    pub log: Connections,
}

impl System {
    /// Starts everything and waits until it is ready.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, with more `arguments` for `projector run`.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let database = TestDatabase::create().await;
        let vhost = Vhost::create().await;
        let gate = gate_to(&vhost).await;
        let (api, client) = start_api(&database.url, &through(&vhost, &gate), &[], &[]).await;
        let projector =
            start_projector(&database.url, &through(&vhost, &gate), &[], arguments).await;
        let log = database.pool().await;
        Self { database, vhost, gate, api, projector, client, log }
    }

    /// The broker's URL, through the gate.
    #[must_use]
    pub fn amqp_url(&self) -> String {
        through(&self.vhost, &self.gate)
    }

    /// One more api beside the first.
    pub async fn another_api(&self, arguments: &[&str]) -> (Process, Rookery) {
        start_api(&self.database.url, &self.amqp_url(), &[], arguments).await
    }

    /// One more projector beside the first.
    pub async fn another_projector(&self) -> Process {
        start_projector(&self.database.url, &self.amqp_url(), &[], &[]).await
    }

    /// Starts the projector again after it was killed, and the api with it if that was too.
    pub async fn restart(&mut self, api_too: bool) {
        let amqp_url = self.amqp_url();
        if api_too {
            (self.api, self.client) = start_api(&self.database.url, &amqp_url, &[], &[]).await;
        }
        self.projector = start_projector(&self.database.url, &amqp_url, &[], &[]).await;
    }

    /// The end of the log.
    pub async fn head(&self) -> Position {
        events::store::read::head(&self.log).await.expect("the log is readable")
    }

    /// Waits until the read model has reached the end of the log.
    pub async fn caught_up(&self) -> Position {
        let head = self.head().await;
        until("the read model reaches the head", async || {
            let checkpoint = projector::checkpoint::load(&self.log).await.ok()?;
            (checkpoint.position >= head).then_some(head)
        })
        .await
    }

    /// Reads every feed to its end over HTTP, and everyone's counts, and holds them against the definition.
    pub async fn every_feed_is_exact(&self) {
        self.every_feed_alone_is_exact().await;
        let head = self.head().await;
        let model = Model::of_log(&self.log).await;
        for user in &model.users {
            let counts = self.client.counts(*user, head).await;
            assert_eq!(counts, json!(model.counts(*user)), "the counts of user {user}");
        }
    }

    /// The same without the counts: for when nobody counts.
    pub async fn every_feed_alone_is_exact(&self) {
        let head = self.caught_up().await;
        let model = Model::of_log(&self.log).await;
        for reader in &model.users {
            let feed = self.client.feed(*reader, head).await;
            assert_eq!(feed, model.feed(*reader), "the feed of user {reader}");
        }
    }

    /// How many rows the feed of `reader` keeps.
    pub async fn kept_rows(&self, reader: UserId) -> i64 {
        sqlx::query_scalar("select count(*) from feed_items where user_id = $1")
            .bind(reader.0)
            .fetch_one(&self.log)
            .await
            .expect("the read model is readable")
    }

    /// Ends everything.
    pub async fn stop(mut self) {
        self.api.kill().await;
        self.projector.kill().await;
        self.log.close_idle();
        self.vhost.remove().await;
    }
}

/// Starts an api on a free port and waits until it listens.
pub async fn start_api(
    database_url: &str,
    amqp_url: &str,
    more_variables: &[(&str, &str)],
    arguments: &[&str],
) -> (Process, Rookery) {
    let range_events = RANGE_EVENTS.to_string();
    let variables = [
        ("DATABASE_URL", database_url),
        ("AMQP_URL", amqp_url),
        ("BIND", "127.0.0.1:0"),
        ("LOG_RANGE_EVENTS", &range_events),
    ];
    let variables = [&variables, more_variables].concat();
    let mut api = Process::start("api", arguments, &variables);
    let listening = api.logged("listening").await;
    let address = listening["http.address"].as_str().expect("it says where").to_owned();
    (api, Rookery::at(format!("http://{address}")))
}

/// How many readers a tweet reaches at a time: so few that fan-outs are under way all the time.
const FAN_OUT_ROWS: &str = "2";

/// So few readers make an author's tweets pulled.
const PULL_FROM: &str = "4";

/// Starts a projector and waits until it leads or stands by.
pub async fn start_projector(
    database_url: &str,
    amqp_url: &str,
    more_variables: &[(&str, &str)],
    arguments: &[&str],
) -> Process {
    let variables = [
        ("DATABASE_URL", database_url),
        ("AMQP_URL", amqp_url),
        ("FAN_OUT_ROWS", FAN_OUT_ROWS),
        ("PULL_FROM", PULL_FROM),
    ];
    let variables = [&variables, more_variables].concat();
    let arguments: Vec<&str> = [&["run"], arguments].concat();
    let mut projector = Process::start("projector", &arguments, &variables);
    let first = if arguments.contains(&ProjectionName::Counts.name()) {
        ProjectionName::Counts
    } else {
        ProjectionName::Feed
    };
    projector.logged_any(&[&format!("subscribed to {}", first.queue()), "standing by"]).await;
    projector
}

async fn gate_to(vhost: &Vhost) -> Gate {
    let (address, _) = address_and_path(&vhost.url);
    let target: SocketAddr = tokio::net::lookup_host(address)
        .await
        .expect("the broker's host has an address")
        .next()
        .expect("at least one");
    Gate::to(target).await
}

fn through(vhost: &Vhost, gate: &Gate) -> String {
    let (address, _) = address_and_path(&vhost.url);
    vhost.url.replace(address, &gate.address.to_string())
}

fn address_and_path(url: &str) -> (&str, &str) {
    let (_, rest) = url.split_once('@').expect("an AMQP URL with a user");
    rest.split_once('/').expect("an AMQP URL with a virtual host")
}

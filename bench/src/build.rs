//! A build of Rookery that runs: its programs, a database and a virtual host of its own, and a data set.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, ensure};
use e2e::database::TestDatabase;
use e2e::process::{Process, run};
use e2e::until;
use e2e::vhost::Vhost;
use futures_util::future::try_join_all;
use hyper::{Method, StatusCode};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::load::{Call, Connection};

/// Of this many users each follows one.
const FOLLOWS_ONE_IN: u32 = 5;

const TWEETS_EACH: u32 = 20;

/// Connections that make the data set.
const LOADERS: u32 = 32;

/// How large the data set is.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub users: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Build {
    pub address: SocketAddr,
    database: TestDatabase,
    vhost: Vhost,
    api: Process,
    projector: Process,
    folder: String,
    /// Events that were acknowledged.
    pub acknowledged: u64,
}

impl Build {
    /// Starts the programs in `folder` and makes the data set over HTTP.
    pub async fn start(folder: &Path, sizes: Sizes) -> anyhow::Result<Self> {
        let folder = std::path::absolute(folder)?.to_string_lossy().into_owned();
        for program in ["api", "projector"] {
            let path = format!("{folder}/{program}");
            ensure!(Path::new(&path).exists(), "there is no {path}: cargo build --release");
        }
        let (database, vhost) = (TestDatabase::create().await, Vhost::create().await);
        let variables = [("DATABASE_URL", database.url.as_str()), ("AMQP_URL", vhost.url.as_str())];
        let bound = [&variables, [("BIND", "127.0.0.1:0")].as_slice()].concat();
        let mut api = Process::start(&format!("{folder}/api"), &[], &bound);
        let listening = api.logged("listening").await;
        let address = listening["http.address"].as_str().context("it says where")?.parse()?;
        let mut projector = Process::start(&format!("{folder}/projector"), &["run"], &variables);
        projector.logged("subscribed").await;
        let mut build = Self { address, database, vhost, api, projector, folder, acknowledged: 0 };
        build.fill(sizes).await?;
        build.caught_up().await?;
        Ok(build)
    }

    async fn fill(&mut self, Sizes { users }: Sizes) -> anyhow::Result<()> {
        let register = |number: u32| {
            let (username, email) = (format!("user{number}"), format!("{number}@example.org"));
            post("/api/users/", None, &json!({ "username": username, "email": email }))
        };
        self.send((1..=users).map(|number| (register(number), StatusCode::CREATED))).await?;
        let follow = |follower: u32, followed: u32| {
            let body = json!({ "followed_id": followed });
            (post("/api/subscriptions/follow", Some(follower), &body), StatusCode::OK)
        };
        let pairs = (1..=users).flat_map(|follower| {
            (1..=users)
                .filter(move |followed| {
                    *followed != follower && (follower + followed) % FOLLOWS_ONE_IN == 0
                })
                .map(move |followed| follow(follower, followed))
        });
        self.send(pairs).await?;
        let tweets = (0..TWEETS_EACH).flat_map(|number| {
            (1..=users).map(move |author| (tweet(author, u64::from(number)), StatusCode::CREATED))
        });
        self.send(tweets).await
    }

    /// Sends `calls` over some connections at once, each of which has to be answered as it says.
    async fn send(
        &mut self,
        calls: impl Iterator<Item = (Call, StatusCode)>,
    ) -> anyhow::Result<()> {
        let calls: Vec<_> = calls.collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let loaders = (0..LOADERS).map(async |_| {
            let mut connection = Connection::open(self.address).await?;
            while let Some((call, expected)) =
                calls.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
            {
                let (status, body) = connection.send(call).await?;
                let body = String::from_utf8_lossy(&body);
                ensure!(status == *expected, "{} {}: {status}: {body}", call.method, call.path);
            }
            Ok(())
        });
        try_join_all(loaders).await?;
        self.acknowledged += calls.len() as u64;
        Ok(())
    }

    /// Waits until the read model has everything, for as long as it comes closer.
    pub async fn caught_up(&self) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.database.url).await?;
        let mut lag = i64::MAX;
        while lag > 0 {
            let closer = until("the read model comes closer", async || {
                let look =
                    "select max(position) - (select max(position) from checkpoint) from events";
                let now: i64 = sqlx::query_scalar(look).fetch_one(&mut connection).await.ok()?;
                (now < lag).then_some(now)
            });
            lag = closer.await;
        }
        Ok(())
    }

    /// Holds what was acknowledged against the log, and everything against everything else, and ends.
    pub async fn prove_and_stop(mut self) -> anyhow::Result<()> {
        self.caught_up().await?;
        let mut connection = PgConnection::connect(&self.database.url).await?;
        let stored: i64 =
            sqlx::query_scalar("select count(*) from events").fetch_one(&mut connection).await?;
        let acknowledged = self.acknowledged;
        ensure!(
            stored.unsigned_abs() == acknowledged,
            "{acknowledged} commands were acknowledged, {stored} events stored"
        );
        let variables = [("DATABASE_URL", self.database.url.as_str())];
        let verified = run(&format!("{}/projector", self.folder), &["verify"], &variables).await;
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        ensure!(verified.status.success(), "{}: verify says:\n{said}", self.folder);
        self.api.kill().await;
        self.projector.kill().await;
        self.vhost.remove().await;
        Ok(())
    }
}

/// A POST of `body` by `caller`.
pub fn post(path: &str, caller: Option<u32>, body: &serde_json::Value) -> Call {
    let (path, body) = (path.to_owned(), Some(body.to_string()));
    Call { method: Method::POST, path, caller: caller.map(i64::from), body }
}

/// A tweet by `author`.
pub fn tweet(author: u32, number: u64) -> Call {
    post("/api/tweets/", Some(author), &json!({ "content": format!("tweet {number} of {author}") }))
}

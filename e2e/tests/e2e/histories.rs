//! A log that was restored from a backup and grew again is another one, whatever its length.

use std::process::Output;

use e2e::client::Rookery;
use e2e::database::TestDatabase;
use e2e::model::Model;
use e2e::process::{Process, run};
use e2e::system::{start_api, start_projector};
use e2e::until;
use e2e::vhost::Vhost;
use events::projection::PROJECTIONS;
use events::store::Connections;
use events::{Position, TweetId, UserId};
use projector::checkpoint;
use reqwest::StatusCode;

/// A log, a read model in a database of its own, and a broker.
struct Site {
    log: TestDatabase,
    feed: TestDatabase,
    vhost: Vhost,
}

impl Site {
    async fn new() -> Self {
        let (log, feed) = (TestDatabase::create().await, TestDatabase::create().await);
        Self { log, feed, vhost: Vhost::create().await }
    }

    /// The same site after its log was lost, and restored.
    fn restored(self, backup: TestDatabase) -> Self {
        Self { log: backup, ..self }
    }

    async fn api(&self) -> (Process, Rookery) {
        let feed = [("FEED_DATABASE_URL", self.feed.url.as_str())];
        start_api(&self.log.url, &self.vhost.url, &feed, &[]).await
    }

    async fn projector(&self) -> Process {
        let feed = [("FEED_DATABASE_URL", self.feed.url.as_str())];
        start_projector(&self.log.url, &self.vhost.url, &feed, &[]).await
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let variables = [
            ("DATABASE_URL", self.log.url.as_str()),
            ("FEED_DATABASE_URL", self.feed.url.as_str()),
            ("AMQP_URL", self.vhost.url.as_str()),
        ];
        run("projector", arguments, &variables).await
    }

    /// Waits until the read models are at `position`.
    async fn applied(&self, position: Position) {
        for connections in [self.feed.pool().await, self.feed.counts().await] {
            until("the read model gets there", async || {
                let checkpoint = checkpoint::load(&connections).await.ok()?;
                (checkpoint.position == position).then_some(())
            })
            .await;
        }
    }

    async fn feeds_are_exact(&self, rookery: &Rookery, log: &Connections, head: Position) {
        let model = Model::of_log(log).await;
        for reader in &model.users {
            assert_eq!(rookery.feed(*reader, head).await, model.feed(*reader), "user {reader}");
        }
        let verified = self.run(&["verify"]).await;
        assert!(verified.status.success(), "{}", said(&verified));
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// Ada and bob, who reads her: five events.
async fn five_events(rookery: &Rookery) -> (UserId, UserId) {
    let (ada, bob) = (rookery.register("ada").await, rookery.register("bob").await);
    rookery.follow(bob, ada).await;
    rookery.tweet(ada, "the first").await;
    rookery.tweet(ada, "the last before the backup").await;
    (ada, bob)
}

/// A site with five events, all applied, then stopped; and a backup of its log.
async fn backed_up() -> (Site, TestDatabase, UserId, UserId) {
    let site = Site::new().await;
    let (mut api, rookery) = site.api().await;
    let mut projector = site.projector().await;
    let (ada, bob) = five_events(&rookery).await;
    site.applied(Position(5)).await;
    projector.kill().await;
    api.kill().await;
    let backup = site.log.backup().await;
    (site, backup, ada, bob)
}

async fn tweets(rookery: &Rookery, author: UserId, count: usize) -> Position {
    let mut last = TweetId(0);
    for number in 0..count {
        last = rookery.tweet(author, &format!("tweet {number}")).await;
    }
    Position(last.0)
}

/// What everyone says while the read model is of another history than the log.
async fn everyone_refuses(site: &Site, rookery: &Rookery, bob: UserId) {
    let refused = until("reads are refused", async || {
        let answer = rookery.get("/api/feed", Some(bob)).await;
        (answer.status == StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
    })
    .await;
    let name = "urn:rookery:problem:read-model-of-another-history";
    assert_eq!(refused.body["type"], name, "{}", refused.body);
    let ready = rookery.get("/health/ready", None).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let why = ready.body["feed_database"].as_str().unwrap();
    assert!(why.contains("another history"), "{}", ready.body);
    let commands: [&[&str]; 4] =
        [&["run"], &["status"], &["verify"], &["explain", "--user", "2", "--tweet", "4"]];
    for command in commands {
        let refused = site.run(command).await;
        assert_eq!(refused.status.code(), Some(1), "{command:?}: {}", said(&refused));
        assert!(said(&refused).contains("another history"), "{command:?}: {}", said(&refused));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_model_of_a_lost_history_is_refused_by_everyone_until_it_is_rebuilt() {
    let (site, backup, ada, bob) = backed_up().await;
    let (mut api, rookery) = site.api().await;
    let mut projector = site.projector().await;
    tweets(&rookery, ada, 3).await;
    site.applied(Position(8)).await;
    projector.kill().await;
    api.kill().await;
    // What the lost history still has in the broker is another test's.
    let Site { feed, log: lost, vhost } = site;
    vhost.remove().await;
    drop(lost);
    let site = Site { log: backup, feed, vhost: Vhost::create().await };

    // Shorter than what was read from it, and after it has grown longer.
    let (mut api, rookery) = site.api().await;
    everyone_refuses(&site, &rookery, bob).await;
    let head = tweets(&rookery, ada, 5).await;
    assert_eq!(head, Position(10), "commands go on");
    everyone_refuses(&site, &rookery, bob).await;
    api.kill().await;
    let (mut api, rookery) = site.api().await;
    everyone_refuses(&site, &rookery, bob).await;

    let rebuilt = site.run(&["rebuild"]).await;
    assert!(rebuilt.status.success(), "{}", said(&rebuilt));
    until("reads are answered again", async || {
        let answer = rookery.get("/api/feed", Some(bob)).await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
    let log = site.log.pool().await;
    site.feeds_are_exact(&rookery, &log, head).await;
    let back = site.run(&["rollback"]).await;
    assert_eq!(back.status.code(), Some(1), "{}", said(&back));
    assert!(said(&back).contains("another history"), "{}", said(&back));

    let mut projector = site.projector().await;
    let head = tweets(&rookery, ada, 2).await;
    site.feeds_are_exact(&rookery, &log, head).await;
    projector.kill().await;
    api.kill().await;
    site.vhost.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_lost_history_are_set_aside() {
    let (site, backup, ada, bob) = backed_up().await;
    // These wait in the queue when the log is lost.
    let (mut api, rookery) = site.api().await;
    let head = tweets(&rookery, ada, 3).await;
    let log = site.log.pool().await;
    until("they are published", async || {
        let outbox = events::store::outbox::load(&log).await.ok()?;
        (outbox.position == head).then_some(())
    })
    .await;
    api.kill().await;
    let site = site.restored(backup);

    let (mut api, rookery) = site.api().await;
    rookery.tweet(bob, "another sixth").await;
    let mut projector = site.projector().await;
    let head = tweets(&rookery, bob, 4).await;
    let log = site.log.pool().await;
    site.feeds_are_exact(&rookery, &log, head).await;
    let complaints = projector.log();
    for projection in PROJECTIONS {
        let of_it = complaints.iter().filter(|line| line.contains(projection.dead_letters()));
        let set_aside = of_it.filter(|line| line.contains("another history")).count();
        assert_eq!(set_aside, 3, "{complaints:#?}");
    }
    projector.kill().await;
    api.kill().await;
    site.vhost.remove().await;
}

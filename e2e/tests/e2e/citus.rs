//! The read model on a real Citus, where that is installed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use api::views::{Page, feed};
use e2e::citus::Citus;
use e2e::client::Answer;
use e2e::database::TestDatabase;
use e2e::exact::feeds_are_exact;
use e2e::history::{given, history};
use e2e::live::LiveFeed;
use e2e::model::Model;
use e2e::process::run;
use e2e::system::{start_api, start_projector};
use e2e::until;
use e2e::vhost::Vhost;
use events::store::schema::Schema;
use events::store::{Connections, Database};
use events::{Event, Position, RecordedEvent, UserId};
use projector::bounds::Bounds;
use projector::checkpoint::Checkpoint;
use projector::feed::Feeds;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, Row};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::projection::{is_exact_however_it_arrives, is_verified, read_by_many};
use super::stage::{follow, register, tweet};

/// A log, and the read model on several nodes.
struct Nodes {
    citus: Citus,
    _database: TestDatabase,
    log: Connections,
    feed: Connections,
}

impl Nodes {
    async fn start() -> Option<Self> {
        let citus = Citus::start().await?;
        let database = TestDatabase::migrated().await;
        let feed = Database::parse("FEED_DATABASE_URL", &citus.url(), "rookery test").unwrap();
        let feed = feed.connect(6).await.unwrap();
        Schema::Feed.migrate(&feed).await.unwrap();
        let log = database.pool().await;
        Some(Self { citus, _database: database, log, feed })
    }

    fn projection(&self, bounds: Bounds) -> Feeds {
        let token = CancellationToken::new();
        Feeds::of_feeds(self.log.clone(), self.feed.clone(), bounds, token)
    }

    /// Appends `events` and applies them in one transaction.
    async fn happen(&self, projection: &Feeds, at: &mut Checkpoint, events: Vec<Event>) {
        let head = Position(given(&self.log, events).await.len().try_into().unwrap());
        projection.apply_from_log(at, head).await.unwrap();
    }

    /// The newest page of `reader` is what it was at the position that it names, which is returned.
    async fn page_is_exact(
        &self,
        log: &[RecordedEvent],
        reader: UserId,
    ) -> Result<Position, sqlx::Error> {
        let page = Page { skip: 0, limit: 20 };
        let found = feed::page(&self.feed, reader, feed::NEWEST, page).await?;
        let model = Model::of(&log[..usize::try_from(found.position.0).unwrap()]);
        let expected = model.users.contains(&reader).then(|| {
            let feed = model.feed(reader);
            feed.into_iter().take(20).collect::<Vec<_>>()
        });
        let items = found.value.map(|items| items.iter().map(|item| item.tweet_id).collect());
        assert_eq!(items, expected, "the page of {reader} at {}", found.position);
        Ok(found.position)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_are_exact_on_several_nodes() {
    let Some(nodes) = Nodes::start().await else { return };
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let bounds = read_by_many(&mut random);
    is_exact_however_it_arrives(&mut random, 500, &nodes.log, &nodes.feed, bounds).await;
}

/// G7 on several nodes: a transaction becomes visible on one node after the other, and what follows it waits for the last.
#[tokio::test(flavor = "multi_thread")]
async fn between_the_commits_of_two_nodes_each_page_is_of_one_position() {
    const STAR: UserId = UserId(1);
    let Some(mut nodes) = Nodes::start().await else { return };
    // Citus itself makes writers wait for the first of the workers, by address: here the other is late.
    let gates = [nodes.citus.gate_before(0).await, nodes.citus.gate_before(1).await];
    let gate = gates.iter().max_by_key(|gate| gate.address.port()).unwrap();
    let projection = nodes.projection(Bounds::default());
    let mut at = projection.take_over().await.unwrap();
    let readers: Vec<UserId> = (2..=20).map(UserId).collect();
    let users = (1..=20).map(register).collect();
    nodes.happen(&projection, &mut at, users).await;
    nodes.happen(&projection, &mut at, vec![tweet(STAR)]).await;

    // Everybody follows the star; on a worker that is prepared, and its word to commit does not come.
    gate.hold_back_then_cut(b"COMMIT PREPARED");
    let follows = readers.iter().map(|reader| follow(*reader, STAR)).collect();
    nodes.happen(&projection, &mut at, follows).await;
    let log = given(&nodes.log, vec![tweet(STAR)]).await;
    let mut positions = BTreeSet::new();
    for reader in &readers {
        positions.insert(nodes.page_is_exact(&log, *reader).await.unwrap());
    }
    assert_eq!(positions, BTreeSet::from([Position(21), Position(40)]), "some are not there yet");

    // The next tweet is for all of them, and so waits.
    let mut later = at;
    let next = projection.apply_from_log(&mut later, Position(41));
    assert!(timeout(Duration::from_secs(2), next).await.is_err(), "it goes on without them");
    for reader in &readers {
        assert!(positions.contains(&nodes.page_is_exact(&log, *reader).await.unwrap()));
    }

    // Nor does a coordinator that crashes forget.
    nodes.citus.coordinator.stop_at_once();
    nodes.citus.coordinator.start_again().await;
    nodes.feed.close_idle();
    gate.release().await;
    let projection = nodes.projection(Bounds::default());
    until("it goes on", async || {
        let mut at = projection.take_over().await.ok()?;
        projection.apply_from_log(&mut at, Position(41)).await.ok()
    })
    .await;
    feeds_are_exact(&nodes.feed, &Model::of(&log), None, &Model::of(&log)).await;
    is_verified(&nodes.log, &nodes.feed).await;
    nodes.citus.workers.clear();
}

/// Applies `log` transaction by transaction, whatever comes in between, while feeds are read without pause; `meanwhile` has its time.
/// Returns how many reads failed.
async fn exact_meanwhile(
    nodes: &Nodes,
    log: &[RecordedEvent],
    bounds: Bounds,
    meanwhile: impl Future<Output = ()>,
) -> usize {
    let (ended, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let write = async {
        let projection = nodes.projection(bounds);
        let head = Position(i64::try_from(log.len()).unwrap());
        let mut position = Position(0);
        while position < head {
            let Ok(mut at) = projection.take_over().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            position = at.position;
            while position < head {
                let to = Position((position.0 + 5).min(head.0));
                if projection.apply_from_log(&mut at, to).await.is_err() {
                    nodes.feed.close_idle();
                    break;
                }
                position = at.position;
            }
        }
    };
    let readers = (0..2).map(|seed| {
        let mut random = StdRng::seed_from_u64(seed);
        let (ended, failed) = (&ended, &failed);
        async move {
            while !ended.load(Ordering::Relaxed) {
                let reader = UserId(random.random_range(1..30));
                if nodes.page_is_exact(log, reader).await.is_err() {
                    failed.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    });
    let work = async {
        tokio::join!(write, meanwhile);
        ended.store(true, Ordering::Relaxed);
    };
    tokio::join!(work, futures_util::future::join_all(readers));
    let model = Model::of(log);
    feeds_are_exact(&nodes.feed, &model, None, &model).await;
    is_verified(&nodes.log, &nodes.feed).await;
    failed.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_crashes_in_the_middle_makes_no_page_wrong() {
    let Some(nodes) = Nodes::start().await else { return };
    let mut random = StdRng::seed_from_u64(7);
    let log = given(&nodes.log, history(&mut random, 600)).await;
    let bounds = read_by_many(&mut random);
    let crashes = async {
        for worker in [0, 1, 0] {
            let before = nodes.position().await;
            nodes.comes_to(Position((before.0 + 40).min(600))).await;
            nodes.citus.workers[worker].stop_at_once();
            tokio::time::sleep(Duration::from_millis(300)).await;
            nodes.citus.workers[worker].start_again().await;
        }
    };
    let failed = Box::pin(exact_meanwhile(&nodes, &log, bounds, crashes)).await;
    assert!(failed > 0, "nobody read while a worker was away");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_worker_takes_its_share_while_feeds_are_written_and_read() {
    let Some(mut nodes) = Nodes::start().await else { return };
    let mut random = StdRng::seed_from_u64(11);
    let log = given(&nodes.log, history(&mut random, 600)).await;
    let bounds = read_by_many(&mut random);
    nodes.citus.add_worker().await;
    let rebalancing = async {
        nodes.comes_to(Position(50)).await;
        nodes.citus.rebalance().await;
    };
    let failed = Box::pin(exact_meanwhile(&nodes, &log, bounds, rebalancing)).await;
    assert_eq!(failed, 0, "reads failed");
    let shards = nodes.citus.shards_of("feed_items").await;
    assert_eq!(shards, [2, 2, 2], "each worker has its share");
}

/// Feeds, streams, lists and commands, as users and operators have them.
#[tokio::test(flavor = "multi_thread")]
async fn the_whole_service_runs_on_several_nodes() {
    let Some(citus) = Citus::start().await else { return };
    let (log, vhost, url) = (TestDatabase::create().await, Vhost::create().await, citus.url());
    let variables = [("FEED_DATABASE_URL", url.as_str())];
    let (_api, client) = start_api(&log.url, &vhost.url, &variables, &[]).await;
    let _projector = start_projector(&log.url, &vhost.url, &variables, &[]).await;
    let ada = client.register("ada").await;
    let mut readers = Vec::new();
    for number in 0..12 {
        let reader = client.register(&format!("reader{number}")).await;
        client.follow(reader, ada).await;
        readers.push(reader);
    }
    let first = client.tweet(ada, "the first").await;
    assert_eq!(client.feed(readers[0], Position(first.0)).await, [first]);
    let mut streams = Vec::new();
    for reader in &readers {
        streams.push(LiveFeed::open(&client, *reader, None).await);
    }
    let second = client.tweet(ada, "the second").await;
    for stream in &mut streams {
        assert_eq!(stream.take(1).await, [second]);
    }
    let at_second = async |path: String| {
        let request = client.request(Method::GET, &path, Some(ada));
        Answer::when_there(request.header("X-Min-Log-Position", second.0)).await
    };
    let followers = at_second(format!("/api/subscriptions/{ada}/followers")).await;
    assert_eq!(followers.body.as_array().unwrap().len(), readers.len(), "{followers:?}");
    let delivery = at_second(format!("/api/tweets/{second}/delivery")).await;
    let count = readers.len();
    assert_eq!(
        (&delivery.body["followers"], &delivery.body["feeds"]),
        (&json!(count), &json!(count))
    );

    let projector = async |arguments: &[&str]| {
        let urls = [("DATABASE_URL", log.url.as_str()), ("AMQP_URL", vhost.url.as_str())];
        let ended = run("projector", arguments, &[&urls[..], &variables].concat()).await;
        let said = String::from_utf8_lossy(&[&*ended.stdout, &*ended.stderr].concat()).into_owned();
        (ended.status.success(), said)
    };
    let is_rebuilt = AtomicBool::new(false);
    let posts = async {
        let mut last = second;
        while !is_rebuilt.load(Ordering::Relaxed) {
            last = client.tweet(ada, "while it is rebuilt").await;
            for reader in &readers {
                assert!(client.feed(*reader, Position(last.0)).await.contains(&last));
            }
        }
        last
    };
    let rebuilds = async {
        for command in [["rebuild", "feed"], ["rollback", "feed"]] {
            let (succeeded, said) = projector(&command).await;
            assert!(succeeded, "{said}");
        }
        is_rebuilt.store(true, Ordering::Relaxed);
    };
    let (last, ()) = tokio::join!(posts, rebuilds);
    let model = Model::of_log(&log.pool().await).await;
    for reader in &model.users {
        assert_eq!(client.feed(*reader, Position(last.0)).await, model.feed(*reader));
    }
    let (succeeded, said) = projector(&["verify"]).await;
    assert!(succeeded, "{said}");

    // A node that is away is named; its readers are refused, and the others read on.
    citus.workers[1].stop_at_once();
    let (_, said) = projector(&["status"]).await;
    let address = citus.workers[1].address;
    assert!(said.contains(&format!("node {address} of the feeds is away")), "{said}");
    let mut statuses = BTreeSet::new();
    for reader in &readers {
        statuses.insert(client.get("/api/feed/", Some(*reader)).await.status.as_u16());
    }
    assert_eq!(statuses, BTreeSet::from([200, 503]));
    citus.workers[1].start_again().await;
    let back = client.tweet(ada, "it is back").await;
    for reader in &readers {
        assert_eq!(client.feed(*reader, Position(back.0)).await.first(), Some(&back));
    }
    vhost.remove().await;
}

/// What is read and written of each reader is sent whole to where they are, and a page of one to one node.
#[tokio::test(flavor = "multi_thread")]
async fn statements_are_sent_whole_to_the_nodes() {
    const EVERY_SHARD: &str = "Task Count: 6";
    const ONE_SHARD: &str = "Task Count: 1";
    let Some(nodes) = Nodes::start().await else { return };
    let mut lent = nodes.feed.lend().await.unwrap();
    let pairs = "('{5, 6}', '{7, 8}')";
    let (arrays, two) = ("bigint[], bigint[]", "bigint, bigint, bigint, bigint");
    for (name, statement, types, arguments, tasks) in [
        (
            "fan-out",
            include_str!("../../../projector/src/feed/read_model/feed_items/fan_out.sql"),
            arrays,
            pairs,
            EVERY_SHARD,
        ),
        (
            "backfill",
            include_str!("../../../projector/src/feed/read_model/feed_items/backfill.sql"),
            "bigint[], bigint[], bigint, bigint, bigint",
            "('{5, 6}', '{7, 8}', 255, 5, null)",
            EVERY_SHARD,
        ),
        (
            "removal",
            include_str!(
                "../../../projector/src/feed/read_model/feed_items/remove_unfollowed_distributed.sql"
            ),
            arrays,
            pairs,
            EVERY_SHARD,
        ),
        (
            "step",
            include_str!("../../../projector/src/feed/read_model/fan_out/step.sql"),
            "bigint[], bigint, bigint, bigint, bigint",
            "('{1, 2}', 5, 6, 10, 255)",
            EVERY_SHARD,
        ),
        (
            "rows that come back",
            include_str!("../../../projector/src/feed/read_model/dormant/deliver.sql"),
            "bigint[], bigint",
            "('{5, 6}', null)",
            EVERY_SHARD,
        ),
        (
            "page",
            include_str!("../../../api/src/views/feed/page.sql"),
            two,
            "(5, 100, 0, 20)",
            ONE_SHARD,
        ),
        (
            "merged page",
            include_str!("../../../api/src/views/feed/page_merged.sql"),
            two,
            "(5, 100, 0, 20)",
            ONE_SHARD,
        ),
        (
            "whole page",
            include_str!("../../../api/src/views/feed/page_whole.sql"),
            two,
            "(5, 100, 0, 20)",
            ONE_SHARD,
        ),
    ] {
        let prepare = format!("prepare planned ({types}) as {statement}");
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *lent).await.unwrap();
        let explain = format!("explain (verbose) execute planned {arguments}");
        let plan = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *lent).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|line| line.get(0)).collect();
        sqlx::raw_sql("deallocate planned").execute(&mut *lent).await.unwrap();
        let first =
            plan.iter().find(|line| line.contains("Task Count")).expect("it is distributed");
        assert!(first.contains(tasks), "{name}: {}", plan.join("\n"));
        // What was written is counted by the coordinator, and nothing else passes through it.
        let plan = plan.join("\n");
        assert!(!plan.contains("pull to coordinator") && !plan.contains("repartition"), "{plan}");
        let counted = usize::from(statement.contains("returning"));
        assert_eq!(plan.matches("Distributed Subplan").count(), counted, "{name}: {plan}");
    }
}

impl Nodes {
    async fn position(&self) -> Position {
        let loaded = until("the coordinator answers", async || {
            projector::checkpoint::load(&self.feed).await.ok()
        });
        loaded.await.position
    }

    async fn comes_to(&self, position: Position) {
        until("the projection gets there", async || {
            (self.position().await >= position).then_some(())
        })
        .await;
    }
}

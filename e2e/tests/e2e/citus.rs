//! The read model on a real Citus, where that is installed.

mod plans;
mod service;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use api::views::{Page, feed, follows};
use e2e::citus::Citus;
use e2e::database::TestDatabase;
use e2e::exact::feeds_are_exact;
use e2e::history::{given, history};
use e2e::model::Model;
use e2e::until;
use events::store::schema::Schema;
use events::store::{Connections, Database};
use events::{Event, Position, RecordedEvent, UserId};
use projector::bounds::Bounds;
use projector::checkpoint::Checkpoint;
use projector::feed::Feeds;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
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

    // What is read of many readers is of the position that every node has.
    let page = Page { skip: 0, limit: 20 };
    let followers = follows::followers(&nodes.feed, STAR, UserId(0), page).await.unwrap();
    assert_eq!(followers.position, Position(21));
    let news = feed::news(&nodes.feed, &readers, Position(20), Position(40)).await.unwrap();
    assert_eq!(news.position, Position(21));

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

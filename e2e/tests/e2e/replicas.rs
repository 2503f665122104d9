//! Home feeds that are read from replicas: exact at the position they name, and nobody's time goes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::client::{Answer, Rookery};
use e2e::cluster::Cluster;
use e2e::database::TestDatabase;
use e2e::gate::Gate;
use e2e::system::{start_api, start_projector};
use e2e::until;
use e2e::vhost::Vhost;
use events::{Position, TweetId, UserId};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// So many items are on a page where nothing else is asked for.
const PAGE: usize = 20;

/// What a reader was given: a position and what was in the feed there.
type Seen = (Position, Vec<TweetId>);

/// Somebody who reads all the time, by pages alone, and what they saw. With the read model's primary away they may be asked to
/// come back; otherwise each page is answered, and no page is older than the one before.
fn read_on(
    client: &Rookery,
    reader: UserId,
    is_primary_away: &Arc<AtomicBool>,
    stop: &CancellationToken,
) -> JoinHandle<Vec<Seen>> {
    let (client, away, stop) = (client.clone(), Arc::clone(is_primary_away), stop.clone());
    tokio::spawn(async move {
        let mut seen: Vec<Seen> = Vec::new();
        while !stop.is_cancelled() {
            let may_fail = away.load(Ordering::SeqCst);
            let page = client.get("/api/feed", Some(reader)).await;
            if page.status == StatusCode::SERVICE_UNAVAILABLE
                && (may_fail || away.load(Ordering::SeqCst))
            {
                continue;
            }
            assert_eq!(page.status, StatusCode::OK, "{}", page.body);
            let position = page.position.unwrap();
            if let Some((before, _)) = seen.last() {
                assert!(position >= *before, "{reader} was at {before} and is at {position}");
                if position == *before {
                    continue;
                }
            }
            let ids = page.ids();
            seen.push((position, ids));
        }
        seen
    })
}

/// Whether feeds are read from the replica at `address`.
async fn in_use(client: &Rookery, address: SocketAddr) -> bool {
    let metrics = client.get("/metrics", None).await.body;
    let line = format!("rookery_feed_replica_in_use{{replica=\"{address}\"}} 1");
    metrics.as_str().unwrap().lines().any(|one| one == line)
}

async fn comes_in(client: &Rookery, address: SocketAddr) {
    until("the replica is in use", async || in_use(client, address).await.then_some(())).await;
}

async fn is_left_out(client: &Rookery, address: SocketAddr) {
    let out = async || (!in_use(client, address).await).then_some(());
    until("the replica is left out", out).await;
}

/// How many reads were passed on from the replica at `address`.
async fn passed_on(client: &Rookery, address: SocketAddr) -> u64 {
    let metrics = client.get("/metrics", None).await.body;
    let name = format!("rookery_feed_reads_passed_on_total{{replica=\"{address}\"}} ");
    let count = metrics.as_str().unwrap().lines().find_map(|line| line.strip_prefix(&name));
    count.unwrap().parse().unwrap()
}

async fn set(server: &Cluster, setting: &'static str) {
    let url = server.url_through(server.address);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for statement in [setting, "select pg_reload_conf()"] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
}

/// Has a standby apply what it hears a little later, so that it is never as far as what others have answered.
async fn lag_behind(standby: &Cluster) {
    set(standby, "alter system set recovery_min_apply_delay = '100ms'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobodys_time_goes_back_whatever_becomes_of_a_replica() {
    let Some(primary) = Cluster::primary().await else {
        return println!("did not run: PostgreSQL's programs are not installed here");
    };
    let link = Gate::to(primary.address).await;
    let (one, other) = (primary.standby_through(link.address).await, primary.standby().await);
    lag_behind(&one).await;
    let (to_one, to_other) = (Gate::to(one.address).await, Gate::to(other.address).await);
    let (gate, vhost) = (Gate::to(primary.address).await, Vhost::create().await);
    let url = primary.url_through(gate.address);
    let replicas = [&to_one, &to_other].map(|replica| primary.url_through(replica.address));
    let variables = [("FEED_REPLICA_URLS", replicas.join(","))];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let (mut api, client) = start_api(&url, &vhost.url, &variables, &[]).await;
    let mut projector = start_projector(&url, &vhost.url, &[], &[]).await;

    let ada = client.register("ada").await;
    let names: Vec<String> = (0..6).map(|number| format!("reader{number}")).collect();
    let readers = join_all(names.iter().map(|name| client.register(name))).await;
    let followed = join_all(readers.iter().map(|reader| client.follow(*reader, ada))).await;
    for replica in [&to_one, &to_other] {
        comes_in(&client, replica.address).await;
    }
    for (reader, position) in readers.iter().zip(followed) {
        assert_eq!(client.feed(*reader, position).await, []);
    }

    let (is_primary_away, stop) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let reading: Vec<_> =
        readers.iter().map(|reader| read_on(&client, *reader, &is_primary_away, &stop)).collect();
    let writing_stops = CancellationToken::new();
    let writing = tokio::spawn({
        let (client, stop, readers) = (client.clone(), writing_stops.clone(), readers.clone());
        async move {
            let mut written = Vec::new();
            while !stop.is_cancelled() {
                let tweet = client.tweet(ada, &format!("number {}", written.len())).await;
                written.push(tweet);
                // Whoever asks for it has it, from whichever replica. Not each time: it takes as long as the replica lags.
                if written.len() % 7 == 0 {
                    let reader = readers[written.len() % readers.len()];
                    assert_eq!(client.feed(reader, Position(tweet.0)).await[0], tweet);
                }
            }
            written
        }
    });

    // One hears nothing of what is written, and then catches up.
    link.shut();
    is_left_out(&client, to_one.address).await;
    link.open();
    comes_in(&client, to_one.address).await;
    // One is gone without a word, and there again.
    to_other.fall_silent();
    is_left_out(&client, to_other.address).await;
    to_other.speak();
    comes_in(&client, to_other.address).await;
    // One crashes for good.
    other.stop_at_once();
    is_left_out(&client, to_other.address).await;

    // The primary crashes when the replica has everything, and that takes its place.
    writing_stops.cancel();
    let mut written = writing.await.unwrap();
    let last = *written.last().unwrap();
    for reader in &readers {
        assert_eq!(client.feed(*reader, Position(last.0)).await[0], last);
    }
    comes_in(&client, to_one.address).await;
    is_primary_away.store(true, Ordering::SeqCst);
    primary.stop_at_once();
    let of_one = readers.iter().find(|reader| reader.0 % 2 == 0).unwrap();
    let without_primary = client.get("/api/feed", Some(*of_one)).await;
    assert_eq!(without_primary.status, StatusCode::OK, "{}", without_primary.body);
    assert_eq!(without_primary.ids()[0], last);
    one.promote();
    gate.cut_and_lead_to(one.address);
    let after = until("commands are accepted", async || {
        // With a key, so that one of unknown outcome is not written twice.
        let request = client.request(Method::POST, "/api/tweets", Some(ada));
        let request = request.header("Idempotency-Key", "after");
        let answer = Answer::of(request.json(&json!({ "content": "after" }))).await;
        (answer.status == StatusCode::CREATED).then(|| answer.position.unwrap())
    })
    .await;
    for reader in &readers {
        until("the feed has it", async || {
            let request = client.request(Method::GET, "/api/feed", Some(*reader));
            let feed = Answer::of(request.header("X-Min-Log-Position", after.0)).await;
            (feed.status == StatusCode::OK && feed.ids()[0].0 == after.0).then_some(())
        })
        .await;
    }
    is_primary_away.store(false, Ordering::SeqCst);
    written.push(TweetId(after.0));
    stop.cancel();

    for reader in reading {
        let seen = reader.await.unwrap();
        assert!(seen.len() > PAGE, "{} pages", seen.len());
        for (position, ids) in seen {
            let there = written.iter().rev().filter(|tweet| tweet.0 <= position.0);
            assert_eq!(ids, there.copied().take(PAGE).collect::<Vec<_>>(), "at {position}");
        }
    }
    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

/// The primary by itself would send a commit that waits for no disk only when its log is flushed for another reason.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_posts_finds_it_on_a_replica_at_once() {
    let Some(primary) = Cluster::primary().await else {
        return println!("did not run: PostgreSQL's programs are not installed here");
    };
    set(&primary, "alter system set wal_writer_delay = '10s'").await;
    let (replica, log) = (primary.standby().await, TestDatabase::create().await);
    let [feed, replica_url] = [&primary, &replica].map(|one| one.url_through(one.address));
    let variables =
        [("FEED_DATABASE_URL", feed.as_str()), ("FEED_REPLICA_URLS", replica_url.as_str())];
    let vhost = Vhost::create().await;
    let (mut api, client) = start_api(&log.url, &vhost.url, &variables, &[]).await;
    let mut projector = start_projector(&log.url, &vhost.url, &variables[..1], &[]).await;
    let ada = client.register("ada").await;
    comes_in(&client, replica.address).await;
    // Whoever waits for the replicas from here on waits for ever: they are not the one that is to confirm.
    set(&primary, "alter system set synchronous_standby_names = 'nobody'").await;
    let before = passed_on(&client, replica.address).await;
    for number in 0..20 {
        let tweet = client.tweet(ada, &format!("number {number}")).await;
        assert_eq!(client.feed(ada, Position(tweet.0)).await[0], tweet);
    }
    assert_eq!(passed_on(&client, replica.address).await, before, "reads had to be passed on");
    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_never_reached_is_named_and_keeps_nobody_from_reading() {
    let (database, vhost) = (TestDatabase::create().await, Vhost::create().await);
    // A port that was free a moment ago, and at which nobody answers.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let replicas = format!("postgres://rookery:secret@{nobody}/rookery");
    let variables = [("FEED_REPLICA_URLS", replicas.as_str())];
    let (mut api, client) = start_api(&database.url, &vhost.url, &variables, &[]).await;
    let mut projector = start_projector(&database.url, &vhost.url, &[], &[]).await;
    let left_out = api.logged("a replica is left out").await;
    assert_eq!(left_out["replica"], nobody.to_string());
    let ada = client.register("ada").await;
    let tweet = client.tweet(ada, "hello").await;
    assert_eq!(client.feed(ada, Position(tweet.0)).await, [tweet]);
    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

//! What becomes of sessions when a server fails over, falls silent, or only reads.

use e2e::client::{Answer, Rookery};
use e2e::cluster::Cluster;
use e2e::database::TestDatabase;
use e2e::gate::Gate;
use e2e::system::{start_api, start_projector};
use e2e::until;
use e2e::vhost::Vhost;
use events::{Position, UserId};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;

/// Waits until commands are accepted again and what they bring about can be read.
async fn goes_on(rookery: &Rookery, author: UserId) {
    let after = until("commands are accepted", async || {
        let body = json!({ "content": "after" });
        let answer = rookery.post("/api/tweets", Some(author), body).await;
        (answer.status == StatusCode::CREATED).then(|| answer.position.unwrap())
    })
    .await;
    until("the feed has it", async || {
        let request = rookery.request(Method::GET, "/api/feed", Some(author));
        let feed = Answer::of(request.header("X-Min-Log-Position", after.0)).await;
        (feed.status == StatusCode::OK && feed.ids()[0].0 == after.0).then_some(())
    })
    .await;
}

/// The address leads to a standby for a while, and then to a primary again, without another cut: a
/// session that was opened meanwhile would be refused for ever.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_lead_to_a_standby_are_not_kept() {
    let Some(primary) = Cluster::primary().await else {
        println!("not run: PostgreSQL's own programs are not in /usr/lib/postgresql");
        return;
    };
    let standby = primary.standby().await;
    let vhost = Vhost::create().await;
    let gate = Gate::to(primary.address).await;
    let url = primary.url_through(gate.address);
    let (mut api, rookery) = start_api(&url, &vhost.url, &[], &[]).await;
    let mut projector = start_projector(&url, &vhost.url, &[], &[]).await;
    let ada = rookery.register("ada").await;
    let before = rookery.tweet(ada, "before").await;
    assert_eq!(rookery.feed(ada, Position(before.0)).await, [before]);

    gate.cut_and_lead_to(standby.address);
    until("the api says that the log is not there", async || {
        let ready = rookery.get("/health/ready", None).await;
        (ready.body["log_database"] == "unreachable").then(|| {
            let broker = ready.body["broker"].as_str().unwrap();
            assert!(!broker.starts_with("unreachable"), "the broker is not to blame: {broker}");
        })
    })
    .await;
    let refused = rookery.post("/api/tweets", Some(ada), json!({ "content": "meanwhile" })).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.body);
    projector.logged("the projector was interrupted").await;

    gate.lead_to(primary.address);
    goes_on(&rookery, ada).await;
    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

/// Where nobody can listen, a read that waits for a position still hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_reads_from_a_standby_hears_of_new_positions() {
    let Some(primary) = Cluster::primary().await else {
        println!("not run: PostgreSQL's own programs are not in /usr/lib/postgresql");
        return;
    };
    let standby = primary.standby().await;
    let vhost = Vhost::create().await;
    let url = primary.url_through(primary.address);
    let (mut api, rookery) = start_api(&url, &vhost.url, &[], &[]).await;
    let mut projector = start_projector(&url, &vhost.url, &[], &[]).await;
    let feed_url = primary.url_through(standby.address);
    let replica = [("FEED_DATABASE_URL", feed_url.as_str())];
    let (mut reading, reader) = start_api(&url, &vhost.url, &replica, &["--no-relay"]).await;
    until("the standby has the read model", async || {
        let ready = reader.get("/health/ready", None).await;
        (ready.status == StatusCode::OK).then_some(())
    })
    .await;
    let ada = rookery.register("ada").await;
    for number in 0..20 {
        let tweet = rookery.tweet(ada, &format!("number {number}")).await;
        assert_eq!(reader.feed(ada, Position(tweet.0)).await[0], tweet);
    }
    for program in [&mut api, &mut projector, &mut reading] {
        program.kill().await;
    }
    vhost.remove().await;
}

/// The read model's server is gone without a word, then back at the same address. What waited for it
/// has an end, and no place is kept for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fell_silent_takes_no_place_with_it() {
    const READS: usize = 40;
    let (log, feed, vhost) =
        (TestDatabase::create().await, TestDatabase::create().await, Vhost::create().await);
    let (gate, gated) = feed.gated_url().await;
    let (direct, gated) =
        ([("FEED_DATABASE_URL", feed.url.as_str())], [("FEED_DATABASE_URL", gated.as_str())]);
    let (mut api, rookery) = start_api(&log.url, &vhost.url, &gated, &[]).await;
    let mut projector = start_projector(&log.url, &vhost.url, &direct, &[]).await;
    let ada = rookery.register("ada").await;
    let tweet = rookery.tweet(ada, "hello").await;
    let read = async || rookery.get("/api/feed", Some(ada)).await;
    assert_eq!(rookery.feed(ada, Position(tweet.0)).await, [tweet]);
    // Every connection is in the set.
    join_all((0..READS).map(|_| read())).await;

    gate.fall_silent();
    for answer in join_all((0..READS).map(|_| read())).await {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.body);
    }
    rookery.tweet(ada, "commands do not wait for it").await;

    gate.speak();
    // As many as there are places, at once, so that each place is asked for.
    for _ in 0..3 {
        for answer in join_all((0..8).map(|_| read())).await {
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        }
    }
    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

/// The same for the log's server, under the appender, the relay and the projector.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_fell_silent_is_there_again_when_its_server_is() {
    let (database, vhost) = (TestDatabase::create().await, Vhost::create().await);
    let (gate, gated) = database.gated_url().await;
    let (mut api, rookery) = start_api(&gated, &vhost.url, &[], &[]).await;
    let mut projector = start_projector(&gated, &vhost.url, &[], &[]).await;
    let ada = rookery.register("ada").await;
    let tweet = rookery.tweet(ada, "hello").await;
    assert_eq!(rookery.feed(ada, Position(tweet.0)).await, [tweet]);

    gate.fall_silent();
    let body = json!({ "content": "nobody answers" });
    let refused = rookery.post("/api/tweets", Some(ada), body).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.body);

    gate.speak();
    goes_on(&rookery, ada).await;
    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

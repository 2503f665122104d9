//! The programs may be started in any order, and together with their databases.

use e2e::client::Answer;
use e2e::database::TestDatabase;
use e2e::process::Process;
use e2e::system::{start_api, start_projector};
use e2e::until;
use e2e::vhost::Vhost;
use events::Position;
use reqwest::{Method, StatusCode};

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_is_started_first_waits_for_the_log() {
    let database = TestDatabase::create().await;
    let vhost = Vhost::create().await;
    let variables = [("DATABASE_URL", database.url.as_str()), ("AMQP_URL", vhost.url.as_str())];
    let mut projector = Process::start("projector", &["run"], &variables);
    projector.logged("waiting for the api to make the log").await;

    let (mut api, rookery) = start_api(&database.url, &vhost.url, &[], &[]).await;
    projector.logged("subscribed").await;
    let ada = rookery.register("ada").await;
    let tweet = rookery.tweet(ada, "hello").await;
    assert_eq!(rookery.feed(ada, Position(tweet.0)).await, [tweet]);
    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

/// Commands need no read model; reads say that it is not there, until the projector has made it.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_read_model_commands_are_accepted_and_reads_are_told_to_come_back() {
    let database = TestDatabase::create().await;
    let vhost = Vhost::create().await;
    let (mut api, rookery) = start_api(&database.url, &vhost.url, &[], &[]).await;
    let ada = rookery.register("ada").await;
    let tweet = rookery.tweet(ada, "nobody can read this yet").await;
    let ready = rookery.get("/health/ready", None).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{}", ready.body);
    assert_eq!(ready.body["log_database"], "ready");
    for (path, caller) in [("/api/feed", Some(ada)), ("/api/users", None)] {
        let read = rookery.get(path, caller).await;
        assert_eq!(read.status, StatusCode::SERVICE_UNAVAILABLE, "{}", read.body);
        assert_eq!(read.body["type"], "urn:rookery:problem:read-model-absent");
        assert_eq!(read.retry_after.as_deref(), Some("1"));
    }

    let mut projector = start_projector(&database.url, &vhost.url, &[], &[]).await;
    until("the tweet can be read", async || {
        let request = rookery.request(Method::GET, "/api/feed", Some(ada));
        let read = Answer::of(request.header("X-Min-Log-Position", tweet.0)).await;
        (read.status == StatusCode::OK).then(|| assert_eq!(read.ids(), [tweet]))
    })
    .await;
    assert_eq!(rookery.get("/health/ready", None).await.status, StatusCode::OK);
    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

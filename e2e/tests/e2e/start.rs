//! The programs may be started in any order, and together with their databases.

use e2e::client::Answer;
use e2e::database::TestDatabase;
use e2e::process::Process;
use e2e::system::{System, start_api, start_projector};
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

/// A projector that has begun to work goes on whatever happens to its sessions; one that has not may end and say why. So none
/// begins before all that it projects can.
#[tokio::test(flavor = "multi_thread")]
async fn a_projector_works_at_all_that_it_projects_or_at_nothing() {
    let mut system = System::start().await;
    let ada = system.client.register("ada").await;
    system.caught_up().await;
    // It gives the lead up.
    system.projector.signal("-TERM").await;
    assert!(system.projector.ended().await.success());
    let mut busy = system.log.lend().await.unwrap();
    let lock = "begin; lock table counts.counts_migrations";
    sqlx::raw_sql(lock).execute(&mut *busy).await.unwrap();

    let amqp_url = system.amqp_url();
    let variables = [("DATABASE_URL", system.database.url.as_str()), ("AMQP_URL", &amqp_url)];
    let mut projector = Process::start("projector", &["run"], &variables);
    until("it waits for what another has", async || {
        let waits = "select exists (select from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'
                and application_name like 'rookery projector%')";
        let waits: bool = sqlx::query_scalar(waits).fetch_one(&system.log).await.ok()?;
        waits.then_some(())
    })
    .await;
    // It would have the time to begin.
    for _ in 0..20 {
        system.client.tweet(ada, "hello").await;
    }
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name like 'rookery projector%'";
    sqlx::query(cut).execute(&system.log).await.unwrap();
    let ended = projector.ended().await;
    let log = projector.log().join("\n");
    assert!(!ended.success(), "{log}");
    assert!(!log.contains("this projector leads"), "{log}");
    drop(busy);
    system.stop().await;
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

/// Commands need the server of the read model no more than the read model.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_server_of_the_read_model_away_commands_are_accepted() {
    let (log, feed, vhost) =
        (TestDatabase::create().await, TestDatabase::create().await, Vhost::create().await);
    let (gate, feed_url) = feed.gated_url().await;
    gate.shut();
    let feed_url = [("FEED_DATABASE_URL", feed_url.as_str())];
    let (mut api, rookery) = start_api(&log.url, &vhost.url, &feed_url, &[]).await;
    let ada = rookery.register("ada").await;
    let tweet = rookery.tweet(ada, "nobody can read this yet").await;
    let read = rookery.get("/api/feed", Some(ada)).await;
    assert_eq!(read.status, StatusCode::SERVICE_UNAVAILABLE, "{}", read.body);
    assert_eq!(read.body["type"], "urn:rookery:problem:database-unavailable");
    let ready = rookery.get("/health/ready", None).await;
    assert_eq!(ready.body["log_database"], "ready");
    assert_eq!(ready.body["feed_database"], "unreachable");

    gate.open();
    let mut projector = start_projector(&log.url, &vhost.url, &feed_url, &[]).await;
    until("the tweet can be read", async || {
        let request = rookery.request(Method::GET, "/api/feed", Some(ada));
        let read = Answer::of(request.header("X-Min-Log-Position", tweet.0)).await;
        (read.status == StatusCode::OK).then(|| assert_eq!(read.ids(), [tweet]))
    })
    .await;
    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

/// A later release may have migrated the read model while this one still serves.
#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_after_a_compatible_migration_and_end_after_another() {
    let mut system = System::start().await;
    let ada = system.client.register("ada").await;
    system.caught_up().await;
    let newer = "insert into feed_migrations (version, description, success, checksum, execution_time) values (9999, 'newer', true, '', 0)";
    sqlx::query(newer).execute(&system.log).await.unwrap();
    for restarted in [false, true] {
        if restarted {
            system.api.kill().await;
            (system.api, system.client) =
                start_api(&system.database.url, &system.amqp_url(), &[], &[]).await;
        }
        assert_eq!(system.client.get("/api/feed", Some(ada)).await.status, StatusCode::OK);
        let ready = system.client.get("/health/ready", None).await;
        assert_eq!(ready.status, StatusCode::OK, "{}", ready.body);
    }

    let incompatible = "update compatibility set readable_since = 9999";
    sqlx::query(incompatible).execute(&system.log).await.unwrap();
    until("reads are refused", async || {
        let read = system.client.get("/api/feed", Some(ada)).await;
        (read.body["type"] == "urn:rookery:problem:read-model-newer").then_some(())
    })
    .await;
    let ready = system.client.get("/health/ready", None).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{}", ready.body);
    system.client.tweet(ada, "commands are accepted").await;
    system.stop().await;
}

/// Answers hold addresses, so they do not wait for another command with a key in order to go.
#[tokio::test(flavor = "multi_thread")]
async fn kept_answers_that_are_too_old_go_by_themselves() {
    let (database, vhost) = (TestDatabase::migrated().await, Vhost::create().await);
    let log = database.pool().await;
    let kept = "insert into idempotency_keys
        select 'user-' || number, 'key', '', '{}', now() - case when number = 1 then interval '23 hours' else interval '25 hours' end
        from generate_series(1, 2500) number";
    sqlx::query(kept).execute(&log).await.unwrap();
    let (mut api, _) = start_api(&database.url, &vhost.url, &[], &[]).await;
    until("only the young one is left", async || {
        let left = sqlx::query_scalar::<_, String>("select scope from idempotency_keys");
        (left.fetch_all(&log).await.ok()? == ["user-1"]).then_some(())
    })
    .await;
    api.kill().await;
    vhost.remove().await;
}

//! Asked to stop: both programs end in time and in order, whatever does not answer.

use events::store::append::BEGIN_LOCKED;
use sqlx::Connection;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_both_programs_finish_and_exit_with_0() {
    let mut system = System::start().await;
    let (writer, _) = three_users(&system.client).await;
    let stop = CancellationToken::new();
    let posting = tokio::spawn(post_until(system.client.clone(), writer, stop.clone()));
    let goal = system.head().await.0 + 100;
    until("the log grows", async || (system.head().await.0 > goal).then_some(())).await;

    system.api.signal("-TERM").await;
    system.projector.signal("-TERM").await;
    let ten_seconds = Duration::from_secs(10);
    for process in [&mut system.api, &mut system.projector] {
        let ended = tokio::time::timeout(ten_seconds, process.ended()).await;
        let status = ended.expect("within 10 s");
        assert!(status.success(), "{status}:\n{}", process.log().join("\n"));
    }
    stop.cancel();
    let acknowledged = posting.await.unwrap();
    let head = system.head().await;
    assert!(acknowledged.iter().all(|tweet| tweet.0 <= head.0), "acknowledged, so in the log");
    let outbox = outbox::load(&system.log).await.unwrap();
    assert!(!outbox.led, "the lead was given up, so that another can take it at once");
    system.stop().await;
}

/// A broker that takes messages and confirms none, as in a memory alarm: no wait for it outlives the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_while_the_broker_is_silent_both_programs_exit_with_0() {
    let mut system = System::start().await;
    let (writer, _) = three_users(&system.client).await;
    system.caught_up().await;
    system.gate.fall_silent();
    system.client.tweet(writer, "nobody confirms this").await;
    let ten_seconds = Duration::from_secs(10);
    for process in [&mut system.api, &mut system.projector] {
        process.signal("-TERM").await;
        let ended = tokio::time::timeout(ten_seconds, process.ended()).await;
        let status = ended.expect("within 10 s");
        assert!(status.success(), "{status}:\n{}", process.log().join("\n"));
    }
    system.stop().await;
}

/// The same with a read model's server that answers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_while_the_read_model_is_silent_the_projector_exits_with_0() {
    let (log, feed, vhost) =
        (TestDatabase::create().await, TestDatabase::create().await, Vhost::create().await);
    let (gate, url) = feed.gated_url().await;
    let gated = [("FEED_DATABASE_URL", url.as_str())];
    let direct = [("FEED_DATABASE_URL", feed.url.as_str())];
    let (mut api, client) = start_api(&log.url, &vhost.url, &direct, &[]).await;
    let mut projector = start_projector(&log.url, &vhost.url, &gated, &[]).await;
    let ada = client.register("ada").await;
    let tweet = client.tweet(ada, "hello").await;
    assert_eq!(client.feed(ada, Position(tweet.0)).await, [tweet]);
    gate.fall_silent();
    client.tweet(ada, "nobody writes this").await;
    projector.signal("-TERM").await;
    let ended = tokio::time::timeout(Duration::from_secs(10), projector.ended()).await;
    let status = ended.expect("within 10 s");
    assert!(status.success(), "{status}:\n{}", projector.log().join("\n"));
    api.kill().await;
    vhost.remove().await;
}

/// What waits for the log has no end then, and the process ends all the same.
#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_while_the_log_is_silent_the_api_ends_in_time() {
    let (log, vhost) = (TestDatabase::create().await, Vhost::create().await);
    let (gate, url) = log.gated_url().await;
    let (mut api, client) = start_api(&url, &vhost.url, &[], &[]).await;
    let ada = client.register("ada").await;
    let pool = log.pool().await;
    let mut lent = pool.lend().await.unwrap();
    let holder = lent.begin_with(BEGIN_LOCKED).await.unwrap();
    let body = json!({ "content": "nobody stores this" });
    let post = client.request(Method::POST, "/api/tweets", Some(ada)).json(&body);
    let posting = tokio::spawn(Answer::if_any(post));
    let waits = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event = 'advisory'";
    until("the appender waits for the log", async || {
        let waiting: i64 = sqlx::query_scalar(waits).fetch_one(&pool).await.ok()?;
        (waiting == 1).then_some(())
    })
    .await;
    gate.fall_silent();
    holder.rollback().await.unwrap();
    api.signal("-TERM").await;
    let ended = tokio::time::timeout(Duration::from_secs(10), api.ended()).await;
    let status = ended.expect("within 10 s");
    assert_eq!(status.code(), Some(1), "not everything stopped:\n{}", api.log().join("\n"));
    posting.await.unwrap();
    vhost.remove().await;
}

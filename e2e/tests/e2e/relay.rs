//! The outbox: who may move its cursor, and what happens when the leader is gone.

use std::time::Duration;

use e2e::database::TestDatabase;
use e2e::system::System;
use e2e::until;
use events::store::outbox::{self, LeadError};
use events::{Mark, Position};

const LEASE: Duration = Duration::from_secs(3);

fn mark(position: i64) -> Mark {
    Mark { position: Position(position), event_id: uuid::Uuid::now_v7() }
}

#[tokio::test]
async fn one_leads_until_its_lease_ends() {
    let database = TestDatabase::migrated().await;
    let log = database.pool().await;
    let first = outbox::take_lead(&log, "first", LEASE).await.unwrap().unwrap();
    assert_eq!(outbox::take_lead(&log, "second", LEASE).await.unwrap(), None);

    sqlx::query("update outbox set leased_until = now() - interval '1 s'")
        .execute(&log)
        .await
        .unwrap();
    let second = outbox::take_lead(&log, "second", LEASE).await.unwrap().unwrap();
    assert!(second.fence > first.fence);
}

#[tokio::test]
async fn a_deposed_leader_cannot_move_the_cursor() {
    let database = TestDatabase::migrated().await;
    let log = database.pool().await;
    let first = outbox::take_lead(&log, "first", LEASE).await.unwrap().unwrap();
    outbox::move_cursor(&log, first.fence, mark(5), LEASE).await.unwrap();
    sqlx::query("update outbox set leased_until = now() - interval '1 s'")
        .execute(&log)
        .await
        .unwrap();
    let second = outbox::take_lead(&log, "second", LEASE).await.unwrap().unwrap();
    assert_eq!(second.position, Position(5), "the next one goes on where the last one was");

    let late = outbox::move_cursor(&log, first.fence, mark(9), LEASE).await;
    assert!(matches!(late, Err(LeadError::Deposed(_))));
    outbox::release_lead(&log, first.fence).await.unwrap();
    let state = outbox::load(&log).await.unwrap();
    assert_eq!((state.position, state.led), (Position(5), true), "nor take the lead from the next");
}

#[tokio::test]
async fn the_cursor_never_moves_backward() {
    let database = TestDatabase::migrated().await;
    let log = database.pool().await;
    let lead = outbox::take_lead(&log, "first", LEASE).await.unwrap().unwrap();
    outbox::move_cursor(&log, lead.fence, mark(5), LEASE).await.unwrap();
    let back = outbox::move_cursor(&log, lead.fence, mark(4), LEASE).await;
    assert!(matches!(back, Err(LeadError::Deposed(_))));
}

/// A lease from before the server's clock was set back would otherwise keep everyone out until the
/// clock has caught up.
#[tokio::test]
async fn a_lease_from_the_future_is_void() {
    let database = TestDatabase::migrated().await;
    let log = database.pool().await;
    outbox::take_lead(&log, "first", LEASE).await.unwrap().unwrap();
    sqlx::query("update outbox set leased_until = now() + interval '1 hour'")
        .execute(&log)
        .await
        .unwrap();
    assert!(outbox::take_lead(&log, "second", LEASE).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_stopped_another_takes_over_and_the_first_stays_deposed() {
    let system = System::start().await;
    let (mut second, client) = system.another_api(&[]).await;
    let ada = system.client.register("ada").await;
    system.caught_up().await;
    let before = outbox::load(&system.log).await.unwrap();

    // The leader sleeps with its lease, its connections and perhaps the lock of nothing at all.
    system.api.signal("-STOP").await;
    for number in 0..20 {
        client.tweet(ada, &format!("while the leader sleeps {number}")).await;
    }
    // Feeds do not wait for it: they follow the log.
    let head = system.caught_up().await;
    let after = until("the second relay has published all of it", async || {
        let outbox = outbox::load(&system.log).await.unwrap();
        (outbox.position == head).then_some(outbox)
    })
    .await;
    assert_eq!(after.fence, before.fence + 1);

    system.api.signal("-CONT").await;
    until("the first relay finds that it was deposed", async || {
        let lines = system.api.log();
        lines.iter().any(|line| line.contains("has taken the lead")).then_some(())
    })
    .await;
    let last = system.client.tweet(ada, "awake again").await;
    until("the cursor reaches the last tweet", async || {
        (outbox::load(&system.log).await.unwrap().position.0 >= last.0).then_some(())
    })
    .await;
    system.every_feed_is_exact().await;
    second.kill().await;
    system.stop().await;
}

/// The cursor names an event that the log does not have: nothing is published past it until somebody
/// has done what the relay says. Commands go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_history_is_refused_and_published_anew() {
    let mut system = System::start().await;
    let ada = system.client.register("ada").await;
    system.caught_up().await;
    system.api.kill().await;
    let foreign = "update outbox set event_id = gen_random_uuid()";
    sqlx::query(foreign).execute(&system.log).await.unwrap();
    let (mut api, client) = system.another_api(&[]).await;
    let warning = api.logged("the relay was interrupted").await;
    let said = warning["error"].as_str().unwrap();
    assert!(said.contains("the outbox is of another history"), "{said}");
    client.tweet(ada, "commands go on").await;
    assert_eq!(outbox::load(&system.log).await.unwrap().position, Position(1));

    let (_, way_out) = said.split_once("; ").unwrap();
    let statement = way_out.strip_suffix(" publishes this log again").unwrap().to_owned();
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&system.log).await.unwrap();
    let head = system.caught_up().await;
    assert_eq!(client.feed(ada, head).await.len(), 1);
    api.kill().await;
    system.stop().await;
}

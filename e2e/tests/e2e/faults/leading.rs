//! Which projector is active, and what it does with what it cannot apply.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_projector_is_relieved_by_the_one_that_stands_by() {
    let system = System::start().await;
    let mut standby = system.another_projector().await;
    let (writer, _) = three_users(&system.client).await;
    system.caught_up().await;
    system.projector.signal("-STOP").await;
    for number in 0..30 {
        system.client.tweet(writer, &format!("while it sleeps {number}")).await;
    }
    system.every_feed_is_exact().await;
    system.projector.signal("-CONT").await;
    system.client.tweet(writer, "awake again").await;
    system.every_feed_is_exact().await;
    standby.kill().await;
    system.stop().await;
}

/// A transaction that takes longer than a lease lasts is work, and whoever stands by leaves it alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_projector_at_long_work_is_not_relieved() {
    let system = System::start().await;
    let (writer, _) = three_users(&system.client).await;
    system.caught_up().await;
    let mut standby = system.another_projector().await;
    let before = projector::consume::lead::load(&system.log).await.unwrap();
    // Whoever writes feed items has to wait for this.
    let mut lent = system.log.lend().await.unwrap();
    let mut holder = sqlx::Connection::begin(&mut *lent).await.unwrap();
    sqlx::query("lock table feed_items in share mode").execute(&mut *holder).await.unwrap();
    system.client.tweet(writer, "it takes long").await;
    sqlx::query("select pg_sleep(5)").execute(&mut *holder).await.unwrap();
    holder.rollback().await.unwrap();
    lent.give_back();
    system.every_feed_is_exact().await;
    let after = projector::consume::lead::load(&system.log).await.unwrap();
    assert_eq!((after.holder, after.follows.as_str()), (before.holder, "messages"));
    let relieved = standby.log().iter().any(|line| line.contains("projecting"));
    assert!(!relieved, "it was left alone");
    standby.kill().await;
    system.stop().await;
}

/// While the read model cannot be written, messages are held and not tried again and again until they end as dead letters.
#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_the_read_model_makes_no_dead_letters() {
    let mut system = System::start().await;
    let rookery = &system.client;
    let (writer, _) = three_users(rookery).await;
    system.caught_up().await;
    let rename = async |from: &str, to: &str| {
        let statement = sqlx::AssertSqlSafe(format!("alter table {from} rename to {to}"));
        sqlx::query(statement).execute(&system.log).await.unwrap();
    };
    rename("feed_items", "feed_items_aside").await;
    let tweet = rookery.tweet(writer, "it has to wait").await;
    until("it was tried again and again", async || {
        let lines = system.projector.log();
        let tries = lines.iter().filter(|line| line.contains("the projector was interrupted"));
        (tries.count() >= 5).then_some(())
    })
    .await;
    rename("feed_items_aside", "feed_items").await;
    system.every_feed_is_exact().await;
    let subscribed = system.projector.log();
    let subscribed =
        subscribed.iter().filter(|line| line.contains("subscribed to rookery.feed")).count();
    assert_eq!(subscribed, 1, "the message was held all the while");
    assert_eq!(system.vhost.depth(ProjectionName::Feed.dead_letters()).await, Some(0));
    assert!(system.head().await.0 >= tweet.0);
    // It was acknowledged when it was applied: nothing comes back.
    system.projector.kill().await;
    assert_eq!(system.vhost.depth(ProjectionName::Feed.queue()).await, Some(0));
    system.stop().await;
}

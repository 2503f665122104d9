//! What the page says while something is away, or being made anew.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_a_projector_and_a_service_that_are_away_are_said_and_heal() {
    let mut system = System::start().await;
    let (ada, bob) = ada_and_bob(&system).await;
    system.client.tweet(ada, "before").await;
    let browser = Browser::start().await;
    browser.open(&system.client.base, Some(bob), "").await;
    browser.sees(".summary", "Everything flows").await;
    browser.sees(".tweet", "before").await;

    system.gate.shut();
    browser.sees(".summary", "RabbitMQ is away").await;
    system.client.tweet(ada, "while RabbitMQ was away").await;
    browser.sees(".card.trouble", "1 event waits to be published").await;
    browser.sees(".card.trouble", "Nothing is lost").await;
    browser.sees(".tweet", "while RabbitMQ was away").await;
    browser.sees(".way", "follows the log").await;
    browser.picture("broker-away").await;
    system.gate.open();
    browser.sees(".summary", "Everything flows").await;

    system.projector.kill().await;
    browser.sees(".summary", "No projector runs").await;
    browser.picture("projector-away").await;
    // Their own tweet is on their page at once; the feeds have it when there is a projector again.
    browser.writes("compose", "while no projector ran").await;
    browser.press("Post").await;
    browser.sees(".tweet", "while no projector ran").await;
    browser.sees(".delivered", "in no feed yet").await;
    system.restart(false).await;
    browser.sees(".delivered", "in your own feed").await;
    browser.sees(".summary", "Everything flows").await;
    assert_eq!(browser.complaints().await, NOTHING, "up to here every answer was one");

    system.api.kill().await;
    browser.sees("#offline", "Rookery cannot be reached").await;
    browser.writes("compose", "kept for later").await;
    browser.press("Post").await;
    browser.sees(".composer .problem", "Your text stays here").await;
    let kept = browser.driver.find(By::Id("compose")).await.unwrap().prop("value").await.unwrap();
    assert_eq!(kept.as_deref(), Some("kept for later"));
    browser.picture("service-away").await;
    let bind = system.client.base.strip_prefix("http://").unwrap().to_owned();
    let again = [("BIND", bind.as_str())];
    let amqp_url = system.amqp_url();
    (system.api, _) = start_api(&system.database.url, &amqp_url, &again, &[]).await;
    browser.sees(".summary", "Everything flows").await;
    browser.sees_no_more("#offline", "Rookery").await;
    browser.press("Post").await;
    browser.sees(".tweet", "kept for later").await;
    system.client.tweet(ada, "after all of it").await;
    browser.sees(".tweet", "after all of it").await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_said_and_heals() {
    let database = TestDatabase::create().await;
    let vhost = Vhost::create().await;
    let (gate, url) = database.gated_url().await;
    let (mut api, client) = start_api(&url, &vhost.url, &[], &[]).await;
    let mut projector = start_projector(&database.url, &vhost.url, &[], &[]).await;
    let ada = client.register("ada").await;
    client.tweet(ada, "before").await;
    let browser = Browser::start().await;
    browser.open(&client.base, Some(ada), "").await;
    browser.sees(".tweet", "before").await;
    gate.fall_silent();
    browser.sees(".summary", "PostgreSQL is away").await;
    browser.driver.find(By::LinkText("People")).await.unwrap().click().await.unwrap();
    browser.sees(".foot .problem", "Trying again").await;
    browser.picture("database-away").await;
    gate.speak();
    browser.sees(".summary", "Everything flows").await;
    browser.sees(".user", "ada").await;
    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_seen_as_it_goes() {
    let system = System::start().await;
    let (ada, bob) = ada_and_bob(&system).await;
    system.client.tweet(ada, "hello").await;
    system.caught_up().await;
    let browser = Browser::start().await;
    browser.open(&system.client.base, Some(bob), "").await;
    browser.sees(".tweet", "hello").await;
    browser.sees(".way", "generation 1").await;
    // A reader who holds the tables keeps the swap waiting, for as long as it takes to look.
    let mut lent = system.log.lend().await.unwrap();
    let mut reader = sqlx::Connection::begin(&mut *lent).await.unwrap();
    for held in [
        "set local idle_in_transaction_session_timeout = 0",
        "lock table feed_items in row exclusive mode",
    ] {
        sqlx::query(held).execute(&mut *reader).await.unwrap();
    }
    let variables = [("DATABASE_URL", system.database.url.as_str()), ("RUST_LOG", "info")];
    let mut rebuild = e2e::process::Process::start("projector", &["rebuild"], &variables);
    browser.sees(".card.rebuild", "A new generation is being built").await;
    browser.sees(".card.rebuild", "of ").await;
    browser.picture("rebuild").await;
    reader.rollback().await.unwrap();
    lent.give_back();
    assert!(rebuild.ended().await.success(), "{:?}", rebuild.log());
    browser.sees(".way", "generation 2").await;
    browser.sees_no_more("#pipeline", "A new generation").await;
    browser.sees(".tweet", "hello").await;
    assert_eq!(browser.complaints().await, NOTHING);
    system.stop().await;
}

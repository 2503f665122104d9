//! A queue that RabbitMQ cannot bring back.

use e2e::database::TestDatabase;
use e2e::own_broker::OwnBroker;
use e2e::system::{start_api, start_projector};
use e2e::until;
use events::Position;
use events::amqp::{self, Broker};
use events::projection::ProjectionName;
use events::store::{outbox, read};
use lapin::options::QueueDeleteOptions;
use projector::consume::lead;

/// Killed within a second of a queue's declaration, RabbitMQ may bring it back without a leader (its issue 15725): declaring it
/// succeeds, using it does not. Here that happened every time with RabbitMQ 3.10; where it does not, what is asserted is
/// easy.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_cannot_be_used_is_declared_anew_and_feeds_are_readable_all_the_while() {
    let own = match OwnBroker::start("broker-of-a-test") {
        Ok(own) => own,
        Err(why) => return println!("did not run: {why}"),
    };
    let database = TestDatabase::create().await;
    let log = database.pool().await;
    let (mut api, client) = start_api(&database.url, &own.url, &[], &[]).await;
    let mut projector = start_projector(&database.url, &own.url, &[], &[]).await;
    let ada = client.register("ada").await;
    client.tweet(ada, "by message").await;
    let is_published = async || {
        let (cursor, head) = (outbox::load(&log).await.ok()?, read::head(&log).await.ok()?);
        (cursor.position == head).then_some(())
    };
    until("the relay publishes", is_published).await;

    let connection = Broker::parse(&own.url).unwrap().connect("rookery test").await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .queue_delete(ProjectionName::Feed.queue().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    until("the queue is declared again", async || {
        let asking = connection.create_channel().await.ok()?;
        amqp::queue(&asking, ProjectionName::Feed.queue()).await.ok()?
    })
    .await;
    own.kill();
    own.start_again();

    let tweet = client.tweet(ada, "without a queue").await;
    assert_eq!(client.feed(ada, Position(tweet.0)).await[0], tweet);
    until("the relay publishes again", is_published).await;
    until("messages bring what is in the log", async || {
        client.tweet(ada, "again").await;
        let led = lead::load(&log).await.ok()?;
        (led.follows == "messages").then_some(())
    })
    .await;
    let log_of_projector = projector.log().join("\n");
    println!("declared anew: {}", log_of_projector.contains("deleted and declared anew"));
    api.kill().await;
    projector.kill().await;
}

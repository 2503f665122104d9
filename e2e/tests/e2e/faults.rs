//! What is cut, lost, killed or forged: nothing acknowledged goes missing, and every feed is exact
//! afterwards, without a hand's help.

mod leading;
mod queue;
mod stopping;

use std::time::Duration;

use e2e::client::{Answer, Rookery};
use e2e::database::TestDatabase;
use e2e::system::{System, start_api, start_projector};
use e2e::until;
use e2e::vhost::Vhost;
use events::amqp::EXCHANGE;
use events::projection::{PROJECTIONS, ProjectionName};
use events::store::outbox;
use events::{Position, TweetId, UserId};
use lapin::BasicProperties;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Two who write and one who reads both.
async fn three_users(rookery: &Rookery) -> (UserId, UserId) {
    let writer = rookery.register("writer").await;
    let reader = rookery.register("reader").await;
    rookery.follow(reader, writer).await;
    (writer, reader)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_broker_every_command_succeeds_and_the_feeds_catch_up() {
    let system = System::start().await;
    let rookery = &system.client;
    let (writer, reader) = three_users(rookery).await;
    system.caught_up().await;

    system.gate.shut();
    let mut tweets = Vec::new();
    for number in 0..100 {
        tweets.push(rookery.tweet(writer, &format!("in the dark {number}")).await);
    }
    until("the state of the broker is shown", async || {
        let ready = rookery.get("/health/ready", None).await;
        assert_eq!(ready.status, StatusCode::OK, "the broker does not make the service unready");
        ready.body["broker"].as_str()?.starts_with("unreachable").then_some(())
    })
    .await;
    let outbox = outbox::load(&system.log).await.unwrap();
    assert!(outbox.position.0 < tweets[99].0, "what was not confirmed is not passed over");
    // The feeds follow the log itself meanwhile, and it is said that they do.
    system.every_feed_is_exact().await;
    until("it is said what the projector goes by", async || {
        let led = projector::consume::lead::load(&system.log).await.unwrap();
        (led.holder.is_some() && led.follows == "log").then_some(())
    })
    .await;
    let ready = rookery.get("/health/ready", None).await;
    assert!(
        ready.body["projector"].as_str().unwrap().starts_with("follows the log"),
        "{}",
        ready.body
    );

    system.gate.open();
    until("what was appended meanwhile is published", async || {
        (outbox::load(&system.log).await.unwrap().position.0 >= tweets[99].0).then_some(())
    })
    .await;
    until("messages have come as far as the log was read", async || {
        let led = projector::consume::lead::load(&system.log).await.unwrap();
        (led.follows == "messages").then_some(())
    })
    .await;
    let last = system.caught_up().await;
    tweets.reverse();
    assert_eq!(rookery.feed(reader, last).await, tweets);
    system.every_feed_is_exact().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_were_purged_are_read_from_the_log() {
    let system = System::start().await;
    let rookery = &system.client;
    let (writer, _) = three_users(rookery).await;
    system.caught_up().await;

    system.projector.signal("-STOP").await;
    for number in 0..60 {
        rookery.tweet(writer, &format!("to be purged {number}")).await;
    }
    let head = system.head().await;
    until("all of it is published", async || {
        (outbox::load(&system.log).await.unwrap().position >= head).then_some(())
    })
    .await;
    system.vhost.purge(ProjectionName::Feed.queue()).await;
    system.projector.signal("-CONT").await;
    // Garbage that keeps coming is no sign of life.
    let garbage = async {
        loop {
            forge(&system.vhost, b"garbage", BasicProperties::default()).await;
        }
    };
    tokio::select! {
        () = garbage => {}
        () = system.every_feed_is_exact() => {}
    }
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_and_an_exchange_that_were_deleted_come_back() {
    let system = System::start().await;
    let rookery = &system.client;
    let (writer, _) = three_users(rookery).await;
    system.caught_up().await;

    system.vhost.delete_queue(ProjectionName::Feed.queue()).await;
    rookery.tweet(writer, "after the queue went").await;
    system.every_feed_is_exact().await;
    system.vhost.delete_exchange(EXCHANGE).await;
    rookery.tweet(writer, "after the exchange went").await;
    system.every_feed_is_exact().await;
    until("the queue is there again", async || {
        system.vhost.depth(ProjectionName::Feed.queue()).await
    })
    .await;
    system.stop().await;
}

/// Without a queue the broker would confirm and throw away. The relay has it come back, makes the
/// queue again and repeats, and its cursor waits until then.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_takes_is_published_again() {
    let mut system = System::start().await;
    let (writer, _) = three_users(&system.client).await;
    system.caught_up().await;
    system.projector.kill().await;
    // One of them is missed by who looks, the last by who publishes.
    system.vhost.delete_queue(ProjectionName::Feed.queue()).await;
    until("it is there again", async || system.vhost.depth(ProjectionName::Feed.queue()).await)
        .await;
    for projection in PROJECTIONS {
        system.vhost.delete_queue(projection.queue()).await;
    }

    let tweet = system.client.tweet(writer, "nobody listens").await;
    until("it is published", async || {
        (outbox::load(&system.log).await.unwrap().position.0 >= tweet.0).then_some(())
    })
    .await;
    assert_eq!(
        system.vhost.depth(ProjectionName::Feed.queue()).await,
        Some(1),
        "it waits in the new queue"
    );
    system.restart(false).await;
    system.every_feed_is_exact().await;
    system.stop().await;
}

/// Publishes `body` as a person does in the RabbitMQ UI.
async fn forge(vhost: &Vhost, body: &[u8], properties: BasicProperties) {
    let connection = vhost.connect().await;
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let options = BasicPublishOptions::default();
    let published = channel.basic_publish(EXCHANGE.into(), "".into(), options, body, properties);
    assert!(published.await.unwrap().await.unwrap().is_ack());
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_messages_become_dead_letters_and_change_no_feed() {
    let system = System::start().await;
    let rookery = &system.client;
    let (writer, reader) = three_users(rookery).await;
    let head = system.caught_up().await;

    let forged_position = head.next();
    let well_formed = json!([{
        "specversion": "1.0", "id": "0192aaaa-0000-7000-8000-000000000000",
        "source": "/rookery/log", "type": "TweetCreated", "subject": format!("tweet-{forged_position}"),
        "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json",
        "position": forged_position.to_string(), "streamversion": 1, "schemaversion": 1,
        "data": { "author_id": writer, "content": "forged" }
    }])
    .to_string();
    let large = vec![b'x'; 1_000_000];
    let bodies: [&[u8]; 5] = [well_formed.as_bytes(), b"", b"[]", b"\xff\x00garbage", &large];
    for body in bodies {
        forge(&system.vhost, body, BasicProperties::default()).await;
    }
    until("all five are set aside", async || {
        (system.vhost.depth(ProjectionName::Feed.dead_letters()).await == Some(5)).then_some(())
    })
    .await;
    let tweet = rookery.tweet(writer, "the real one").await;
    assert_eq!(tweet, TweetId(forged_position.0));
    assert_eq!(rookery.feed(reader, Position(tweet.0)).await, [tweet]);
    let stored = rookery.get(&format!("/api/tweets/{tweet}"), None).await;
    assert_eq!(stored.body["content"], "the real one");
    system.every_feed_is_exact().await;
    system.stop().await;
}

/// A true message, caught on its way and sent again later, any number of times.
#[tokio::test(flavor = "multi_thread")]
async fn repeated_messages_change_nothing() {
    let system = System::start().await;
    let rookery = &system.client;
    let (writer, _) = three_users(rookery).await;
    system.caught_up().await;

    // A queue beside the projector's: whoever listens on the exchange has every message.
    let connection = system.vhost.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let beside = channel
        .queue_declare("".into(), QueueDeclareOptions::default(), FieldTable::default())
        .await
        .unwrap();
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    let bound =
        channel.queue_bind(beside.name().clone(), EXCHANGE.into(), "".into(), options, arguments);
    bound.await.unwrap();
    rookery.tweet(writer, "to be caught").await;
    let caught = until("a message is caught", async || {
        let options = BasicGetOptions { no_ack: true };
        channel.basic_get(beside.name().clone(), options).await.unwrap()
    })
    .await;
    for _ in 0..20 {
        forge(&system.vhost, &caught.data, caught.properties.clone()).await;
    }
    rookery.tweet(writer, "after the echo").await;
    system.every_feed_is_exact().await;
    assert_eq!(
        system.vhost.depth(ProjectionName::Feed.dead_letters()).await,
        Some(0),
        "they are true"
    );
    system.stop().await;
}

/// Posts without pause until told to stop; returns what was acknowledged.
async fn post_until(rookery: Rookery, writer: UserId, stop: CancellationToken) -> Vec<TweetId> {
    let mut acknowledged = Vec::new();
    let mut number = 0;
    while !stop.is_cancelled() {
        number += 1;
        let body = json!({ "content": format!("under fire {number}") });
        let request = rookery.request(Method::POST, "/api/tweets", Some(writer)).json(&body);
        if let Some(answer) = Answer::if_any(request).await
            && answer.status == StatusCode::CREATED
        {
            acknowledged.push(TweetId(answer.body["id"].as_i64().unwrap()));
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_nothing_acknowledged_is_lost() {
    let mut system = System::start().await;
    let (writer, reader) = three_users(&system.client).await;
    let mut acknowledged = Vec::new();
    for api_too in [true, false, true, false] {
        let stop = CancellationToken::new();
        let posting = tokio::spawn(post_until(system.client.clone(), writer, stop.clone()));
        let goal = system.head().await.0 + 150;
        until("the log grows", async || (system.head().await.0 > goal).then_some(())).await;
        // In the middle of appends, of publishing, of applying.
        system.projector.kill().await;
        if api_too {
            system.api.kill().await;
        }
        stop.cancel();
        acknowledged.extend(posting.await.unwrap());
        system.restart(api_too).await;
    }
    let head = system.caught_up().await;
    let feed = system.client.feed(reader, head).await;
    assert!(acknowledged.iter().all(|tweet| feed.contains(tweet)), "acknowledged, so readable");
    assert!(acknowledged.len() > 100, "the test did its work");
    system.every_feed_is_exact().await;
    system.stop().await;
}

/// A stranger's queue on the exchange that takes nothing more: feeds are none the wiser, and everyone else gets a slice
/// again now and then, not all of them twice a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_of_a_stranger_stops_no_feed() {
    let system = System::start().await;
    let rookery = &system.client;
    let (writer, _) = three_users(rookery).await;
    system.caught_up().await;
    let connection = system.vhost.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let declared =
        channel.queue_declare("stranger".into(), QueueDeclareOptions::default(), arguments);
    declared.await.unwrap();
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind("stranger".into(), EXCHANGE.into(), "".into(), options, arguments)
        .await
        .unwrap();
    for number in 0..40 {
        rookery.tweet(writer, &format!("refused by a stranger {number}")).await;
    }
    system.every_feed_is_exact().await;
    let outbox = outbox::load(&system.log).await.unwrap();
    assert!(outbox.position < system.head().await, "the stranger's queue does refuse");
    system.vhost.delete_queue("stranger").await;
    let head = system.head().await;
    until("all of it is published", async || {
        (outbox::load(&system.log).await.unwrap().position >= head).then_some(())
    })
    .await;
    connection.close(200, "done".into()).await.unwrap();
    system.stop().await;
}

/// Two databases: the log in one, the read model in another, empty one, which is filled from the
/// log although every message is long gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_read_model_in_a_database_of_its_own_catches_up_by_itself() {
    let mut system = System::start().await;
    let (writer, reader) = three_users(&system.client).await;
    for number in 0..50 {
        system.client.tweet(writer, &format!("old {number}")).await;
    }
    system.every_feed_is_exact().await;
    let before = system.client.feed(reader, system.head().await).await;
    system.api.kill().await;
    system.projector.kill().await;

    let empty = TestDatabase::create().await;
    let feed = [("FEED_DATABASE_URL", empty.url.as_str())];
    let (amqp_url, url) = (system.amqp_url(), system.database.url.clone());
    let mut projector = start_projector(&url, &amqp_url, &feed, &[]).await;
    let (mut api, client) = start_api(&url, &amqp_url, &feed, &[]).await;
    assert_eq!(client.feed(reader, system.head().await).await, before);
    let tweet = client.tweet(writer, "new").await;
    assert_eq!(client.feed(reader, Position(tweet.0)).await[0], tweet);
    api.kill().await;
    projector.kill().await;
    system.stop().await;
}

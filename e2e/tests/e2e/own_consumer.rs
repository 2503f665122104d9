//! Consumers of one's own, as `docs/consumers.md` and `projector/examples` have them: whatever happens to them and to their
//! queue, they have counted each event once, and feeds do not notice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use e2e::model::Model;
use e2e::process::Process;
use e2e::system::System;
use e2e::until;
use events::UserId;
use events::amqp::EXCHANGE;
use events::store::{outbox, read};
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};

const QUEUE: &str = "example.tweet-counts";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_in_rust_counts_each_tweet_once() {
    let mut program = std::env::current_exe().unwrap();
    program.pop();
    program.pop();
    program.push("examples/count_tweets");
    assert!(program.exists(), "cargo build -p projector --examples");
    counts_each_tweet_once(&program.display().to_string(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_in_python_counts_each_tweet_once() {
    let page = std::fs::read_to_string(root().join("docs/consumers.md")).unwrap();
    let (_, code) = page.split_once("```python\n").expect("the page has one in Python");
    let (code, _) = code.split_once("```").expect("it ends");
    // In a folder of its own, since Python takes what lies beside a program for modules.
    let folder = std::env::temp_dir().join(format!("count-tweets-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("count_tweets.py");
    std::fs::write(&file, code).unwrap();
    let python: PathBuf = root().join("target/tools/python/bin/python");
    assert!(python.exists(), "scripts/python.sh");
    counts_each_tweet_once(&python.display().to_string(), &[file.to_str().unwrap()]).await;
    std::fs::remove_dir_all(folder).unwrap();
}

async fn counts_each_tweet_once(program: &str, arguments: &[&str]) {
    let system = System::start().await;
    let (url, amqp) = (system.database.url.clone(), system.amqp_url());
    // So small that it is full all the time.
    let variables =
        [("DATABASE_URL", url.as_str()), ("AMQP_URL", amqp.as_str()), ("QUEUE_MAX_BYTES", "2000")];
    let start = || Process::start(program, arguments, &variables);
    let (ada, bob) = (system.client.register("ada").await, system.client.register("bob").await);
    // Before there is a consumer, or a queue.
    write(&system, ada, bob, 5).await;
    let mut consumer = start();
    has_counted_all(&system, &consumer).await;

    write(&system, ada, bob, 5).await;
    has_counted_all(&system, &consumer).await;

    // What came, once more and in another order, and what does not come.
    let connection = system.vhost.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let spied = declare_spy(&channel).await;
    write(&system, ada, bob, 3).await;
    has_counted_all(&system, &consumer).await;
    repeat(&channel, &spied).await;
    for _ in 0..3 {
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_unbind(QUEUE.into(), EXCHANGE.into(), "".into(), none).await.unwrap();
        write(&system, ada, bob, 2).await;
        is_published(&system).await;
        let none = FieldTable::default();
        channel.queue_bind(QUEUE.into(), EXCHANGE.into(), "".into(), options, none).await.unwrap();
        write(&system, ada, bob, 1).await;
    }
    has_counted_all(&system, &consumer).await;

    // Made by hand, and with a signature that is somebody else's.
    for _ in 0..3 {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let body = br#"[{"position":"1","type":"TweetCreated","data":{"author_id":1}}]"#;
        let publish = channel.basic_publish(EXCHANGE.into(), "".into(), options, body, properties);
        publish.await.unwrap();
    }
    write(&system, ada, bob, 1).await;
    has_counted_all(&system, &consumer).await;

    for _ in 0..3 {
        // In the middle of its work.
        let (writing, ()) = tokio::join!(write(&system, ada, bob, 5), consumer.kill());
        let () = writing;
        // More than its queue has room for, and then all that it has.
        write(&system, ada, bob, 5).await;
        is_published(&system).await;
        consumer = start();
        has_counted_all(&system, &consumer).await;
        system.vhost.purge(QUEUE).await;
    }
    write(&system, ada, bob, 2).await;
    has_counted_all(&system, &consumer).await;
    system.every_feed_is_exact().await;
    consumer.kill().await;
    system.stop().await;
}

/// Nobody waits for a consumer, whatever it does.
async fn is_published(system: &System) {
    until("everything is published", async || {
        let outbox = outbox::load(&system.log).await.ok()?;
        let head = read::head(&system.log).await.ok()?;
        (outbox.position == head).then_some(())
    })
    .await;
}

/// A queue that gets what all get.
async fn declare_spy(channel: &Channel) -> String {
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let spy = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
    let (name, options) = (spy.name().clone(), QueueBindOptions::default());
    let none = FieldTable::default();
    channel.queue_bind(name.clone(), EXCHANGE.into(), "".into(), options, none).await.unwrap();
    name.to_string()
}

/// Sends the consumer what the spy has, backwards.
async fn repeat(channel: &Channel, spied: &str) {
    let mut messages = Vec::new();
    let options = BasicGetOptions { no_ack: true };
    while let Some(message) = channel.basic_get(spied.into(), options).await.unwrap() {
        messages.push(message.delivery);
    }
    assert!(!messages.is_empty());
    for message in messages.into_iter().rev() {
        let (options, properties) = (BasicPublishOptions::default(), message.properties);
        let publish =
            channel.basic_publish("".into(), QUEUE.into(), options, &message.data, properties);
        publish.await.unwrap();
    }
}

/// Each writes `count` tweets, and ada takes one back.
async fn write(system: &System, ada: UserId, bob: UserId, count: usize) {
    for number in 0..count {
        let tweet = system.client.tweet(ada, &format!("{number}")).await;
        system.client.tweet(bob, &format!("{number}")).await;
        if number == 0 {
            system.client.delete(&format!("/api/tweets/{tweet}"), Some(ada)).await;
        }
    }
}

async fn has_counted_all(system: &System, consumer: &Process) {
    let model = Model::of_log(&system.log).await;
    let mut expected: BTreeMap<i64, i64> = BTreeMap::new();
    for author in model.tweets.values() {
        *expected.entry(author.0).or_default() += 1;
    }
    let what = format!("{expected:?} are counted; the consumer says {:?}", consumer.log());
    until(&what, async || {
        let found: Vec<(i64, i64)> =
            sqlx::query_as("select author_id, tweets from tweet_counts where tweets > 0")
                .fetch_all(&system.log)
                .await
                .ok()?;
        (found.into_iter().collect::<BTreeMap<_, _>>() == expected).then_some(())
    })
    .await;
}

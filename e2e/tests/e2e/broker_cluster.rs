//! RabbitMQ as a cluster of three: nodes that are killed, and one that is cut off from the others.

use std::time::Duration;

use e2e::broker_cluster::BrokerCluster;
use e2e::database::TestDatabase;
use e2e::model::{Model, read_log};
use e2e::system::{start_api, start_projector};
use e2e::until;
use events::amqp::{Broker, queue};
use events::projection::PROJECTIONS;
use events::store::{Connections, outbox, read};
use events::{Position, TweetId};
use reqwest::StatusCode;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Waits until RabbitMQ has confirmed what is in the log now.
async fn confirmed(log: &Connections) -> Position {
    let head = read::head(log).await.unwrap();
    until("RabbitMQ confirms what is in the log", async || {
        let published = outbox::load(log).await.ok()?;
        (published.position >= head).then_some(head)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_nodes_of_a_cluster_are_killed_and_cut_off() {
    let Some(mut brokers) = BrokerCluster::start().await else {
        return println!("did not run: RabbitMQ is not installed here");
    };
    let database = TestDatabase::create().await;
    let (url, amqp_url) = (database.url.as_str(), brokers.url());
    let (mut api, client) = start_api(url, &amqp_url, &[], &[]).await;
    let mut projector = start_projector(url, &amqp_url, &[], &[]).await;
    let log = database.pool().await;
    let (ada, bob) = (client.register("ada").await, client.register("bob").await);
    client.follow(bob, ada).await;
    let stop = CancellationToken::new();
    let writing = tokio::spawn({
        let (client, stop) = (client.clone(), stop.clone());
        async move {
            let mut answered = Vec::new();
            while !stop.is_cancelled() {
                let body = json!({ "content": format!("number {}", answered.len()) });
                let answer = client.post("/api/tweets", Some(ada), body).await;
                assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
                answered.push(TweetId(answer.body["id"].as_i64().unwrap()));
                // A rhythm, so that the log stays small.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answered
        }
    });

    // Both programs went to the first node, so that leads the queues.
    confirmed(&log).await;
    brokers.kill(0).await;
    confirmed(&log).await;
    brokers.start_again(0).await;
    brokers.kill(1).await;
    confirmed(&log).await;
    brokers.start_again(1).await;
    for node in 0..3 {
        brokers.cut_off(node).await;
        confirmed(&log).await;
        brokers.heal(node).await;
    }
    stop.cancel();
    let answered = writing.await.unwrap();
    let head = confirmed(&log).await;

    let model = Model::of(&read_log(&log).await);
    assert!(answered.iter().all(|tweet| model.tweets.contains_key(tweet)));
    assert_eq!(client.feed(bob, head).await, model.feed(bob));
    for user in &model.users {
        assert_eq!(client.counts(*user, head).await, json!(model.counts(*user)));
    }
    let broker = Broker::parse(&amqp_url).unwrap().connect("rookery test").await.unwrap();
    let channel = broker.create_channel().await.unwrap();
    for projection in PROJECTIONS {
        let found = queue(&channel, projection.dead_letters()).await.unwrap();
        assert_eq!(found.map(|queue| queue.messages), Some(0), "they were all true");
    }
    api.kill().await;
    projector.kill().await;
}

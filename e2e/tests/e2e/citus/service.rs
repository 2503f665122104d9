//! The whole service with its read model on several nodes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::citus::Citus;
use e2e::client::Answer;
use e2e::database::TestDatabase;
use e2e::live::LiveFeed;
use e2e::model::Model;
use e2e::process::run;
use e2e::system::{start_api, start_projector};
use e2e::vhost::Vhost;
use events::Position;
use reqwest::Method;
use serde_json::json;

/// Feeds, streams, lists and commands, as users and operators have them.
#[tokio::test(flavor = "multi_thread")]
async fn the_whole_service_runs_on_several_nodes() {
    let Some(citus) = Citus::start().await else { return };
    let (log, vhost, url) = (TestDatabase::create().await, Vhost::create().await, citus.url());
    let variables = [("FEED_DATABASE_URL", url.as_str())];
    let (_api, client) = start_api(&log.url, &vhost.url, &variables, &[]).await;
    let _projector = start_projector(&log.url, &vhost.url, &variables, &[]).await;
    let ada = client.register("ada").await;
    let mut readers = Vec::new();
    for number in 0..12 {
        let reader = client.register(&format!("reader{number}")).await;
        client.follow(reader, ada).await;
        readers.push(reader);
    }
    let first = client.tweet(ada, "the first").await;
    assert_eq!(client.feed(readers[0], Position(first.0)).await, [first]);
    let mut streams = Vec::new();
    for reader in &readers {
        streams.push(LiveFeed::open(&client, *reader, None).await);
    }
    let second = client.tweet(ada, "the second").await;
    for stream in &mut streams {
        assert_eq!(stream.take(1).await, [second]);
    }
    let at_second = async |path: String| {
        let request = client.request(Method::GET, &path, Some(ada));
        Answer::when_there(request.header("X-Min-Log-Position", second.0)).await
    };
    let followers = at_second(format!("/api/subscriptions/{ada}/followers")).await;
    assert_eq!(followers.body.as_array().unwrap().len(), readers.len(), "{followers:?}");
    let delivery = at_second(format!("/api/tweets/{second}/delivery")).await;
    let count = readers.len();
    assert_eq!(
        (&delivery.body["followers"], &delivery.body["feeds"]),
        (&json!(count), &json!(count))
    );

    let projector = async |arguments: &[&str]| {
        let urls = [("DATABASE_URL", log.url.as_str()), ("AMQP_URL", vhost.url.as_str())];
        let ended = run("projector", arguments, &[&urls[..], &variables].concat()).await;
        let said = String::from_utf8_lossy(&[&*ended.stdout, &*ended.stderr].concat()).into_owned();
        (ended.status.success(), said)
    };
    let is_rebuilt = AtomicBool::new(false);
    let posts = async {
        let mut last = second;
        while !is_rebuilt.load(Ordering::Relaxed) {
            last = client.tweet(ada, "while it is rebuilt").await;
            for reader in &readers {
                assert!(client.feed(*reader, Position(last.0)).await.contains(&last));
            }
        }
        last
    };
    let rebuilds = async {
        for command in [["rebuild", "feed"], ["rollback", "feed"]] {
            let (succeeded, said) = projector(&command).await;
            assert!(succeeded, "{said}");
        }
        is_rebuilt.store(true, Ordering::Relaxed);
    };
    let (last, ()) = tokio::join!(posts, rebuilds);
    let model = Model::of_log(&log.pool().await).await;
    for reader in &model.users {
        assert_eq!(client.feed(*reader, Position(last.0)).await, model.feed(*reader));
    }
    let (succeeded, said) = projector(&["verify"]).await;
    assert!(succeeded, "{said}");

    // A node that is away is named; its readers are refused, and the others read on.
    citus.workers[1].stop_at_once();
    let (_, said) = projector(&["status"]).await;
    let address = citus.workers[1].address;
    assert!(said.contains(&format!("node {address} of the feeds is away")), "{said}");
    let mut statuses = BTreeSet::new();
    for reader in &readers {
        statuses.insert(client.get("/api/feed/", Some(*reader)).await.status.as_u16());
    }
    assert_eq!(statuses, BTreeSet::from([200, 503]));
    citus.workers[1].start_again().await;
    let back = client.tweet(ada, "it is back").await;
    for reader in &readers {
        assert_eq!(client.feed(*reader, Position(back.0)).await.first(), Some(&back));
    }
    vhost.remove().await;
}

//! What `docs/pgbouncer.md` says.

use e2e::cluster::Cluster;
use e2e::model::Model;
use e2e::pages;
use e2e::pgbouncer::Pgbouncer;
use e2e::system::{start_api, start_projector};
use e2e::vhost::Vhost;
use events::Position;
use events::store::Database;
use reqwest::StatusCode;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_through_pgbouncer_and_goes_on_when_that_was_killed() {
    let Some(server) = Cluster::primary().await else {
        return println!("did not run: PostgreSQL's programs are not installed here");
    };
    let (mut pgbouncer, vhost) = (Pgbouncer::before(&server).await, Vhost::create().await);
    let url = pgbouncer.url.clone();
    let (mut api, client) = start_api(&url, &vhost.url, &[], &[]).await;
    let mut projector = start_projector(&url, &vhost.url, &[], &[]).await;
    let (ada, bob) = (client.register("ada").await, client.register("bob").await);
    client.follow(bob, ada).await;
    let direct = format!("postgres://postgres@{}/rookery", server.address);
    let log = Database::parse("DATABASE_URL", &direct, "rookery test").unwrap();
    let log = log.connect(2).await.unwrap();
    let variables = [("DATABASE_URL", url.as_str()), ("AMQP_URL", vhost.url.as_str())];
    let [look] = &pages::commands("pgbouncer.md")[..] else { panic!("one block of commands") };

    for (round, command) in ["projector rebuild", "projector rollback", look].iter().enumerate() {
        let tweet = client.tweet(ada, &format!("before round {round}")).await;
        pages::succeed(command, &variables).await;
        let feed = client.feed(bob, Position(tweet.0)).await;
        assert_eq!(feed, Model::of_log(&log).await.feed(bob), "after {command}");

        pgbouncer.die_and_rise().await;
        let accepted = e2e::until("commands are accepted", async || {
            let body = json!({ "content": "through another pgbouncer" });
            let answer = client.post("/api/tweets", Some(ada), body).await;
            (answer.status == StatusCode::CREATED).then(|| answer.position.unwrap())
        })
        .await;
        e2e::until("it can be read", async || {
            let feed = client.get("/api/feed", Some(bob)).await;
            (feed.status == StatusCode::OK && feed.ids()[0].0 == accepted.0).then_some(())
        })
        .await;
    }
    for process in [&mut api, &mut projector] {
        process.kill().await;
    }
    vhost.remove().await;
}

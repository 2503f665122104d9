//! What `docs/failover.md` says, command by command: a primary that is lost under load, and the standby in its place.

use e2e::cluster::Cluster;
use e2e::gate::Gate;
use e2e::model::{Model, read_log};
use e2e::pages;
use e2e::process::run;
use e2e::system::{start_api, start_projector};
use e2e::until;
use e2e::vhost::Vhost;
use events::store::Database;
use events::{Position, TweetId};
use reqwest::StatusCode;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_the_loss_of_a_primary_and_nothing_has_to_be_started_again() {
    let Some(primary) = Cluster::primary().await else {
        return println!("did not run: PostgreSQL's programs are not installed here");
    };
    let blocks = pages::commands("failover.md");
    let [follow, wait_for_it, promote, look] = &blocks[..] else { panic!("{blocks:#?}") };
    let (copy, start) = follow.split_once('\n').unwrap();
    let at_primary = primary.url_through(primary.address);
    let link = Gate::to(primary.address).await;
    let through_link = primary.url_through(link.address);
    let standby = primary.made_by(copy, start, &[("PRIMARY", &through_link)]).await;
    primary.shell(wait_for_it, &[("PRIMARY", &at_primary)]);
    until("the standby confirms", async || {
        let mut connection = PgConnection::connect(&at_primary).await.ok()?;
        let confirms = "select sync_state from pg_stat_replication where sync_state = 'sync'";
        sqlx::query_scalar::<_, String>(confirms).fetch_optional(&mut connection).await.ok()?
    })
    .await;

    let (gate, vhost) = (Gate::to(primary.address).await, Vhost::create().await);
    let url = primary.url_through(gate.address);
    let (mut api, client) = start_api(&url, &vhost.url, &[], &[]).await;
    let mut projector = start_projector(&url, &vhost.url, &[], &[]).await;
    let (ada, bob) = (client.register("ada").await, client.register("bob").await);
    client.follow(bob, ada).await;
    let stop = CancellationToken::new();
    let writing: Vec<_> = (0..4)
        .map(|writer| {
            let (client, stop) = (client.clone(), stop.clone());
            tokio::spawn(async move {
                let mut answered = Vec::new();
                while !stop.is_cancelled() {
                    let body = json!({ "content": format!("{writer}: {}", answered.len()) });
                    let answer = client.post("/api/tweets", Some(ada), body).await;
                    match answer.status {
                        StatusCode::CREATED => {
                            answered.push(TweetId(answer.body["id"].as_i64().unwrap()));
                        }
                        status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
                    }
                }
                answered
            })
        })
        .collect();
    let before = client.tweet(ada, "while both are there").await;
    assert!(client.feed(bob, Position(before.0)).await.contains(&before));

    // The standby hears nothing any more: what is answered now would be lost.
    link.fall_silent();
    let body = json!({ "content": "while the standby hears nothing" });
    let unconfirmed = client.post("/api/tweets", Some(ada), body).await;
    primary.stop_at_once();
    standby.shell(promote, &[("STANDBY", &standby.url_through(standby.address))]);
    gate.cut_and_lead_to(standby.address);
    let after = until("commands are accepted", async || {
        let body = json!({ "content": "on the standby" });
        let answer = client.post("/api/tweets", Some(ada), body).await;
        (answer.status == StatusCode::CREATED).then(|| answer.position.unwrap())
    })
    .await;
    stop.cancel();
    let mut answered = vec![before, TweetId(after.0)];
    if unconfirmed.status == StatusCode::CREATED {
        answered.push(TweetId(unconfirmed.position.unwrap().0));
    }
    for writer in writing {
        answered.extend(writer.await.unwrap());
    }

    let log = Database::parse("DATABASE_URL", &url, "rookery test").unwrap();
    let log = log.connect(2).await.unwrap();
    let model = Model::of(&read_log(&log).await);
    let lost: Vec<_> = answered.iter().filter(|tweet| !model.tweets.contains_key(tweet)).collect();
    assert!(lost.is_empty(), "of {} answered {lost:?} are lost", answered.len());
    let newest = answered.iter().max().unwrap();
    until("the feed can be read", async || {
        let feed = client.get("/api/feed", Some(bob)).await;
        (feed.position >= Some(Position(newest.0))).then_some(())
    })
    .await;
    assert_eq!(client.feed(bob, Position(newest.0)).await, model.feed(bob));
    let variables = [("DATABASE_URL", url.as_str()), ("AMQP_URL", vhost.url.as_str())];
    until("the projector leads again and has caught up", async || {
        run("projector", &["status"], &variables).await.status.success().then_some(())
    })
    .await;
    pages::succeed(look, &variables).await;
    for process in [&mut api, &mut projector] {
        process.kill().await;
    }
    vhost.remove().await;
}

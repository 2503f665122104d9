//! What `docs/backups.md` says, command by command: a base backup that is taken under load, and what happens when it is restored.

use std::collections::BTreeSet;

use e2e::cluster::Cluster;
use e2e::database::TestDatabase;
use e2e::model::{Model, read_log};
use e2e::pages;
use e2e::process::run;
use e2e::system::{start_api, start_projector};
use e2e::until;
use e2e::vhost::Vhost;
use events::store::Database;
use events::{Position, TweetId};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_taken_under_load_is_restored_and_read_models_that_are_ahead_are_made_again()
 {
    let Some(server) = Cluster::primary().await else {
        return println!("did not run: PostgreSQL's programs are not installed here");
    };
    let blocks = pages::commands("backups.md");
    let [take, restore, rebuild, verify] = &blocks[..] else { panic!("{blocks:#?}") };
    // Feeds beside the log are restored with it; those elsewhere are not.
    let (elsewhere, vhost) = (TestDatabase::create().await, Vhost::create().await);
    let url = server.url_through(server.address);
    let feeds = [("FEED_DATABASE_URL", elsewhere.url.as_str())];
    let (mut api, client) = start_api(&url, &vhost.url, &feeds, &[]).await;
    // Of two read models of one log each would have to have a broker of its own; this one follows the log.
    let nobody_publishes = Vhost::create().await;
    let mut beside = start_projector(&url, &nobody_publishes.url, &[], &[]).await;
    let mut away = start_projector(&url, &vhost.url, &feeds, &[]).await;
    let (ada, bob) = (client.register("ada").await, client.register("bob").await);
    client.follow(bob, ada).await;

    let stop = CancellationToken::new();
    let writing: Vec<_> = (0..4)
        .map(|writer| {
            let (client, stop) = (client.clone(), stop.clone());
            tokio::spawn(async move {
                let mut written = Vec::new();
                while !stop.is_cancelled() {
                    written.push(client.tweet(ada, &format!("{writer}: {}", written.len())).await);
                }
                written
            })
        })
        .collect();
    let before = client.tweet(ada, "before the backup").await;
    let backup = server.folder("backup");
    server.shell(take, &[("SERVER", &url), ("BACKUP", &backup)]);
    stop.cancel();
    let mut acknowledged: BTreeSet<TweetId> = BTreeSet::from([before]);
    for writer in writing {
        acknowledged.extend(writer.await.unwrap());
    }
    let last = client.tweet(ada, "after the backup").await;
    assert_eq!(client.feed(bob, Position(last.0)).await[0], last);
    for process in [&mut api, &mut beside, &mut away] {
        process.kill().await;
    }
    server.stop_at_once();

    let (copy, start) = restore.split_once('\n').unwrap();
    let restored = server.made_by(copy, start, &[("BACKUP", &backup)]).await;
    let url = restored.url_through(restored.address);
    let log = Database::parse("DATABASE_URL", &url, "rookery test").unwrap();
    let log = log.connect(2).await.unwrap();
    let events = read_log(&log).await;
    let model = Model::of(&events);
    let kept = acknowledged.iter().filter(|tweet| model.tweets.contains_key(tweet)).count();
    assert!(model.tweets.contains_key(&before) && !model.tweets.contains_key(&last));
    println!("{} events in the backup, {kept} of {} tweets", events.len(), acknowledged.len());

    // Beside the log: of its moment, and right.
    let same = [("DATABASE_URL", url.as_str()), ("AMQP_URL", vhost.url.as_str())];
    let other = [same[0], same[1], feeds[0]];
    let command = |line: &str| line.trim().strip_prefix("projector ").unwrap().to_owned();
    let (rebuild, verify) = (command(rebuild), command(verify));
    let verified = run("projector", &[&verify], &same).await;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));

    // Elsewhere: ahead of the log, and refused by everyone, until it is made again.
    let (mut api, client) = start_api(&url, &vhost.url, &feeds, &[]).await;
    let ready = until("the api sees that it is ahead", async || {
        let ready = client.get("/health/ready", None).await;
        (ready.status == 503).then_some(ready.body)
    })
    .await;
    assert!(ready["feed_database"].as_str().unwrap().contains("another history"), "{ready}");
    assert_eq!(client.get("/api/feed", Some(bob)).await.status, 503);
    let after = client.tweet(ada, "after it was restored").await;
    let refused = run("projector", &["run"], &other).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("another history"), "{said}");
    let rebuilt = run("projector", &[&rebuild], &other).await;
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    let mut away = start_projector(&url, &vhost.url, &feeds, &[]).await;
    let now = Model::of_log(&log).await;
    until("reads are answered", async || {
        (client.get("/api/feed", Some(bob)).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(client.feed(bob, Position(after.0)).await, now.feed(bob));
    let verified = run("projector", &[&verify], &other).await;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    for process in [&mut api, &mut away] {
        process.kill().await;
    }
    nobody_publishes.remove().await;
    vhost.remove().await;
}

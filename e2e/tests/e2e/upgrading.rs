//! What `docs/upgrading.md` says: its commands, and programs beside schemas that a later release has migrated.

use std::path::PathBuf;

use e2e::client::Rookery;
use e2e::cluster::Cluster;
use e2e::database::TestDatabase;
use e2e::model::{Model, read_log};
use e2e::pages;
use e2e::process::Process;
use e2e::system::{System, start_api, start_projector};
use e2e::vhost::Vhost;
use e2e::{RANGE_EVENTS, until};
use events::store::{Connections, Database};
use events::{Position, TweetId, UserId};
use reqwest::StatusCode;
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::migrate::Migrator;
use uuid::Uuid;

/// Migrations of `schema` as another release has them, in a folder of their own.
struct Release {
    schema: &'static str,
    folder: PathBuf,
}

impl Release {
    /// Those of this one up to migration `last`.
    fn earlier(schema: &'static str, last: u32) -> Self {
        let folder = std::env::temp_dir().join(format!("rookery-release-{}", Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        let ours = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(schema);
        for found in std::fs::read_dir(ours).unwrap() {
            let found = found.unwrap();
            let name = found.file_name().into_string().unwrap();
            if name.split('_').next().unwrap().parse::<u32>().unwrap() <= last {
                std::fs::copy(found.path(), folder.join(name)).unwrap();
            }
        }
        Self { schema, folder }
    }

    /// Those of this one.
    fn this(schema: &'static str) -> Self {
        Self::earlier(schema, u32::MAX)
    }

    /// The same with one more.
    fn with(self, version: u32, statements: &str) -> Self {
        std::fs::write(self.folder.join(format!("{version:04}_later.sql")), statements).unwrap();
        self
    }

    async fn migrate(&self, database: &Connections) {
        let mut migrator = Migrator::new(self.folder.as_path()).await.unwrap();
        migrator.dangerous_set_table_name(format!("{}_migrations", self.schema));
        let mut lent = database.lend().await.unwrap();
        migrator.run(&mut *lent).await.unwrap();
        lent.give_back();
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_bring_a_log_of_the_release_before_to_this_one_while_it_serves() {
    let blocks = pages::commands("upgrading.md");
    let [look, migrate, verify, _] = &blocks[..] else { panic!("{blocks:#?}") };
    let (database, vhost) = (TestDatabase::create().await, Vhost::create().await);
    let log = database.pool().await;
    Release::earlier("log", 5).migrate(&log).await;
    let variables = [("DATABASE_URL", database.url.as_str()), ("AMQP_URL", vhost.url.as_str())];

    pages::succeed(migrate, &variables).await;
    let (mut api, client) = start_api(&database.url, &vhost.url, &[], &[]).await;
    let mut projector = start_projector(&database.url, &vhost.url, &[], &[]).await;
    let ada = client.register("ada").await;
    let tweet = client.tweet(ada, "hello").await;
    assert_eq!(client.feed(ada, Position(tweet.0)).await, [tweet]);
    // Both projections are at work.
    client.counts(ada, Position(tweet.0)).await;
    pages::succeed(look, &variables).await;
    let verified = pages::succeed(verify, &variables).await;
    assert!(verified.contains("no differences"), "{verified}");
    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

/// A log that was one table becomes the first range of one that is kept in ranges, and goes on as if nothing had been.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_one_table_becomes_the_first_range() {
    let system = System::start().await;
    let rookery = &system.client;
    let (ada, bob) = (rookery.register("ada").await, rookery.register("bob").await);
    let cleo = rookery.register("cleo").await;
    rookery.follow(bob, ada).await;
    rookery.follow(ada, bob).await;
    rookery.delete(&format!("/api/subscriptions/unfollow/{bob}"), Some(ada)).await;
    let (kept, gone) = (rookery.tweet(ada, "kept").await, rookery.tweet(ada, "gone").await);
    rookery.delete(&format!("/api/tweets/{gone}"), Some(ada)).await;
    rookery.delete(&format!("/api/users/{cleo}"), Some(cleo)).await;

    // The same log, as the release before had it.
    let (database, vhost) = (TestDatabase::create().await, Vhost::create().await);
    let log = database.pool().await;
    Release::earlier("log", 7).migrate(&log).await;
    for table in ["events", "accounts"] {
        let order = if table == "events" { "position" } else { "user_id" };
        let rows = format!("select to_jsonb({table}) from {table} order by {order}");
        let rows: Vec<serde_json::Value> =
            sqlx::query_scalar(AssertSqlSafe(rows)).fetch_all(&system.log).await.unwrap();
        assert!(!rows.is_empty());
        let insert = format!(
            "insert into {table}
             select made.* from jsonb_array_elements($1) as row (columns)
             cross join lateral jsonb_populate_record(null::{table}, columns) as made"
        );
        let written = sqlx::query(AssertSqlSafe(insert)).bind(serde_json::Value::from(rows));
        written.execute(&log).await.unwrap();
    }
    let (mut api, client) = start_api(&database.url, &vhost.url, &[], &[]).await;
    let mut projector = start_projector(&database.url, &vhost.url, &[], &[]).await;
    assert_eq!(said(&log).await, said(&system.log).await);

    let twice = client.post("/api/subscriptions/follow", Some(bob), json!({ "followed_id": ada }));
    assert_eq!(twice.await.status, StatusCode::CONFLICT);
    client.follow(ada, bob).await;
    let again = client.delete(&format!("/api/tweets/{gone}"), Some(ada)).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    assert_eq!(client.register("dora").await.0, cleo.0 + 1);
    let last = client.tweet(ada, "after").await;
    assert_eq!(client.feed(bob, Position(last.0)).await, [last, kept]);
    let removed = client.delete(&format!("/api/tweets/{kept}"), Some(ada)).await;
    assert_eq!(removed.status, StatusCode::OK);
    let variables = [("DATABASE_URL", database.url.as_str()), ("AMQP_URL", vhost.url.as_str())];
    let verified = pages::succeed("projector verify", &variables).await;
    assert!(verified.contains("no differences"), "{verified}");
    let ranges = "select first_position, last_position from log_ranges order by 1";
    let ranges: Vec<(i64, i64)> = sqlx::query_as(ranges).fetch_all(&log).await.unwrap();
    let end = system.head().await.0;
    assert_eq!(ranges[..2], [(1, end), (end + 1, end + RANGE_EVENTS)]);
    for process in [&mut api, &mut projector] {
        process.kill().await;
    }
    vhost.remove().await;
    system.stop().await;
}

/// All of a log, in words.
async fn said(log: &Connections) -> Vec<String> {
    read_log(log).await.iter().map(|event| format!("{event:?}")).collect()
}

/// Both programs of this release, which stands for the older one, restarted under what a later one has added.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_release_goes_on_beside_what_a_later_one_has_added() {
    let mut system = System::start().await;
    let ada = system.client.register("ada").await;
    Release::this("log")
        .with(9001, "alter table events add column region text; create table later (id bigint);")
        .migrate(&system.log)
        .await;
    Release::this("feed")
        .with(9001, "alter table tweets add column language text;")
        .migrate(&system.log)
        .await;
    system.client.tweet(ada, "under the programs that ran").await;
    system.every_feed_is_exact().await;
    for process in [&mut system.api, &mut system.projector] {
        process.signal("-TERM").await;
        assert!(process.ended().await.success());
    }
    system.restart(true).await;
    system.client.tweet(ada, "under programs that were restarted").await;
    system.every_feed_is_exact().await;

    Release::this("log")
        .with(9001, "alter table events add column region text; create table later (id bigint);")
        .with(9002, "update log_compatibility set writable_since = 9002;")
        .migrate(&system.log)
        .await;
    let variables = [
        ("DATABASE_URL", system.database.url.as_str()),
        ("AMQP_URL", system.vhost.url.as_str()),
        ("BIND", "127.0.0.1:0"),
    ];
    let mut refused = Process::start("api", &[], &variables);
    assert_eq!(refused.ended().await.code(), Some(1));
    let said = refused.log().join("\n");
    assert!(said.contains("the log schema has migration 9001, which is newer"), "{said}");
    system.stop().await;
}

/// A later release has made the read model into what older projectors must not write, while one was at work.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_projector_writes_nothing_after_it_was_shut_out_and_may_have_a_read_model_of_its_own()
 {
    let Some(server) = Cluster::primary().await else {
        return println!("did not run: PostgreSQL's programs are not installed here");
    };
    let url = server.url_through(server.address);
    let vhost = Vhost::create().await;
    let (mut api, client) = start_api(&url, &vhost.url, &[], &[]).await;
    let mut projector = start_projector(&url, &vhost.url, &[], &["feed"]).await;
    let (ada, bob) = (client.register("ada").await, client.register("bob").await);
    client.follow(bob, ada).await;
    let before = client.tweet(ada, "before").await;
    assert_eq!(client.feed(bob, Position(before.0)).await, [before]);

    let log = Database::parse("DATABASE_URL", &url, "rookery test").unwrap();
    let log = log.connect(2).await.unwrap();
    let later = "alter table tweets add column words bigint not null default 0;
        update compatibility set writable_since = 9001;
        update checkpoint set fence = fence + 1;";
    Release::this("feed").with(9001, later).migrate(&log).await;
    let after = client.tweet(ada, "after").await;
    assert_eq!(projector.ended().await.code(), Some(1));
    let said = projector.log().join("\n");
    assert!(said.contains("the feed schema has migration 9001, which is newer"), "{said}");
    let written = "select coalesce(max(tweet_id), 0) from tweets";
    let newest: i64 = sqlx::query_scalar(written).fetch_one(&log).await.unwrap();
    assert_eq!(newest, before.0, "nothing was written after the migration");
    // What is there it may read.
    let read = client.get("/api/feed", Some(bob)).await;
    assert_eq!((read.status, read.ids()), (StatusCode::OK, vec![before]));

    // A restart does not get past it, and nor does a rebuild.
    let variables = [("DATABASE_URL", url.as_str()), ("AMQP_URL", vhost.url.as_str())];
    for command in ["projector run feed", "projector rebuild feed"] {
        let output = pages::shell(command, &variables).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains("the feed schema has migration 9001"), "{command}: {said}");
    }

    let blocks = pages::commands("upgrading.md");
    server.shell(&blocks[3], &[("SERVER", &url)]);
    let again = format!("{}/rookery_feeds_again", url.rsplit_once('/').unwrap().0);
    let feeds = [("FEED_DATABASE_URL", again.as_str())];
    projector = start_projector(&url, &vhost.url, &feeds, &[]).await;
    api.kill().await;
    let (mut api, client) = start_api(&url, &vhost.url, &feeds, &[]).await;
    assert_feed(&client, bob, after, &Model::of_log(&log).await).await;
    for process in [&mut api, &mut projector] {
        process.kill().await;
    }
    vhost.remove().await;
}

async fn assert_feed(client: &Rookery, reader: UserId, newest: TweetId, model: &Model) {
    until("reads are answered", async || {
        (client.get("/api/feed", Some(reader)).await.status == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(client.feed(reader, Position(newest.0)).await, model.feed(reader));
}

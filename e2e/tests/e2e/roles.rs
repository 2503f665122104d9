//! Each program with a role of its own, which may do what the program needs and no more.

use e2e::client::{Answer, Rookery};
use e2e::database::TestDatabase;
use e2e::process::{Process, run};
use e2e::roles::{FEED, LOG, ROLES, Roles};
use e2e::system::{System, start_api, start_projector};
use e2e::until;
use e2e::vhost::Vhost;
use events::Position;
use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::{Connection, PgConnection};

/// Does each kind of command and sees that the feeds follow.
async fn everything_works(rookery: &Rookery) {
    let (ada, bob) = (rookery.register("ada").await, rookery.register("bob").await);
    rookery.follow(bob, ada).await;
    let body = json!({ "content": "hello" });
    let post = async || {
        let request = rookery.request(Method::POST, "/api/tweets", Some(ada)).json(&body);
        Answer::of(request.header("Idempotency-Key", "once")).await
    };
    let (tweet, again) = (post().await, post().await);
    assert_eq!((tweet.status, &tweet.body), (StatusCode::CREATED, &again.body));
    let position = tweet.position.unwrap();
    let feed = rookery.feed(bob, position).await;
    assert_eq!(feed.iter().map(|tweet| tweet.0).collect::<Vec<_>>(), [position.0]);

    let ada_leaves = format!("/api/users/{ada}");
    let deletes = [
        (format!("/api/tweets/{position}"), ada),
        (format!("/api/subscriptions/unfollow/{ada}"), bob),
        (ada_leaves, ada),
    ];
    let mut last = position;
    for (path, caller) in deletes {
        let answer = rookery.delete(&path, Some(caller)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        last = answer.position.unwrap();
    }
    assert_eq!(rookery.feed(bob, last).await, []);
}

/// The database refuses each of `statements`, for lack of a right and for no other reason.
async fn are_denied(url: &str, statements: &[&'static str]) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    for statement in statements {
        let refused = sqlx::query(*statement).execute(&mut connection).await;
        let error = refused.expect_err(statement).into_database_error().unwrap();
        assert_eq!(error.code().as_deref(), Some("42501"), "{statement}: {error}");
    }
    connection.close().await.unwrap();
}

/// What neither program may do to the log.
const CHANGES_OF_THE_LOG: [&str; 19] = [
    "update events set payload = '{}'",
    "delete from events",
    "truncate events",
    "drop trigger events_append_only on events",
    "alter table events disable trigger events_append_only",
    "alter table events drop column metadata",
    "drop table events cascade",
    "update events_1 set payload = '{}'",
    "delete from events_1",
    "truncate events_1",
    "drop table events_1",
    "alter table events_1 disable trigger events_append_only",
    "alter table events detach partition events_1",
    "delete from deleted_tweets",
    "create or replace function refuse_change_of_events() returns trigger language plpgsql as 'begin return new; end'",
    "set session_replication_role = replica",
    "insert into outbox select * from outbox",
    "delete from outbox",
    "insert into log_migrations select * from log_migrations",
];

const OF_THE_LOG_FOR_THE_PROJECTOR: [&str; 9] = [
    "insert into events select * from events",
    "update outbox set position = 0",
    "insert into accounts select * from accounts",
    "delete from accounts",
    "delete from idempotency_keys",
    "update relationships set follows = true",
    "update last_user_id set user_id = 1",
    "select open_log_ranges(1000, 1000)",
    "update last_readings set read_at = now()",
];

const OF_THE_READ_MODEL_FOR_THE_API: [&str; 8] = [
    "insert into feed_items values (1, 1)",
    "delete from feed_items",
    "update checkpoint set position = 0",
    "truncate tweets",
    "drop table follows",
    "delete from feed_migrations",
    "create table public.trap (id int)",
    "create schema trap",
];

/// Roles first, then the programs in the wrong order, then the migrations.
#[tokio::test(flavor = "multi_thread")]
async fn each_program_may_do_what_it_needs_and_no_more() {
    let roles = Roles::create().await;
    let database = TestDatabase::create().await;
    let vhost = Vhost::create().await;
    roles.apply_to(&database, &[LOG, FEED]).await;
    let (as_api, as_projector) =
        (roles.url(&roles.api, &database), roles.url(&roles.projector, &database));

    let mut variables =
        [("DATABASE_URL", &*as_projector), ("AMQP_URL", &*vhost.url), ("BIND", "127.0.0.1:0")];
    let mut projector = Process::start("projector", &["run"], &variables);
    projector.logged("waiting for the api to make the log").await;
    variables[0].1 = &as_api;
    let mut api = Process::start("api", &[], &variables);
    api.logged("waiting for who may migrate the database").await;
    let migrated = run("api", &["--migrate-only"], &[("DATABASE_URL", &database.url)]).await;
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));

    let listening = api.logged("listening").await;
    let address = listening["http.address"].as_str().unwrap();
    projector.logged("subscribed").await;
    let rookery = Rookery::at(format!("http://{address}"));
    everything_works(&rookery).await;
    readings_are_known(&database, &projector).await;
    variables[0].1 = &as_projector;
    generations_go_live(&rookery, &variables).await;

    are_denied(&as_api, &CHANGES_OF_THE_LOG).await;
    are_denied(&as_api, &OF_THE_READ_MODEL_FOR_THE_API).await;
    are_denied(&as_projector, &CHANGES_OF_THE_LOG).await;
    are_denied(&as_projector, &OF_THE_LOG_FOR_THE_PROJECTOR).await;

    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

/// The api writes down who reads, and the projector looks at it.
async fn readings_are_known(database: &TestDatabase, projector: &Process) {
    let pool = database.pool().await;
    until("a reading is written down", async || {
        let read = sqlx::query("select from last_readings limit 1");
        read.fetch_optional(&pool).await.unwrap().map(|_| ())
    })
    .await;
    let log = projector.log();
    let denied = log.iter().any(|line| line.contains("dormant readers cannot be seen to"));
    assert!(!denied, "{log:#?}");
}

/// All that `projector` can do beside `run`, in its role, while the api reads in its own.
async fn generations_go_live(rookery: &Rookery, variables: &[(&str, &str)]) {
    let eve = rookery.register("eve").await;
    let mut tweets = Vec::new();
    for command in ["rebuild", "verify", "rebuild", "rollback", "status"] {
        tweets.insert(0, rookery.tweet(eve, command).await);
        let position = Position(tweets[0].0);
        assert_eq!(rookery.feed(eve, position).await, tweets, "before {command}");
        let output = run("projector", &[command], variables).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {errors}");
        assert_eq!(rookery.feed(eve, position).await, tweets, "after {command}");
    }
    let (user, tweet) = (eve.to_string(), tweets[0].to_string());
    let output =
        run("projector", &["explain", "--user", &user, "--tweet", &tweet], variables).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A system that ran in the owner's name goes on with roles, and they may be applied twice.
#[tokio::test(flavor = "multi_thread")]
async fn roles_can_be_brought_to_a_database_that_is_in_use() {
    let roles = Roles::create().await;
    let mut system = System::start().await;
    let cleo = system.client.register("cleo").await;
    let tweet = system.client.tweet(cleo, "before").await;
    system.caught_up().await;
    for program in [&mut system.api, &mut system.projector] {
        // In order: the lead of a relay that was killed takes longer to run out than a read waits.
        program.signal("-TERM").await;
        assert!(program.ended().await.success());
    }
    for _ in 0..2 {
        roles.apply_to(&system.database, &[ROLES, LOG, FEED]).await;
    }

    let (as_api, as_projector) =
        (roles.url(&roles.api, &system.database), roles.url(&roles.projector, &system.database));
    (system.api, system.client) = start_api(&as_api, &system.amqp_url(), &[], &[]).await;
    system.projector = start_projector(&as_projector, &system.amqp_url(), &[], &[]).await;
    assert_eq!(system.client.feed(cleo, Position(tweet.0)).await, [tweet]);
    everything_works(&system.client).await;
    readings_are_known(&system.database, &system.projector).await;
    are_denied(&as_api, &CHANGES_OF_THE_LOG).await;
    are_denied(&as_api, &OF_THE_READ_MODEL_FOR_THE_API).await;
    are_denied(&as_projector, &CHANGES_OF_THE_LOG).await;
    are_denied(&as_projector, &OF_THE_LOG_FOR_THE_PROJECTOR).await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_serve_two_databases_as_well() {
    let roles = Roles::create().await;
    let (log, feed) = (TestDatabase::create().await, TestDatabase::create().await);
    let vhost = Vhost::create().await;
    roles.apply_to(&log, &[LOG]).await;
    roles.apply_to(&feed, &[FEED]).await;
    let migrated = run("api", &["--migrate-only"], &[("DATABASE_URL", &log.url)]).await;
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));

    let feed_url = |role: &str| roles.url(role, &feed);
    let variables = [("FEED_DATABASE_URL", &*feed_url(&roles.api))];
    let log_url = roles.url(&roles.api, &log);
    let (mut api, rookery) = start_api(&log_url, &vhost.url, &variables, &[]).await;
    let variables = [("FEED_DATABASE_URL", &*feed_url(&roles.projector))];
    let log_url = roles.url(&roles.projector, &log);
    let mut projector = start_projector(&log_url, &vhost.url, &variables, &[]).await;
    everything_works(&rookery).await;
    let feed_url = feed_url(&roles.projector);
    let variables =
        [("DATABASE_URL", &*log_url), ("FEED_DATABASE_URL", &*feed_url), ("AMQP_URL", &*vhost.url)];
    generations_go_live(&rookery, &variables).await;
    are_denied(&roles.url(&roles.projector, &log), &["create table public.trap (id int)"]).await;
    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

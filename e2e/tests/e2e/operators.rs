//! What an operator sees: plain errors, exit codes, `status`.

use std::process::Output;

use e2e::database::TestDatabase;
use e2e::process::{Process, run};
use e2e::setting;
use e2e::system::{System, start_api, start_projector};
use e2e::until;
use e2e::vhost::Vhost;
use events::Position;
use serde_json::Value;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// One line, which names the setting or says what to do, and the exit code that goes with it.
fn is_plain(output: &Output, code: i32, mentions: &str) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].contains(mentions), "{mentions:?} is not in {text}");
}

#[tokio::test]
async fn a_wrong_setting_gets_one_line_and_exit_code_2_or_1() {
    let database = TestDatabase::migrated().await;
    let (url, amqp) = (database.url.as_str(), setting("AMQP_URL"));
    let programs: [(&str, &[&str]); 3] =
        [("api", &["--bind", "127.0.0.1:0"]), ("projector", &["run"]), ("projector", &["status"])];
    for (program, arguments) in programs {
        let with = async |database_url: &str, amqp_url: &str| {
            run(program, arguments, &[("DATABASE_URL", database_url), ("AMQP_URL", amqp_url)]).await
        };
        is_plain(&with("mysql://localhost/x", &amqp).await, 2, "DATABASE_URL");
        is_plain(&with("nonsense", &amqp).await, 2, "DATABASE_URL");
        let away = if arguments == ["status"] { 3 } else { 1 };
        is_plain(&with("postgres://nobody@127.0.0.1:1/x", &amqp).await, away, "refused");
        is_plain(&with(&format!("{url}_not_there"), &amqp).await, away, "DATABASE_URL");
        is_plain(&with(url, "http://localhost").await, 2, "AMQP_URL");
    }
    let replicas = format!("{url},nonsense");
    let variables =
        [("DATABASE_URL", url), ("AMQP_URL", amqp.as_str()), ("FEED_REPLICA_URLS", &replicas)];
    is_plain(&run("api", &["--bind", "127.0.0.1:0"], &variables).await, 2, "FEED_REPLICA_URLS");
}

/// Statements of verify take as long as the tables are large; that is no complaint.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_long_by_its_nature_is_not_logged_as_slow() {
    let system = System::start().await;
    system.client.register("ada").await;
    system.caught_up().await;
    let mut busy = system.log.lend().await.unwrap();
    sqlx::raw_sql("begin; lock table floors").execute(&mut *busy).await.unwrap();
    let variables = [("DATABASE_URL", system.database.url.as_str())];
    let mut verify = Process::start("projector", &["verify"], &variables);
    until("it waits for longer than other statements may", async || {
        let waits = "select exists (select from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock' and query ilike '%floors%'
                and application_name like 'rookery projector%' and query_start < now() - interval '2 s')";
        let waits: bool = sqlx::query_scalar(waits).fetch_one(&system.log).await.ok()?;
        waits.then_some(())
    })
    .await;
    sqlx::raw_sql("rollback").execute(&mut *busy).await.unwrap();
    assert!(verify.ended().await.success(), "{:?}", verify.log());
    let log = verify.log().join("\n");
    assert!(!log.contains("slow statement"), "{log}");
    system.stop().await;
}

#[tokio::test]
async fn a_missing_setting_or_an_unsafe_address_is_bad_usage() {
    let missing = run("api", &[], &[]).await;
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing).contains("--database-url"), "{}", text(&missing));

    let empty = run("api", &[], &[("DATABASE_URL", "")]).await;
    assert_eq!(empty.status.code(), Some(2));
    assert_eq!(text(&empty), text(&missing), "set but empty is not set");

    let database = TestDatabase::migrated().await;
    let amqp = setting("AMQP_URL");
    let variables = [("DATABASE_URL", database.url.as_str()), ("AMQP_URL", amqp.as_str())];
    let unsafe_address = run("api", &["--bind", "0.0.0.0:0"], &variables).await;
    is_plain(&unsafe_address, 2, "--trust-user-header");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_variable_is_as_if_it_were_not_set() {
    let (database, vhost) = (TestDatabase::create().await, Vhost::create().await);
    let empty = [
        "FEED_DATABASE_URL",
        "FEED_REPLICA_URLS",
        "JWT_AUDIENCE",
        "TRUST_USER_HEADER",
        "FEED_CONNECTIONS",
        "MIN_POSITION_PATIENCE_MS",
        "LOG_RANGE_EVENTS",
        "FEED_KEPT",
        "FAN_OUT_ROWS",
        "PULL_FROM",
        "PROJECTOR_METRICS_BIND",
        "RUST_LOG",
    ];
    let empty = empty.map(|name| (name, ""));
    let (mut api, client) = start_api(&database.url, &vhost.url, &empty, &[]).await;
    let mut projector = start_projector(&database.url, &vhost.url, &empty, &[]).await;
    let ada = client.register("ada").await;
    let tweet = client.tweet(ada, "hello").await;
    assert_eq!(client.feed(ada, Position(tweet.0)).await, [tweet]);
    api.kill().await;
    projector.kill().await;
    vhost.remove().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let database = TestDatabase::migrated().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let amqp = setting("AMQP_URL");
    let variables = [("DATABASE_URL", database.url.as_str()), ("AMQP_URL", amqp.as_str())];
    is_plain(&run("api", &["--bind", &address], &variables).await, 1, &address);
}

#[tokio::test]
async fn a_newer_schema_is_refused_in_words_by_those_who_write_it() {
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    for schema in ["log", "feed"] {
        let newer = format!(
            "insert into {schema}_migrations (version, description, success, checksum, execution_time) values (9999, 'newer', true, '', 0)"
        );
        sqlx::query(sqlx::AssertSqlSafe(newer)).execute(&pool).await.unwrap();
    }
    for table in ["log_compatibility", "compatibility"] {
        let shut_out = format!("update {table} set writable_since = 9999");
        sqlx::query(sqlx::AssertSqlSafe(shut_out)).execute(&pool).await.unwrap();
    }
    let amqp = setting("AMQP_URL");
    let variables = [("DATABASE_URL", database.url.as_str()), ("AMQP_URL", amqp.as_str())];
    is_plain(&run("api", &["--bind", "127.0.0.1:0"], &variables).await, 1, "newer");
    is_plain(&run("projector", &["run"], &variables).await, 1, "newer");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_how_far_everything_is() {
    let system = System::start().await;
    system.client.register("ada").await;
    system.caught_up().await;
    let (url, amqp) = (system.database.url.clone(), system.amqp_url());
    let variables = [("DATABASE_URL", url.as_str()), ("AMQP_URL", amqp.as_str())];

    let json = run("projector", &["status", "--json"], &variables).await;
    assert!(json.status.success(), "{}", text(&json));
    let status: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(status["log"]["head"], 1);
    assert_eq!(status["feed"]["position"], 1);
    assert_eq!(status["feed"]["lag_events"], 0);
    assert_eq!(status["broker"]["reachable"], true);
    assert_eq!(status["feed"]["dead_letters"], 0);

    let table = run("projector", &["status"], &variables).await;
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("feed checkpoint"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");

    system.gate.shut();
    let without = run("projector", &["status", "--json"], &variables).await;
    let status: Value = serde_json::from_slice(&without.stdout).unwrap();
    assert_eq!(status["broker"]["reachable"], false, "a broker that is away is part of the answer");
    assert!(without.status.success(), "{}", text(&without));

    // What waits for the broker is behind.
    system.client.register("bob").await;
    let behind = ["status", "--behind-after", "0"];
    let is_behind = async || {
        let behind = run("projector", &behind, &variables).await;
        (behind.status.code() == Some(4)).then_some(text(&behind))
    };
    let said = until("status says that something is behind", is_behind).await;
    assert!(said.contains("behind the log"), "{said}");
    system.stop().await;
}

#[tokio::test]
async fn status_says_why_the_broker_refuses() {
    let database = TestDatabase::migrated().await;
    let amqp = setting("AMQP_URL");
    let (_, server) = amqp.split_once('@').unwrap();
    let wrong = format!("amqp://guest:wrong@{server}");
    let variables = [("DATABASE_URL", database.url.as_str()), ("AMQP_URL", wrong.as_str())];
    let status = run("projector", &["status", "--json"], &variables).await;
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let why = status["broker"]["error"].as_str().unwrap();
    assert!(why.contains("Login was refused"), "{why}");
}

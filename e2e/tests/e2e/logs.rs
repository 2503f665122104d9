//! What the log says of a request, and what a log that nobody takes does to the programs: nothing.

use std::fs::File;
use std::process::Stdio;

use e2e::client::{Answer, Rookery};
use e2e::process::Process;
use e2e::system::System;
use e2e::until;
use reqwest::{Method, StatusCode};
use serde_json::json;

/// A pipe's writing end whose reader has ended.
fn to_nobody() -> Stdio {
    let (_, writer) = std::io::pipe().expect("a pipe can be made");
    writer.into()
}

/// A device on which there is never room.
fn to_a_full_disk() -> Stdio {
    File::options().write(true).open("/dev/full").expect("there is one").into()
}

/// A pipe whose reader reads nothing, and that reader.
fn to_a_sleeper() -> (Stdio, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    (writer.into(), reader)
}

/// Where an api without a log that could be read listens: on the port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_whose_log_goes_nowhere_work_on_and_stop_when_asked() {
    let mut system = System::start().await;
    let ada = system.client.register("ada").await;
    system.caught_up().await;
    system.projector.kill().await;
    let (first, second) = (to_a_sleeper(), to_a_sleeper());
    let logs =
        [(to_nobody(), to_nobody()), (to_a_full_disk(), to_a_full_disk()), (first.0, second.0)];
    for (api_log, projector_log) in logs {
        let (bind, amqp_url) = (format!("127.0.0.1:{}", free_port()), system.amqp_url());
        let variables = [
            ("DATABASE_URL", system.database.url.as_str()),
            ("AMQP_URL", &amqp_url),
            ("BIND", &bind),
            // As much as there is, so that every pipe is filled.
            ("RUST_LOG", "trace"),
        ];
        let mut api = Process::start_to("api", &[], &variables, to_nobody(), api_log);
        let mut projector =
            Process::start_to("projector", &["run"], &variables, to_nobody(), projector_log);
        let client = Rookery::at(format!("http://{bind}"));
        let posted = async || {
            let body = json!({ "content": "hello" });
            let request = client.request(Method::POST, "/api/tweets", Some(ada)).json(&body);
            let answer = Answer::if_any(request).await?;
            (answer.status == StatusCode::CREATED).then_some(())
        };
        until("commands are accepted", posted).await;
        system.caught_up().await;
        // A cut session is something to complain about.
        let cut = "select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()
                and backend_type = 'client backend'";
        for _ in 0..3 {
            sqlx::query(cut).execute(&system.log).await.unwrap();
            until("commands are accepted again", posted).await;
            system.caught_up().await;
        }
        for (name, program) in [("api", &mut api), ("projector", &mut projector)] {
            program.signal("-TERM").await;
            let ended = program.ended().await;
            assert!(ended.success(), "{name}: {ended}");
        }
    }
    system.stop().await;
}

/// Whatever becomes of what it prints, a command ends as it would have.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_output_goes_nowhere_ends_as_it_would_have() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    let tweet = system.client.tweet(ada, "hello").await.to_string();
    system.caught_up().await;
    let amqp_url = system.amqp_url();
    let variables = [("DATABASE_URL", system.database.url.as_str()), ("AMQP_URL", &amqp_url)];
    let explain = ["explain", "--user", "1", "--tweet", &tweet];
    let commands: [&[&str]; 5] =
        [&["status"], &["status", "--json"], &["verify"], &explain, &["rebuild"]];
    for command in commands {
        for (output, log) in [(to_nobody(), to_nobody()), (to_a_full_disk(), to_a_full_disk())] {
            let mut process = Process::start_to("projector", command, &variables, output, log);
            assert!(process.ended().await.success(), "{command:?}");
        }
    }
    sqlx::query("delete from feed_items").execute(&system.log).await.unwrap();
    let mut process =
        Process::start_to("projector", &["verify"], &variables, to_nobody(), to_nobody());
    assert_eq!(process.ended().await.code(), Some(1));
    let mut process = Process::start_to("projector", &["run"], &[], to_nobody(), to_nobody());
    assert_eq!(process.ended().await.code(), Some(2));
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_about_a_request_names_it() {
    let system = System::start().await;
    let System { client, log, api, .. } = &system;
    client.register("ada").await;
    system.caught_up().await;
    // Reads fail by a fault of ours, appends by one of the log's.
    let broken = "alter table users rename to other_users;
        create view users as
            select user_id, username, email, created_at, 1 / (user_id - user_id) as deleted_position
            from other_users;
        alter table idempotency_keys add constraint never check (key <> 'never')";
    sqlx::raw_sql(broken).execute(&mut *log.lend().await.unwrap()).await.unwrap();
    let before = api.log().len();
    let named = |method, path: &str, id| {
        client.request(method, path, Some(events::UserId(1))).header("X-Request-ID", id)
    };
    let read = Answer::of(named(Method::GET, "/api/users/1", "the-read")).await;
    assert_eq!(read.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", read.body);
    let post = named(Method::POST, "/api/tweets", "the-command").header("Idempotency-Key", "never");
    let post = Answer::of(post.json(&json!({ "content": "hello" }))).await;
    assert_eq!(post.status, StatusCode::SERVICE_UNAVAILABLE, "{}", post.body);

    let complaints = || -> Vec<String> {
        let lines = api.log().split_off(before);
        lines
            .into_iter()
            .filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""))
            .collect()
    };
    for id in ["the-read", "the-command"] {
        let what = format!("a complaint about {id}");
        until(&what, async || complaints().iter().any(|line| line.contains(id)).then_some(()))
            .await;
    }
    for line in complaints() {
        assert!(line.contains("the-read") || line.contains("the-command"), "{line}");
    }
    system.stop().await;
}

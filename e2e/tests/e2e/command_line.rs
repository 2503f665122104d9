//! The programs on the command line: what they say of themselves, on a terminal and elsewhere.

use e2e::process::{Process, path_of, run};
use e2e::system::System;
use e2e::{in_time, until};
use events::Slice;
use events::amqp::EXCHANGE;
use events::projection::PROJECTIONS;
use events::store::read;
use lapin::BasicProperties;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use serde_json::Value;
use tokio::process::Command;

/// What fits every terminal.
fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}\nin\n{text}");
    }
}

#[tokio::test]
async fn shells_and_man_know_the_programs() {
    for (program, knows) in [("api", "no-relay"), ("projector", "dead-letters")] {
        for shell in ["bash", "zsh", "fish"] {
            let completions = run(program, &["completions", shell], &[]).await;
            let text = String::from_utf8(completions.stdout).unwrap();
            assert!(completions.status.success() && text.contains(knows), "{program}: {text}");
        }
        let folder = std::env::temp_dir().join(format!("rookery-man-{}", uuid::Uuid::now_v7()));
        let written = run(program, &["man", folder.to_str().unwrap()], &[]).await;
        assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
        let page = std::fs::read_to_string(folder.join(format!("{program}.1"))).unwrap();
        let option = knows.replace('-', "\\-");
        assert!(page.contains(&option), "{option} is not in {page}");
        std::fs::remove_dir_all(folder).unwrap();

        let wrong = run(program, &["completions", "cobol"], &[]).await;
        assert_eq!(wrong.status.code(), Some(2));
    }
    assert_eq!(run("api", &["man", "/proc/nowhere"], &[]).await.status.code(), Some(2));
}

/// What `projector` with `arguments` writes on a terminal.
async fn on_a_terminal(arguments: &str, variables: &[(&str, &str)]) -> String {
    let command = format!("{} {arguments}", path_of("projector").display());
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .envs(variables.iter().copied())
        .env("TERM", "xterm-256color")
        .output();
    let output = in_time("it ends", output).await.expect("script, of util-linux, runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_is_wrong_and_what_to_do_and_in_colour_only_where_somebody_sees_it() {
    let mut system = System::start().await;
    system.client.register("ada").await;
    system.caught_up().await;
    let (url, amqp) = (system.database.url.clone(), system.amqp_url());
    let variables = [("DATABASE_URL", url.as_str()), ("AMQP_URL", amqp.as_str())];
    let wrong = async || {
        let output = run("projector", &["status", "--json"], &variables).await;
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        let wrong = status["wrong"].as_array().unwrap().clone();
        wrong.iter().map(|wrong| wrong["what"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("nothing is wrong", async || wrong().await.is_empty().then_some(())).await;

    system.projector.kill().await;
    until("no projector leads", async || {
        (wrong().await
            == ["no projector leads: feed stands still", "no projector leads: counts stands still"])
        .then_some(())
    })
    .await;
    let elsewhere = run("projector", &["status"], &variables).await;
    let text = String::from_utf8(elsewhere.stdout).unwrap();
    assert!(text.contains("start projector run"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    fits(&text);

    let seen = on_a_terminal("status", &variables).await;
    assert!(seen.contains("\u{1b}["), "{seen}");
    let without = [variables[0], variables[1], ("NO_COLOR", "1")];
    let seen = on_a_terminal("status", &without).await;
    assert!(seen.contains("no projector leads") && !seen.contains("\u{1b}["), "{seen}");

    system.gate.shut();
    until("RabbitMQ is away", async || {
        let wrong = wrong().await;
        (wrong.len() == 3 && wrong[2].starts_with("RabbitMQ")).then_some(())
    })
    .await;
    let text = run("projector", &["status"], &variables).await.stdout;
    fits(&String::from_utf8(text).unwrap());
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_watched_until_one_has_seen_enough() {
    let system = System::start().await;
    let (url, amqp) = (system.database.url.clone(), system.amqp_url());
    let (gate, gated_url) = system.database.gated_url().await;
    let variables = [("DATABASE_URL", gated_url.as_str()), ("AMQP_URL", amqp.as_str())];
    let file = std::env::temp_dir().join(format!("rookery-watch-{}", uuid::Uuid::now_v7()));
    let output = std::fs::File::create(&file).unwrap();
    let arguments = ["status", "--watch", "--json"];
    let log = std::process::Stdio::null();
    let mut watching = Process::start_to("projector", &arguments, &variables, output.into(), log);
    let heads = || -> Vec<i64> {
        let lines = std::fs::read_to_string(&file).unwrap();
        let lines = lines.lines().map_while(|line| serde_json::from_str::<Value>(line).ok());
        lines.map(|status| status["log"]["head"].as_i64().unwrap()).collect()
    };
    until("it has looked", async || (!heads().is_empty()).then_some(())).await;
    system.client.register("ada").await;
    until("it looks again", async || heads().contains(&1).then_some(())).await;

    // A database that is away is no reason to look away.
    gate.shut();
    assert_eq!(run("projector", &["status"], &variables).await.status.code(), Some(3));
    gate.open();
    let seen = heads().len();
    until("it goes on", async || (heads().len() > seen).then_some(())).await;
    watching.signal("-INT").await;
    assert_eq!(watching.ended().await.code(), Some(0));
    std::fs::remove_file(file).unwrap();

    let too_often = [("DATABASE_URL", url.as_str()), variables[1]];
    let refused = run("projector", &["status", "--watch", "0"], &too_often).await;
    assert_eq!(refused.status.code(), Some(2));
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_and_discarded() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    system.caught_up().await;
    let (url, amqp) = (system.database.url.clone(), system.amqp_url());
    let variables = [("DATABASE_URL", url.as_str()), ("AMQP_URL", amqp.as_str())];
    let dead_letters = async |arguments: &[&str]| {
        let output = run("projector", &[&["dead-letters"], arguments].concat(), &variables).await;
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text, String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(dead_letters(&["list"]).await.1, "there are none\n");

    // By hand: words that mean to write on the terminal, and a slice without a signature.
    let slice = Slice::new(read::after(&system.log, events::Position::START, 1).await.unwrap());
    let bodies = [b"\x1b[2Jby hand".to_vec(), slice.unwrap().encode()];
    let connection = system.vhost.connect().await;
    let channel = connection.create_channel().await.unwrap();
    for body in &bodies {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let publish = channel.basic_publish(EXCHANGE.into(), "".into(), options, body, properties);
        publish.await.unwrap();
    }
    until("both are set aside", async || {
        let depths = PROJECTIONS.map(|projection| system.vhost.depth(projection.dead_letters()));
        let found = futures_util::future::join_all(depths).await;
        found.iter().all(|depth| *depth == Some(2)).then_some(())
    })
    .await;

    let list = async || -> Vec<Value> {
        let (code, text, error) = dead_letters(&["list", "--json"]).await;
        assert_eq!(code, 0, "{error}");
        serde_json::from_str(&text).unwrap()
    };
    // More often than RabbitMQ 4 hands a message out by itself.
    for _ in 0..25 {
        assert_eq!(list().await.len(), 4, "each projection set both aside");
    }
    let found = list().await;
    for letter in &found {
        assert!(letter["why"].as_str().unwrap().contains("signature"), "{letter}");
        assert_eq!(letter["not_needed"], "it has no event of this log");
        assert!(letter["since"].is_string(), "{letter}");
    }
    // Held by somebody they could not be seen, and "there are none" would not be true.
    let consume = channel.basic_consume(
        PROJECTIONS[0].dead_letters().into(),
        "somebody".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let _held = consume.await.unwrap();
    let (code, _, error) = dead_letters(&["list"]).await;
    assert!(code == 3 && error.contains("somebody else takes from"), "{code}: {error}");
    channel.basic_cancel("somebody".into(), BasicCancelOptions::default()).await.unwrap();
    channel.close(200, "enough".into()).await.unwrap();

    let (_, table, _) = dead_letters(&["list"]).await;
    fits(&table);
    let id = found[0]["id"].as_str().unwrap();
    assert!(table.contains(id), "{table}");

    let (code, shown, _) = dead_letters(&["show", id]).await;
    assert!(code == 0 && shown.contains("by hand") && !shown.contains('\u{1b}'), "{shown}");
    assert_eq!(dead_letters(&["show", "0000000000"]).await.0, 1);
    assert_eq!(dead_letters(&["discard"]).await.0, 2);
    assert_eq!(dead_letters(&["discard", "0000000000"]).await.0, 1);
    assert_eq!(dead_letters(&["discard", id]).await.1, "discarded 2, 2 are left\n");
    let left = list().await;
    assert_eq!((left.len(), &left[0]["id"]), (2, &found[1]["id"]));
    assert_eq!(dead_letters(&["discard", "--all"]).await.1, "discarded 2, 0 are left\n");
    assert_eq!(dead_letters(&["list"]).await.1, "there are none\n");

    let tweet = system.client.tweet(ada, "nobody missed them").await;
    assert_eq!(system.client.feed(ada, events::Position(tweet.0)).await, [tweet]);
    system.gate.shut();
    let (code, _, error) = dead_letters(&["list"]).await;
    assert_eq!(code, 3, "{error}");
    system.stop().await;
}

//! What `docs/archives.md` says: its commands, what goes on without what is archived, and what happens to archiving itself.

use std::path::PathBuf;
use std::time::Duration;

use e2e::client::Rookery;
use e2e::database::TestDatabase;
use e2e::live::{LiveFeed, Told};
use e2e::model::read_log;
use e2e::pages;
use e2e::process::{Process, run};
use e2e::system::System;
use e2e::{RANGE_EVENTS, until};
use events::store::ranges;
use events::{Position, RecordedEvent, TweetId, UserId};
use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A folder that goes when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("rookery-archives-{}", Uuid::now_v7())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn files(&self, ending: &str) -> Vec<PathBuf> {
        let files = std::fs::read_dir(&self.0).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> =
            files.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Ada, whom bob and cleo follow, bob no longer; and what they wrote in the oldest ranges.
struct Old {
    ada: UserId,
    bob: UserId,
    cleo: UserId,
    first: TweetId,
    taken_back: TweetId,
    /// The end of the ranges in which all of it is.
    through: Position,
}

async fn old(system: &System) -> Old {
    let client = &system.client;
    let (ada, bob, cleo) =
        (client.register("ada").await, client.register("bob").await, client.register("cleo").await);
    client.follow(bob, ada).await;
    client.follow(cleo, ada).await;
    let first = client.tweet(ada, "the first").await;
    let taken_back = client.tweet(ada, "to be taken back").await;
    client.delete(&format!("/api/tweets/{taken_back}"), Some(ada)).await;
    client.delete(&format!("/api/subscriptions/unfollow/{ada}"), Some(bob)).await;
    let through = Position(2 * RANGE_EVENTS);
    let mut last = first;
    while last.0 <= through.0 + 10 {
        last = client.tweet(ada, "and on").await;
    }
    system.caught_up().await;
    Old { ada, bob, cleo, first, taken_back, through }
}

/// Posts without pause until it is told to stop; what was answered.
fn posting(client: &Rookery, author: UserId, stop: &CancellationToken) -> JoinHandle<Vec<TweetId>> {
    let (client, stop) = (client.clone(), stop.clone());
    tokio::spawn(async move {
        let mut posted = Vec::new();
        while !stop.is_cancelled() {
            posted.push(client.tweet(author, "meanwhile").await);
        }
        posted
    })
}

fn said(log: &[RecordedEvent]) -> Vec<String> {
    log.iter().map(|event| format!("{event:?}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_go_into_files_and_come_back_while_people_post() {
    let blocks = pages::commands("archives.md");
    let [look, archive, restore] = &blocks[..] else { panic!("{blocks:#?}") };
    let system = System::start().await;
    let old = old(&system).await;
    let before = read_log(&system.log).await;
    let (folder, stop) = (Folder::new(), CancellationToken::new());
    let posting = posting(&system.client, old.ada, &stop);
    let through = old.through.to_string();
    let variables = [
        ("DATABASE_URL", system.database.url.as_str()),
        ("ARCHIVES", folder.path()),
        ("THROUGH", &through),
    ];

    pages::succeed(archive, &variables).await;
    let ranges = pages::succeed(look, &variables).await;
    let gone = ranges.lines().filter(|line| line.trim_start().starts_with('|')).count();
    assert_eq!(gone, 2, "{ranges}");
    assert_eq!(folder.files(".gz").len(), 2);
    let archived = ranges::archived(&system.log).await.unwrap().unwrap();
    assert_eq!((archived.through, archived.last_user_id), (old.through, old.cleo));
    users_go_on(&system, &old).await;
    what_reads_old_events_says_so(&system, &old).await;

    pages::succeed(restore, &variables).await;
    assert_eq!(folder.files(".gz").len(), 2);
    let again = run("api", &["restore", "--from", folder.path()], &variables).await;
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    stop.cancel();
    let posted = posting.await.unwrap();
    assert!(!posted.is_empty());
    let after = read_log(&system.log).await;
    assert_eq!(said(&after)[..before.len()], said(&before)[..]);
    system.every_feed_is_exact().await;
    let verified = run("projector", &["verify"], &variables).await;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let kept: i64 = sqlx::query_scalar("select count(*) from archived_tweets")
        .fetch_one(&system.log)
        .await
        .unwrap();
    assert_eq!(kept, 0, "nothing is kept twice");
    system.stop().await;
}

/// Pages, commands on what is old, and programs that start.
async fn users_go_on(system: &System, old: &Old) {
    let client = &system.client;
    let Old { ada, bob, cleo, first, taken_back, .. } = *old;
    let mut feed = client.feed(cleo, system.head().await).await;
    assert_eq!(feed.pop(), Some(first), "a page reaches to the first tweet");
    let past = client.get("/api/feed?at=6", Some(cleo)).await;
    assert_eq!(past.ids(), [first], "{past:?}");

    let path = format!("/api/tweets/{first}");
    assert_eq!(client.delete(&path, Some(bob)).await.status, StatusCode::NOT_FOUND);
    let again = client.delete(&format!("/api/tweets/{taken_back}"), Some(ada)).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND, "it was taken back before");
    assert_eq!(client.delete(&path, Some(ada)).await.status, StatusCode::OK);
    assert_eq!(client.delete(&path, Some(ada)).await.status, StatusCode::NOT_FOUND);

    let follow = json!({ "followed_id": ada });
    let twice = client.post("/api/subscriptions/follow", Some(cleo), follow).await;
    assert_eq!(twice.status, StatusCode::CONFLICT);
    let unfollow = format!("/api/subscriptions/unfollow/{ada}");
    assert_eq!(client.delete(&unfollow, Some(bob)).await.status, StatusCode::NOT_FOUND);
    client.follow(bob, ada).await;
    let dora = client.register("dora").await;
    assert_eq!(dora.0, cleo.0 + 1, "no id is given twice");
}

async fn what_reads_old_events_says_so(system: &System, old: &Old) {
    let client = &system.client;
    let Old { ada, bob, cleo, through, .. } = *old;
    let variables = [("DATABASE_URL", system.database.url.as_str())];
    let words = format!("positions 1 to {through} of the log are archived");
    for (command, code) in [
        (&["verify"][..], 3),
        (&["verify", "counts"], 3),
        (&["rebuild"], 1),
        (&["explain", "--user", "1", "--tweet", "7"], 3),
    ] {
        let output = run("projector", command, &variables).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
        assert!(said.contains(&words), "{command:?}: {said}");
    }

    // A read model that has yet to be made.
    let empty = TestDatabase::create().await;
    let fresh =
        [variables[0], ("AMQP_URL", &*system.amqp_url()), ("FEED_DATABASE_URL", &empty.url)];
    let output = run("projector", &["run"], &fresh).await;
    let ended = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && ended.contains(&words), "{ended}");

    let young = client.tweet(ada, "young").await;
    system.caught_up().await;
    let explain = |reader, tweet: TweetId| {
        let path = format!("/api/feed/explain?tweet={tweet}");
        async move { client.get(&path, Some(reader)).await }
    };
    let archived = |answer: &e2e::client::Answer| {
        let problem = answer.body["type"].as_str().unwrap_or_default();
        answer.status == StatusCode::SERVICE_UNAVAILABLE && problem.ends_with(":archived")
    };
    // That cleo is registered is archived, and that she follows ada.
    assert!(archived(&explain(cleo, young).await));
    let evas = [client.register("eva").await, client.register("eve").await];
    let by_eva = client.tweet(evas[0], "all of it is young").await;
    client.follow(evas[1], evas[0]).await;
    assert_eq!(explain(evas[1], by_eva).await.body["present"], true);
    assert_eq!(explain(evas[0], by_eva).await.body["present"], true);
    let delivery = client.get(&format!("/api/tweets/{through}/delivery"), Some(ada)).await;
    assert!(archived(&delivery), "{delivery:?}");

    let mut stream = LiveFeed::open(client, bob, Some(Position(4))).await;
    assert_eq!(stream.told().await, Some(Told::Reset));
    let early = "/api/feed?at=2020-01-01T00:00:00Z";
    assert_eq!(client.get(early, Some(bob)).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let now = client.get("/api/feed?at=2100-01-01T00:00:00Z", Some(bob)).await;
    assert_eq!(now.status, StatusCode::OK, "{now:?}");
}

/// What was cut off is done again; nothing is in two places, and nothing in none.
#[tokio::test(flavor = "multi_thread")]
async fn archiving_and_restoring_survive_being_killed_at_any_time() {
    let system = System::start().await;
    let old = old(&system).await;
    let before = said(&read_log(&system.log).await);
    let folder = Folder::new();
    let through = old.through.to_string();
    let variables = [("DATABASE_URL", system.database.url.as_str())];
    let archive = ["archive", "--to", folder.path(), "--through", &through];
    let restore = ["restore", "--from", folder.path()];
    for command in [&archive[..], &restore[..], &archive[..], &restore[..]] {
        for milliseconds in [1, 20, 40, 60, 80, 100, 130, 160] {
            let mut process = Process::start("api", command, &variables);
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            process.kill().await;
            system.client.tweet(old.ada, "meanwhile").await;
        }
        // The session of one that was killed has to end before another can begin.
        until("it is done", async || {
            run("api", command, &variables).await.status.success().then_some(())
        })
        .await;
        let archived = ranges::archived(&system.log).await.unwrap().map(|it| it.through);
        let expected = (command[0] == "archive").then_some(old.through);
        assert_eq!(archived, expected, "after {command:?}");
    }
    let after = said(&read_log(&system.log).await);
    assert_eq!(after[..before.len()], before[..]);
    system.every_feed_is_exact().await;
    let verified = run("projector", &["verify"], &variables).await;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_archived_that_is_needed_or_restored_that_was_changed() {
    let mut system = System::start().await;
    let old = old(&system).await;
    let folder = Folder::new();
    let variables = [("DATABASE_URL", system.database.url.as_str())];
    let ends = async |command: &[&str], code: i32, words: &str| {
        let output = run("api", command, &variables).await;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
        assert!(said.contains(words), "{command:?}: {said}");
    };
    let archive = |through| ["archive", "--to", folder.path(), "--through", through];

    // A projector that is away, whose read model is not past the range.
    let checkpoint = "update checkpoint set position = 100";
    system.projector.signal("-TERM").await;
    system.projector.ended().await;
    let position: i64 =
        sqlx::query_scalar("select position from checkpoint").fetch_one(&system.log).await.unwrap();
    sqlx::query(checkpoint).execute(&system.log).await.unwrap();
    ends(
        &archive("128"),
        1,
        "the projection feed is at position 100 and still needs the range up to 128",
    )
    .await;
    let live: i64 = sqlx::query_scalar("select min(position) from events")
        .fetch_one(&system.log)
        .await
        .unwrap();
    assert_eq!(live, RANGE_EVENTS + 1, "what it does not need has gone");
    let back = sqlx::query("update checkpoint set position = $1").bind(position);
    back.execute(&system.log).await.unwrap();

    // Two at once.
    let mut other = system.log.lend().await.unwrap();
    sqlx::query("select pg_advisory_lock(107157007034739)").execute(&mut *other).await.unwrap();
    ends(&archive("128"), 1, "somebody else archives or restores").await;
    drop(other);

    // Somebody who reads the log all the time is waited for, and nobody behind that for long.
    let mut reader = system.log.lend().await.unwrap();
    sqlx::raw_sql("begin; select count(*) from events").execute(&mut *reader).await.unwrap();
    let all = archive("100000");
    let mut waiting = Process::start("api", &all, &variables);
    let waits = "select from pg_locks join pg_stat_activity using (pid)
        where not granted and mode = 'AccessExclusiveLock' and application_name = 'rookery api: archive'";
    until("it waits for the reader", async || {
        sqlx::query(waits).fetch_optional(&system.log).await.unwrap().map(|_| ())
    })
    .await;
    system.client.tweet(old.ada, "behind it").await;
    drop(reader);
    assert!(waiting.ended().await.success());
    let head = system.head().await;
    let last: i64 = sqlx::query_scalar("select max(last_position) from archived_ranges")
        .fetch_one(&system.log)
        .await
        .unwrap();
    assert!(last < head.0 && head.0 - last <= RANGE_EVENTS, "{last} of {head}");
    ends(&all, 0, "no range ends at 100000 or before").await;

    // One file is another, and one is missing.
    let files = folder.files(".gz");
    let (first, newest) = (&files[0], &files[files.len() - 1]);
    let (bytes, kept) = (std::fs::read(newest).unwrap(), std::fs::read(first).unwrap());
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(newest, changed).unwrap();
    let restore = ["restore", "--from", folder.path()];
    ends(&restore, 1, "is not what was archived").await;
    std::fs::write(newest, bytes).unwrap();
    std::fs::remove_file(first).unwrap();
    ends(&restore, 1, "cannot be read").await;
    let archived: Vec<i64> = sqlx::query_scalar("select first_position from archived_ranges")
        .fetch_all(&system.log)
        .await
        .unwrap();
    assert_eq!(archived, [1], "the others are back");
    std::fs::write(first, kept).unwrap();
    ends(&restore, 0, "restored positions 1 to 64").await;
    ends(&restore, 0, "nothing from 1 on is archived").await;

    system.restart(false).await;
    system.every_feed_is_exact().await;
    system.stop().await;
}

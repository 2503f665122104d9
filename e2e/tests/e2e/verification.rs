//! `projector verify`: clean when all is well, and finds what is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::process::run;
use e2e::system::System;
use events::store::Connections;
use events::{Position, UserId};
use projector::counts;
use projector::progress::{Phase, Progress};
use projector::verify::{Part, Report, verify};
use serde_json::Value;
use sqlx::AssertSqlSafe;

async fn verified(pool: &Connections, listed: usize) -> Report {
    verify(pool, pool, listed, &Progress::starting(Phase::CheckLog)).await.unwrap()
}

/// Ada and Bob read each other; Cyd came and went; each has written, Ada has taken one tweet back.
async fn a_little_world() -> System {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    let bob = system.client.register("bob").await;
    let cyd = system.client.register("cyd").await;
    system.client.follow(ada, bob).await;
    system.client.follow(bob, ada).await;
    system.client.follow(cyd, ada).await;
    for user in [ada, bob, cyd] {
        for _ in 0..3 {
            system.client.tweet(user, "hello").await;
        }
    }
    let taken_back = system.client.tweet(ada, "oops").await;
    system.client.delete(&format!("/api/tweets/{taken_back}"), Some(ada)).await;
    system.client.delete(&format!("/api/subscriptions/unfollow/{ada}"), Some(bob)).await;
    system.client.follow(bob, ada).await;
    system.client.delete(&format!("/api/users/{cyd}"), Some(cyd)).await;
    system.caught_up().await;
    system
}

/// The oldest tweet of their own that user 1 has a row of.
const OWN: &str = "select user_id, tweet_id from feed_items join tweets using (tweet_id)
        where author_id = 1 and user_id = 1 and deleted_position = 0 order by 2 limit 1";

/// What is changed, in which part that is found, and some of the words.
const CHANGES: [(&str, Part, &str); 28] = [
    (
        "delete from feed_items where (user_id, tweet_id) in (OWN)",
        Part::Feeds,
        "is missing in the feed of user 1",
    ),
    (
        "insert into feed_items select 3, tweet_id from (OWN) own",
        Part::Feeds,
        "does not belong into the feed of user 3",
    ),
    (
        "insert into feed_items values (2, 4711)",
        Part::Feeds,
        "tweet 4711 does not belong into the feed of user 2",
    ),
    (
        "insert into floors select 1, tweet_id + 1 from (OWN) own",
        Part::Feeds,
        "does not belong into the feed of user 1",
    ),
    ("insert into floors values (3, 1)", Part::Floors, "a floor for user 3"),
    ("insert into floors select 2, position + 2 from checkpoint", Part::Floors, "of user 2"),
    (
        "update tweets set content = 'forged' where tweet_id in (select tweet_id from (OWN) own)",
        Part::Tweets,
        "with this content",
    ),
    (
        "update tweets set deleted_position = 0 where deleted_position <> 0",
        Part::Tweets,
        "was deleted at",
    ),
    (
        "update users set username = 'eve' where user_id = 2",
        Part::Users,
        "user 2 is registered with these details",
    ),
    (
        "update users set deleted_position = 0 where user_id = 3",
        Part::Users,
        "user 3 was deleted at",
    ),
    (
        "delete from follows where follower_id = 1 and followed_id = 2",
        Part::Follows,
        "user 1 began to read user 2",
    ),
    ("insert into follows values (2, 3, 5)", Part::Follows, "user 2 began to read user 3 at 5"),
    (
        "update follows set until_position = 0 where follower_id = 3 and followed_id = 1",
        Part::Follows,
        "goes on after the reader was deleted",
    ),
    (
        "update follows set until_position = until_position - 1 where follower_id = 2 and until_position <> 0",
        Part::Follows,
        "ceased to read user 1",
    ),
    (
        "delete from accounts where user_id = 1",
        Part::Decisions,
        "the decision state does not say so",
    ),
    (
        "update relationships set follows = not follows where follower_id = 1",
        Part::Decisions,
        "by the decision state, user 1 does not follow user 2",
    ),
    ("delete from relationships where follower_id = 1", Part::Decisions, "by the log, user 1"),
    ("delete from deleted_tweets", Part::Decisions, "is taken back"),
    ("insert into deleted_tweets values (4)", Part::Decisions, "tweet 4 is taken back"),
    ("update last_user_id set user_id = 9", Part::Decisions, "last_user_id has 9"),
    (
        "update events set payload = payload || '{\"author_id\": 2}' where type = 'TweetDeleted'",
        Part::Log,
        "wrote no such tweet",
    ),
    (
        "update accounts set username_key = 'eve' where user_id = 2",
        Part::Decisions,
        "the log does not say so",
    ),
    ("update outbox set position = position + 7", Part::Log, "which the log does not have"),
    ("delete from events where position = 4", Part::Log, "there is a hole"),
    ("update events set version = 7 where stream = 'user-2'", Part::Log, "cannot be version 7"),
    (
        "update events set stream = 'tweet-99' where position = 9",
        Part::Log,
        "is in stream tweet-99",
    ),
    ("update events set type = 'TweetPinned' where position = 9", Part::Log, "cannot be read"),
    (
        "update events set payload = payload || '{\"email\": \"eve@example.org\"}' where position = 1",
        Part::Users,
        "user 1 is registered",
    ),
];

/// Each change is made by hand behind everyone's back, found, and undone.
#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_whatever_was_changed_by_hand() {
    let system = a_little_world().await;
    let pool = &system.log;
    let clean = verified(pool, 20).await;
    assert_eq!(clean.listed, [], "nothing was changed yet");
    assert_eq!((clean.users, clean.tweets), (3, 10));
    sqlx::query("alter table events disable trigger all").execute(pool).await.unwrap();

    for (change, part, words) in CHANGES {
        let change = change.replace("OWN", OWN);
        let snapshot = Tables::of(pool).await;
        let changed = sqlx::query(AssertSqlSafe(change.clone())).execute(pool).await.unwrap();
        assert!(changed.rows_affected() > 0, "{change}");
        let report = verified(pool, 20).await;
        let found = report.listed.iter().any(|it| it.part == part && it.what.contains(words));
        assert!(found, "{change}: {:#?}", report.listed);
        snapshot.restore(pool).await;
        assert!(verified(pool, 20).await.is_clean(), "{change} was undone");
    }
    system.stop().await;
}

/// What is kept of them has an end, and no account is looked for among all others.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_differ_widely_are_counted_and_the_first_listed() {
    let system = a_little_world().await;
    let made = sqlx::query(
        "insert into accounts select number, 'n' || number, 'm' || number, 'n' || number, 'm' || number, now()
        from generate_series(1000, 60999) as number",
    );
    made.execute(&system.log).await.unwrap();
    let report = verified(&system.log, 20).await;
    assert_eq!(report.listed.len(), 20);
    assert!(report.listed.iter().all(|it| it.part == Part::Decisions), "{:#?}", report.listed);
    assert!(report.differences > 10_000, "{}", report.differences);
    system.stop().await;
}

/// Copies of what a change may touch.
struct Tables;

impl Tables {
    const NAMES: [&str; 11] = [
        "events",
        "outbox",
        "accounts",
        "relationships",
        "deleted_tweets",
        "last_user_id",
        "users",
        "tweets",
        "follows",
        "feed_items",
        "floors",
    ];

    async fn of(pool: &Connections) -> Self {
        for name in Self::NAMES {
            let copy = format!("create table copy_of_{name} as select * from {name}");
            sqlx::query(AssertSqlSafe(copy)).execute(pool).await.unwrap();
        }
        Self
    }

    async fn restore(self, pool: &Connections) {
        for name in Self::NAMES {
            for statement in [
                format!("delete from {name}"),
                format!("insert into {name} select * from copy_of_{name}"),
                format!("drop table copy_of_{name}"),
            ] {
                sqlx::query(AssertSqlSafe(statement)).execute(pool).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_ends_with_1_and_lists_the_first_differences_with_their_events() {
    let system = a_little_world().await;
    let variables = [("DATABASE_URL", system.database.url.as_str())];
    let clean = run("projector", &["verify"], &variables).await;
    let text = String::from_utf8(clean.stdout).unwrap();
    assert!(clean.status.success() && text.contains("no differences"), "{text}");

    let lost = sqlx::query("delete from feed_items where user_id = 1").execute(&system.log).await;
    assert!(lost.unwrap().rows_affected() > 5);
    let differs = run("projector", &["verify", "--differences", "2"], &variables).await;
    assert_eq!(differs.status.code(), Some(1));
    let text = String::from_utf8(differs.stdout).unwrap();
    let listed: Vec<&str> = text.lines().filter(|line| line.starts_with("feeds: ")).collect();
    assert_eq!(listed.len(), 2, "{text}");
    assert!(listed[0].contains("is missing in the feed of user 1 (TweetCreated at "), "{text}");
    assert!(text.contains("and 4 more"), "{text}");

    let json = run("projector", &["verify", "--json"], &variables).await;
    assert_eq!(json.status.code(), Some(1));
    let reports: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&reports[0]["projection"], &reports[0]["differences"]),
        (&"feed".into(), &6.into())
    );
    assert_eq!(reports[0]["listed"][0]["event"]["kind"], "TweetCreated");
    assert_eq!(
        (&reports[1]["projection"], &reports[1]["differences"]),
        (&"counts".into(), &0.into())
    );

    // A rebuild mends it.
    let rebuild = run("projector", &["rebuild"], &variables).await;
    assert!(rebuild.status.success());
    assert!(verified(&system.log, 20).await.is_clean());
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_is_clean_while_everything_goes_on() {
    let system = a_little_world().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (client, stopped) = (system.client.clone(), Arc::clone(&stop));
    let busy = tokio::spawn(async move {
        let (ada, bob) = (UserId(1), UserId(2));
        let mut rounds = 0;
        while !stopped.load(Ordering::Relaxed) {
            let newcomer = client.register(&format!("newcomer{rounds}")).await;
            client.follow(newcomer, ada).await;
            let tweet = client.tweet(ada, "hello").await;
            client.tweet(newcomer, "hello").await;
            client.delete(&format!("/api/tweets/{tweet}"), Some(ada)).await;
            client.delete(&format!("/api/subscriptions/unfollow/{ada}"), Some(bob)).await;
            client.follow(bob, ada).await;
            client.delete(&format!("/api/users/{newcomer}"), Some(newcomer)).await;
            rounds += 1;
        }
        rounds
    });
    let counted = system.database.counts().await;
    let mut positions = Vec::new();
    while positions.len() < 8 {
        let report = verified(&system.log, 20).await;
        assert_eq!(report.listed, []);
        positions.push(report.position);
        let progress = Progress::starting(Phase::CompareCounts);
        let report = counts::compare(&system.log, &counted, 20, &progress).await.unwrap();
        assert_eq!(report.listed, []);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(busy.await.unwrap() > 0);
    assert!(positions[0] > Position::START && positions.is_sorted());
    system.stop().await;
}

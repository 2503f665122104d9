//! `projector explain`, as an operator runs it.

use std::process::Output;

use e2e::database::TestDatabase;
use e2e::history::{given, new_user};
use e2e::model::Model;
use e2e::process::run;
use e2e::system::System;
use events::event::{Followed, TweetCreated, TweetDeleted, Unfollowed};
use events::store::Connections;
use events::store::explain::{Question, STREAM_EVENTS_MAX};
use events::{Event, Position, TweetId, UserId};
use projector::bounds::Bounds;
use projector::feed::Feeds;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// So few that most of a feed is below the floor.
const KEPT: i64 = 20;

const ADA: UserId = UserId(1);
const BOB: UserId = UserId(2);

fn followed() -> Event {
    Event::Followed(Followed { follower_id: BOB, followed_id: ADA })
}

fn unfollowed() -> Event {
    Event::Unfollowed(Unfollowed { follower_id: BOB, followed_id: ADA })
}

fn wrote() -> Event {
    Event::TweetCreated(TweetCreated { author_id: ADA, content: "a secret".to_owned() })
}

/// Ada and Bob are there, and the third event is a tweet of Ada's.
async fn ada_wrote() -> (TestDatabase, Connections) {
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    let registered = &mut 0;
    given(&pool, vec![new_user(registered), new_user(registered), wrote()]).await;
    (database, pool)
}

/// Projects up to `position`.
async fn projected(pool: &Connections, position: i64) {
    let projection = Feeds::of_feeds(
        pool.clone(),
        pool.clone(),
        Bounds::keeping(KEPT),
        CancellationToken::new(),
    );
    let mut checkpoint = projection.take_over().await.unwrap();
    projection.apply_from_log(&mut checkpoint, Position(position)).await.unwrap();
}

/// What an operator sees who asks about tweet 3 in Bob's feed, with no more than a database.
async fn told(database: &TestDatabase, more: &[&str]) -> (Output, String) {
    let arguments = [&["explain", "--user", "2", "--tweet", "3"], more].concat();
    let output = run("projector", &arguments, &[("DATABASE_URL", database.url.as_str())]).await;
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(!text.contains("secret") && !text.contains("example.org"), "{text}");
    (output, text)
}

async fn told_in_json(database: &TestDatabase) -> (Output, Value) {
    let (output, text) = told(database, &["--json"]).await;
    (output, serde_json::from_str(&text).unwrap())
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_which_event_brought_a_tweet_or_took_it() {
    let system = System::start().await;
    let rookery = &system.client;
    let (ada, bob) = (rookery.register("ada").await, rookery.register("bob").await);
    assert_eq!((ada, bob), (ADA, BOB));
    rookery.tweet(ada, "a secret").await;
    rookery.follow(bob, ada).await;
    system.caught_up().await;

    let (explained, text) = told(&system.database, &[]).await;
    assert_eq!(explained.status.code(), Some(0), "{}", error(&explained));
    let because = "At position 4 tweet 3 is in the feed of user 2, because user 2 has followed its \
                   author, user 1, since position 4.";
    assert_eq!(text.lines().next(), Some(because));
    let is_row = |line: &&str| line.starts_with(['┌', '│', '╞', '└']);
    let table: Vec<&str> = text.lines().filter(is_row).collect();
    assert!(table.len() > 6 && table.iter().all(|line| line.chars().count() <= 80), "{text}");
    assert!(table.iter().any(|line| line.contains("Followed")), "{text}");
    let read_model = "The read model (generation 1) is at position 4. \
                      It has the tweet as a row of feed_items. That agrees with the log.";
    assert_eq!(text.lines().last(), Some(read_model));

    rookery.delete(&format!("/api/subscriptions/unfollow/{ada}"), Some(bob)).await;
    system.caught_up().await;
    let (explained, json) = told_in_json(&system.database).await;
    assert_eq!(explained.status.code(), Some(0), "absent is an answer too");
    assert_eq!(json["present"], false);
    assert_eq!(json["at"], 5);
    assert_eq!(json["reasons"][0]["reason"], "unfollowed");
    assert_eq!(json["steps"][4]["kind"], "Unfollowed");
    assert_eq!(json["steps"][4]["stream"], "relationship-2-1");
    assert_eq!(json["read_model"]["holds"], "nothing");
    assert_eq!(json["read_model"]["agrees"], true);

    let (past, text) = told(&system.database, &["--at", "4"]).await;
    assert!(past.status.success() && text.contains("tweet 3 is in the feed"), "{text}");
    let (early, text) = told(&system.database, &["--at", "0"]).await;
    assert!(early.status.success() && text.contains("no user 2 is registered"), "{text}");
    system.stop().await;
}

#[tokio::test]
async fn of_thousands_of_follows_the_newest_are_read() {
    let (database, pool) = ada_wrote().await;
    let changes = (0..3_001).map(|n| if n % 2 == 0 { followed() } else { unfollowed() });
    let log = given(&pool, changes.collect()).await;
    let head = log.last().unwrap().position;

    let question = Question::ask(&pool, BOB, TweetId(3)).await.unwrap();
    for at in [head, Position(head.0 - 1), Position(1_001)] {
        let found = question.answer(&pool, at).await.unwrap();
        let model = Model::of(&log[..usize::try_from(at.0).unwrap()]);
        assert_eq!(found.present, model.feed(BOB) == [TweetId(3)], "{}", found.verdict);
        let shown = i64::try_from(found.steps.len()).unwrap() - 3;
        assert_eq!(shown, STREAM_EVENTS_MAX);
        assert_eq!(i64::from(found.earlier_left_out) + shown, at.0 - 3, "every one is counted");
    }
    let (explained, text) = told(&database, &["--at", &head.to_string()]).await;
    assert!(explained.status.success() && text.contains("2981 before them"), "{text}");
}

#[tokio::test]
async fn a_read_model_that_is_behind_is_held_against_the_log_where_it_is() {
    let (database, pool) = ada_wrote().await;
    given(&pool, vec![followed()]).await;
    projected(&pool, 3).await;

    let (explained, json) = told_in_json(&database).await;
    assert_eq!(explained.status.code(), Some(0), "behind is not wrong");
    assert_eq!((&json["present"], &json["read_model"]["present"]), (&true.into(), &false.into()));
    assert_eq!(json["read_model"]["agrees"], true);
    assert_eq!(json["read_model"]["lag_events"], 1);
    let (_, text) = told(&database, &[]).await;
    assert!(text.contains("1 event behind"), "{text}");
    assert!(text.contains("Once it has applied the rest, the tweet is in the feed."), "{text}");

    // More changes than are read lie between the two positions.
    let changes = (0..101).map(|n| if n % 2 == 0 { unfollowed() } else { followed() });
    given(&pool, changes.collect()).await;
    projected(&pool, 4).await;
    let (_, json) = told_in_json(&database).await;
    assert_eq!((&json["present"], &json["read_model"]["present"]), (&false.into(), &true.into()));
    assert_eq!(json["read_model"]["agrees"], true);
}

#[tokio::test]
async fn a_tweet_below_the_floor_is_read_from_its_author() {
    let (database, pool) = ada_wrote().await;
    let more = vec![wrote(); usize::try_from(KEPT).unwrap() + 5];
    given(&pool, [more, vec![followed()]].concat()).await;
    let head = Model::of_log(&pool).await.position;
    projected(&pool, head).await;

    let (explained, json) = told_in_json(&database).await;
    assert_eq!(explained.status.code(), Some(0), "{}", error(&explained));
    assert_eq!((&json["present"], &json["read_model"]["present"]), (&true.into(), &true.into()));
    assert_eq!(json["read_model"]["holds"], "below_floor");
    let floor = json["read_model"]["floor"].as_i64().unwrap();
    assert!(floor > 3, "{json}");
    let (_, text) = told(&database, &[]).await;
    assert!(text.contains(&format!("has its floor at {floor}")), "{text}");
}

#[tokio::test]
async fn a_read_model_that_differs_from_the_log_fails_after_it_is_explained() {
    let (database, pool) = ada_wrote().await;
    given(&pool, vec![followed()]).await;
    projected(&pool, 4).await;
    sqlx::query("delete from feed_items").execute(&pool).await.unwrap();

    let (missing, text) = told(&database, &[]).await;
    assert_eq!(missing.status.code(), Some(1), "{text}");
    assert!(text.starts_with("At position 4 tweet 3 is in the feed"), "{text}");
    for told in ["It does not have the tweet", "That differs", "verify", "rebuild"] {
        assert!(text.contains(told), "{told:?} is not in {text}");
    }
    assert_eq!(error(&missing), "projector: the read model differs from the log at position 4\n");

    let deleted = TweetDeleted { tweet_id: TweetId(3), author_id: ADA };
    given(&pool, vec![Event::TweetDeleted(deleted)]).await;
    projected(&pool, 5).await;
    assert_eq!(told_in_json(&database).await.1["read_model"]["holds"], "nothing");
    sqlx::query("insert into feed_items values (2, 3)").execute(&pool).await.unwrap();
    let (passed_over, json) = told_in_json(&database).await;
    assert_eq!(json["read_model"]["holds"], "row_passed_over");
    assert_eq!(passed_over.status.code(), Some(0), "no page has it, so nothing differs");

    sqlx::query("update tweets set deleted_position = 0").execute(&pool).await.unwrap();
    let (too_much, json) = told_in_json(&database).await;
    assert_eq!(too_much.status.code(), Some(1));
    assert_eq!((&json["present"], &json["read_model"]["agrees"]), (&false.into(), &false.into()));
}

#[tokio::test]
async fn what_cannot_be_explained_gets_one_line() {
    let (database, pool) = ada_wrote().await;
    let (beyond, text) = told(&database, &["--at", "4"]).await;
    assert_eq!((beyond.status.code(), text.as_str()), (Some(2), ""));
    let expected = "projector: position 4 is beyond the end of the log, which is at 3\n";
    assert_eq!(error(&beyond), expected);
    for (wrong, mentions) in [
        (["--at", "soon"], "--at"),
        (["--at", "-1"], "-1"),
        (["--user", "0"], "--user"),
        (["--tweet", "3"], "--tweet"),
    ] {
        let (bad, _) = told(&database, &wrong).await;
        assert_eq!(bad.status.code(), Some(2), "{wrong:?}");
        assert!(error(&bad).contains(mentions), "{}", error(&bad));
    }

    // The read model is not needed for a past position, and named when it is needed and away.
    let away = ["--feed-database-url", "postgres://nobody@127.0.0.1:1/x"];
    let (past, _) = told(&database, &[&away, ["--at", "3"].as_slice()].concat()).await;
    assert_eq!(past.status.code(), Some(0), "{}", error(&past));
    let (now, _) = told(&database, &away).await;
    assert_eq!(now.status.code(), Some(3));
    assert!(error(&now).contains("FEED_DATABASE_URL"), "{}", error(&now));

    sqlx::query("update checkpoint set position = 9").execute(&pool).await.unwrap();
    let (ahead, _) = told(&database, &[]).await;
    assert_eq!(ahead.status.code(), Some(1));
    assert!(error(&ahead).contains("of another history: it is at position 9"), "{}", error(&ahead));

    let newer = "insert into events values (4, gen_random_uuid(), 'tweet-3', 2, 'TweetPinned', 1, '{}', '{}', now())";
    sqlx::query(newer).execute(&pool).await.unwrap();
    let (unknown, _) = told(&database, &["--at", "4"]).await;
    assert_eq!(unknown.status.code(), Some(3));
    assert!(error(&unknown).contains("TweetPinned"), "{}", error(&unknown));
}

//! How far a reader has read.

use e2e::client::Answer;
use e2e::system::System;
use e2e::until;
use events::{TweetId, UserId};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection;

async fn advance(system: &System, reader: UserId, tweet: i64) -> Answer {
    let request = system.client.request(Method::PUT, "/api/feed/marker", Some(reader));
    Answer::of(request.json(&json!({ "tweet_id": tweet }))).await
}

async fn unread(system: &System, reader: UserId) -> Value {
    let head = system.head().await.0.to_string();
    let request = system.client.request(Method::GET, "/api/feed/unread", Some(reader));
    let answer = Answer::of(request.header("X-Min-Log-Position", head)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert!(answer.position.is_some());
    answer.body
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_is_what_others_wrote_above_the_marker_and_that_only_moves_forward() {
    let mut system = System::start().await;
    let (ada, bob) = (system.client.register("ada").await, system.client.register("bob").await);
    system.client.follow(bob, ada).await;
    let mut tweets = Vec::new();
    for number in 0..3 {
        tweets.push(system.client.tweet(ada, &format!("number {number}")).await);
    }
    system.client.tweet(bob, "nobody has to read their own").await;
    let expected =
        |unread: i64, marker: i64| json!({ "unread": unread, "more": false, "marker": marker });
    assert_eq!(unread(&system, bob).await, expected(3, 0));
    assert_eq!(unread(&system, ada).await, expected(0, 0));

    let TweetId(second) = tweets[1];
    assert_eq!(advance(&system, bob, second).await.body, json!({ "tweet_id": second }));
    assert_eq!(unread(&system, bob).await, expected(1, second));
    let back = advance(&system, bob, tweets[0].0).await;
    assert_eq!((back.status, back.body), (StatusCode::OK, json!({ "tweet_id": second })));
    assert_eq!(unread(&system, bob).await, expected(1, second));

    // What was deleted is not unread, and what was answered is durable.
    system.client.delete(&format!("/api/tweets/{}", tweets[2]), Some(ada)).await;
    assert_eq!(unread(&system, bob).await, expected(0, second));
    system.api.kill().await;
    system.projector.kill().await;
    system.restart(true).await;
    assert_eq!(unread(&system, bob).await, expected(0, second));
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_makes_no_sense_is_refused_in_words() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    let past = advance(&system, ada, 2).await;
    assert_eq!(past.status, StatusCode::UNPROCESSABLE_ENTITY, "there is no way back from there");
    assert_eq!(past.body["errors"][0]["field"], "tweet_id", "{past:?}");
    assert_eq!(advance(&system, ada, -1).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(advance(&system, ada, 0).await.status, StatusCode::OK);
    assert_eq!(advance(&system, UserId(7), 0).await.status, StatusCode::NOT_FOUND);
    let request = system.client.request(Method::PUT, "/api/feed/marker", None);
    let nobody = Answer::of(request.json(&json!({ "tweet_id": 0 }))).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    let stranger = system.client.get("/api/feed/unread", Some(UserId(7))).await;
    assert_eq!(stranger.status, StatusCode::NOT_FOUND);
    assert_eq!(system.head().await.0, 1, "no event comes of it");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_thousand_are_not_counted_and_at_any_depth_all_are() {
    let system = System::start_with(&["--feed-kept", "10"]).await;
    let (ada, bob) = (system.client.register("ada").await, system.client.register("bob").await);
    system.client.follow(bob, ada).await;
    let mut last = TweetId(0);
    for _ in 0..11 {
        let hundred = (0..100).map(|_| system.client.tweet(ada, "again"));
        last = join_all(hundred).await.into_iter().max().unwrap();
    }
    let found = unread(&system, bob).await;
    assert_eq!(found, json!({ "unread": 1000, "more": true, "marker": 0 }));
    advance(&system, bob, last.0 - 500).await;
    assert_eq!(unread(&system, bob).await["unread"], 500, "far below the rows that are kept");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_that_move_at_once_end_at_the_furthest() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    for number in 0..30 {
        system.client.tweet(ada, &number.to_string()).await;
    }
    let moves = (0..200).map(|number| advance(&system, ada, (number * 7) % 32));
    for moved in join_all(moves).await {
        assert_eq!(moved.status, StatusCode::OK, "{moved:?}");
    }
    assert_eq!(advance(&system, ada, 0).await.body["tweet_id"], 31);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_is_being_deleted_has_no_marker_and_costs_no_other_theirs() {
    let system = System::start().await;
    let (ada, bob) = (system.client.register("ada").await, system.client.register("bob").await);
    let mut lent = system.log.lend().await.unwrap();
    let mut deletion = lent.begin().await.unwrap();
    sqlx::query("delete from accounts where user_id = $1")
        .bind(ada.0)
        .execute(&mut *deletion)
        .await
        .unwrap();
    let of_ada = advance(&system, ada, 1);
    let deleted = async {
        until("the marker waits for the deletion", async || {
            let waiting = "select true from pg_stat_activity where datname = current_database()
                and wait_event_type = 'Lock' and query like '%insert into markers%'";
            sqlx::query_scalar::<_, bool>(waiting).fetch_optional(&system.log).await.ok()?
        })
        .await;
        deletion.commit().await.unwrap();
    };
    let (of_ada, of_bob, ()) = tokio::join!(of_ada, advance(&system, bob, 1), deleted);
    assert_eq!((of_ada.status, of_bob.status), (StatusCode::NOT_FOUND, StatusCode::OK));
    let left: i64 =
        sqlx::query_scalar("select count(*) from markers").fetch_one(&system.log).await.unwrap();
    assert_eq!(left, 1);
    lent.give_back();
    system.stop().await;
}

//! What those see who watch: the pipeline, and an author's own tweet on its way.

use e2e::client::Answer;
use e2e::database::TestDatabase;
use e2e::system::{System, start_api};
use e2e::token::{Issuer, seconds_from_now};
use e2e::until;
use events::store::hops::{HOPS_KEPT, Recorder, RelayHop};
use events::{Clock, Position, TweetId};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const SECRET: &str = "a secret of thirty-two bytes, or more";

const TIMES: [&str; 5] =
    ["published_at", "confirmed_at", "received_at", "applied_at", "readable_at"];

/// The pipeline, once it has `what`.
async fn seen(system: &System, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
    until(what, async || {
        let seen = system.client.get("/api/pipeline", None).await;
        assert_eq!(seen.status, StatusCode::OK, "{}", seen.body);
        matches(&seen.body).then_some(seen.body)
    })
    .await
}

async fn delivery(system: &System, tweet: TweetId, author: events::UserId) -> Answer {
    system.client.get(&format!("/api/tweets/{tweet}/delivery"), Some(author)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_sees_how_far_a_tweet_has_come_and_nobody_else_does() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    for name in ["bob", "cleo"] {
        let reader = system.client.register(name).await;
        system.client.follow(reader, ada).await;
    }
    let tweet = system.client.tweet(ada, "hello").await;
    let delivered = until("every time is on record", async || {
        let found = delivery(&system, tweet, ada).await;
        assert_eq!(found.status, StatusCode::OK, "{}", found.body);
        TIMES.iter().all(|time| !found.body[time].is_null()).then_some(found)
    })
    .await;
    let body = &delivered.body;
    assert_eq!((&body["followers"], &body["feeds"]), (&json!(2), &json!(2)));
    assert_eq!(body["position"].as_i64(), delivered.position.map(|position| position.0));
    assert!(body["sentence"].as_str().unwrap().contains("in 2 of 2 followers' feeds"), "{body}");
    let text = |time: &str| body[time].as_str().unwrap().to_owned();
    let way = ["appended_at", "published_at", "received_at", "applied_at", "readable_at"];
    assert!(way.map(text).is_sorted(), "{body}");
    assert!(text("published_at") < text("confirmed_at"), "{body}");
    assert!(!body.to_string().contains("bob"), "counts only");

    let bob = system.client.register("dan").await;
    for (path, caller, status) in [
        (format!("/api/tweets/{tweet}/delivery"), Some(bob), StatusCode::NOT_FOUND),
        (format!("/api/tweets/{tweet}/delivery"), None, StatusCode::UNAUTHORIZED),
        ("/api/tweets/1/delivery".to_owned(), Some(ada), StatusCode::NOT_FOUND),
        ("/api/tweets/99999/delivery".to_owned(), Some(ada), StatusCode::NOT_FOUND),
    ] {
        let refused = system.client.get(&path, caller).await;
        assert_eq!(refused.status, status, "{path}: {}", refused.body);
    }

    // Whoever follows later has it too, and what is no longer on record is counted all the same.
    system.client.follow(bob, ada).await;
    for half in ["relay_hops", "projector_hops"] {
        let truncate = sqlx::AssertSqlSafe(format!("truncate {half}"));
        sqlx::query(truncate).execute(&system.log).await.unwrap();
    }
    system.caught_up().await;
    let found = delivery(&system, tweet, ada).await.body;
    assert_eq!((&found["followers"], &found["feeds"]), (&json!(3), &json!(3)));
    assert_eq!(found["published_at"], Value::Null);
    assert_eq!(found["last_after_ms"], Value::Null);
    system.client.delete(&format!("/api/tweets/{tweet}"), Some(ada)).await;
    system.caught_up().await;
    assert_eq!(delivery(&system, tweet, ada).await.status, StatusCode::NOT_FOUND, "taken back");
    system.stop().await;
}

/// Below the floor there is no row, and a page has the tweet all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_tweet_below_the_floor_counts_as_being_there() {
    let system = System::start_with(&["--feed-kept", "20"]).await;
    let (ada, bob) = (system.client.register("ada").await, system.client.register("bob").await);
    let first = system.client.tweet(ada, "the first").await;
    for number in 0..30 {
        system.client.tweet(ada, &format!("{number}")).await;
    }
    // Whoever follows somebody who has written more than is kept has a floor from then on.
    system.client.follow(bob, ada).await;
    system.caught_up().await;
    assert_eq!(system.kept_rows(bob).await, 20);
    let found = delivery(&system, first, ada).await.body;
    assert_eq!((&found["followers"], &found["feeds"]), (&json!(1), &json!(1)));
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_away_is_said_with_what_works_and_what_waits() {
    let mut system = System::start().await;
    let ada = system.client.register("ada").await;
    let well = seen(&system, "everything works", |seen| {
        seen["troubles"] == json!([]) && seen["projector"]["lag_events"] == 0
    })
    .await;
    assert_eq!(well["log"]["state"], "working");
    assert_eq!(well["relay"]["position"], well["log"]["position"]);
    assert_eq!(well["feeds"]["state"], "readable");
    seen(&system, "the queue is known", |seen| seen["broker"]["consumers"] == 1).await;

    system.gate.shut();
    seen(&system, "RabbitMQ is away", |seen| seen["broker"]["state"] == "unreachable").await;
    system.client.tweet(ada, "nobody waits for RabbitMQ").await;
    let away = seen(&system, "one event waits", |seen| seen["relay"]["lag_events"] == 1).await;
    let trouble = &away["troubles"][0];
    assert_eq!(trouble["part"], "broker");
    assert!(trouble["waits"].as_str().unwrap().contains("1 event waits"), "{trouble}");
    assert!(trouble["kept"].as_str().unwrap().starts_with("Nothing is lost"), "{trouble}");
    assert!(away["relay"]["lag_seconds"].as_f64().unwrap() > 0.0);
    system.gate.open();
    seen(&system, "it heals by itself", |seen| {
        seen["troubles"] == json!([]) && seen["projector"]["lag_events"] == 0
    })
    .await;

    system.projector.kill().await;
    let without =
        seen(&system, "no projector runs", |seen| seen["projector"]["state"] == "away").await;
    assert_eq!(without["troubles"][0]["part"], "projector");
    system.restart(false).await;
    seen(&system, "one runs again", |seen| seen["troubles"] == json!([])).await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_part_of_the_answer() {
    let database = TestDatabase::create().await;
    let vhost = e2e::vhost::Vhost::create().await;
    let (gate, url) = database.gated_url().await;
    let (mut api, client) = start_api(&url, &vhost.url, &[], &[]).await;
    let pipeline = async |what: &str, matches: &dyn Fn(&Value) -> bool| {
        until(what, async || {
            let seen = client.get("/api/pipeline", None).await;
            assert_eq!(seen.status, StatusCode::OK, "{}", seen.body);
            matches(&seen.body).then_some(seen.body)
        })
        .await
    };
    gate.fall_silent();
    let away = pipeline("PostgreSQL is away", &|seen| seen["log"]["state"] == "unreachable").await;
    assert_eq!(away["feeds"]["state"], "unreachable");
    assert_eq!(away["troubles"][0]["title"], "PostgreSQL is away");
    gate.speak();
    pipeline("it is back", &|seen| seen["log"]["state"] == "working").await;
    api.kill().await;
    vhost.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tokens_only_those_with_the_claim_see_the_pipeline() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    let tweet = system.client.tweet(ada, "mine").await;
    system.caught_up().await;
    let issuer = Issuer::with_secret(SECRET.as_bytes());
    let token = |claims: Value| {
        let mut all = json!({ "sub": ada.0.to_string(), "exp": seconds_from_now(60) });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        issuer.token(&all)
    };
    let cases = [
        (None, json!({ "operator": true }), false),
        (Some("operator"), json!({ "operator": true }), true),
        (Some("operator"), json!({ "operator": "true" }), false),
        (Some("operator"), json!({}), false),
        (Some("scope=watch"), json!({ "scope": "read watch" }), true),
        (Some("scope=watch"), json!({ "scope": "watchful" }), false),
        (Some("roles=ops"), json!({ "roles": ["dev", "ops"] }), true),
        (Some("roles=ops"), json!({ "roles": ["dev"] }), false),
    ];
    for (setting, claims, sees) in cases {
        let mut variables = vec![("JWT_SECRET", SECRET)];
        variables.extend(setting.map(|claim| ("PIPELINE_CLAIM", claim)));
        let (mut api, client) =
            start_api(&system.database.url, &system.amqp_url(), &variables, &["--no-relay"]).await;
        let request = |path: &str| client.request(Method::GET, path, None);
        let bearer = token(claims.clone());
        let answer = Answer::of(request("/api/pipeline").bearer_auth(&bearer)).await;
        let expected = if sees { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(answer.status, expected, "{setting:?} {claims}: {}", answer.body);
        let nobody = Answer::of(request("/api/pipeline")).await;
        assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
        // What is one's own needs no claim.
        let path = format!("/api/tweets/{tweet}/delivery");
        let own = Answer::of(request(&path).bearer_auth(&bearer)).await;
        assert_eq!(own.status, StatusCode::OK, "{}", own.body);
        api.kill().await;
    }
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_explains_itself_to_its_reader() {
    let system = System::start().await;
    let (ada, bob) = (system.client.register("ada").await, system.client.register("bob").await);
    let followed = system.client.follow(bob, ada).await;
    let tweet = system.client.tweet(ada, "hello").await;
    let path = format!("/api/feed/explain?tweet={tweet}");
    let there = system.client.get(&path, Some(bob)).await;
    assert_eq!(there.status, StatusCode::OK, "{}", there.body);
    assert_eq!((&there.body["present"], &there.body["user"]), (&json!(true), &json!(bob)));
    assert!(there.body["verdict"].as_str().unwrap().contains("has followed its author"));
    assert_eq!(there.position, Some(Position(tweet.0)));
    let before = system.client.get(&format!("{path}&at={followed}"), Some(bob)).await;
    assert_eq!(before.body["present"], json!(false), "it was written later");
    assert_eq!(before.position, Some(followed));
    for (query, status) in [
        ("", StatusCode::UNPROCESSABLE_ENTITY),
        ("?tweet=0", StatusCode::UNPROCESSABLE_ENTITY),
        ("?tweet=x", StatusCode::UNPROCESSABLE_ENTITY),
        ("?tweet=1&at=999", StatusCode::UNPROCESSABLE_ENTITY),
        ("?tweet=999", StatusCode::OK),
    ] {
        let answer = system.client.get(&format!("/api/feed/explain{query}"), Some(bob)).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
    }
    let nobody = system.client.get(&path, None).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    system.stop().await;
}

/// Of the record only the last positions are kept, and it is emptied by halves, not row by row.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_hops_is_bounded() {
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    let now = Clock::system().now();
    let stop = CancellationToken::new();
    for start in 0..4 {
        // Each a recorder of its own, as after a restart.
        let (recorder, recording) = Recorder::new(pool.clone());
        let writing = tokio::spawn(recording.run(stop.clone()));
        for step in 0..3 {
            let last = Position(start * HOPS_KEPT + step * (HOPS_KEPT / 3) + 1);
            recorder.record(RelayHop { first: last, last, published_at: now, confirmed_at: now });
        }
        drop(recorder);
        writing.await.unwrap();
    }
    let kept: Vec<i64> = sqlx::query_scalar("select last_position from relay_hops order by 1")
        .fetch_all(&pool)
        .await
        .unwrap();
    let third = HOPS_KEPT / 3;
    let expected: Vec<i64> = [2, 3]
        .into_iter()
        .flat_map(|span| (0..3).map(move |step| span * HOPS_KEPT + step * third + 1))
        .collect();
    assert_eq!(kept, expected);
    pool.close_idle();
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_where_nothing_can_be_recorded() {
    let system = System::start().await;
    let (ada, bob) = (system.client.register("ada").await, system.client.register("bob").await);
    system.client.follow(bob, ada).await;
    for table in ["relay_hops", "projector_hops"] {
        let drop = sqlx::AssertSqlSafe(format!("drop table {table}"));
        sqlx::query(drop).execute(&system.log).await.unwrap();
    }
    let tweet = system.client.tweet(ada, "nobody writes down when").await;
    let head = system.caught_up().await;
    assert_eq!(system.client.feed(bob, head).await, [tweet]);
    until("what was not recorded is counted", async || {
        let metrics = system.client.get("/metrics", None).await.body;
        let dropped = "rookery_hops_dropped_total{table=\"relay_hops\"}";
        metrics.as_str().is_some_and(|text| text.contains(dropped)).then_some(())
    })
    .await;
    system.stop().await;
}

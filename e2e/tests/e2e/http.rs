//! The HTTP contract: every row of it, and every way to get it wrong.

use api::appender::{APPEND_BATCH_MAX, APPEND_QUEUE_MAX};
use e2e::client::{Answer, Rookery};
use e2e::model::read_log;
use e2e::system::System;
use e2e::until;
use events::UserId;
use events::store::append::BEGIN_LOCKED;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection;

fn is_problem(answer: &Answer, status: u16, name: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
    assert_eq!(answer.content_type, "application/problem+json", "{}", answer.body);
    assert_eq!(answer.body["type"], format!("urn:rookery:problem:{name}"), "{}", answer.body);
    assert_eq!(answer.body["status"], status);
    for field in ["title", "detail"] {
        assert!(answer.body[field].as_str().is_some_and(|text| !text.is_empty()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_as_the_contract_says() {
    let system = System::start().await;
    let rookery = &system.client;

    let body = json!({ "username": " ada ", "email": "ada@example.org" });
    let ada = rookery.post("/api/users/", None, body).await;
    assert_eq!(ada.status, StatusCode::CREATED);
    assert_eq!((&ada.body["id"], &ada.body["username"]), (&json!(1), &json!("ada")));
    assert_eq!(ada.position.unwrap().0, 1);
    let bob = rookery.register("bob").await;
    let ada_id = UserId(1);

    let body = json!({ "content": "  hello\n" });
    let tweet = rookery.post("/api/tweets", Some(ada_id), body).await;
    assert_eq!(tweet.status, StatusCode::CREATED);
    assert_eq!((&tweet.body["id"], &tweet.body["content"]), (&json!(3), &json!("hello")));
    let mut public = ada.body.clone();
    public.as_object_mut().unwrap().remove("email");
    assert_eq!(tweet.body["author"], public);
    rookery.follow(bob, ada_id).await;
    system.caught_up().await;

    // Reads give what the writes gave, with and without a slash at the end.
    let same = [
        ("/api/users/1", public.clone()),
        ("/api/tweets/3", tweet.body.clone()),
        ("/api/tweets/user/1", json!([tweet.body])),
        ("/api/tweets/user/2", json!([])),
        ("/api/tweets/user/99", json!([])),
        ("/api/users?limit=1", json!([public])),
        ("/api/users?skip=2", json!([])),
        ("/api/subscriptions/2/following", json!([public])),
        ("/api/subscriptions/2/followers", json!([])),
        ("/api/subscriptions/1/following", json!([])),
    ];
    for (path, expected) in same {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        for path in [format!("{path}?{query}"), format!("{path}/?{query}")] {
            let answer = rookery.get(&path, None).await;
            assert_eq!((answer.status, &answer.body), (StatusCode::OK, &expected), "{path}");
            assert_eq!(answer.position.unwrap().0, 4, "{path} names its position");
        }
    }
    // Everyone sees their own address, and nobody another's.
    for (caller, seen) in [(ada_id, &ada.body), (bob, &public), (UserId(99), &public)] {
        let answer = rookery.get("/api/users/1", Some(caller)).await;
        assert_eq!(&answer.body, seen, "as {caller} sees it");
    }
    let feed = rookery.get("/api/feed", Some(bob)).await;
    let created_at = &tweet.body["created_at"];
    let item = json!({
        "tweet_id": 3, "content": "hello", "author_id": 1, "author_username": "ada",
        "created_at": created_at
    });
    assert_eq!(feed.body, json!([item]));
    assert_eq!(feed.position.unwrap().0, 4);

    let unfollow = rookery.delete("/api/subscriptions/unfollow/1/", Some(bob)).await;
    assert!(unfollow.status == StatusCode::OK && unfollow.body["message"].is_string());
    let delete = rookery.delete("/api/tweets/3", Some(ada_id)).await;
    assert!(delete.status == StatusCode::OK && delete.body["message"].is_string());
    let leave = rookery.delete("/api/users/1", Some(ada_id)).await;
    assert!(leave.status == StatusCode::OK && leave.body["message"].is_string());
    system.caught_up().await;
    for path in ["/api/users/1", "/api/tweets/3", "/api/subscriptions/1/followers"] {
        let gone = rookery.get(path, None).await;
        is_problem(&gone, 404, "not-found");
        assert_eq!(gone.position.unwrap().0, 7, "what is not there is not there at a position");
    }
    is_problem(&rookery.get("/api/feed", Some(ada_id)).await, 404, "not-found");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_says_why_and_stores_nothing() {
    let system = System::start().await;
    let rookery = &system.client;
    let (ada, bob) = (rookery.register("ada").await, rookery.register("bob").await);
    rookery.follow(bob, ada).await;
    let tweet = rookery.tweet(ada, "hello").await;
    let (ada, bob) = (Some(ada), Some(bob));
    let ghost = Some(UserId(99));
    let head = system.caught_up().await;

    let user = |name: &str, email: &str| json!({ "username": name, "email": email });
    let content = |text: &str| json!({ "content": text });
    let follow = |id: i64| json!({ "followed_id": id });
    let tweets = "/api/tweets";
    let (users, follows) = ("/api/users", "/api/subscriptions/follow");
    let posts: Vec<(&str, Option<UserId>, Value, u16, &str)> = vec![
        (users, None, user("ADA", "new@example.org"), 409, "username-taken"),
        (users, None, user("new", "ADA@example.org"), 409, "email-taken"),
        (users, None, user("ad", "new@example.org"), 422, "invalid"),
        (users, None, user(&"a".repeat(51), "new@example.org"), 422, "invalid"),
        (users, None, user("new", "not an address"), 422, "invalid"),
        (users, None, user("n\u{0}w", "new@example.org"), 422, "invalid"),
        (users, None, json!({ "username": "new" }), 422, "malformed"),
        (users, None, json!({ "username": 1, "email": [] }), 422, "malformed"),
        (tweets, None, content("hello"), 401, "unauthenticated"),
        (tweets, ghost, content("hello"), 404, "caller-unknown"),
        (tweets, ada, content("  \n "), 422, "invalid"),
        (tweets, ada, content(&"é".repeat(281)), 422, "invalid"),
        (tweets, ada, content("nul\u{0}"), 422, "invalid"),
        (tweets, ada, content(&"a".repeat(20_000)), 413, "too-large"),
        (follows, None, follow(1), 401, "unauthenticated"),
        (follows, ghost, follow(1), 404, "caller-unknown"),
        (follows, ada, follow(99), 404, "user-unknown"),
        (follows, ada, follow(1), 422, "invalid"),
        (follows, bob, follow(1), 409, "already-following"),
        (follows, bob, json!({ "followed_id": "1" }), 422, "malformed"),
        (follows, bob, json!({ "followed_id": 1e30 }), 422, "malformed"),
        (tweets, ada, json!(["hello"]), 422, "malformed"),
        (tweets, ada, json!("hello"), 422, "malformed"),
        (tweets, ada, json!(null), 422, "malformed"),
        (users, None, json!(["new", "new@example.org"]), 422, "malformed"),
        (follows, ada, json!([2]), 422, "malformed"),
        ("/api/nothing", None, json!({}), 404, "not-found"),
    ];
    for (path, caller, body, status, name) in posts {
        is_problem(&rookery.post(path, caller, body).await, status, name);
    }

    let of_ada = format!("/api/tweets/{tweet}");
    let deletes = [
        (of_ada.as_str(), None, 401, "unauthenticated"),
        (of_ada.as_str(), bob, 404, "tweet-unknown"),
        ("/api/tweets/99", ada, 404, "tweet-unknown"),
        ("/api/tweets/1", ada, 404, "tweet-unknown"),
        ("/api/tweets/one", ada, 422, "invalid"),
        ("/api/users/2", ada, 403, "forbidden"),
        ("/api/users/99", ghost, 404, "caller-unknown"),
        ("/api/users/1", None, 401, "unauthenticated"),
        ("/api/subscriptions/unfollow/2", ada, 404, "not-following"),
        ("/api/subscriptions/unfollow/99", ada, 404, "not-following"),
        ("/api/subscriptions/unfollow/1", None, 401, "unauthenticated"),
    ];
    for (path, caller, status, name) in deletes {
        is_problem(&rookery.delete(path, caller).await, status, name);
    }

    let gets = [
        ("/api/users/99", None, 404, "not-found"),
        ("/api/users/one", None, 422, "invalid"),
        ("/api/users/99999999999999999999", None, 422, "invalid"),
        ("/api/users?limit=0", None, 422, "invalid"),
        ("/api/users?limit=101", None, 422, "invalid"),
        ("/api/users?skip=-1", None, 422, "invalid"),
        ("/api/users?skip=9223372036854775807", None, 422, "invalid"),
        ("/api/users?skip=x", None, 422, "malformed"),
        ("/api/users?skip=99999999999999999999", None, 422, "malformed"),
        ("/api/tweets/99", None, 404, "not-found"),
        ("/api/tweets/user/1?limit=1000", None, 422, "invalid"),
        ("/api/subscriptions/99/followers", None, 404, "not-found"),
        ("/api/subscriptions/1/following?limit=0", None, 422, "invalid"),
        ("/api/feed", None, 401, "unauthenticated"),
        ("/api/feed", ghost, 404, "not-found"),
        ("/api/feed?limit=0", ada, 422, "invalid"),
        ("/api/feed?before=0", ada, 422, "invalid"),
        ("/api/feed?at=-1", ada, 422, "invalid"),
        ("/api/feed?at=5", ada, 422, "invalid"),
        ("/nothing", None, 404, "not-found"),
    ];
    for (path, caller, status, name) in gets {
        is_problem(&rookery.get(path, caller).await, status, name);
    }
    assert_eq!(system.head().await, head, "nothing was appended");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_no_request_gets_a_problem_too() {
    let system = System::start().await;
    let rookery = &system.client;
    let post = |body: &'static [u8], kind: &str| {
        let request = rookery.request(Method::POST, "/api/users", None);
        Answer::of(request.header("Content-Type", kind).body(body))
    };
    is_problem(&post(b"{\"username\":", "application/json").await, 400, "malformed");
    is_problem(&post(b"", "application/json").await, 400, "malformed");
    is_problem(&post(b"\xff\xfe", "application/json").await, 400, "malformed");
    is_problem(&post(b"{\"username\":\"\\ud800\"}", "application/json").await, 400, "malformed");
    is_problem(&post(b"username=ada", "text/plain").await, 415, "media-type");
    let twice = b"{\"username\":\"ada\",\"username\":\"bob\",\"email\":\"a@example.org\"}";
    is_problem(&post(twice, "application/json").await, 422, "malformed");
    let put = Answer::of(rookery.request(Method::PUT, "/api/users", None)).await;
    is_problem(&put, 405, "method-not-allowed");

    for bad in ["", "one", "0", "-1", "99999999999999999999", "1, 2"] {
        let request = rookery.request(Method::GET, "/api/feed", None).header("X-User-ID", bad);
        is_problem(&Answer::of(request).await, 401, "unauthenticated");
    }
    // Also where nobody has to say who they are: one who does has to be right.
    let request = rookery.request(Method::GET, "/api/users/1", None).header("X-User-ID", "one");
    is_problem(&Answer::of(request).await, 401, "unauthenticated");
    for bad in ["", "x", "-1", "1.5"] {
        let request = rookery.request(Method::GET, "/api/users", None);
        is_problem(&Answer::of(request.header("X-Min-Log-Position", bad)).await, 422, "invalid");
    }
    for bad in [" ".to_owned(), "k".repeat(201)] {
        let request = rookery.request(Method::POST, "/api/users", None).json(&json!({}));
        is_problem(&Answer::of(request.header("Idempotency-Key", bad)).await, 422, "invalid");
    }
    let twice = [
        (Method::GET, "/api/feed", "X-User-ID"),
        (Method::GET, "/api/users", "X-Min-Log-Position"),
        (Method::GET, "/api/feed/stream", "Last-Event-ID"),
        (Method::POST, "/api/users", "Idempotency-Key"),
        (Method::POST, "/api/tweets", "Content-Type"),
    ];
    for (method, path, name) in twice {
        let caller = (name == "Last-Event-ID" || name == "Content-Type").then_some(UserId(1));
        let request = rookery.request(method, path, caller).header(name, "1").header(name, "1");
        is_problem(&Answer::of(request).await, 400, "malformed");
    }
    is_problem(&rookery.get("/api/users?limit=1&limit=2", None).await, 422, "malformed");
    assert_eq!(system.head().await.0, 0, "nothing was stored");
    system.stop().await;
}

/// A member that this release does not know may be one of the next.
#[tokio::test(flavor = "multi_thread")]
async fn members_that_nobody_asks_for_are_ignored() {
    let system = System::start().await;
    let body = json!({ "username": "ada", "email": "ada@example.org", "id": 7, "avatar": [1] });
    let ada = system.client.post("/api/users", None, body).await;
    assert_eq!((ada.status, &ada.body["id"]), (StatusCode::CREATED, &json!(1)));
    system.stop().await;
}

async fn with_key(
    rookery: &Rookery,
    key: &str,
    caller: Option<UserId>,
    path: &str,
    body: Value,
) -> Answer {
    let request = rookery.request(Method::POST, path, caller).json(&body);
    Answer::of(request.header("Idempotency-Key", key)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_the_first_answer_and_appends_nothing() {
    let system = System::start().await;
    let (mut second, other) = system.another_api(&["--no-relay"]).await;
    let rookery = &system.client;
    let body = json!({ "username": "ada", "email": "ada@example.org" });
    let registered = with_key(rookery, "r-1", None, "/api/users", body.clone()).await;
    let again = with_key(&other, "r-1", None, "/api/users", body).await;
    assert_eq!((again.status, &again.body), (registered.status, &registered.body));
    assert_eq!(again.position, registered.position);

    // A registration's key belongs to the name that it asks for.
    let other_address = json!({ "username": "Ada", "email": "else@example.org" });
    let reused = with_key(rookery, "r-1", None, "/api/users", other_address).await;
    is_problem(&reused, 422, "idempotency-key-reused");
    let stranger = json!({ "username": "bob", "email": "bob@example.org" });
    let bob = with_key(rookery, "r-1", None, "/api/users", stranger).await;
    assert_eq!(bob.status, StatusCode::CREATED, "{}", bob.body);

    let (ada, bob) = (Some(UserId(1)), Some(UserId(2)));
    let first = with_key(rookery, "k-1", ada, "/api/tweets", json!({ "content": "once" })).await;
    let again = with_key(&other, "k-1", ada, "/api/tweets", json!({"content":  "once "})).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    let another = with_key(rookery, "k-1", ada, "/api/tweets", json!({ "content": "twice" })).await;
    is_problem(&another, 422, "idempotency-key-reused");
    let of_bob = with_key(rookery, "k-1", bob, "/api/tweets", json!({ "content": "mine" })).await;
    assert_eq!(of_bob.status, StatusCode::CREATED, "a key belongs to its caller");

    // A refusal is an answer too.
    let to_nobody = json!({ "followed_id": 3 });
    let refused =
        with_key(rookery, "k-2", ada, "/api/subscriptions/follow", to_nobody.clone()).await;
    rookery.register("cleo").await;
    let again = with_key(rookery, "k-2", ada, "/api/subscriptions/follow", to_nobody).await;
    assert_eq!((again.status, &again.body), (refused.status, &refused.body));
    assert_eq!(system.head().await.0, 5);
    second.kill().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_tell_how_it_is() {
    let system = System::start().await;
    let rookery = &system.client;
    rookery.register("ada").await;
    assert_eq!(rookery.get("/health/live", None).await.status, StatusCode::OK);
    let ready = rookery.get("/health/ready", None).await;
    assert_eq!((ready.status, &ready.body["status"]), (StatusCode::OK, &json!("ready")));
    let metrics = rookery.get("/metrics", None).await;
    let text = metrics.body.as_str().unwrap();
    for name in ["rookery_http_requests_total", "rookery_appended_events_total"] {
        assert!(text.contains(name), "{name} is missing from:\n{text}");
    }
    assert!(text.contains("route=\"/api/users\""), "by route");

    sqlx::query("delete from feed_migrations").execute(&system.log).await.unwrap();
    let unready = rookery.get("/health/ready", None).await;
    assert_eq!(unready.status, StatusCode::SERVICE_UNAVAILABLE, "the schema is not current");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_can_wait_is_refused_at_once_and_the_rest_is_served() {
    const EXCESS: usize = 200;
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    // While someone else holds the head of the log, commands can only wait.
    let mut lent = system.log.lend().await.unwrap();
    let mut holder = lent.begin_with(BEGIN_LOCKED).await.unwrap();
    // However long this machine takes to send so many.
    let patient = "set local idle_in_transaction_session_timeout = 0";
    sqlx::query(patient).execute(&mut *holder).await.unwrap();
    let posts: Vec<_> = (0..APPEND_QUEUE_MAX + APPEND_BATCH_MAX + EXCESS)
        .map(|number| {
            let body = json!({ "content": format!("one of many {number}") });
            let request = system.client.request(Method::POST, "/api/tweets", Some(ada)).json(&body);
            tokio::spawn(Answer::of(request))
        })
        .collect();
    until("the excess is refused", async || {
        (posts.iter().filter(|post| post.is_finished()).count() >= EXCESS).then_some(())
    })
    .await;
    holder.rollback().await.unwrap();

    let (mut accepted, mut refused) = (0, 0);
    for post in posts {
        let answer = post.await.unwrap();
        if answer.status == StatusCode::CREATED {
            accepted += 1;
        } else {
            is_problem(&answer, 503, "busy");
            assert_eq!(answer.retry_after.as_deref(), Some("1"));
            refused += 1;
        }
    }
    assert!(refused >= EXCESS && accepted >= APPEND_QUEUE_MAX, "{accepted} and {refused}");
    assert_eq!(
        system.head().await.0,
        1 + i64::try_from(accepted).unwrap(),
        "refused is not stored"
    );
    system.client.tweet(ada, "and then all is well").await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_calls_its_request_is_kept_unless_it_is_odd() {
    let system = System::start().await;
    let register = async |name: &str, id: &str| {
        let body = json!({ "username": name, "email": format!("{name}@example.org") });
        let request = system.client.request(Method::POST, "/api/users", None).json(&body);
        Answer::of(request.header("X-Request-ID", id)).await
    };
    register("ada", "mine-1").await;
    register("bob", &"x".repeat(10_000)).await;
    let log = read_log(&system.log).await;
    assert_eq!(log[0].metadata.request_id.as_deref(), Some("mine-1"));
    let given = log[1].metadata.request_id.as_deref().unwrap();
    assert!(given.len() <= 64 && !given.starts_with('x'), "{given}");
    system.stop().await;
}

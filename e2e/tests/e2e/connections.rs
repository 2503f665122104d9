//! What a refusal does to the connection on which it is given.

use e2e::raw::RawConnection;
use e2e::system::System;
use e2e::until;
use events::store::append::BEGIN_LOCKED;
use sqlx::Connection;

fn head(request: &str, headers: &[&str], length: usize) -> String {
    let length = format!("Content-Length: {length}");
    let first = ["Host: localhost", "Content-Type: application/json", &length];
    format!("{request} HTTP/1.1\r\n{}\r\n\r\n", [&first, headers].concat().join("\r\n"))
}

const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Whether a body comes with its head, later, or never (an empty one), the answer is the same, and so
/// is the next request's.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_leaves_its_connection_as_good_as_it_was() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    let caller = format!("X-User-ID: {ada}");
    let tweet = "{\"content\":\"hello\"}";
    let refused: [(&str, &[&str], &str, u16); 14] = [
        ("POST /api/tweets", &[], tweet, 401),
        ("POST /api/tweets", &["X-User-ID: nobody"], tweet, 401),
        ("POST /api/tweets", &["X-User-ID: 99"], tweet, 404),
        ("POST /api/tweets", &["X-User-ID: 1", "X-User-ID: 1"], tweet, 400),
        ("POST /api/tweets", &[&caller, "Idempotency-Key: "], tweet, 422),
        ("POST /api/tweets", &[&caller], "{\"content\":\"\"}", 422),
        ("POST /api/tweets", &[&caller], "{\"content\":", 400),
        ("POST /api/tweets", &[&caller, "Content-Type: text/plain"], tweet, 400),
        ("POST /nothing", &[], tweet, 404),
        ("PUT /api/tweets", &[&caller], tweet, 405),
        ("DELETE /api/tweets/99", &[&caller], tweet, 404),
        ("GET /api/feed", &[], tweet, 401),
        ("GET /api/users/99", &[], tweet, 404),
        ("GET /api/feed/stream", &[&caller, "Last-Event-ID: x"], tweet, 422),
    ];
    let mut kept = RawConnection::open(&system.client).await;
    for (request, headers, body, status) in refused {
        let head = head(request, headers, body.len());
        for late in [false, true] {
            if late {
                kept.send_late(&head, body.as_bytes()).await;
            } else {
                kept.send(format!("{head}{body}").as_bytes()).await;
            }
            let answer = kept.answer().await;
            assert_eq!(answer.status, status, "{request}: {}", answer.body);
            assert!(!answer.closes(), "{request}: {}", answer.head);
            kept.send(LIVE).await;
            assert_eq!(kept.answer().await.status, 200, "after {request}");
        }
    }
    system.stop().await;
}

/// The client sends all of it before it reads, as most do.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_far_too_large_is_refused_with_an_answer_that_arrives() {
    let system = System::start().await;
    let huge = vec![b'x'; 20_000_000];
    let mut connection = RawConnection::open(&system.client).await;
    connection.send_late(&head("POST /api/tweets", &[], huge.len()), &huge).await;
    let answer = connection.answer().await;
    assert!(answer.status == 413 && answer.closes(), "{}", answer.head);
    assert!(answer.body.contains("urn:rookery:problem:too-large"), "{}", answer.body);
    connection.end().await;

    // Nobody says beforehand how long this one is.
    let mut connection = RawConnection::open(&system.client).await;
    let head = "POST /api/users HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    connection.send(head.as_bytes()).await;
    for _ in 0..200 {
        connection.send(b"10000\r\n").await;
        connection.send(&huge[..0x1_0000]).await;
        connection.send(b"\r\n").await;
    }
    let answer = connection.answer().await;
    assert!(answer.status == 413 && answer.closes(), "{}", answer.head);
    connection.end().await;

    // A head that never ends is refused by the same rule.
    let mut connection = RawConnection::open(&system.client).await;
    let endless = format!("GET /health/live HTTP/1.1\r\nX-A: {}", "a".repeat(2_000_000));
    connection.send(endless.as_bytes()).await;
    let answer = connection.answer().await;
    assert!(answer.status == 431 && answer.closes(), "{}", answer.head);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_first_sends_no_body_in_vain() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    let (caller, asks) = (format!("X-User-ID: {ada}"), "Expect: 100-continue");
    let mut connection = RawConnection::open(&system.client).await;
    connection.send(head("POST /api/tweets", &[&caller, asks], 20_000_000).as_bytes()).await;
    let answer = connection.answer().await;
    assert!(answer.status == 413 && answer.closes(), "{}", answer.head);

    let body = "{\"content\":\"hello\"}";
    let mut connection = RawConnection::open(&system.client).await;
    connection.send(head("POST /api/tweets", &[&caller, asks], body.len()).as_bytes()).await;
    assert_eq!(connection.answer().await.status, 100);
    connection.send(body.as_bytes()).await;
    assert_eq!(connection.answer().await.status, 201);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_refused_and_the_connection_ends() {
    let system = System::start().await;
    let mut connection = RawConnection::open(&system.client).await;
    connection.send(head("POST /api/tweets", &["X-User-ID: 1"], 100).as_bytes()).await;
    connection.send(b"{\"content\":").await;
    let answer = connection.answer().await;
    assert!(answer.status == 408 && answer.closes(), "{}", answer.head);
    connection.end().await;
    system.stop().await;
}

/// Enough to be seen beside what the api has anyway.
const RUSH: usize = 900;

/// What each takes at least: what it has sent, and the connection.
const RUSH_KIB_EACH: u64 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_a_rush_is_given_back() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    let api = system.api.id().expect("it runs");
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{api}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB")
    };
    let before = resident();
    // While someone else holds the head of the log, they all wait with what they have sent.
    let mut lent = system.log.lend().await.expect("the log answers");
    let holder = lent.begin_with(BEGIN_LOCKED).await.expect("nobody else holds it");
    let caller = format!("X-User-ID: {ada}");
    let mut rush = Vec::new();
    for number in 0..RUSH {
        let tweet = format!("{{\"content\":\"{number} {}\"}}", " ".repeat(15_000));
        let mut connection = RawConnection::open(&system.client).await;
        let head = head("POST /api/tweets", &[&caller], tweet.len());
        connection.send(format!("{head}{tweet}").as_bytes()).await;
        rush.push(connection);
    }
    let at_most = until("all of them wait", async || {
        let now = resident();
        (now > before + RUSH_KIB_EACH * RUSH as u64).then_some(now)
    })
    .await;
    holder.rollback().await.expect("it held");
    for mut connection in rush {
        assert_eq!(connection.answer().await.status, 201);
    }
    let half_way = before + (at_most - before) / 2;
    until("the memory is given back", async || (resident() < half_way).then_some(())).await;
    system.stop().await;
}

//! Load over HTTP: closed-loop, where each connection waits for its answer before it asks again, and
//! open-loop, where requests come at a rate of their own, as those of people do.
//!
//! In open loop a latency counts from when the request was meant to start, so that one which had to
//! wait for its turn is not taken for a fast one.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// The longest latency that is told from longer ones, and three digits of it.
const LATENCY_MAX_US: u64 = 60_000_000;

/// A request to be sent, and the status that it has to be answered with.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: String,
    caller: Option<u32>,
    /// JSON.
    body: Option<String>,
    /// The position that the answer has to be exact at.
    min_position: Option<u64>,
    expected: StatusCode,
}

impl Call {
    /// The first page of the feed of `reader`.
    pub fn feed(reader: u32) -> Self {
        Self {
            method: Method::GET,
            path: "/api/feed/".to_owned(),
            caller: Some(reader),
            body: None,
            min_position: None,
            expected: StatusCode::OK,
        }
    }

    /// The page of that feed that goes on below `tweet`.
    pub fn before(self, tweet: u64) -> Self {
        Self { path: format!("{}?before={tweet}", self.path), ..self }
    }

    /// A tweet by `author`. `number` makes it another one than the last.
    pub fn tweet(author: u32, number: u64) -> Self {
        Self::tweet_of(author, &format!("tweet {number} of {author}"))
    }

    /// A tweet by `author` that says `content`.
    pub fn tweet_of(author: u32, content: &str) -> Self {
        Self::post("/api/tweets/", Some(author), &json!({ "content": content }))
    }

    /// The registration of a user with this number in their name.
    pub fn register(number: u32) -> Self {
        Self::register_as(&format!("user{number}"))
    }

    /// The registration of a user with this name.
    pub fn register_as(username: &str) -> Self {
        let email = format!("{username}@example.org");
        Self::post("/api/users/", None, &json!({ "username": username, "email": email }))
    }

    /// That `follower` follows `followed`.
    pub fn follow(follower: u32, followed: u32) -> Self {
        let body = json!({ "followed_id": followed });
        let follow = Self::post("/api/subscriptions/follow", Some(follower), &body);
        Self { expected: StatusCode::OK, ..follow }
    }

    /// That `follower` no longer follows `followed`.
    pub fn unfollow(follower: u32, followed: u32) -> Self {
        Self::delete(follower, format!("/api/subscriptions/unfollow/{followed}"))
    }

    /// That `author` takes a tweet back.
    pub fn delete_tweet(author: u32, tweet: u64) -> Self {
        Self::delete(author, format!("/api/tweets/{tweet}"))
    }

    fn delete(caller: u32, path: String) -> Self {
        Self { method: Method::DELETE, path, ..Self::feed(caller) }
    }

    /// What the server that is the floor of streams sends to all of them.
    pub fn message(text: &str) -> Self {
        let message = Self::post("/message", None, &json!(null));
        Self { body: Some(text.to_owned()), expected: StatusCode::OK, ..message }
    }

    fn post(path: &str, caller: Option<u32>, body: &serde_json::Value) -> Self {
        Self {
            method: Method::POST,
            path: path.to_owned(),
            caller,
            body: Some(body.to_string()),
            min_position: None,
            expected: StatusCode::CREATED,
        }
    }

    /// The same, answered once the read model has reached `position`.
    pub fn at_least(self, position: u64) -> Self {
        Self { min_position: Some(position), ..self }
    }
}

/// How long things took.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_max(LATENCY_MAX_US, 3)?))
    }

    /// All of `parts`.
    pub fn of(parts: impl IntoIterator<Item = Self>) -> anyhow::Result<Self> {
        let mut all = Self::new()?;
        for part in parts {
            all.0.add(part.0)?;
        }
        Ok(all)
    }

    /// Takes note of one.
    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The one in milliseconds that this share of them did not exceed.
    pub fn milliseconds(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1_000.0
    }

    /// Their mean in milliseconds.
    pub fn mean_milliseconds(&self) -> f64 {
        self.0.mean() / 1_000.0
    }
}

/// What a load brought about.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Answered as expected, warm-up and all.
    pub answered: u64,
    /// Without the warm-up.
    pub per_second: f64,
    /// Without the warm-up.
    pub latencies: Latencies,
}

/// How requests come.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    Closed,
    /// So many a second, all connections together.
    Open {
        rate: u32,
    },
}

/// A connection that stays open.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    /// Opens a connection to `address`.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("the api is not there")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, host: address.to_string() })
    }

    /// Sends `call`. Gives the log's position after a command, or the one that a read is exact at. A
    /// status that was not expected is an error.
    pub async fn send(&mut self, call: &Call) -> anyhow::Result<u64> {
        let answer = self.exchange(call).await?;
        if answer.status != call.expected {
            let (method, path) = (&call.method, &call.path);
            bail!("{method} {path}: {}: {}", answer.status, answer.body());
        }
        Ok(answer.position)
    }

    /// Sends `call` and reads the answer to its end, whatever it is.
    pub async fn exchange(&mut self, call: &Call) -> anyhow::Result<Answer> {
        let mut request =
            Request::builder().method(&call.method).uri(&call.path).header("host", &self.host);
        if let Some(caller) = call.caller {
            request = request.header("x-user-id", caller);
        }
        if let Some(position) = call.min_position {
            request = request.header("x-min-log-position", position);
        }
        if call.body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = Full::new(Bytes::from(call.body.clone().unwrap_or_default()));
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(body)?).await?;
        let status = answer.status();
        let position = answer.headers().get("x-log-position").and_then(|it| it.to_str().ok());
        let position = position.and_then(|position| position.parse().ok()).unwrap_or(0);
        let retry_after = answer.headers().contains_key("retry-after");
        let body = answer.into_body().collect().await?.to_bytes();
        Ok(Answer { status, position, retry_after, body })
    }
}

/// What an answer says.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// As in `X-Log-Position`; 0 without it.
    position: u64,
    /// Whether it says when to come again.
    pub retry_after: bool,
    body: Bytes,
}

impl Answer {
    /// For an error message.
    pub fn body(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// Puts load on `address` for a third of `turn` that is not counted, and then for `turn`. `call` makes
/// the request of each number; an unexpected answer ends it.
pub async fn load(
    address: SocketAddr,
    connections: usize,
    pace: Pace,
    turn: Duration,
    call: impl Fn(u64) -> Call,
) -> anyhow::Result<Outcome> {
    let opened = (0..connections).map(|_| Connection::open(address));
    let opened = try_join_all(opened).await?;
    let began = Instant::now();
    let (counted_from, end) = (began + turn / 3, began + turn / 3 + turn);
    let next = AtomicU64::new(0);
    let worker = async |mut connection: Connection| {
        let (mut answered, mut latencies) = (0, Latencies::new()?);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let meant = match pace {
                Pace::Closed => Instant::now(),
                Pace::Open { rate } => {
                    began + Duration::from_secs_f64(number as f64 / f64::from(rate))
                }
            };
            if meant >= end {
                return anyhow::Ok((answered, latencies));
            }
            // Not in closed loop: a timer that is due already still waits for the next millisecond.
            if matches!(pace, Pace::Open { .. }) {
                sleep_until(meant).await;
            }
            connection.send(&call(number)).await?;
            answered += 1;
            if meant >= counted_from {
                latencies.record(meant.elapsed());
            }
        }
    };
    let ends = try_join_all(opened.into_iter().map(worker)).await?;
    let (answered, latencies): (Vec<u64>, Vec<_>) = ends.into_iter().unzip();
    let (answered, latencies) = (answered.into_iter().sum(), Latencies::of(latencies)?);
    let per_second = latencies.count() as f64 / turn.as_secs_f64();
    Ok(Outcome { answered, per_second, latencies })
}

/// Calls that were answered as expected.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    pub count: u64,
    /// The highest position among their answers.
    pub highest: u64,
}

/// Sends `calls` over `connections` at once, each as soon as one is free.
pub async fn send_all(
    address: SocketAddr,
    connections: usize,
    calls: impl Iterator<Item = Call>,
) -> anyhow::Result<Sent> {
    let calls = std::sync::Mutex::new(calls);
    let next = || calls.lock().ok().and_then(|mut calls| calls.next());
    let workers = (0..connections).map(async |_| {
        let mut connection = Connection::open(address).await?;
        let mut sent = Sent::default();
        while let Some(call) = next() {
            sent.highest = connection.send(&call).await?.max(sent.highest);
            sent.count += 1;
        }
        anyhow::Ok(sent)
    });
    let ends = try_join_all(workers).await?.into_iter();
    Ok(ends.fold(Sent::default(), |all, one| Sent {
        count: all.count + one.count,
        highest: all.highest.max(one.highest),
    }))
}

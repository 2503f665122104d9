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
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// The longest latency that is told from longer ones, and three digits of it.
const LATENCY_MAX_US: u64 = 60_000_000;

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub caller: Option<i64>,
    /// JSON.
    pub body: Option<String>,
}

/// What a load brought about.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Answered as expected, warm-up and all.
    pub answered: u64,
    pub per_second: f64,
    /// In microseconds, without the warm-up.
    pub latencies: Histogram<u64>,
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

    /// Sends `call` and reads the answer to its end.
    pub async fn send(&mut self, call: &Call) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request =
            Request::builder().method(&call.method).uri(&call.path).header("host", &self.host);
        if let Some(caller) = call.caller {
            request = request.header("x-user-id", caller);
        }
        if call.body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = Full::new(Bytes::from(call.body.clone().unwrap_or_default()));
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(body)?).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }
}

/// Puts load on `address` for a third of `turn` that is not counted, and then for `turn`. `call` makes
/// the request of each number; an answer other than `expected` ends it.
pub async fn load(
    address: SocketAddr,
    connections: usize,
    pace: Pace,
    turn: Duration,
    expected: StatusCode,
    call: impl Fn(u64) -> Call,
) -> anyhow::Result<Outcome> {
    let opened = (0..connections).map(|_| Connection::open(address));
    let opened = try_join_all(opened).await?;
    let began = Instant::now();
    let (counted_from, end) = (began + turn / 3, began + turn / 3 + turn);
    let next = AtomicU64::new(0);
    let worker = async |mut connection: Connection| {
        let mut latencies = Histogram::<u64>::new_with_max(LATENCY_MAX_US, 3)?;
        let mut answered = 0;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let meant = match pace {
                Pace::Closed => Instant::now(),
                Pace::Open { rate } => {
                    began + Duration::from_secs_f64(number as f64 / f64::from(rate))
                }
            };
            if meant >= end {
                return Ok((answered, latencies));
            }
            // Not in closed loop: a timer that is due already still waits for the next millisecond.
            if matches!(pace, Pace::Open { .. }) {
                sleep_until(meant).await;
            }
            let call = call(number);
            let (status, body) = connection.send(&call).await?;
            if status != expected {
                bail!(
                    "{} {}: {status}: {}",
                    call.method,
                    call.path,
                    String::from_utf8_lossy(&body)
                );
            }
            answered += 1;
            if meant >= counted_from {
                let took = u64::try_from(meant.elapsed().as_micros()).unwrap_or(u64::MAX);
                latencies.saturating_record(took);
            }
        }
    };
    let ends = try_join_all(opened.into_iter().map(worker)).await?;
    let mut latencies = Histogram::<u64>::new_with_max(LATENCY_MAX_US, 3)?;
    let mut answered = 0;
    for (count, of_one) in ends {
        answered += count;
        latencies.add(of_one)?;
    }
    let per_second = latencies.len() as f64 / turn.as_secs_f64();
    Ok(Outcome { answered, per_second, latencies })
}

//! T9: what an idle stream costs, and a tweet to all of them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::Plan;
use crate::build::{AUTHOR, Build};
use crate::floors::streams::{Server, WHAT};
use crate::load::{Call, Connection};
use crate::measure::{Bound, Measure};
use crate::usage;

/// Streams that are opened at once.
const OPENERS: u32 = 64;

/// How long all of them may take for one message.
const PATIENCE: Duration = Duration::from_secs(30);

/// Descriptors beside those of the streams.
const DESCRIPTORS: u64 = 256;

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let count = plan.settings.streams;
    rlimit::increase_nofile_limit(u64::from(count) + DESCRIPTORS)?;
    let mut build = Build::with_readers(&plan.folder, count).await?;
    let server = Server::start().await?;
    let (_, api) = build.programs().next().context("the api runs")?;

    let mut author = Connection::open(build.address).await?;
    let mut poster = Connection::open(server.address).await?;
    let (mut idle, mut floor_idle, mut last, mut floor_last) = (vec![], vec![], vec![], vec![]);
    // One after the other, because together they would need more descriptors than many systems give.
    for round in plan.rounds("one tweet to all streams") {
        let marker = format!("tweet {round} of {AUTHOR}");
        let mut streams = Streams::open(build.address, count, api, |reader| {
            format!(
                "GET /api/feed/stream HTTP/1.1\r\nhost: localhost\r\nx-user-id: {reader}\r\n\r\n"
            )
        })
        .await?;
        idle.push(streams.cost_kib);
        let began = Instant::now();
        author.send(&Call::tweet(AUTHOR, round.into())).await?;
        last.push(streams.all_told(&marker, began).await?);
        build.acknowledge(1);
        drop(streams);

        let mut streams = Streams::open(server.address, count, server.id()?, |_| {
            "GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned()
        })
        .await?;
        floor_idle.push(streams.cost_kib);
        let began = Instant::now();
        poster.send(&Call::message(&marker)).await?;
        floor_last.push(streams.all_told(&marker, began).await?);
    }
    // Later rounds find memory that the first has left.
    idle.truncate(1);
    floor_idle.truncate(1);
    build.prove_and_stop().await?;
    let (of_all, of_one) = (format!("{count} idle streams"), "KiB each");
    Ok(vec![
        Measure::cost("T9", format!("memory of {of_all}"), of_one, idle)
            .beside(WHAT, floor_idle)
            .bound(Bound::AtMost(1.3)),
        Measure::cost("T9", format!("a tweet to {count} streams, POST to the last"), "ms", last)
            .beside(WHAT, floor_last)
            .bound(Bound::AtMost(2.0)),
    ])
}

/// Open streams, each of which tells what it was sent. They are closed when this is dropped.
struct Streams {
    count: u32,
    /// What each costs the server.
    cost_kib: f64,
    told: mpsc::UnboundedReceiver<Vec<u8>>,
    _open: JoinSet<()>,
}

impl Streams {
    /// Opens `count` streams of the process `server`.
    async fn open(
        address: SocketAddr,
        count: u32,
        server: u32,
        request: impl Fn(u32) -> String,
    ) -> anyhow::Result<Self> {
        let resident = || usage::memory(server).context("the server runs").map(|memory| memory.now);
        let before = resident()?;
        let (tell, told) = mpsc::unbounded_channel();
        let opener = async |first: u32| {
            let mut opened = Vec::new();
            for reader in (first..=count).step_by(OPENERS as usize) {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(request(reader).as_bytes()).await?;
                let mut head = [0; 1_024];
                let read = stream.read(&mut head).await?;
                let head = &head[..read];
                let said = String::from_utf8_lossy(head);
                ensure!(head.starts_with(b"HTTP/1.1 200"), "no stream was opened:\n{said}");
                opened.push(stream);
            }
            anyhow::Ok(opened)
        };
        let opened = try_join_all((1..=OPENERS).map(opener)).await?;
        let cost_kib = resident()?.saturating_sub(before) as f64 / 1_024.0 / f64::from(count);
        let streams = opened.into_iter().flatten().map(|stream| listen(stream, tell.clone()));
        Ok(Self { count, cost_kib, told, _open: streams.collect() })
    }

    /// Waits until `marker` has come from all of them. Gives the milliseconds since `began`.
    async fn all_told(&mut self, marker: &str, began: Instant) -> anyhow::Result<f64> {
        let arriving = async {
            let mut arrived = 0;
            while arrived < self.count {
                let bytes = self.told.recv().await.context("all streams have ended")?;
                let has = bytes.windows(marker.len()).any(|part| part == marker.as_bytes());
                arrived += u32::from(has);
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, arriving).await.context("a stream was told nothing")??;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }
}

/// Passes on what comes until the end.
async fn listen(mut stream: TcpStream, tell: mpsc::UnboundedSender<Vec<u8>>) {
    let mut buffer = [0; 1_024];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if tell.send(buffer[..read].to_vec()).is_err() {
            return;
        }
    }
}

//! Ten thousand idle streams of a small axum server that does nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use futures_util::stream::{self, Stream};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::broadcast;

pub const WHAT: &str = "an axum server of its own that sends 200 bytes to as many streams";

/// The argument with which this program is that server.
pub const SERVE: &str = "serve-idle-streams";

/// About what a feed item has.
const MESSAGE_BYTES: usize = 200;

/// Messages kept for a stream that is behind.
const CHANNEL_SIZE: usize = 16;

/// As often as Rookery sends something.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

type Messages = broadcast::Sender<String>;

/// Serves on a free port, which it prints, until it is killed.
pub async fn serve() -> anyhow::Result<()> {
    let messages = Messages::new(CHANNEL_SIZE);
    let routes = Router::new()
        .route("/stream", get(open))
        .route("/message", post(send))
        .with_state(messages);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, routes).await?;
    Ok(())
}

async fn open(
    State(messages): State<Messages>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let told = stream::unfold(messages.subscribe(), async |mut messages| {
        let message = messages.recv().await.ok()?;
        Some((Ok(Event::default().data(message)), messages))
    });
    Sse::new(told).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

async fn send(State(messages): State<Messages>, body: String) {
    let padded = format!("{body:<MESSAGE_BYTES$}");
    // That nobody listens is no fault.
    drop(messages.send(padded));
}

/// The server as a process of its own.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts it.
    pub async fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(SERVE)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut said = BufReader::new(child.stdout.take().context("it is piped")?);
        let mut address = String::new();
        said.read_line(&mut address).await?;
        Ok(Self { address: address.trim().parse()?, child })
    }

    /// Its id in the system.
    pub fn id(&self) -> anyhow::Result<u32> {
        self.child.id().context("it runs")
    }
}

//! One HTTP connection, byte by byte: what no well-behaved client would send.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::client::Rookery;
use crate::in_time;

/// How much later a body comes that comes late: time enough for an answer that does not wait for it.
const LATE: Duration = Duration::from_millis(50);

/// An open connection to an api.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer's head, in lower case, and its body.
#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl RawAnswer {
    /// Whether the connection ends after this answer.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.head.contains("connection: close")
    }
}

impl RawConnection {
    /// Connects to the api of `client`.
    pub async fn open(client: &Rookery) -> Self {
        let address = client.base.strip_prefix("http://").expect("an address");
        let stream = TcpStream::connect(address).await.expect("the api listens");
        Self { stream, received: Vec::new() }
    }

    /// Connects with as small a window as there is, so that what is not read waits at the other side.
    pub async fn open_narrow(client: &Rookery) -> Self {
        let address = client.base.strip_prefix("http://").expect("an address");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(1).expect("the system takes the least it allows");
        let address = address.parse().expect("an address and a port");
        let stream = socket.connect(address).await.expect("the api listens");
        Self { stream, received: Vec::new() }
    }

    /// All that comes until the other side ends, as far as it is text.
    pub async fn to_the_end(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&self.received).into_owned()
    }

    /// Sends `bytes`.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the api takes it");
    }

    /// Sends a head and, later, its body.
    pub async fn send_late(&mut self, head: &str, body: &[u8]) {
        self.send(head.as_bytes()).await;
        tokio::time::sleep(LATE).await;
        self.send(body).await;
    }

    /// The next answer.
    pub async fn answer(&mut self) -> RawAnswer {
        let end = loop {
            match self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => assert!(self.more().await, "the connection ended before an answer"),
            }
        };
        let head: Vec<u8> = self.received.drain(..end).collect();
        let head = String::from_utf8(head).expect("a head is text").to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        while self.received.len() < length {
            assert!(self.more().await, "the connection ended within an answer");
        }
        let body: Vec<u8> = self.received.drain(..length).collect();
        let body = String::from_utf8(body).expect("a body is text");
        RawAnswer { status: status.expect("a status"), head, body }
    }

    /// Waits for the end that the other side says; a reset is none.
    pub async fn end(&mut self) {
        assert!(!self.more().await, "more came: {}", String::from_utf8_lossy(&self.received));
    }

    async fn more(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.received);
        in_time("the api says something", read).await.expect("the connection is not reset") > 0
    }
}

//! A client of `/api/feed/stream`.

use events::{Position, TweetId, UserId};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use crate::client::Rookery;
use crate::in_time;

/// What a stream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Item(TweetId, UserId),
    TweetRemoved(TweetId),
    AuthorRemoved(UserId),
    /// Older tweets of this author came in.
    Followed(UserId),
    Reset,
}

/// An open stream.
#[derive(Debug)]
pub struct LiveFeed {
    response: Response,
    received: Vec<u8>,
    /// What a client would send as `Last-Event-ID` if it came back now.
    pub last_event_id: Position,
}

impl LiveFeed {
    /// Opens the stream of `reader`, after `last_event_id` if given.
    pub async fn open(client: &Rookery, reader: UserId, last_event_id: Option<Position>) -> Self {
        Self::open_if_any(client, reader, last_event_id).await.expect("the api answers")
    }

    /// The same, or `None` when the connection was refused or cut, or the api asks to come back later.
    pub async fn open_if_any(
        client: &Rookery,
        reader: UserId,
        last_event_id: Option<Position>,
    ) -> Option<Self> {
        let mut request = client.request(Method::GET, "/api/feed/stream", Some(reader));
        if let Some(position) = last_event_id {
            request = request.header("Last-Event-ID", position.0);
        }
        let response = request.send().await.ok()?;
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            assert!(response.headers().contains_key("retry-after"), "{response:?}");
            return None;
        }
        Some(Self::of(response))
    }

    /// The stream that `response` is.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn of(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let position = response.headers()["x-log-position"].to_str().expect("digits");
        let last_event_id = position.parse().expect("a position");
        Self { response, received: Vec::new(), last_event_id }
    }

    /// The tweet of the next item, passing over turns; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<TweetId> {
        loop {
            if let Told::Item(tweet, _) = self.told().await? {
                return Some(tweet);
            }
        }
    }

    /// What it says next; `None` when it has ended. Ids never go back, that of an item is its tweet's
    /// position, and that of a turn its cause's.
    pub async fn told(&mut self) -> Option<Told> {
        loop {
            let block = in_time("a stream says something", self.block()).await?;
            let field = |name: &str| {
                block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            if let Some(id) = field("id") {
                let id = id.parse().expect("a position");
                assert!(id >= self.last_event_id, "{id} after {}", self.last_event_id);
                self.last_event_id = id;
            }
            let Some(data) = field("data") else { continue };
            let data: Value = serde_json::from_str(data).expect("data is JSON");
            let id = |name: &str| data[name].as_i64();
            let Some(name) = field("event") else {
                let tweet = TweetId(id("tweet_id").expect("an item has an id"));
                assert_eq!(tweet.0, self.last_event_id.0, "an item's id is its position");
                let author = UserId(id("author_id").expect("an item has an author"));
                return Some(Told::Item(tweet, author));
            };
            if name != "reset" {
                assert_eq!(data["cause"]["position"], self.last_event_id.0, "{data}");
            }
            return Some(match (name, id("tweet_id"), id("author_id")) {
                ("removed", Some(tweet), None) => Told::TweetRemoved(TweetId(tweet)),
                ("removed", None, Some(author)) => Told::AuthorRemoved(UserId(author)),
                ("followed", None, Some(author)) => Told::Followed(UserId(author)),
                ("reset", None, None) => Told::Reset,
                _ => panic!("{name}: {data}"),
            });
        }
    }

    /// The next `count` tweets.
    pub async fn take(&mut self, count: usize) -> Vec<TweetId> {
        let mut tweets = Vec::new();
        while tweets.len() < count {
            tweets.push(self.next().await.expect("the stream goes on"));
        }
        tweets
    }

    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.received.drain(..end + 2).collect();
                return Some(String::from_utf8(block).expect("events are text"));
            }
            self.received.extend(self.response.chunk().await.ok()??);
        }
    }
}

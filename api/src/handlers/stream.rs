//! `/api/feed/stream`: the caller's feed as it grows, by Server-Sent Events.
//!
//! **Invariant**: from the position at which it began a stream has every item that became readable,
//! in order, once. What the watcher hands over has no holes; where it says that it has, and at the
//! start, the feed itself is read.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::HeaderName;
use axum::http::request::Parts;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use events::{Position, UserId};
use futures_util::stream;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::timeout;
use tracing::{Instrument, Span};

use super::feed::reachable;
use crate::caller::Caller;
use crate::extract::Moment;
use crate::header;
use crate::live::{Handed, NoStream, Place, STREAMS_MAX};
use crate::position::{AsOf, LogPosition, MinPosition};
use crate::problem::Problem;
use crate::state::AppState;
use crate::views;

/// After this much silence a stream says where it is, so that proxies keep it, a client that is gone
/// is noticed, and one that comes back need not have old items looked through again.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a client should wait before it comes back.
const COME_BACK_AFTER: Duration = Duration::from_secs(1);

/// How many items are read at once where the feed itself has to be read.
const READ_MAX_ITEMS: i64 = 100;

/// `Last-Event-ID`: the position after which the stream goes on.
pub struct LastEventId(Option<Position>);

pub async fn open(
    State(state): State<AppState>,
    Caller(reader): Caller,
    LastEventId(last): LastEventId,
) -> Result<Response, Problem> {
    if let Some(last) = last {
        reachable(&state, Moment::Position(last), "Last-Event-ID").await?;
    }
    let place = state.live.join(reader).map_err(|error| match error {
        NoStream::Full => {
            let detail = format!("{STREAMS_MAX} streams are open already");
            Problem::unavailable("too-many-streams", detail)
        }
        NoStream::Stopping => Problem::unavailable("stopping", "this instance is stopping"),
    })?;
    let at = last.unwrap_or(place.position);
    let mut feed = FeedStream {
        read_to: Some(place.position),
        state,
        reader,
        place,
        at,
        ready: VecDeque::from([Event::default().retry(COME_BACK_AFTER)]),
    };
    // Before the first byte, so that it can still be an error.
    feed.read().await?;
    // The body is made after the answer has begun, outside of what handles the request.
    let request = Span::current();
    let events = stream::unfold(feed, move |mut feed| {
        let next = async move {
            let event = feed.next().await?;
            Some((Ok::<_, Infallible>(event), feed))
        };
        next.instrument(request.clone())
    });
    Ok((LogPosition(at), Sse::new(events)).into_response())
}

struct FeedStream {
    state: AppState,
    reader: UserId,
    place: Place,
    /// Up to here the client has everything.
    at: Position,
    /// Up to where the feed itself has to be read first.
    read_to: Option<Position>,
    ready: VecDeque<Event>,
}

impl FeedStream {
    /// The next event; `None` ends the stream, and the client comes back.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.read_to.is_some() {
                self.read().await.ok()?;
                continue;
            }
            match timeout(HEARTBEAT, self.place.handed.recv()).await {
                Ok(Some(handed)) => {
                    if let Some(event) = self.take(handed) {
                        return Some(event);
                    }
                }
                Ok(None) => return None,
                Err(_) => {
                    // In this order: what was handed over up to there is in the queue by then.
                    let position = self.place.live_position();
                    match self.place.handed.try_recv() {
                        Ok(handed) => {
                            let event = self.take(handed);
                            self.ready.extend(event);
                        }
                        Err(TryRecvError::Disconnected) => return None,
                        Err(TryRecvError::Empty) => {
                            self.at = self.at.max(position);
                            return Some(heartbeat(self.at));
                        }
                    }
                }
            }
        }
    }

    /// The event for what the watcher handed over, unless the client has it already.
    fn take(&mut self, handed: Handed) -> Option<Event> {
        match handed {
            Handed::Item(item) if item.position > self.at => {
                self.at = item.position;
                Some(event(item.position, &item.json))
            }
            Handed::Item(_) => None,
            Handed::ReadTo(position) => {
                self.read_to = Some(position);
                None
            }
        }
    }

    /// Reads the next items from the feed.
    async fn read(&mut self) -> Result<(), Problem> {
        let Some(to) = self.read_to else { return Ok(()) };
        let (feed, reader, at) = (&self.state.feed, self.reader, self.at);
        let read = || views::feed::since(feed, reader, at, READ_MAX_ITEMS);
        let AsOf { position, value: items } = self
            .state
            .freshness
            .read(MinPosition(to), read)
            .await?
            .or_not_found(|| format!("the calling user {reader} does not exist"))?;
        let are_all = items.len() < usize::try_from(READ_MAX_ITEMS).unwrap_or(usize::MAX);
        for item in items {
            self.at = Position(item.tweet_id.0);
            let json = serde_json::to_string(&item).map_err(|_| Problem::internal())?;
            self.ready.push_back(event(self.at, &json));
        }
        if are_all {
            self.at = self.at.max(position);
            self.read_to = None;
        }
        Ok(())
    }
}

/// Says where the stream is, without an item: clients take the id and tell nobody.
fn heartbeat(at: Position) -> Event {
    Event::default().id(at.to_string())
}

fn event(position: Position, json: &str) -> Event {
    Event::default().id(position.to_string()).data(json)
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        header::position(&parts.headers, &LAST_EVENT_ID, "Last-Event-ID").map(Self)
    }
}

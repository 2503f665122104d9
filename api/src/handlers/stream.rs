//! `/api/feed/stream`: the caller's feed as it grows, by Server-Sent Events.
//!
//! **Invariant**: from the position at which it began a stream has every item that became readable,
//! in order, once. What the watcher hands over has no holes; where it says that it has, and at the
//! start, the feed itself is read.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use events::store::ranges::{self, NotLive};
use events::{Clock, Position, UserId};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span};
use utoipa::ToSchema;

use super::feed::reachable;
use crate::authentication::{LEEWAY_SECONDS, Proof};
use crate::extract::{Moment, query};
use crate::live::{Handed, LiveEvent, NoStream, Place, Told, turns};
use crate::position::{AsOf, LogPosition, MinPosition};
use crate::problem::Problem;
use crate::state::AppState;
use crate::views;

/// After this much silence a stream says where it is, so that proxies keep it, a client that is gone
/// is noticed, and one that comes back need not have old items looked through again.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A stream lasts as long as its token would be accepted.
const LEEWAY: chrono::Duration = chrono::Duration::seconds(LEEWAY_SECONDS.cast_signed());

/// How long a client should wait before it comes back.
const COME_BACK_AFTER: Duration = Duration::from_secs(1);

/// How many items are read at once where the feed itself has to be read.
const READ_MAX_ITEMS: i64 = 100;

/// From how far back a stream goes on; a client that was away for longer is told to read a page. Looking
/// through so many events of the log takes some milliseconds.
const RESUME_MAX_EVENTS: i64 = 100_000;

/// `Last-Event-ID`: the position after which the stream goes on.
pub struct LastEventId(Option<Position>);

/// The caller's home feed as it grows, by Server-Sent Events.
#[utoipa::path(
    get,
    path = "/feed/stream",
    tag = "feed",
    params(Listener, LastEventId),
    security(("caller" = [])),
    responses((status = OK, body = String, content_type = "text/event-stream"), (status = NOT_FOUND))
)]
pub async fn open(
    State(state): State<AppState>,
    Listener(proof): Listener,
    LastEventId(last): LastEventId,
) -> Result<Response, Problem> {
    let reader = proof.user;
    let ends = proof.expires.map(|expires| {
        let left = expires - Clock::system().now() + LEEWAY;
        Instant::now() + left.to_std().unwrap_or_default()
    });
    if let Some(last) = last {
        reachable(&state, Moment::Position(last), "Last-Event-ID").await?;
    }
    let place = state.live.join(reader).map_err(|error| match error {
        NoStream::Full(count) => {
            let detail = format!("{count} streams are open already");
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
        ends,
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

/// What a caller is given who cannot set headers.
#[derive(Debug, Serialize, ToSchema)]
struct Ticket {
    #[schema(example = "7.1795727829.1795731369.9b1c0f…")]
    ticket: String,
    expires_at: DateTime<Utc>,
}

/// A ticket, good for any stream of the caller for a minute.
#[utoipa::path(
    post,
    path = "/feed/ticket",
    tag = "feed",
    security(("caller" = [])),
    responses((status = OK, body = Ticket))
)]
pub async fn ticket(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let proof = state.authentication.caller(&headers)?;
    let (ticket, expires_at) = state.tickets.give(proof, Clock::system().now());
    let not_kept = [(header::CACHE_CONTROL, "no-store")];
    Ok((not_kept, axum::Json(Ticket { ticket, expires_at })))
}

/// Who listens: by a ticket in the URL, or as every caller.
pub struct Listener(Proof);

/// The query of a stream, for clients that cannot set headers.
#[derive(Debug, Deserialize)]
struct StreamQuery {
    ticket: Option<String>,
    last_event_id: Option<String>,
}

impl FromRequestParts<AppState> for Listener {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Some(ticket) = query::<StreamQuery, _>(parts, state).await?.ticket else {
            return state.authentication.caller(&parts.headers).map(Self);
        };
        let proof = state.tickets.take(&ticket, Clock::system().now());
        proof.map(Self).map_err(|error| {
            Problem::unauthenticated(state.authentication.challenge(), error.to_string())
        })
    }
}

struct FeedStream {
    state: AppState,
    reader: UserId,
    place: Place,
    /// Up to here the client has everything.
    at: Position,
    /// Up to where the feed itself has to be read first.
    read_to: Option<Position>,
    /// When the login ends.
    ends: Option<Instant>,
    ready: VecDeque<Event>,
}

impl FeedStream {
    /// The next event; `None` ends the stream, and the client comes back.
    async fn next(&mut self) -> Option<Event> {
        // Whoever has a stream open reads, for as long as it is.
        self.state.readings.note(self.reader);
        loop {
            if self.ends.is_some_and(|ends| ends <= Instant::now()) {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.read_to.is_some() {
                self.read().await.ok()?;
                continue;
            }
            let heartbeat_at = Instant::now() + HEARTBEAT;
            let until = self.ends.map_or(heartbeat_at, |ends| ends.min(heartbeat_at));
            match timeout_at(until, self.place.handed.recv()).await {
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
            Handed::Event(event) if event.position > self.at => {
                self.at = event.position;
                Some(frame(&event))
            }
            Handed::Event(_) => None,
            Handed::ReadTo(position) => {
                self.read_to = Some(position);
                None
            }
        }
    }

    /// Reads what comes next from the feed and the log.
    async fn read(&mut self) -> Result<(), Problem> {
        let Some(to) = self.read_to else { return Ok(()) };
        let (feed, reader, at) = (&self.state.feed.connections, self.reader, self.at);
        let read = || views::feed::since(feed, reader, at, READ_MAX_ITEMS);
        let AsOf { position, value: items } = self
            .state
            .feed
            .freshness
            .read(MinPosition(to), read)
            .await?
            .or_not_found(|| format!("the calling user {reader} does not exist"))?;
        let is_live = match ranges::live_after(&self.state.log, at).await {
            Ok(()) => true,
            Err(NotLive::Archived(_)) => false,
            Err(NotLive::Log(error)) => return Err(error.into()),
        };
        if position.0 - at.0 > RESUME_MAX_EVENTS || !is_live {
            self.ready.push_back(reset(position));
            self.at = position;
            self.read_to = None;
            return Ok(());
        }
        let are_all = items.len() < usize::try_from(READ_MAX_ITEMS).unwrap_or(usize::MAX);
        let last = items.last().map(|item| Position(item.tweet_id.0));
        let end = if are_all { position } else { last.unwrap_or(position) };

        let mut events = Vec::with_capacity(items.len());
        for item in items {
            let json = serde_json::to_string(&item).map_err(|_| Problem::internal())?;
            events.push(LiveEvent { position: Position(item.tweet_id.0), name: None, json });
        }
        let turns = turns(&self.state.log, feed, &[reader], at, end).await?;
        // A tweet that was written since the client was here is one that it was never told of.
        let known = |turn: &Told| {
            turn.readers.contains(&reader) && turn.tweet.is_none_or(|tweet| tweet.0 <= at.0)
        };
        events.extend(turns.into_iter().filter(known).map(|turn| turn.event));
        events.sort_by_key(|event| event.position);
        self.ready.extend(events.iter().map(frame));
        self.at = self.at.max(end);
        if are_all {
            self.read_to = None;
        }
        Ok(())
    }
}

/// Says where the stream is, without an item: clients take the id and tell nobody.
fn heartbeat(at: Position) -> Event {
    Event::default().id(at.to_string())
}

fn frame(event: &LiveEvent) -> Event {
    let frame = Event::default().id(event.position.to_string()).data(&event.json);
    match event.name {
        Some(name) => frame.event(name),
        None => frame,
    }
}

/// Says that too much happened since for all of it to be told, or that it is not in the log any more.
fn reset(position: Position) -> Event {
    let reason = format!(
        "more than {RESUME_MAX_EVENTS} events ago, or archived: read a page and go on from here"
    );
    let json = serde_json::json!({ "reason": reason }).to_string();
    Event::default().id(position.to_string()).event("reset").data(json)
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The header goes before the query: a client that comes back by itself repeats its URL.
impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let sent = crate::header::position(&parts.headers, &LAST_EVENT_ID, "Last-Event-ID")?;
        let StreamQuery { last_event_id, .. } = query(parts, state).await?;
        match (sent, last_event_id) {
            (None, Some(text)) => {
                let position = text.parse().ok().filter(|at| *at >= Position::START);
                let detail = "must be a position of the log: a number from 0 up";
                let position = position.ok_or_else(|| Problem::invalid("last_event_id", detail))?;
                Ok(Self(Some(position)))
            }
            (sent, _) => Ok(Self(sent)),
        }
    }
}

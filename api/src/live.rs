//! Live feeds: what becomes readable is handed to every open stream at once.
//!
//! One look serves all streams: when the checkpoint has moved, the watcher asks once what is new for
//! all who are connected, and hands it to them. An idle stream costs its connection and nothing else.
//!
//! **Invariant**: a member is handed everything that is new in its reader's feed above the position
//! at which it joined, in order, or is told to read by itself, or is cut off. Position and members
//! change under one lock. A member that joins while the watcher looks is not in what that asks for,
//! so it is told to read.

mod turns;
mod watcher;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use events::{Position, UserId};
use metrics::{counter, gauge};
use tokio::sync::mpsc;

use crate::metrics::{STREAM_ITEMS, STREAMS, STREAMS_CUT_OFF};

pub use turns::{Told, turns};
pub use watcher::watch;

/// The most open streams.
pub const STREAMS_MAX: usize = 10_000;

/// The part of all connections, in fifths, that may be streams, so that requests find room beside them.
const STREAMS_FIFTHS: usize = 4;

/// The most items that wait for one stream; a client that takes them more slowly than they come is
/// cut off, and reads what it missed when it comes back.
const WAITING_MAX: usize = 256;

/// What a stream is handed.
#[derive(Debug, Clone)]
pub enum Handed {
    /// A new item, or a turn.
    Event(Arc<LiveEvent>),
    /// There is more than was handed over: read the feed up to here.
    ReadTo(Position),
}

/// An event of the stream, made ready once for all who get it.
#[derive(Debug, PartialEq, Eq)]
pub struct LiveEvent {
    pub position: Position,
    /// What kind it is; `None` for an item.
    pub name: Option<&'static str>,
    pub json: String,
}

/// Why a stream cannot be opened.
#[derive(Debug, PartialEq, Eq)]
pub enum NoStream {
    /// There are so many already.
    Full(usize),
    /// The process is stopping.
    Stopping,
}

/// The open streams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Live(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Everything up to here was handed over.
    position: Position,
    stopped: bool,
    streams_max: usize,
    members: HashMap<UserId, Vec<Member>>,
    /// Who joined since the watcher began to look.
    newcomers: Vec<(UserId, u64)>,
    count: usize,
    next_id: u64,
}

#[derive(Debug)]
struct Member {
    id: u64,
    handed: mpsc::Sender<Handed>,
}

/// A place among the open streams. It is given up when this is dropped.
#[derive(Debug)]
pub struct Place {
    live: Live,
    reader: UserId,
    id: u64,
    /// Everything above this is handed over.
    pub position: Position,
    /// Ends when the process stops or this stream is too slow.
    pub handed: mpsc::Receiver<Handed>,
}

impl Live {
    /// No streams yet, in a server of at most so many connections.
    #[must_use]
    pub fn within(connections_max: usize) -> Self {
        gauge!(STREAMS.name).set(0.0);
        let streams_max = STREAMS_MAX.min(connections_max * STREAMS_FIFTHS / 5);
        Self(Arc::new(Mutex::new(State { streams_max, ..State::default() })))
    }

    /// Joins the open streams.
    ///
    /// # Errors
    /// [`NoStream`]
    pub fn join(&self, reader: UserId) -> Result<Place, NoStream> {
        let mut state = self.state();
        if state.stopped {
            return Err(NoStream::Stopping);
        }
        if state.count >= state.streams_max {
            return Err(NoStream::Full(state.streams_max));
        }
        let (sender, handed) = mpsc::channel(WAITING_MAX);
        let id = state.next_id;
        state.next_id += 1;
        state.count += 1;
        state.newcomers.push((reader, id));
        state.members.entry(reader).or_default().push(Member { id, handed: sender });
        gauge!(STREAMS.name).increment(1);
        Ok(Place { live: self.clone(), reader, id, position: state.position, handed })
    }

    /// Whom to look for, and above which position.
    fn begin_look(&self) -> (Vec<UserId>, Position) {
        let mut state = self.state();
        state.newcomers.clear();
        (state.members.keys().copied().collect(), state.position)
    }

    /// Hands over what a look found: `events` with their readers, in order, to `position`.
    fn hand_over(
        &self,
        events: impl IntoIterator<Item = (Arc<LiveEvent>, Vec<UserId>)>,
        too_much: &[UserId],
        position: Position,
    ) {
        let mut state = self.state();
        let newcomers = std::mem::take(&mut state.newcomers);
        let is_new = |reader, id| newcomers.contains(&(reader, id));
        // Before the items: what is missing is older than they are.
        for reader in too_much {
            state.hand(*reader, &Handed::ReadTo(position), |id| !is_new(*reader, id));
        }
        let mut handed = 0;
        for (event, readers) in events {
            for reader in readers {
                handed += state
                    .hand(reader, &Handed::Event(Arc::clone(&event)), |id| !is_new(reader, id));
            }
        }
        for (reader, newcomer) in &newcomers {
            state.hand(*reader, &Handed::ReadTo(position), |id| id == *newcomer);
        }
        state.position = position;
        counter!(STREAM_ITEMS.name).increment(handed);
    }

    /// Ends the streams of readers who left.
    fn cut_off_gone(&self, gone: &[UserId]) {
        let mut state = self.state();
        for reader in gone {
            state.members.remove(reader);
        }
    }

    /// Ends every stream; those that come next begin at `position`.
    fn cut_off(&self, position: Position) {
        let mut state = self.state();
        state.members.clear();
        state.position = position;
    }

    /// Ends every stream and opens no more.
    fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.members.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Hands `news` to the members of `reader` that `is_meant`, and says how many those were. Who has
    /// no room for it is cut off: the stream ends after what is already there.
    fn hand(&mut self, reader: UserId, news: &Handed, is_meant: impl Fn(u64) -> bool) -> u64 {
        let Some(members) = self.members.get_mut(&reader) else { return 0 };
        let mut handed = 0;
        members.retain(|member| {
            if !is_meant(member.id) {
                return true;
            }
            let taken = member.handed.try_send(news.clone()).is_ok();
            if taken {
                handed += 1;
            } else {
                counter!(STREAMS_CUT_OFF.name).increment(1);
            }
            taken
        });
        handed
    }
}

impl Place {
    /// Up to where everything was handed over by now.
    #[must_use]
    pub fn live_position(&self) -> Position {
        self.live.state().position
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.live.state();
        state.count -= 1;
        if let Some(members) = state.members.get_mut(&self.reader) {
            members.retain(|member| member.id != self.id);
            if members.is_empty() {
                state.members.remove(&self.reader);
            }
        }
        gauge!(STREAMS.name).decrement(1);
    }
}

#[cfg(test)]
mod tests;

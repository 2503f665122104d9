//! How far a long command has come: one set of numbers for the bar, the lines, the log, the metrics
//! and `projector status`.

mod report;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use events::Position;

pub(crate) use report::make_table;
pub use report::{Reporter, Stored, stored};

/// What a command is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading the log into users, tweets and follows.
    Replay,
    /// Making the indexes of those.
    Index,
    /// Writing the feeds.
    Feeds,
    /// Making the index of the feeds.
    IndexFeeds,
    /// Applying what was appended meanwhile.
    CatchUp,
    /// Reading the log and holding it against itself.
    CheckLog,
    /// Holding users, tweets and follows against the log.
    CompareFacts,
    /// Holding the feeds against their definition.
    CompareFeeds,
    /// Holding the counts against the log.
    CompareCounts,
    /// Taking the place of the live generation.
    Swap,
}

impl Phase {
    /// Every phase there is.
    pub const ALL: [Self; 10] = [
        Self::Replay,
        Self::Index,
        Self::Feeds,
        Self::IndexFeeds,
        Self::CatchUp,
        Self::CheckLog,
        Self::CompareFacts,
        Self::CompareFeeds,
        Self::CompareCounts,
        Self::Swap,
    ];

    /// Its name, for people and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Index => "index",
            Self::Feeds => "feeds",
            Self::IndexFeeds => "index feeds",
            Self::CatchUp => "catch up",
            Self::CheckLog => "check log",
            Self::CompareFacts => "compare facts",
            Self::CompareFeeds => "compare feeds",
            Self::CompareCounts => "compare counts",
            Self::Swap => "swap",
        }
    }

    /// What it counts.
    const fn unit(self) -> &'static str {
        match self {
            Self::Replay | Self::CatchUp | Self::CheckLog => "events",
            Self::Index | Self::IndexFeeds => "indexes",
            Self::Feeds | Self::CompareFeeds => "readers",
            Self::CompareFacts => "rows",
            Self::CompareCounts => "users",
            Self::Swap => "steps",
        }
    }
}

/// Written by those who work, read by those who report.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    phase: Mutex<(Phase, Instant)>,
    done: AtomicU64,
    total: AtomicU64,
    position: AtomicI64,
    head: AtomicI64,
    feed_rows: AtomicU64,
    finished: Mutex<Vec<(Phase, Duration)>>,
}

/// The numbers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub phase: Phase,
    pub phase_began: Instant,
    /// Of `total`, in the unit of the phase.
    pub done: u64,
    pub total: u64,
    pub position: Position,
    pub head: Position,
    pub feed_rows: u64,
}

impl Progress {
    /// At the start of `phase`, of which nothing is known yet.
    #[must_use]
    pub fn starting(phase: Phase) -> Self {
        Self(Arc::new(Shared {
            phase: Mutex::new((phase, Instant::now())),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            position: AtomicI64::new(0),
            head: AtomicI64::new(0),
            feed_rows: AtomicU64::new(0),
            finished: Mutex::default(),
        }))
    }

    /// Ends the phase so far and begins `phase`, which will count up to `total`.
    pub fn begin(&self, phase: Phase, total: u64) {
        let now = Instant::now();
        let mut current = self.0.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, since) = std::mem::replace(&mut *current, (phase, now));
        self.0.done.store(0, Ordering::Relaxed);
        self.0.total.store(total, Ordering::Relaxed);
        if before != phase {
            self.finish(before, now - since);
        }
    }

    /// Ends the last phase.
    pub fn end(&self) {
        let current = self.0.phase.lock().unwrap_or_else(PoisonError::into_inner);
        self.finish(current.0, current.1.elapsed());
    }

    fn finish(&self, phase: Phase, took: Duration) {
        self.0.finished.lock().unwrap_or_else(PoisonError::into_inner).push((phase, took));
    }

    /// The phases that have ended, and how long each took.
    #[must_use]
    pub fn finished(&self) -> Vec<(Phase, Duration)> {
        self.0.finished.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says up to what this phase counts, once that is known.
    pub fn expect(&self, total: u64) {
        self.0.total.store(total, Ordering::Relaxed);
    }

    /// Counts `more` of this phase's unit.
    pub fn advance(&self, more: u64) {
        self.0.done.fetch_add(more, Ordering::Relaxed);
    }

    /// Says where the log ends.
    pub fn sight(&self, head: Position) {
        self.0.head.fetch_max(head.0, Ordering::Relaxed);
    }

    /// Says that `events` more bring it to `position`.
    pub fn reach(&self, position: Position, events: usize) {
        self.0.position.store(position.0, Ordering::Relaxed);
        self.advance(events as u64);
    }

    /// Counts rows of feeds.
    pub fn deliver(&self, rows: u64) {
        self.0.feed_rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// The numbers now.
    #[must_use]
    pub fn now(&self) -> Moment {
        let (phase, phase_began) = *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner);
        Moment {
            phase,
            phase_began,
            done: self.0.done.load(Ordering::Relaxed),
            total: self.0.total.load(Ordering::Relaxed),
            position: Position(self.0.position.load(Ordering::Relaxed)),
            head: Position(self.0.head.load(Ordering::Relaxed)),
            feed_rows: self.0.feed_rows.load(Ordering::Relaxed),
        }
    }
}

//! What a verification has found.

use std::fmt;

use events::Position;
use events::projection::ProjectionName;
use serde::Serialize;

/// A part of the whole, as it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Log,
    Decisions,
    Checkpoint,
    Users,
    Tweets,
    Follows,
    Readers,
    Feeds,
    Floors,
    Counts,
}

/// One thing that is not as the log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub part: Part,
    /// What is wrong, in a sentence.
    pub what: String,
    /// The streams of the log in which the events are that decide it.
    pub streams: Vec<String>,
    /// The last event of those: the one that explains it. `None` when no event does.
    pub event: Option<Explaining>,
}

/// The event that explains a difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explaining {
    pub position: Position,
    pub kind: String,
}

/// What was compared and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which projection was compared.
    pub projection: &'static str,
    pub generation: i32,
    /// The checkpoint as of which it was compared.
    pub position: Position,
    pub events: u64,
    pub users: u64,
    pub tweets: u64,
    pub follows: u64,
    pub feed_rows: u64,
    /// How many there are. Of feeds and rows every one is counted.
    pub differences: u64,
    /// The first of them.
    pub listed: Vec<Difference>,
}

/// The differences so far: all are counted, the first are kept.
#[derive(Debug)]
pub(crate) struct Differences {
    pub counted: u64,
    pub listed: Vec<Difference>,
    limit: usize,
}

impl Report {
    /// How many rows of what the projection is there for were compared.
    #[must_use]
    pub fn rows(&self) -> u64 {
        if self.projection == ProjectionName::Feed.name() { self.feed_rows } else { self.users }
    }

    /// What those rows are.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        if self.projection == ProjectionName::Feed.name() { "feed rows" } else { "users" }
    }

    /// Whether everything is as the log says.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.differences == 0
    }
}

impl Differences {
    pub(crate) fn up_to(limit: usize) -> Self {
        Self { counted: 0, listed: Vec::new(), limit }
    }

    pub(crate) fn add(&mut self, part: Part, what: String, streams: Vec<String>) {
        self.counted += 1;
        if self.listed.len() < self.limit {
            self.listed.push(Difference { part, what, streams, event: None });
        }
    }

    /// Counts `more` that are not listed one by one.
    pub(crate) fn add_unlisted(&mut self, more: u64) {
        self.counted += more;
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "log",
            Self::Decisions => "decisions",
            Self::Checkpoint => "checkpoint",
            Self::Users => "users",
            Self::Tweets => "tweets",
            Self::Follows => "follows",
            Self::Readers => "readers",
            Self::Feeds => "feeds",
            Self::Floors => "floors",
            Self::Counts => "counts",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.what)?;
        match &self.event {
            Some(Explaining { position, kind }) => write!(f, " ({kind} at {position})"),
            None => Ok(()),
        }
    }
}

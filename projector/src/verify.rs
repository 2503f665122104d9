//! Holding the read model against the log and against its own definition.
//!
//! It streams: memory does not grow with the log, nothing is locked, no snapshot is held for longer
//! than one page of rows, and both log and read model may go on meanwhile. The log says what users,
//! tweets and follows there have to be, as of the checkpoint (`fact`, `facts`); those say what each
//! feed has to hold from its floor up (`feeds`). The decision state is held against the log's head
//! (`decisions`), and the log against itself (`log`).

mod decisions;
mod fact;
mod facts;
mod feeds;
mod log;

use std::fmt;

use events::Position;
use events::store::{INDEXED_PLANS, read};
use serde::Serialize;
use sqlx::PgPool;

use crate::checkpoint::{self, Checkpoint};
use crate::progress::{Phase, Progress};

pub use fact::Facts;

/// Differences that are listed, unless told otherwise.
pub const DIFFERENCES_LISTED: usize = 20;

/// For sorting the feeds of as many readers as one statement serves.
const SORT_MEMORY: &str = "64MB";

/// How sessions behave that write or compare feeds many at a time: as [`INDEXED_PLANS`] says, and
/// without bitmaps, which would read rows of which the index already says enough.
pub fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    let many_feeds = [("enable_bitmapscan", "off"), ("work_mem", SORT_MEMORY)];
    INDEXED_PLANS.into_iter().chain(many_feeds)
}

/// Why nothing can be said about whether they agree.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("the log cannot be read: {0}")]
    Log(#[source] sqlx::Error),
    #[error("the read model cannot be read: {0}")]
    Feed(#[source] sqlx::Error),
    #[error("another generation went live meanwhile; run it again")]
    Swapped,
}

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
    Feeds,
    Floors,
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
    pub generation: i32,
    /// The checkpoint as of which the read model was compared.
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
    counted: u64,
    listed: Vec<Difference>,
    limit: usize,
}

impl Report {
    /// Whether everything is as the log says.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.differences == 0
    }
}

impl Differences {
    fn up_to(limit: usize) -> Self {
        Self { counted: 0, listed: Vec::new(), limit }
    }

    fn add(&mut self, part: Part, what: String, streams: Vec<String>) {
        self.counted += 1;
        if self.listed.len() < self.limit {
            self.listed.push(Difference { part, what, streams, event: None });
        }
    }

    /// Counts `more` that are not listed one by one.
    fn add_unlisted(&mut self, more: u64) {
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
            Self::Feeds => "feeds",
            Self::Floors => "floors",
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

/// Holds everything against the log: the log itself, the decision state, the read model.
///
/// # Errors
/// [`VerifyError`] when there is no telling.
pub async fn verify(
    log: &PgPool,
    feed: &PgPool,
    listed: usize,
    progress: &Progress,
) -> Result<Report, VerifyError> {
    let mut differences = Differences::up_to(listed);
    let checkpoint = checkpoint::load(feed).await.map_err(VerifyError::Feed)?;
    let (accounts, head) = decisions::scan(log).await.map_err(VerifyError::Log)?;
    progress.sight(head);
    progress.begin(Phase::CheckLog, head.0.unsigned_abs());

    let mut facts = Facts::default();
    let mut expected = decisions::Expected::default();
    let mut after = Position::START;
    loop {
        let page = log::page(log, after, head).await.map_err(VerifyError::Log)?;
        let Some(last) = page.last() else { break };
        let decoded = log::check(&page, after, &mut differences);
        for (recorded, event) in
            decoded.iter().filter(|(recorded, _)| recorded.position <= checkpoint.position)
        {
            facts.add(recorded, event);
        }
        expected.add_page(log, &decoded).await.map_err(VerifyError::Log)?;
        after = last.position;
        progress.reach(after, page.len());
    }
    log::check_ends(log, after, head, &mut differences).await.map_err(VerifyError::Log)?;
    log::check_versions(log, &mut differences).await.map_err(VerifyError::Log)?;
    if expected.accounts != accounts {
        decisions::list(log, &expected.accounts, &accounts, &mut differences)
            .await
            .map_err(VerifyError::Log)?;
    }
    if checkpoint.position > head {
        let what =
            format!("the read model is at {}, but the log ends at {head}", checkpoint.position);
        differences.add(Part::Checkpoint, what, Vec::new());
    }
    finish(log, feed, checkpoint, &facts, differences, progress).await
}

/// Holds the read model in `feed` against the log, of which `facts` may already know a part.
///
/// # Errors
/// [`VerifyError`] when there is no telling.
pub async fn compare(
    log: &PgPool,
    feed: &PgPool,
    facts: &mut Facts,
    listed: usize,
    progress: &Progress,
) -> Result<Report, VerifyError> {
    let mut differences = Differences::up_to(listed);
    let checkpoint = checkpoint::load(feed).await.map_err(VerifyError::Feed)?;
    let unread = checkpoint.position.0 - facts.position().0;
    progress.begin(Phase::CheckLog, unread.unsigned_abs());
    while facts.position() < checkpoint.position {
        let after = facts.position();
        let page = log::page(log, after, checkpoint.position).await.map_err(VerifyError::Log)?;
        let decoded = log::check(&page, after, &mut differences);
        for (recorded, event) in &decoded {
            facts.add(recorded, event);
        }
        if facts.position() == after {
            break;
        }
        progress.reach(facts.position(), page.len());
    }
    finish(log, feed, checkpoint, facts, differences, progress).await
}

async fn finish(
    log: &PgPool,
    feed: &PgPool,
    checkpoint: Checkpoint,
    facts: &Facts,
    mut differences: Differences,
    progress: &Progress,
) -> Result<Report, VerifyError> {
    progress.begin(Phase::CompareFacts, facts.count());
    let rows = facts::compare(log, feed, checkpoint, facts, &mut differences, progress).await?;
    progress.begin(Phase::CompareFeeds, 0);
    let feed_rows =
        feeds::compare(feed, &mut differences, progress).await.map_err(VerifyError::Feed)?;
    let now = checkpoint::load(feed).await.map_err(VerifyError::Feed)?;
    if now.generation != checkpoint.generation {
        return Err(VerifyError::Swapped);
    }
    explain(log, &mut differences.listed).await.map_err(VerifyError::Log)?;
    Ok(Report {
        generation: checkpoint.generation,
        position: checkpoint.position,
        events: facts.events(),
        users: rows.users,
        tweets: rows.tweets,
        follows: rows.follows,
        feed_rows,
        differences: differences.counted,
        listed: differences.listed,
    })
}

/// Names for each difference the last event that has a say in it.
async fn explain(log: &PgPool, differences: &mut [Difference]) -> Result<(), sqlx::Error> {
    let streams: Vec<String> =
        differences.iter().flat_map(|difference| difference.streams.clone()).collect();
    if streams.is_empty() {
        return Ok(());
    }
    let last = read::last_of_streams(log, &streams).await?;
    for difference in differences {
        difference.event = difference
            .streams
            .iter()
            .filter_map(|stream| last.get(stream))
            .max_by_key(|(position, _)| *position)
            .map(|(position, kind)| Explaining { position: *position, kind: kind.clone() });
    }
    Ok(())
}

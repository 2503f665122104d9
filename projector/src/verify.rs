//! Holding the read model against the log and against its own definition.
//!
//! It streams: memory does not grow with the log, nothing is locked, no snapshot is held for longer
//! than one page of rows, and both log and read model may go on meanwhile. The log says what users,
//! tweets and follows there have to be, as of the checkpoint (`fact`, `facts`); those say what each
//! feed has to hold from its floor up (`feeds`). The decision state is held against the log's head
//! (`decisions`), and the log against itself (`log`).

mod decisions;
mod digest;
mod fact;
mod facts;
mod feeds;
mod log;
mod readers;
mod report;
mod tables;

use events::Position;
use events::store::ranges::NotLive;
use events::store::{Connections, history, ranges, read};

use crate::checkpoint::{self, Checkpoint};
use crate::feed::read_model::rules;
use crate::progress::{Phase, Progress};
use crate::projection::OtherHistory;
use decisions::Decisions;
pub use digest::Facts;
pub(crate) use report::Differences;
pub use report::{Difference, Explaining, Part, Report};

/// Differences that are listed, unless told otherwise.
pub const DIFFERENCES_LISTED: usize = 20;

/// For sorting the feeds of as many readers as one statement serves.
const SORT_MEMORY: &str = "64MB";

/// How sessions behave that write or compare feeds many at a time: joined as the statements are
/// written, reader by reader, from indexes alone, whatever else a planner would make of a hundred
/// readers at once.
pub fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    [
        ("join_collapse_limit", "1"),
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_bitmapscan", "off"),
        ("max_parallel_workers_per_gather", "0"),
        ("work_mem", SORT_MEMORY),
    ]
    .into_iter()
}

/// Why nothing can be said about whether they agree.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    NotLive(#[from] NotLive),
    #[error("the log cannot be read: {0}")]
    Log(#[source] sqlx::Error),
    #[error("the read model cannot be read: {0}")]
    ReadModel(#[source] sqlx::Error),
    #[error("another generation went live meanwhile; run it again")]
    Swapped,
}

/// Holds everything against the log: the log itself, the decision state, the read model.
///
/// # Errors
/// [`VerifyError`] when there is no telling.
pub async fn verify(
    log: &Connections,
    feed: &Connections,
    listed: usize,
    progress: &Progress,
) -> Result<Report, VerifyError> {
    ranges::live_after(log, Position::START).await?;
    let mut differences = Differences::up_to(listed);
    let checkpoint = checkpoint::load(feed).await.map_err(VerifyError::ReadModel)?;
    let (decisions, head) = decisions::scan(log).await.map_err(VerifyError::Log)?;
    progress.sight(head);
    progress.begin(Phase::CheckLog, head.0.unsigned_abs());

    let mut facts = Facts::default();
    if let Some(rule) = rules::load(feed).await.map_err(VerifyError::ReadModel)? {
        facts.go_by(rule);
    }
    let mut expected = Decisions::default();
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
        log::check_deletions(log, &decoded, &mut differences).await.map_err(VerifyError::Log)?;
        expected.add_page(log, &decoded).await.map_err(VerifyError::Log)?;
        after = last.position;
        progress.reach(after, page.len());
    }
    log::check_ends(log, after, head, &mut differences).await.map_err(VerifyError::Log)?;
    log::check_versions(log, &mut differences).await.map_err(VerifyError::Log)?;
    if expected != decisions {
        decisions::list(log, &expected, &decisions, &mut differences)
            .await
            .map_err(VerifyError::Log)?;
    }
    let mark = checkpoint.mark();
    if !history::foreign(log, &[mark]).await.map_err(VerifyError::Log)?.is_empty() {
        differences.add(Part::Checkpoint, OtherHistory(mark).to_string(), Vec::new());
    }
    finish(log, feed, checkpoint, &facts, differences, progress).await
}

/// Holds the read model in `feed` against the log, of which `facts` may already know a part.
///
/// # Errors
/// [`VerifyError`] when there is no telling.
pub async fn compare(
    log: &Connections,
    feed: &Connections,
    facts: &mut Facts,
    listed: usize,
    progress: &Progress,
) -> Result<Report, VerifyError> {
    let mut differences = Differences::up_to(listed);
    let checkpoint = checkpoint::load(feed).await.map_err(VerifyError::ReadModel)?;
    if let Some(rule) = rules::load(feed).await.map_err(VerifyError::ReadModel)? {
        facts.go_by(rule);
    }
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
    log: &Connections,
    feed: &Connections,
    checkpoint: Checkpoint,
    facts: &Facts,
    mut differences: Differences,
    progress: &Progress,
) -> Result<Report, VerifyError> {
    progress.begin(Phase::CompareFacts, facts.count());
    let rows = facts::compare(log, feed, checkpoint, facts, &mut differences, progress).await?;
    readers::compare(feed, checkpoint.position, facts.reader_counts(), &mut differences)
        .await
        .map_err(VerifyError::ReadModel)?;
    progress.begin(Phase::CompareFeeds, 0);
    let feed_rows =
        feeds::compare(feed, &mut differences, progress).await.map_err(VerifyError::ReadModel)?;
    let now = checkpoint::load(feed).await.map_err(VerifyError::ReadModel)?;
    if now.generation != checkpoint.generation {
        return Err(VerifyError::Swapped);
    }
    explain(log, &mut differences.listed).await.map_err(VerifyError::Log)?;
    Ok(Report {
        projection: "feed",
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
pub(crate) async fn explain(
    log: &Connections,
    differences: &mut [Difference],
) -> Result<(), sqlx::Error> {
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

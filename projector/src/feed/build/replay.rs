//! Replaying the log into a new generation: everything but the feeds, by the statements of the live
//! projection. One task reads and decodes while another writes.

use events::store::{Connections, read};
use events::{Position, RecordedEvent, TweetId};
use tokio::sync::mpsc;

use crate::changes::{Changes, Ways};
use crate::checkpoint::Checkpoint;
use crate::feed::apply::apply_without_feeds;
use crate::feed::pulled::PullFrom;
use crate::feed::read_model::reader_counts;
use crate::progress::Progress;
use crate::projection::{ApplyError, ProjectionError};
use crate::verify::Facts;

/// The most events in one transaction. Nobody waits for the first of them, so it is more than the
/// live projection takes; three such batches are in memory, a few megabytes each.
const REPLAY_MAX_EVENTS: usize = 8_192;

/// A batch of events, their net effect, and how their tweets come to their readers.
struct Batch {
    events: Vec<RecordedEvent>,
    changes: Changes,
    ways: Ways,
}

/// Replays the log from `checkpoint`, which is its beginning, to `to`, which is its head or was. What the log says there comes
/// with it, to compare the tables with.
pub(super) async fn replay(
    log: &Connections,
    next: &Connections,
    mut checkpoint: Checkpoint,
    to: Position,
    rule: PullFrom,
    progress: &Progress,
) -> Result<(Checkpoint, Facts), ProjectionError> {
    let (batches, mut ready) = mpsc::channel(1);
    let reading = tokio::spawn(read_batches(log.clone(), checkpoint.position, to, rule, batches));
    while let Some(Batch { events, changes, ways }) = ready.recv().await {
        checkpoint = apply_without_feeds(next, checkpoint, &events, &changes, &ways).await?;
        progress.reach(checkpoint.position, events.len());
    }
    let facts = reading.await.expect("reading does not panic")?;
    reader_counts::write(next, facts.reader_counts(), checkpoint.position)
        .await
        .map_err(ApplyError::from)?;
    Ok((checkpoint, facts))
}

async fn read_batches(
    log: Connections,
    mut after: Position,
    to: Position,
    rule: PullFrom,
    batches: mpsc::Sender<Batch>,
) -> Result<Facts, ProjectionError> {
    let mut facts = Facts::default();
    facts.go_by(rule);
    while after < to {
        let wanted = usize::try_from(to.0 - after.0).unwrap_or(usize::MAX);
        let limit = wanted.min(REPLAY_MAX_EVENTS);
        let events = read::after(&log, after, limit).await.map_err(ProjectionError::Log)?;
        let Some(last) = events.last() else { return Err(ProjectionError::Beyond(to)) };
        after = last.position;
        let (mut changes, mut ways) = (Changes::default(), Ways::default());
        for recorded in &events {
            let event = recorded.event().map_err(ApplyError::from)?;
            if facts.add(recorded, &event) {
                ways.pulled.insert(TweetId::from(recorded.position));
            }
            changes.add(recorded, event);
        }
        if batches.send(Batch { events, changes, ways }).await.is_err() {
            // The writer has stopped, and says why.
            break;
        }
    }
    Ok(facts)
}

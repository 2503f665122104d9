//! What a projector has in hand: `projector/src/projection.rs`.

use crate::broker::Slice;
use crate::feed::Rows;
use crate::mutation::Mutation;
use crate::projector::ProjectorStep;
use crate::system::Position;

/// `APPLY_MAX_EVENTS` of `projector/src/bounds.rs`.
const APPLY_MAX_EVENTS: Position = 2;

/// A batch of messages to apply, or a stall to repair.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work {
    /// Where the log ended, in a look for a stall that has yet to read the checkpoint.
    head: Option<Position>,
    /// Whether a look found fan-outs under way, which this projector has to take over first.
    takes_over: bool,
    /// `apply_slices`: what is left of them, sorted.
    slices: Vec<Slice>,
    /// `apply_from_log`: up to where.
    from_log: Option<Position>,
    /// `HomeFeeds::write`: events in hand.
    run: Vec<Position>,
    /// The messages to acknowledge at the end.
    pub deliveries: Vec<Slice>,
}

impl Work {
    /// `Consumer::apply_batch` and `Batch::acknowledge` of these messages.
    pub fn batch(deliveries: Vec<Slice>) -> Self {
        let mut slices = deliveries.clone();
        slices.sort_by_key(|slice| slice.first);
        Self { slices, deliveries, ..Self::default() }
    }

    /// A look for a stall that found the end of the log at `head`.
    pub fn look(head: Position) -> Self {
        Self { head: Some(head), ..Self::default() }
    }

    /// The rest of that look, which found the read model as `rows`.
    pub fn repair(&self, rows: &Rows) -> Option<Self> {
        let from_log = self.head.filter(|head| rows.position < *head);
        let takes_over = rows.under_way;
        (from_log.is_some() || takes_over).then(|| Self { takes_over, from_log, ..Self::default() })
    }

    /// Whether missing events are being read before a slice.
    pub fn reads_gap(&self) -> bool {
        self.from_log.is_some() && !self.slices.is_empty()
    }

    /// Whether a stall was found and is being repaired.
    pub fn repairs_stall(&self) -> bool {
        self.from_log.is_some() && self.deliveries.is_empty()
    }

    pub fn is_done(&self) -> bool {
        *self == Self::default()
    }

    pub fn next_step(&self, has_taken_over: bool, mutation: Mutation) -> ProjectorStep {
        let acks_first = mutation == Mutation::AckBeforeCommit && !self.deliveries.is_empty();
        if self.head.is_some() {
            ProjectorStep::ReadCheckpoint
        } else if acks_first {
            ProjectorStep::Acknowledge
        } else if !has_taken_over {
            ProjectorStep::TakeOver
        } else if !self.run.is_empty() {
            ProjectorStep::Apply
        } else if self.from_log.is_some() {
            ProjectorStep::ReadLog
        } else {
            ProjectorStep::Acknowledge
        }
    }

    /// The loops of `apply_slices` and `apply_from_log` up to where they next need a database, at
    /// `checkpoint`.
    pub fn go_on(&mut self, checkpoint: Position, mutation: Mutation) {
        if !self.run.is_empty() || self.head.is_some() {
            return;
        }
        self.takes_over = false;
        self.from_log = self.from_log.filter(|to| checkpoint < *to);
        if self.from_log.is_some() {
            return;
        }
        let (reads_gaps, filters) =
            (mutation != Mutation::NoGapRead, mutation != Mutation::KnownEventsAreKept);
        let mut end = checkpoint;
        while let Some(slice) = self.slices.first().copied() {
            if reads_gaps && slice.first > end + 1 {
                break;
            }
            let events = (slice.first..=slice.last).filter(|event| !filters || *event > end);
            self.run.extend(events);
            end = self.run.last().copied().unwrap_or(end);
            self.slices.remove(0);
        }
        if self.run.is_empty() {
            self.from_log = self.slices.first().map(|slice| slice.first - 1);
        }
    }

    /// `read::after` in `apply_from_log`, with a log that ends at `head`.
    pub fn read_log(&mut self, after: Position, head: Position) {
        let to = self.from_log.expect("something is read from the log").min(head);
        self.run = (after + 1..=to.min(after + APPLY_MAX_EVENTS)).collect();
    }

    /// `work::transactions`: takes the events of one out of the run.
    pub fn next_transaction(&mut self) -> Vec<Position> {
        let count = self.run.len().min(usize::from(APPLY_MAX_EVENTS));
        self.run.drain(..count).collect()
    }
}

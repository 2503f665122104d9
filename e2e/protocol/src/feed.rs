//! The read model, and the statements of `projector/src/checkpoint.rs`. What a feed has in it is no
//! matter here, only which events it was made from.

use crate::mutation::Mutation;
use crate::system::Position;

/// How many of the last transactions a crash can lose: with `synchronous_commit = off` they were
/// committed in memory.
const LOSABLE_MAX: usize = 2;

/// The event that is a tweet which very many read, and in how many steps it enters their feeds.
const BEGINS: Position = 2;
const STEPS: u8 = 2;

/// What a projector remembers of the row of `checkpoint`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    pub position: Position,
    pub fence: u8,
    /// Whether a fan-out is under way.
    pub under_way: bool,
}

/// What a transaction sees and writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    pub position: Position,
    pub fence: u8,
    /// Every event that was applied, in that order.
    pub applied: Vec<Position>,
    /// Steps that the fan-outs have yet to take.
    pub steps_left: u8,
    /// Whether reads look for what those have yet to bring.
    pub under_way: bool,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Feed {
    pub rows: Rows,
    /// What a crash may bring back, the newest last.
    pub losable: Vec<Rows>,
}

impl Feed {
    /// `checkpoint::take_over`, which waits for the disk: with it, what was committed before it can
    /// no longer be lost.
    pub fn take_over(&mut self, mutation: Mutation) -> Checkpoint {
        let fence = self.rows.fence + 1;
        self.commit(Rows { fence, ..self.rows.clone() });
        if mutation != Mutation::TakeOverCanBeLost {
            self.losable.clear();
        }
        let Rows { position, under_way, .. } = self.rows;
        Checkpoint { position, fence, under_way }
    }

    /// The transaction of `apply::apply`: `checkpoint::advance`, then the rows of `events`. `None`
    /// is `Fenced`.
    pub fn apply(
        &mut self,
        old: Checkpoint,
        events: &[Position],
        mutation: Mutation,
    ) -> Option<Checkpoint> {
        let last = events.last().copied()?;
        if !(self.is_at(old, mutation) && self.rows.position <= last) {
            return None;
        }
        let begun = if events.contains(&BEGINS) { STEPS } else { 0 };
        let steps_left = self.rows.steps_left + begun;
        let under_way = old.under_way || begun > 0;
        let applied = self.rows.applied.iter().chain(events).copied().collect();
        let fence = self.rows.fence;
        self.commit(Rows { position: last, fence, applied, steps_left, under_way });
        Some(Checkpoint { position: last, under_way, ..old })
    }

    /// The transaction of `fan_out::step`: `checkpoint::hold`, then the rows of the next readers. `None` is `Fenced`.
    pub fn step(&mut self, old: Checkpoint, mutation: Mutation) -> Option<Checkpoint> {
        if !self.is_at(old, mutation) && mutation != Mutation::StepWithoutHold {
            return None;
        }
        let steps_left = self.rows.steps_left.saturating_sub(1);
        let under_way = steps_left > 0;
        self.commit(Rows { steps_left, under_way, ..self.rows.clone() });
        Some(Checkpoint { under_way, ..old })
    }

    /// Whether the checkpoint is what whoever writes believes it to be.
    fn is_at(&self, old: Checkpoint, mutation: Mutation) -> bool {
        let rows = &self.rows;
        (rows.fence == old.fence || mutation == Mutation::ProjectorIgnoresFence)
            && (rows.position == old.position || mutation == Mutation::NoCheckpointComparison)
            && (rows.under_way == old.under_way || mutation == Mutation::UnderWayIsNotCompared)
    }

    /// The server crashes and loses its last `lost` transactions.
    pub fn crash(&mut self, lost: usize) {
        self.losable.truncate(self.losable.len() - lost + 1);
        self.rows = self.losable.pop().expect("what was lost came after something");
        self.losable.clear();
    }

    /// Whether what was applied is the log up to the checkpoint, each event once, and what is not in rows is read.
    pub fn is_exact(&self) -> bool {
        let rows = &self.rows;
        let is_read = rows.steps_left == 0 || rows.under_way;
        rows.applied.iter().copied().eq(1..=rows.position) && is_read
    }

    /// The rows as they are, and as a crash may make them.
    pub fn versions(&self) -> impl Iterator<Item = &Rows> {
        self.losable.iter().chain([&self.rows])
    }

    /// The oldest fence that can be the latest, now or after a crash.
    pub fn oldest_fence(&self) -> u8 {
        self.losable.first().unwrap_or(&self.rows).fence
    }

    fn commit(&mut self, rows: Rows) {
        if self.losable.len() == LOSABLE_MAX {
            self.losable.remove(0);
        }
        self.losable.push(std::mem::replace(&mut self.rows, rows));
    }
}

//! The read model, and the statements of `projector/src/checkpoint.rs`. What a feed has in it is no
//! matter here, only which events it was made from.

use crate::mutation::Mutation;
use crate::system::Position;

/// How many of the last transactions a crash can lose: with `synchronous_commit = off` they were
/// committed in memory.
const LOSABLE_MAX: usize = 2;

/// What a projector remembers of the row of `checkpoint`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    pub position: Position,
    pub fence: u8,
}

/// What a transaction sees and writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    pub position: Position,
    pub fence: u8,
    /// Every event that was applied, in that order.
    pub applied: Vec<Position>,
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
        Checkpoint { position: self.rows.position, fence }
    }

    /// The transaction of `apply::apply`: `checkpoint::advance`, then the rows of `events`. `None`
    /// is `Fenced`.
    pub fn apply(
        &mut self,
        old: Checkpoint,
        events: &[Position],
        mutation: Mutation,
    ) -> Option<Checkpoint> {
        let rows = &self.rows;
        let last = events.last().copied()?;
        let fence = rows.fence == old.fence || mutation == Mutation::ProjectorIgnoresFence;
        let position =
            rows.position == old.position || mutation == Mutation::NoCheckpointComparison;
        if !(fence && position && rows.position <= last) {
            return None;
        }
        let applied = rows.applied.iter().chain(events).copied().collect();
        self.commit(Rows { position: last, fence: rows.fence, applied });
        Some(Checkpoint { position: last, ..old })
    }

    /// The server crashes and loses its last `lost` transactions.
    pub fn crash(&mut self, lost: usize) {
        self.losable.truncate(self.losable.len() - lost + 1);
        self.rows = self.losable.pop().expect("what was lost came after something");
        self.losable.clear();
    }

    /// Whether what was applied is the log up to the checkpoint, each event once.
    pub fn is_exact(&self) -> bool {
        self.rows.applied.iter().copied().eq(1..=self.rows.position)
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

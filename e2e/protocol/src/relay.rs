//! A relay: `api/src/relay.rs`.

use crate::broker::Answer;
use crate::mutation::Mutation;
use crate::publisher::{Published, Publishing};
use crate::system::{Position, System};

/// `RELAY_BATCH_MAX` of `api/src/relay.rs`.
const RELAY_BATCH_MAX: Position = 2;

/// A relay. It forgets all of this when it dies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relay {
    /// Of the lead it took; 0 when it took none.
    pub fence: u8,
    pub phase: Phase,
}

/// What a relay is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Not running, or between two sessions.
    #[default]
    Disconnected,
    Standby,
    /// As far as it knows.
    Leading {
        cursor: Position,
        round: Round,
    },
    /// Its session has ended with an error.
    Leaving,
}

/// Where `publish_until_stopped` is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Round {
    /// Between two rounds.
    Waiting,
    Publishing(Publishing),
    /// The confirms are here, the cursor has yet to move.
    Confirmed {
        to: Position,
        refused: bool,
    },
    /// `REFUSED_PAUSE`
    Refused,
}

/// What a relay does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayStep {
    /// `Publisher::connect`
    Connect,
    /// `outbox::take_lead`, where it finds that the lease has run out.
    TakeLead,
    /// `read::after` and `Slice::cut` in `publish_once`: one event per slice, or all in one.
    ReadLog { in_one_slice: bool },
    /// `Publisher::send` for the next slice: it reaches the broker, and its confirm is under way.
    Publish,
    /// `join_all(confirms)` and `confirmed_prefix` in `Publisher::publish`
    Confirm,
    /// `outbox::move_cursor` in `publish_once`
    MoveCursor,
    /// `outbox::move_cursor` with the position where it is, in `publish_until_stopped` and
    /// `publish_as_leader`. A renewal that changes nothing is no step.
    Renew,
    /// `outbox::release_lead` in `lead`
    ReleaseLead,
}

impl Relay {
    pub fn leads(&self) -> bool {
        matches!(self.phase, Phase::Leading { .. })
    }

    /// Its session ends with an error.
    pub fn lose_broker(&mut self) {
        self.phase = match self.phase {
            Phase::Leading { .. } | Phase::Leaving => Phase::Leaving,
            Phase::Standby | Phase::Disconnected => Phase::Disconnected,
        };
    }

    /// Whether a slice is about to be published.
    pub fn publishes(&self) -> bool {
        let Phase::Leading { round: Round::Publishing(slices), .. } = &self.phase else {
            return false;
        };
        slices.next().is_some()
    }

    /// What this relay can do now.
    pub fn steps(&self, system: &System) -> Vec<RelayStep> {
        let Phase::Leading { cursor, round } = &self.phase else {
            return match self.phase {
                Phase::Standby if system.outbox.led => vec![],
                Phase::Standby => vec![RelayStep::TakeLead],
                Phase::Leaving => vec![RelayStep::ReleaseLead],
                _ if system.broker.gone => vec![],
                _ => vec![RelayStep::Connect],
            };
        };
        let mut steps = match round {
            Round::Waiting => {
                let ways: &[bool] = match system.head - cursor {
                    0 => &[],
                    1 => &[false],
                    _ => &[false, true],
                };
                ways.iter().map(|way| RelayStep::ReadLog { in_one_slice: *way }).collect()
            }
            Round::Publishing(slices) if slices.next().is_some() => vec![RelayStep::Publish],
            Round::Publishing(_) => vec![RelayStep::Confirm],
            Round::Confirmed { .. } => return vec![RelayStep::MoveCursor],
            // The pause ends when there is room; before, it would only begin again. It is as long
            // as LEASE_CHECK, so that a renewal comes before the next round.
            Round::Refused if system.broker.is_full() => return vec![],
            Round::Refused => return vec![RelayStep::Renew],
        };
        if !system.outbox.led || self.fence != system.outbox.fence {
            steps.push(RelayStep::Renew);
        }
        steps
    }
}

/// Relay `r` takes `step`.
pub fn step(system: &mut System, r: usize, step: RelayStep, mutation: Mutation) {
    let Relay { mut fence, phase } = std::mem::take(&mut system.relays[r]);
    let phase = match (step, phase) {
        (RelayStep::Connect, _) => {
            system.broker.declare_topology();
            Phase::Standby
        }
        (RelayStep::TakeLead, _) => {
            let (taken, cursor) = system.outbox.take_lead();
            fence = taken;
            Phase::Leading { cursor, round: Round::Waiting }
        }
        (RelayStep::ReleaseLead, _) => {
            system.outbox.release_lead(fence);
            fence = 0;
            Phase::Disconnected
        }
        (RelayStep::ReadLog { in_one_slice }, Phase::Leading { cursor, .. }) => {
            let last = system.head.min(cursor + RELAY_BATCH_MAX);
            let slices = Publishing::cut(cursor + 1, last, in_one_slice);
            Phase::Leading { cursor, round: Round::Publishing(slices) }
        }
        (RelayStep::Publish, Phase::Leading { cursor, round: Round::Publishing(mut slices) }) => {
            let slice = slices.next().expect("a slice is about to be published");
            slices.answer(system.broker.publish(slice));
            Phase::Leading { cursor, round: Round::Publishing(slices) }
        }
        (RelayStep::Confirm, Phase::Leading { cursor, round: Round::Publishing(slices) }) => {
            if mutation != Mutation::CursorMovesBeforeConfirm {
                for slice in slices.acknowledged() {
                    system.seen.confirm(slice, system.outbox.position);
                }
            }
            let round = match slices.confirmed_prefix(mutation) {
                Published::All { to } => Some(Round::Confirmed { to, refused: false }),
                Published::Refused { to: Some(to) } => Some(Round::Confirmed { to, refused: true }),
                Published::Refused { to: None } => Some(Round::Refused),
                Published::Unroutable => None,
            };
            round.map_or(Phase::Leaving, |round| Phase::Leading { cursor, round })
        }
        (RelayStep::MoveCursor, Phase::Leading { round: Round::Confirmed { to, refused }, .. }) => {
            let next = if refused { Round::Refused } else { Round::Waiting };
            move_cursor(system, fence, to, next, mutation)
        }
        (RelayStep::Renew, Phase::Leading { cursor, round: Round::Refused })
            if mutation == Mutation::NoRenewalAfterRefusal =>
        {
            Phase::Leading { cursor, round: Round::Waiting }
        }
        (RelayStep::Renew, Phase::Leading { cursor, round: Round::Refused }) => {
            move_cursor(system, fence, cursor, Round::Waiting, mutation)
        }
        (RelayStep::Renew, Phase::Leading { cursor, round }) => {
            move_cursor(system, fence, cursor, round, mutation)
        }
        (step, phase) => unreachable!("{step:?} while {phase:?}"),
    };
    system.relays[r] = Relay { fence, phase };
}

/// `outbox::move_cursor`; `LeadError::Deposed` ends the session.
fn move_cursor(
    system: &mut System,
    fence: u8,
    to: Position,
    next: Round,
    mutation: Mutation,
) -> Phase {
    let before = system.outbox.clone();
    if !system.outbox.move_cursor(fence, to, mutation) {
        return Phase::Leaving;
    }
    system.seen.cursor_moved(&before, fence, to);
    Phase::Leading { cursor: to, round: next }
}

/// The broker refuses the next slice of relay `r`, full or not.
pub fn refuse(system: &mut System, r: usize) {
    if let Phase::Leading { round: Round::Publishing(slices), .. } = &mut system.relays[r].phase {
        slices.answer(Answer::Nack);
    }
}

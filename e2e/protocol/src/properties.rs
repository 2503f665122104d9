//! What always holds, and what has to be possible for that to mean something.

use stateright::Property;

use crate::protocol::Protocol;
use crate::relay::{Phase, Relay, Round};
use crate::seen::Broken;
use crate::system::System;
use crate::work::Work;

pub const EXACT_PREFIX: &str =
    "what was applied is the log up to the checkpoint, each event once, and every read finds it";
pub const ACKNOWLEDGED_AFTER_COMMIT: &str =
    "a message is acknowledged only after its events were committed";
pub const CURSOR_OVER_CONFIRMED: &str = "the cursor never passes an event without a confirm";
pub const CURSOR_NEVER_BACKWARD: &str = "the cursor never moves backward";
pub const CURSOR_WITH_FENCE: &str = "a relay that was deposed never moves the cursor";
pub const RELIEVED_NEVER_WRITES: &str = "a projector that was relieved never writes";
pub const PROGRESS: &str = "without further faults everything is published and applied";

pub const TWO_LEAD: &str = "two relays believe that they lead";
pub const TWO_WORK: &str = "two projectors are at work";
pub const QUEUE_IS_FULL: &str = "the broker refuses a slice";
pub const SLICES_OVERLAP: &str = "two messages have some of their events in common";
pub const GAP_IS_READ: &str = "events that are missing before a slice are read from the log";
pub const STALL_IS_REPAIRED: &str = "events that never arrive are read from the log";
pub const FANS_OUT_WHILE_BEHIND: &str = "a fan-out is under way while events wait to be applied";
pub const CHECKPOINT_FELL_BACK: &str = "the checkpoint is behind what was committed";

/// What has to be possible wherever there are two of each.
pub const POSSIBLE: [&str; 8] = [
    TWO_LEAD,
    TWO_WORK,
    QUEUE_IS_FULL,
    SLICES_OVERLAP,
    GAP_IS_READ,
    STALL_IS_REPAIRED,
    FANS_OUT_WHILE_BEHIND,
    CHECKPOINT_FELL_BACK,
];

/// All of them.
pub fn properties() -> Vec<Property<Protocol>> {
    let always = Property::<Protocol>::always;
    let sometimes = Property::<Protocol>::sometimes;
    vec![
        always(EXACT_PREFIX, |_, system| {
            system.feed.is_exact() && system.feed.rows.position <= system.head
        }),
        always(ACKNOWLEDGED_AFTER_COMMIT, |_, system| {
            system.seen.broken != Some(Broken::AcknowledgedUncommitted)
        }),
        always(CURSOR_OVER_CONFIRMED, |_, system| {
            system.seen.broken != Some(Broken::CursorPassedUnconfirmed)
        }),
        always(CURSOR_NEVER_BACKWARD, |_, system| {
            system.seen.broken != Some(Broken::CursorMovedBackward)
        }),
        always(CURSOR_WITH_FENCE, |_, system| {
            system.seen.broken != Some(Broken::CursorMovedByDeposed)
        }),
        always(RELIEVED_NEVER_WRITES, |_, system| {
            system.seen.broken != Some(Broken::WrittenByRelieved)
        }),
        always(PROGRESS, |protocol, system| protocol.progress.is_certain(protocol, system)),
        sometimes(TWO_LEAD, |_, system| {
            system.relays.iter().filter(|relay| relay.leads()).count() == 2
        }),
        sometimes(TWO_WORK, |_, system| work(system).count() == 2),
        sometimes(QUEUE_IS_FULL, |_, system| {
            let is_refused =
                |relay: &Relay| matches!(relay.phase, Phase::Leading { round: Round::Refused, .. });
            system.broker.is_full() && system.relays.iter().any(is_refused)
        }),
        sometimes(SLICES_OVERLAP, |_, system| {
            let waiting = system.broker.queue.iter().flatten();
            waiting.clone().any(|one| waiting.clone().any(|other| one.overlaps(*other)))
        }),
        sometimes(GAP_IS_READ, |_, system| work(system).any(Work::reads_gap)),
        sometimes(STALL_IS_REPAIRED, |_, system| work(system).any(Work::repairs_stall)),
        sometimes(FANS_OUT_WHILE_BEHIND, |_, system| {
            system.feed.rows.under_way && system.feed.rows.position < system.head
        }),
        sometimes(CHECKPOINT_FELL_BACK, |_, system| {
            system.seen.is_behind(system.feed.rows.position)
        }),
    ]
}

fn work(system: &System) -> impl Iterator<Item = &Work> {
    system.projectors.iter().filter_map(|projector| projector.0.as_ref()?.work.as_ref())
}

//! The protocol with one of its safeguards missing: each has to be found, or the model could not
//! fail.

use crate::check::counterexample;
use crate::properties::{
    ACKNOWLEDGED_AFTER_COMMIT, CURSOR_NEVER_BACKWARD, CURSOR_OVER_CONFIRMED, CURSOR_WITH_FENCE,
    EXACT_PREFIX, PROGRESS, RELIEVED_NEVER_WRITES,
};
use crate::protocol::Bounds;

/// What is different from the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Nothing.
    None,
    /// `outbox::move_cursor` without `fence = $1`.
    CursorIgnoresFence,
    /// `outbox::move_cursor` without any condition.
    CursorIsSetBlindly,
    /// `Publisher::publish` without `join_all(confirms)`.
    CursorMovesBeforeConfirm,
    /// `confirmed_prefix` up to the last confirm instead of the first refusal.
    CursorPassesRefused,
    /// `Publisher::send` without `mandatory`.
    UnroutableIsConfirmed,
    /// `publish_until_stopped` without `move_cursor` after a pause.
    NoRenewalAfterRefusal,
    /// `Consumer::apply_batch` with `acknowledge` before `apply_slices`.
    AckBeforeCommit,
    /// `checkpoint::advance` without `position = $2`.
    NoCheckpointComparison,
    /// `checkpoint::advance` without `fence = $1`.
    ProjectorIgnoresFence,
    /// `checkpoint::advance` and `hold` without `under_way is not distinct from`.
    UnderWayIsNotCompared,
    /// `fan_out::step` without `checkpoint::hold`.
    StepWithoutHold,
    /// `checkpoint::take_over` without `synchronous_commit = on`.
    TakeOverCanBeLost,
    /// `Run::extend` without its filter, and `run_after` without its check.
    KnownEventsAreKept,
    /// `Projection::apply_slices` without `apply_from_log`, and `run_after` without its check.
    NoGapRead,
    /// `Consumer::step` without `look`.
    NoStallRepair,
}

const TWO_OF_EACH: Bounds = Bounds { events: 2, relays: 2, projectors: 2, faults: 1 };

#[test]
fn a_cursor_without_a_fence_is_moved_by_a_deposed_relay() {
    counterexample(Mutation::CursorIgnoresFence, TWO_OF_EACH, CURSOR_WITH_FENCE);
}

#[test]
fn a_cursor_that_is_set_blindly_moves_backward() {
    counterexample(Mutation::CursorIsSetBlindly, TWO_OF_EACH, CURSOR_NEVER_BACKWARD);
}

#[test]
fn a_cursor_that_does_not_wait_for_confirms_passes_what_was_not_confirmed() {
    counterexample(Mutation::CursorMovesBeforeConfirm, TWO_OF_EACH, CURSOR_OVER_CONFIRMED);
}

#[test]
fn a_cursor_that_moves_to_the_last_confirm_passes_what_was_refused() {
    counterexample(Mutation::CursorPassesRefused, TWO_OF_EACH, CURSOR_OVER_CONFIRMED);
}

#[test]
fn without_mandatory_the_cursor_passes_what_no_queue_took() {
    counterexample(Mutation::UnroutableIsConfirmed, TWO_OF_EACH, CURSOR_OVER_CONFIRMED);
}

#[test]
fn without_renewing_after_a_refusal_two_relays_can_refuse_each_other_for_ever() {
    let bounds = Bounds { projectors: 1, faults: 2, ..TWO_OF_EACH };
    counterexample(Mutation::NoRenewalAfterRefusal, bounds, PROGRESS);
}

#[test]
fn acknowledging_first_acknowledges_what_was_never_committed() {
    counterexample(Mutation::AckBeforeCommit, TWO_OF_EACH, ACKNOWLEDGED_AFTER_COMMIT);
}

#[test]
fn without_comparing_the_checkpoint_events_are_passed_over() {
    let bounds = Bounds { events: 3, ..TWO_OF_EACH };
    counterexample(Mutation::NoCheckpointComparison, bounds, EXACT_PREFIX);
}

#[test]
fn without_a_fence_a_relieved_projector_writes() {
    counterexample(Mutation::ProjectorIgnoresFence, TWO_OF_EACH, RELIEVED_NEVER_WRITES);
}

#[test]
fn a_fence_that_a_crash_takes_back_is_given_twice() {
    counterexample(Mutation::TakeOverCanBeLost, TWO_OF_EACH, RELIEVED_NEVER_WRITES);
}

#[test]
fn keeping_known_events_applies_them_twice() {
    counterexample(Mutation::KnownEventsAreKept, TWO_OF_EACH, EXACT_PREFIX);
}

#[test]
fn without_reading_gaps_events_are_passed_over() {
    counterexample(Mutation::NoGapRead, TWO_OF_EACH, EXACT_PREFIX);
}

#[test]
fn without_the_stall_repair_what_was_purged_is_never_applied() {
    counterexample(Mutation::NoStallRepair, TWO_OF_EACH, PROGRESS);
}

#[test]
fn without_comparing_what_is_under_way_reads_pass_over_what_a_crash_brought_back() {
    let bounds = Bounds { events: 3, projectors: 1, ..TWO_OF_EACH };
    counterexample(Mutation::UnderWayIsNotCompared, bounds, EXACT_PREFIX);
}

#[test]
fn without_holding_the_checkpoint_a_relieved_projector_fans_out() {
    counterexample(Mutation::StepWithoutHold, TWO_OF_EACH, RELIEVED_NEVER_WRITES);
}

//! The protocol between log, relay, broker and projector as a model, checked in every interleaving.
//!
//! Each statement or transaction, each publish, confirm, delivery and acknowledgement is a step of
//! its own, named as in the code; whatever happens in one process's memory between two of these
//! belongs to the step before. A fault can come before any step. The checker visits every state that
//! a few events, processes and faults can lead to, and holds each against `properties`.
//!
//! What a feed has in it is left out (only which events were applied, and how far the fan-out of one of them has come), and so are clocks: a lease
//! ends by itself once its holder is dead, or by a fault that stops its holder; a stall is found
//! when nothing faster can happen, or by a fault too early. `progress` says what is assumed of
//! schedules. The log's database commits durably, so that its crash is no more than the end of the
//! sessions that use it.

mod broker;
mod check;
mod fault;
mod feed;
mod mutation;
mod outbox;
mod progress;
mod projector;
mod properties;
mod protocol;
mod publisher;
mod relay;
mod seen;
mod subscription;
mod system;
mod work;

use check::holds;
use properties::POSSIBLE;
use protocol::Bounds;

#[test]
fn three_events_pass_two_relays_and_two_projectors_through_any_fault() {
    let outcome = holds(Bounds { events: 3, relays: 2, projectors: 2, faults: 1 });
    for what in POSSIBLE {
        assert!(
            outcome.path(what).is_some(),
            "the model is too small: it never happens that {what}"
        );
    }
}

#[test]
fn two_events_pass_two_relays_through_any_two_faults() {
    holds(Bounds { events: 2, relays: 2, projectors: 1, faults: 2 });
}

#[test]
fn two_events_pass_two_projectors_through_any_two_faults() {
    holds(Bounds { events: 2, relays: 1, projectors: 2, faults: 2 });
}

#[test]
fn two_events_pass_through_any_three_faults() {
    holds(Bounds { events: 2, relays: 1, projectors: 1, faults: 3 });
}

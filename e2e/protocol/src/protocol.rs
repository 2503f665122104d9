//! The protocol as a [`Model`]: what can happen next in each state.

use stateright::{Model, Property};

use crate::fault::{self, Fault};
use crate::mutation::Mutation;
use crate::progress::Progress;
use crate::projector::{self, ProjectorStep};
use crate::properties::properties;
use crate::relay::{self, RelayStep};
use crate::system::{Position, System};

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub events: Position,
    pub relays: usize,
    pub projectors: usize,
    pub faults: u8,
}

/// See the module.
#[derive(Debug)]
pub struct Protocol {
    bounds: Bounds,
    mutation: Mutation,
    pub progress: Progress,
}

/// One atomic step of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `append::append` and its commit: one event more in the log.
    Append,
    /// `leased_until` passes, and nobody is alive to renew it.
    LeaseEnds,
    Relay(usize, RelayStep),
    Projector(usize, ProjectorStep),
    Fault(Fault),
}

impl Protocol {
    pub fn new(bounds: Bounds, mutation: Mutation) -> Self {
        Self { bounds, mutation, progress: Progress::default() }
    }

    /// What can happen without a fault. A stall check, which takes seconds, comes only where
    /// nothing faster can happen; anywhere else it is [`Fault::LookTooEarly`].
    pub fn faultless(&self, system: &System) -> Vec<Action> {
        let mut actions = self.moves(system);
        if actions.is_empty() && self.mutation != Mutation::NoStallRepair {
            let looks = (0..system.projectors.len())
                .filter(|p| system.projectors[*p].can_find_stall(system))
                .map(|p| Action::Projector(p, ProjectorStep::ReadHead));
            actions.extend(looks);
        }
        if system.head < self.bounds.events {
            actions.push(Action::Append);
        }
        actions
    }

    /// What relays, broker and projectors do as soon as they can.
    fn moves(&self, system: &System) -> Vec<Action> {
        let mut actions = Vec::new();
        if system.outbox.led && fault::leader(system).is_none() {
            actions.push(Action::LeaseEnds);
        }
        for (r, relay) in system.relays.iter().enumerate() {
            actions.extend(relay.steps(system).into_iter().map(|step| Action::Relay(r, step)));
        }
        for (p, projector) in system.projectors.iter().enumerate() {
            let steps = projector.steps(system, system.broker.active == Some(p), self.mutation);
            actions.extend(steps.into_iter().map(|step| Action::Projector(p, step)));
        }
        actions
    }

    /// The state after `action`.
    pub fn after(&self, system: &System, action: Action) -> System {
        let mut next = system.clone();
        match action {
            Action::Append => next.head += 1,
            Action::LeaseEnds => next.outbox.led = false,
            Action::Relay(r, step) => relay::step(&mut next, r, step, self.mutation),
            Action::Projector(p, step) => projector::step(&mut next, p, step, self.mutation),
            Action::Fault(fault) => fault.happen(&mut next, self.mutation),
        }
        if next.faults_left == 0 {
            // No crash can come any more, so it does not matter what it would lose.
            next.feed.losable.clear();
        }
        next
    }
}

impl Model for Protocol {
    type State = System;
    type Action = Action;

    fn init_states(&self) -> Vec<System> {
        vec![System::new(self.bounds)]
    }

    fn actions(&self, system: &System, actions: &mut Vec<Action>) {
        actions.extend(self.faultless(system));
        actions.extend(Fault::possible(system, self.mutation).into_iter().map(Action::Fault));
    }

    fn next_state(&self, system: &System, action: Action) -> Option<System> {
        Some(self.after(system, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}

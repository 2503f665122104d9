//! What can go wrong. Each costs one of the faults that a run may have.

use crate::mutation::Mutation;
use crate::projector::{self, ProjectorStep};
use crate::relay::{self, Phase, Relay};
use crate::subscription;
use crate::system::System;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A relay dies; its lease and what it published live on.
    CrashRelay(usize),
    /// The leader is stopped for longer than its lease, and goes on some time later.
    PauseLeader,
    /// The broker refuses the next slice although the queue is not full.
    RefusePublish(usize),
    /// A projector dies; the broker takes back what it held.
    CrashProjector(usize),
    /// The broker misses a projector, which goes on with what it holds until it finds out.
    CutProjector(usize),
    /// The broker sends a message to a projector that is not the active consumer.
    DeliverToStandby(usize),
    /// A projector takes slowness for a stall.
    LookTooEarly(usize),
    /// A message expires or becomes a dead letter.
    LoseMessage(usize),
    /// A message is there once more, behind all others.
    DuplicateMessage(usize),
    /// A message goes behind all others.
    DelayMessage(usize),
    /// The queue is purged of several messages.
    Purge,
    /// The queue is deleted with all that was in it.
    DeleteQueue,
    /// The broker is away for good.
    LoseBroker,
    /// The server of the read model crashes and loses this many transactions. Sessions that were
    /// between two statements do not notice: their pools connect again.
    CrashFeed { lost: usize },
}

impl Fault {
    /// What can go wrong in `system`.
    pub fn possible(system: &System, mutation: Mutation) -> Vec<Self> {
        if system.faults_left == 0 {
            return vec![];
        }
        let mut faults = of_queue(system);
        if !system.broker.gone {
            faults.push(Self::LoseBroker);
        }
        if leader(system).is_some() && system.outbox.led {
            faults.push(Self::PauseLeader);
        }
        for (r, relay) in system.relays.iter().enumerate() {
            if relay.phase != Phase::Disconnected {
                faults.push(Self::CrashRelay(r));
            }
            if relay.publishes() {
                faults.push(Self::RefusePublish(r));
            }
        }
        for (p, projector) in system.projectors.iter().enumerate() {
            if projector.0.is_some() {
                faults.push(Self::CrashProjector(p));
            }
            if projector.is_connected() {
                faults.push(Self::CutProjector(p));
            }
            if projector.takes_more(system) && system.broker.active != Some(p) {
                faults.push(Self::DeliverToStandby(p));
            }
            if projector.can_find_stall(system) && mutation != Mutation::NoStallRepair {
                faults.push(Self::LookTooEarly(p));
            }
        }
        faults.extend((1..=system.feed.losable.len()).map(|lost| Self::CrashFeed { lost }));
        faults
    }

    /// Makes it go wrong.
    pub fn happen(self, system: &mut System, mutation: Mutation) {
        system.faults_left -= 1;
        match self {
            Self::CrashRelay(r) => system.relays[r] = Relay::default(),
            Self::PauseLeader => system.outbox.led = false,
            Self::RefusePublish(r) => relay::refuse(system, r),
            Self::CrashProjector(p) => subscription::end_session(system, p),
            Self::CutProjector(p) => subscription::cut(system, p),
            Self::DeliverToStandby(p) => {
                projector::step(system, p, ProjectorStep::Deliver, mutation);
            }
            Self::LookTooEarly(p) => {
                projector::step(system, p, ProjectorStep::ReadHead, mutation);
            }
            Self::LoseMessage(index) => drop(system.broker.waiting().remove(index)),
            Self::DuplicateMessage(index) => {
                let queue = system.broker.waiting();
                queue.push(queue[index]);
            }
            Self::DelayMessage(index) => {
                let queue = system.broker.waiting();
                let delayed = queue.remove(index);
                queue.push(delayed);
            }
            Self::Purge => system.broker.waiting().clear(),
            Self::DeleteQueue => subscription::delete_queue(system),
            Self::LoseBroker => {
                system.broker.gone = true;
                subscription::delete_queue(system);
                system.relays.iter_mut().for_each(Relay::lose_broker);
            }
            Self::CrashFeed { lost } => {
                system.feed.crash(lost);
            }
        }
    }
}

fn of_queue(system: &System) -> Vec<Fault> {
    let length = system.broker.len();
    let mut faults = Vec::new();
    if system.broker.queue.is_some() {
        faults.push(Fault::DeleteQueue);
    }
    if length > 1 {
        faults.push(Fault::Purge);
    }
    faults.extend((0..length).map(Fault::LoseMessage));
    faults.extend((0..length).map(Fault::DuplicateMessage));
    faults.extend((1..length).map(|behind| Fault::DelayMessage(behind - 1)));
    faults
}

/// The relay that has the latest fence and is alive to renew the lease.
pub fn leader(system: &System) -> Option<&Relay> {
    system.relays.iter().find(|relay| relay.leads() && relay.fence == system.outbox.fence)
}

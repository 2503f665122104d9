//! How a subscription ends: both sides of it, at once or one after the other.

use crate::projector::Projector;
use crate::system::System;

/// The session ends with an error, or with its process.
pub fn end_session(system: &mut System, p: usize) {
    cut(system, p);
    system.projectors[p].0 = None;
}

/// The broker ends the connection of `p`, which does not know it yet.
pub fn cut(system: &mut System, p: usize) {
    let Some(session) = system.projectors[p].0.as_mut().filter(|session| session.connected) else {
        return;
    };
    session.connected = false;
    system.broker.take_back(session.unacknowledged().collect());
    if system.broker.active == Some(p) {
        system.broker.active = system.projectors.iter().position(Projector::is_connected);
    }
}

/// Somebody deletes the queue, and the broker cancels its consumers.
pub fn delete_queue(system: &mut System) {
    system.broker.queue = None;
    system.broker.active = None;
    for session in system.projectors.iter_mut().filter_map(|projector| projector.0.as_mut()) {
        session.connected = false;
    }
}

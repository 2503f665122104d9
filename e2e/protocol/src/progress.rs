//! Progress: once no more faults come, every run ends, with the whole log published and applied.
//!
//! `Property::eventually` would pass over a run that goes in a circle, and over one that joins
//! another on which the property already held: stateright says so itself. So progress is an `always`
//! property instead: in every reachable state, faults left or not, the part of the graph that can be
//! reached without a fault is searched, depth first. It has to be free of circles, and every state
//! without a further step has to be caught up, whether more can be appended or not. Both together say
//! that every run without a fault is finite and ends well, under whatever schedule: all that is
//! assumed is that some part which can move does so, and that the stall check, which waits for
//! seconds, comes last.
//!
//! What was searched once is remembered, so that each state is searched once in all.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Mutex, PoisonError};

use crate::protocol::{Action, Protocol};
use crate::seen::Seen;
use crate::system::System;

/// The states, by their hashes, from which every run without a fault ends well.
#[derive(Debug, Default)]
pub struct Progress {
    certain: Mutex<HashSet<u64>>,
}

impl Progress {
    /// Whether every run without a fault ends well from here.
    pub fn is_certain(&self, protocol: &Protocol, system: &System) -> bool {
        let mut certain = self.certain.lock().unwrap_or_else(PoisonError::into_inner);
        let mut search = Search { protocol, certain: &mut certain, on_the_way: HashSet::new() };
        search.ends_well(&without_faults(system.clone()))
    }
}

/// What does not matter to a run without a fault.
fn without_faults(mut system: System) -> System {
    system.faults_left = 0;
    system.feed.losable.clear();
    system.seen = Seen::default();
    system
}

struct Search<'a> {
    protocol: &'a Protocol,
    certain: &'a mut HashSet<u64>,
    /// The states between where the search began and where it is.
    on_the_way: HashSet<u64>,
}

impl Search<'_> {
    fn ends_well(&mut self, system: &System) -> bool {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(system);
        if self.certain.contains(&hash) {
            return true;
        }
        // What was applied wrongly stays so.
        let is_circle = !self.on_the_way.insert(hash);
        if is_circle || !system.feed.is_exact() {
            return false;
        }
        let actions = self.protocol.faultless(system);
        let rests = actions.iter().all(|action| *action == Action::Append);
        let ends_well = (!rests || system.is_caught_up())
            && actions
                .into_iter()
                .all(|action| self.ends_well(&without_faults(self.protocol.after(system, action))));
        self.on_the_way.remove(&hash);
        if ends_well {
            self.certain.insert(hash);
        }
        ends_well
    }
}

//! Running the checker, and saying what it did.

use std::io::{self, Write};
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::mutation::Mutation;
use crate::protocol::{Action, Bounds, Protocol};

/// What a run of the checker found.
pub struct Outcome {
    /// Each property that failed or was shown to be possible, and a way there.
    pub discoveries: Vec<(&'static str, Expectation, Vec<Action>)>,
}

impl Outcome {
    /// The way to where `property` fails, or to where it is shown to be possible.
    pub fn path(&self, property: &str) -> Option<&[Action]> {
        let found = self.discoveries.iter().find(|(name, ..)| *name == property);
        found.map(|(_, _, path)| path.as_slice())
    }
}

/// Visits every state within `bounds`, or stops soon after what `until` says.
fn check(mutation: Mutation, bounds: Bounds, until: HasDiscoveries) -> Outcome {
    let started = Instant::now();
    let protocol = Protocol::new(bounds, mutation);
    // Breadth first, for short counterexamples.
    let checker = protocol.checker().finish_when(until).spawn_bfs().join();
    // Not println!, which the test runner keeps to itself.
    let mut output = io::stdout();
    writeln!(
        output,
        "{mutation:?}, {bounds:?}: {} states, {} steps, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        started.elapsed().as_secs_f64()
    )
    .unwrap();
    let properties = checker.model().properties();
    let discoveries = checker
        .discoveries()
        .into_iter()
        .map(|(name, path)| {
            let property = properties.iter().find(|property| property.name == name).unwrap();
            (name, property.expectation.clone(), path.into_actions())
        })
        .collect();
    Outcome { discoveries }
}

/// Checks the protocol as it is, and returns the properties that were shown to be possible.
pub fn holds(bounds: Bounds) -> Outcome {
    let outcome = check(Mutation::None, bounds, HasDiscoveries::AnyFailures);
    for (name, expectation, path) in &outcome.discoveries {
        let is_failure = expectation.discovery_is_failure();
        assert!(!is_failure, "not so: {name}, after {path:#?}");
    }
    outcome
}

/// Checks that `mutation` breaks `property`, and shows how.
pub fn counterexample(mutation: Mutation, bounds: Bounds, property: &'static str) {
    let outcome = check(mutation, bounds, HasDiscoveries::AnyOf([property].into()));
    let path = outcome.path(property);
    println!("{path:#?}");
    assert!(path.is_some(), "{mutation:?} does not break: {property}");
}

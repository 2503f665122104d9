//! What the tests on real servers stand on: databases and virtual hosts of their own, the two
//! programs, a client, random histories, and the definition of a feed to hold everything against.
//!
//! The servers are those of `DATABASE_URL`, `AMQP_URL` and `RABBITMQ_UI`; `run_tests.sh` brings them
//! up. Each test has its own database and virtual host, so that tests can run side by side.

pub mod broker_cluster;
pub mod browser;
pub mod citus;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod database;
pub mod exact;
pub mod gate;
pub mod history;
pub mod live;
pub mod model;
pub mod own_broker;
pub mod pages;
pub mod pgbouncer;
pub mod process;
pub mod prometheus;
pub mod raw;
pub mod roles;
pub mod system;
pub mod token;
pub mod unpacked;
pub mod vhost;

use std::time::Duration;

/// How long a test waits for what must happen. Far more than it takes, because machines are shared;
/// a test that gets here has failed.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// How many positions the ranges of the tests' logs have: so few that each log has several.
pub const RANGE_EVENTS: i64 = 64;

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `condition` gives something.
///
/// # Panics
/// After [`PATIENCE`], with what was waited for.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits for `work`.
///
/// # Panics
/// After [`PATIENCE`], with what was waited for.
pub async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// The value of an environment variable that `run_tests.sh` sets.
///
/// # Panics
/// When it is not set.
#[must_use]
pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: use ./run_tests.sh, or eval \"$(scripts/services.sh env)\"")
    })
}

//! The log and its outbox in PostgreSQL. All SQL that touches them is below this module, except
//! what a command is decided against, which only the appender needs.

pub mod append;
pub mod connections;
pub mod database;
pub mod explain;
pub mod fault;
pub mod follow;
pub mod history;
pub mod hops;
pub mod nodes;
pub mod outbox;
pub mod ranges;
pub mod read;
pub mod schema;

use std::time::Duration;

use sqlx::postgres::types::PgInterval;

pub use connections::Connections;
pub use database::{ConnectError, Database, Engine};
pub use fault::{Fault, late};

/// `duration` as PostgreSQL has it.
#[must_use]
pub fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}

/// The channel on which each appended batch announces the new head of the log.
pub const LOG_CHANNEL: &str = "rookery_log";

/// The channel of the log's database on which readers are announced who read again after long, by their id.
pub const RETURNED_CHANNEL: &str = "rookery_returned";

/// Who has not read for less than this is announced by nobody when they do, and so must not be dormant yet: twice as long as the
/// time between two readings that are written down.
pub const DORMANT_AFTER_MIN: Duration = Duration::from_hours(48);

/// The longest that the read model stands still while another generation takes its place. Readers who wait for a position
/// have at least twice as long, and it is far below the time after which PostgreSQL ends an idle transaction.
pub const SWAP_STANDSTILL_MAX_MS: u64 = 1_000;

/// The limit of a statement that wants the newest row and has no other parameter. Without any, it would
/// be planned once, for the tables as they are then, also in sessions that plan each time.
pub const NEWEST_ONE: i64 = 1;

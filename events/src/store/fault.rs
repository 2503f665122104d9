//! What a failed statement means for whoever sent it: the one place that knows PostgreSQL's states.
//!
//! <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use std::io;
use std::time::Duration;

/// The fate of a statement that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection was cut, or the server is away, starting or stopping. The same statement on
    /// another connection can succeed.
    Away,
    /// The session leads to a server that takes no writes: a standby, since a failover. It never
    /// will, so the session has to go.
    ReadOnly,
    /// Somebody else held what the statement needs, or it took too long.
    Busy,
    /// The server has no room: memory, connections, or its disk.
    Full,
    /// What the statement reads was not made yet, or no longer is: the schema is another one.
    Absent,
    /// The role may not do it.
    Denied,
    /// The statement itself is refused, and would be again.
    Refused,
}

impl Fault {
    /// What `error` means.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::BeginFailed
            | sqlx::Error::WorkerCrashed => Self::Away,
            sqlx::Error::Database(error) => {
                error.code().map_or(Self::Refused, |code| Self::of_state(&code))
            }
            _ => Self::Refused,
        }
    }

    fn of_state(code: &str) -> Self {
        match code {
            "25006" => Self::ReadOnly,
            // lock_not_available, query_canceled
            "55P03" | "57014" => Self::Busy,
            // undefined_table, undefined_column, invalid_schema_name
            "42P01" | "42703" | "3F000" => Self::Absent,
            // insufficient_privilege
            "42501" => Self::Denied,
            // idle_in_transaction_session_timeout, which ends the session
            "25P03" => Self::Away,
            _ => match code.get(..2) {
                // connection, operator intervention, system error
                Some("08" | "57" | "58") => Self::Away,
                // rolled back, object in use
                Some("40" | "55") => Self::Busy,
                Some("53") => Self::Full,
                _ => Self::Refused,
            },
        }
    }

    /// In one word, for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::ReadOnly => "read_only",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Absent => "absent",
            Self::Denied => "denied",
            Self::Refused => "refused",
        }
    }

    /// Whether the same can succeed later, without anything about it being changed.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Self::Away | Self::ReadOnly | Self::Busy | Self::Full)
    }

    /// Whether the session that met it is of no more use.
    #[must_use]
    pub const fn ends_session(self) -> bool {
        matches!(self, Self::Away | Self::ReadOnly)
    }
}

/// The error of a server that did not answer within `limit`.
#[must_use]
pub fn late(limit: Duration) -> sqlx::Error {
    let what = format!("no answer within {} s", limit.as_secs_f64());
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, what))
}

/// Whether `error` says that the disk of the server is full.
#[must_use]
pub fn is_disk_full(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("53100"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_one_fate() {
        for (code, fault) in [
            ("08006", Fault::Away),
            ("57P01", Fault::Away),
            ("25P03", Fault::Away),
            ("25006", Fault::ReadOnly),
            ("57014", Fault::Busy),
            ("40P01", Fault::Busy),
            ("55P03", Fault::Busy),
            ("53100", Fault::Full),
            ("53300", Fault::Full),
            ("42P01", Fault::Absent),
            ("42501", Fault::Denied),
            ("23505", Fault::Refused),
            ("22P02", Fault::Refused),
        ] {
            assert_eq!(Fault::of_state(code), fault, "{code}");
        }
    }
}

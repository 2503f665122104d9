//! One module per command.

pub mod dead_letters;
pub mod explain;
pub mod rebuild;
pub mod run;
pub mod status;
pub mod verify;

use std::process::ExitCode;
use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use events::amqp::BrokerError;
use events::lifecycle::Ended;
use events::metrics::MetricsError;
use events::projection::PROJECTIONS;
use events::store::ConnectError;
use events::store::explain::ExplainError;
use events::store::schema::SchemaError;
use events::{Position, ProjectionName};

use crate::dead_letters::DeadLettersError;
use crate::projection::{OtherHistory, ProjectionError};
use crate::rebuild::RebuildError;
use crate::verify::VerifyError;

/// A look must not wait behind whatever may be wrong.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// What fits every terminal.
const TABLE_WIDTH: u16 = 80;

/// Exit codes besides 0, done; see `--help`.
const FAILED_OR_DIFFERS: u8 = 1;
const BAD_USAGE: u8 = 2;
const COULD_NOT_LOOK: u8 = 3;
const BEHIND: u8 = 4;

/// The projections that a command is about: those that it names, or all.
fn asked_for(named: &[ProjectionName]) -> Vec<ProjectionName> {
    let about = |projection: &ProjectionName| named.is_empty() || named.contains(projection);
    PROJECTIONS.into_iter().filter(about).collect()
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Ended(#[from] Ended<ProjectionError>),
    #[error(transparent)]
    Projection(#[from] ProjectionError),
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("{}; projector rebuild makes the read model again from the log", differences(*.0))]
    Differs(u64),
    #[error("there is no log at DATABASE_URL, or one of an older release: start the api first")]
    NoLog,
    #[error(transparent)]
    Explain(#[from] ExplainError),
    #[error("the read model differs from the log at position {0}")]
    FeedDiffers(Position),
    #[error(transparent)]
    OtherHistory(#[from] OtherHistory),
    #[error("{what} has been behind the log for {seconds:.0} s")]
    Behind { what: &'static str, seconds: f64 },
    #[error(transparent)]
    DeadLetters(#[from] DeadLettersError),
    #[error("there is no dead letter {0}; projector dead-letters list has them")]
    NoDeadLetter(String),
    #[error("the log cannot be read: {0}")]
    Log(sqlx::Error),
    #[error("the read model cannot be read: {0}")]
    Feed(sqlx::Error),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
}

/// A table of what a command found. Colours are for terminals, and not where `NO_COLOR` is set (<https://no-color.org>).
fn empty_table() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(TABLE_WIDTH);
    if console::colors_enabled() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

fn differences(count: u64) -> String {
    if count == 1 { "1 difference".to_owned() } else { format!("{count} differences") }
}

impl CommandError {
    /// What a monitor can tell apart: that something differs from the log, a wrong flag or variable,
    /// and, of a command that `only_looks`, that it could not, or that something is behind.
    #[must_use]
    pub fn exit_code(&self, only_looks: bool) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_)
            | Self::Connect(ConnectError::Url { .. })
            | Self::Explain(ExplainError::Beyond { .. })
            | Self::Broker(BrokerError::Url(_)) => BAD_USAGE,
            Self::Differs(_)
            | Self::FeedDiffers(_)
            | Self::OtherHistory(_)
            | Self::NoDeadLetter(_) => FAILED_OR_DIFFERS,
            Self::Behind { .. } => BEHIND,
            _ if only_looks => COULD_NOT_LOOK,
            _ => FAILED_OR_DIFFERS,
        })
    }
}

//! Why a projection does not go on.

use events::event::DecodeError;
use events::store::ranges::Archived;
use events::store::schema::SchemaError;
use events::{Mark, Position};

use super::transaction::TRANSACTION_TIMEOUT;
use crate::checkpoint::{AdvanceError, Fenced};

/// Why a run was not applied. Nothing of it was, then.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Fenced(#[from] Fenced),
    #[error("the read model cannot be written: {0}")]
    Database(#[from] sqlx::Error),
    #[error("position {found} follows {after}: the log has a hole")]
    Hole { after: Position, found: Position },
}

impl From<AdvanceError> for ApplyError {
    fn from(error: AdvanceError) -> Self {
        match error {
            AdvanceError::Fenced(error) => Self::Fenced(error),
            AdvanceError::Database(error) => Self::Database(error),
        }
    }
}

/// Why the projection does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("the log cannot be read: {0}")]
    Log(#[source] sqlx::Error),
    #[error(transparent)]
    OtherHistory(#[from] OtherHistory),
    #[error("the read model is at position {at}: {archived}")]
    Archived { at: Position, archived: Archived },
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("the log ends before position {0}, which a message carries")]
    Beyond(Position),
    #[error("the read model did not answer within {} s", TRANSACTION_TIMEOUT.as_secs())]
    Silent,
    #[error("asked to stop before all of it was applied")]
    Stopping,
}

/// A read model that was made from another log than this one is, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the read model is of another history: it is at {0}, which the log does not have; the log was \
     restored from an older backup, or FEED_DATABASE_URL belongs to another log; projector rebuild \
     makes the read models again from this log"
)]
pub struct OtherHistory(pub Mark);

impl ProjectionError {
    /// Whether an operator has to act before another try makes sense.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::OtherHistory(_)
            | Self::Archived { .. }
            | Self::Schema(SchemaError::Newer { .. })
            | Self::Apply(ApplyError::Decode(_) | ApplyError::Hole { .. }) => true,
            Self::Apply(ApplyError::Fenced(_) | ApplyError::Database(_))
            | Self::Log(_)
            | Self::Schema(_)
            | Self::Beyond(_)
            | Self::Silent
            | Self::Stopping => false,
        }
    }
}

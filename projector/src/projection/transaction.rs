//! How long a transaction of a projection may take.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ApplyError, ProjectionError};

/// The most that one may take, connection and all: a hundred times what its work is bounded to. For a server that is gone
/// without a word.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_mins(1);

/// How long one may still take when the process has to stop. Then it is given up, and done anew by whoever projects
/// next.
const STOP_PATIENCE: Duration = Duration::from_secs(4);

/// Runs transactions, for which neither a server that is gone nor a shutdown waits.
#[derive(Debug, Clone)]
pub struct InTime {
    shutdown: CancellationToken,
}

impl InTime {
    /// Once `shutdown` is cancelled none begins any more.
    #[must_use]
    pub const fn until(shutdown: CancellationToken) -> Self {
        Self { shutdown }
    }

    /// Runs `transaction`.
    ///
    /// # Errors
    /// Its own; [`ProjectionError::Silent`] or [`ProjectionError::Stopping`] when it was given up.
    pub async fn run<T>(
        &self,
        transaction: impl Future<Output = Result<T, impl Into<ApplyError>>>,
    ) -> Result<T, ProjectionError> {
        if self.shutdown.is_cancelled() {
            return Err(ProjectionError::Stopping);
        }
        let out_of_time = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        };
        tokio::select! {
            done = tokio::time::timeout(TRANSACTION_TIMEOUT, Box::pin(transaction)) => {
                Ok(done.map_err(|_| ProjectionError::Silent)?.map_err(Into::into)?)
            }
            () = out_of_time => Err(ProjectionError::Stopping),
        }
    }
}

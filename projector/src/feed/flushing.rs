//! What has committed reaches replicas soon.
//!
//! Commits of the projector do not wait for the disk (ADR 0005), and PostgreSQL sends a replica nothing that is not on the
//! primary's: half a second later on an idle server, by its own pace. So where somebody replicates, the write-ahead log is
//! flushed beside the work, once for all that has committed since the last time.

use std::sync::Arc;
use std::time::Duration;

use events::store::Connections;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The rest between two flushes: with a disk that takes a millisecond for one, a sixth of its time at most.
const PACE: Duration = Duration::from_millis(5);

/// How often it is looked whether somebody replicates, while nobody does.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Takes note of commits. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Committed(Arc<Notify>);

impl Committed {
    /// Notes that something has committed.
    pub(super) fn note(&self) {
        self.0.notify_one();
    }

    /// Has what is noted flushed, through `connections`, until `stop` is cancelled. What fails is tried again with the next
    /// commit: until then the server flushes at its own pace.
    pub async fn flush(self, connections: Connections, stop: CancellationToken) {
        let flushing = async {
            loop {
                self.0.notified().await;
                let is_replicated = flush_where_replicated(&connections).await;
                if let Err(error) = &is_replicated {
                    tracing::debug!(%error, "what has committed was not flushed");
                }
                tokio::time::sleep(match is_replicated {
                    Ok(true) => PACE,
                    Ok(false) | Err(_) => LOOK_EVERY,
                })
                .await;
            }
        };
        tokio::select! {
            () = flushing => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Flushes what has committed, unless nobody replicates the server. Whether somebody does.
///
/// A commit that waits for the disk has all before it written too; to be one, it has to have something to write, which is
/// a message that nobody decodes. It does not wait for the replicas.
async fn flush_where_replicated(connections: &Connections) -> Result<bool, sqlx::Error> {
    let flushed = sqlx::query_scalar!(
        r#"
        select case when exists (select from pg_stat_replication) then
            set_config('synchronous_commit', 'local', true)
            || pg_logical_emit_message(true, 'rookery', '')::text
        end is not null as "is_replicated!"
        "#
    );
    flushed.fetch_one(connections).await
}

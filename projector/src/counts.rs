//! The projection of counts: how many tweets, followers and authors followed each user has.
//!
//! It shares nothing with the feeds but the log, so each can be rebuilt, be behind or be away without the other.

mod apply;
mod compare;
mod net;

use std::time::Duration;

use events::projection::ProjectionName;
use events::store::Connections;
use events::store::schema::Schema;
use events::{Clock, RecordedEvent};
use tokio_util::sync::CancellationToken;

use crate::bounds::{APPLY_MAX_EVENTS, Bounds};
use crate::checkpoint::Checkpoint;
use crate::generation::Layout;
use crate::projection::{InTime, ProjectionError, ReadModel, add_to_traces};
use crate::rebuild::Rebuild;
use crate::verify::{DIFFERENCES_LISTED, Report, VerifyError};
pub use compare::compare;

/// See the module.
#[derive(Debug)]
pub struct Counts {
    database: Connections,
    in_time: InTime,
}

impl ReadModel for Counts {
    const LAYOUT: Layout = Layout {
        projection: ProjectionName::Counts,
        schema: Schema::Counts,
        tables: &[
            "checkpoint",
            "user_counts",
            "counted_follows",
            "counts_migrations",
            "compatibility",
        ],
        // "counts" as a number.
        lock: 0x636f_756e_7473,
    };

    // Ten transactions a second whatever the load, where the feeds have a hundred: a profile is not a conversation.
    const GATHERS_FOR: Duration = Duration::from_millis(100);

    type Facts = ();

    fn at(connections: &Connections, _: Bounds, shutdown: &CancellationToken) -> Self {
        Self { database: connections.clone(), in_time: InTime::until(shutdown.clone()) }
    }

    async fn write(
        &self,
        checkpoint: &mut Checkpoint,
        events: &[RecordedEvent],
    ) -> Result<(), ProjectionError> {
        let received_at = Clock::system().now();
        for run in events.chunks(APPLY_MAX_EVENTS) {
            let applying = apply::apply(&self.database, *checkpoint, run);
            *checkpoint = self.in_time.run(applying).await?;
            add_to_traces(ProjectionName::Counts, run, received_at);
        }
        Ok(())
    }

    async fn compare(
        log: &Connections,
        connections: &Connections,
        (): &mut (),
        rebuild: &Rebuild,
    ) -> Result<Report, VerifyError> {
        compare(log, connections, DIFFERENCES_LISTED, rebuild.progress()).await
    }
}

//! The projection of the home feeds: who is there, what they write, whom they read, and the feeds themselves.
//!
//! A run of events is weighed (`work`), cut into transactions (`writer`), and each is applied (`apply`): its net effect is
//! [`changes`](crate::changes), which goes into the tables of `read_model`. `build` makes a whole generation in bulk.

pub mod apply;
mod build;
pub mod dormancy;
pub mod flushing;
pub mod hops;
pub mod pulled;
pub mod read_model;
pub mod work;
mod writer;

use events::RecordedEvent;
use events::projection::ProjectionName;
use events::store::Connections;
use events::store::schema::Schema;
use tokio_util::sync::CancellationToken;

use crate::bounds::Bounds;
use crate::checkpoint::Checkpoint;
use crate::generation::Layout;
use crate::projection::{Projection, ProjectionError, ReadModel};
use crate::rebuild::{Built, Rebuild, RebuildError};
use crate::verify::{self, Facts, Report, VerifyError};
pub use writer::HomeFeeds;

/// The feeds' tables, and how they are written.
pub type Feeds = Projection<HomeFeeds>;

impl Projection<HomeFeeds> {
    /// The projection of `log` into `feed` within `bounds`. Once `shutdown` is cancelled no further transaction begins.
    #[must_use]
    pub fn of_feeds(
        log: Connections,
        feed: Connections,
        bounds: Bounds,
        shutdown: CancellationToken,
    ) -> Self {
        let writer = HomeFeeds::new(feed.clone(), bounds, shutdown);
        Self::new(log, feed, writer)
    }
}

impl ReadModel for HomeFeeds {
    const LAYOUT: Layout = Layout {
        projection: ProjectionName::Feed,
        schema: Schema::Feed,
        tables: &[
            "checkpoint",
            "users",
            "tweets",
            "follows",
            "feed_items",
            "floors",
            "fan_outs",
            "pulled_authors",
            "reader_counts",
            "rules",
            "projector_hops",
            "projector_hops_0",
            "projector_hops_1",
            "feed_migrations",
            "compatibility",
        ],
        // "rookery" as a number.
        lock: 0x72_6f6f_6b65_7279,
    };

    type Facts = Facts;

    fn at(feed: &Connections, bounds: Bounds, shutdown: &CancellationToken) -> Self {
        Self::new(feed.clone(), bounds, shutdown.clone())
    }

    fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
        verify::settings()
    }

    async fn write(
        &self,
        checkpoint: &mut Checkpoint,
        events: &[RecordedEvent],
    ) -> Result<(), ProjectionError> {
        self.write(checkpoint, events).await
    }

    async fn go_on(&self, checkpoint: &mut Checkpoint) -> Result<(), ProjectionError> {
        self.go_on_with_fan_outs(checkpoint).await
    }

    async fn until_due(&self) {
        self.until_due().await;
    }

    async fn tend(&self, checkpoint: Checkpoint) -> Result<(), ProjectionError> {
        self.tend(checkpoint).await
    }

    async fn build(rebuild: &Rebuild, next: &Connections) -> Result<Built<Facts>, RebuildError> {
        build::build(rebuild, next).await
    }

    async fn compare(
        log: &Connections,
        feed: &Connections,
        facts: &mut Facts,
        rebuild: &Rebuild,
    ) -> Result<Report, VerifyError> {
        let listed = verify::DIFFERENCES_LISTED;
        verify::compare(log, feed, facts, listed, rebuild.progress()).await
    }
}

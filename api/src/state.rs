//! What every handler can reach.

use std::ops::Deref;
use std::sync::Arc;

use events::Position;
use events::store::Connections;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use crate::appender::Appender;
use crate::authentication::Authentication;
use crate::freshness::{Freshness, Missed};
use crate::live::Live;
use crate::markers::Markers;
use crate::own_hosts::OwnHosts;
use crate::pipeline::Pipeline;
use crate::position::{AsOf, MinPosition};
use crate::readiness::Readiness;
use crate::readings::Readings;
use crate::relay::RelayStatus;
use crate::replicas::Feeds;
use crate::ticket::Tickets;
use crate::web::Web;

/// See the module. One count to clone: each layer around a handler does that with each request.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

/// What is shared.
pub struct Shared {
    pub authentication: Authentication,
    pub appender: Appender,
    pub markers: Markers,
    pub readings: Readings,
    /// Reads of the log: its head, and nothing that a page depends on.
    pub log: Connections,
    /// Home feeds.
    pub feeds: Feeds,
    /// The read model of the feeds: for streams, and for who and what is in them.
    pub feed: ReadModel,
    pub counts: ReadModel,
    /// Whether both databases do.
    pub readiness: Readiness,
    pub live: Live,
    pub tickets: Tickets,
    pub log_head: watch::Receiver<Position>,
    pub checkpoint: watch::Receiver<Position>,
    /// `None` when this process runs no relay.
    pub relay: Option<watch::Receiver<RelayStatus>>,
    /// `None` where callers prove who they are.
    pub own_hosts: Option<OwnHosts>,
    /// For who watches all of it at work.
    pub pipeline: Pipeline,
    pub web: Web,
    /// `None` where they are served on an address of their own.
    pub metrics: Option<PrometheusHandle>,
}

/// A read model, for reads that wait for its own position.
#[derive(Debug, Clone)]
pub struct ReadModel {
    pub connections: Connections,
    pub freshness: Freshness,
}

impl ReadModel {
    /// See [`Freshness::read`].
    ///
    /// # Errors
    /// The same.
    pub async fn read<T, Reading>(
        &self,
        min: MinPosition,
        read: impl Fn(Connections) -> Reading,
    ) -> Result<AsOf<T>, Missed>
    where
        Reading: Future<Output = Result<AsOf<T>, sqlx::Error>>,
    {
        self.freshness.read(min, || read(self.connections.clone())).await
    }
}

impl From<Shared> for AppState {
    fn from(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

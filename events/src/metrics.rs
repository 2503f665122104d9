//! What the programs measure: each metric in one place, from which come the code that sets it, what
//! Prometheus is told about it, and the table in `docs/metrics.md`.
//!
//! Names follow Prometheus' conventions: base units, the unit last, `_total` for what only grows.
//! <https://prometheus.io/docs/practices/naming/>

use std::net::SocketAddr;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::projection::PROJECTIONS;
use crate::runtime::log_lines_dropped;

/// How often what nobody counts is looked at: the process itself, the lines that were dropped.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// From half a millisecond, a statement, to the seconds after which requests are given up.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Something that is measured.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// What tells its series apart.
    pub labels: &'static [&'static str],
    /// What its one label can say, where that is known beforehand.
    pub values: &'static [&'static str],
    /// What it means, for Prometheus and for people.
    pub help: &'static str,
}

/// What can be done with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows: ask for its rate.
    Counter,
    /// Is what it is.
    Gauge,
    /// How often it was up to each of these bounds: ask for its quantiles.
    Histogram(&'static [f64]),
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Metric {
    /// What only grows.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, labels: &[], values: &[], help }
    }

    /// What rises and falls.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, labels: &[], values: &[], help }
    }

    /// A histogram of times.
    #[must_use]
    pub const fn seconds(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram(SECONDS), labels: &[], values: &[], help }
    }

    /// A histogram of something else, counted up to each of `bounds`.
    #[must_use]
    pub const fn histogram(name: &'static str, bounds: &'static [f64], help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram(bounds), labels: &[], values: &[], help }
    }

    /// The same, with a series for each value of `labels`.
    #[must_use]
    pub const fn by(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }

    /// The same, with a series for each of the `values` of `label`.
    #[must_use]
    pub const fn of(
        self,
        label: &'static [&'static str; 1],
        values: &'static [&'static str],
    ) -> Self {
        Self { labels: label, values, ..self }
    }

    /// The same, with a series for each projection.
    #[must_use]
    pub const fn of_projections(self) -> Self {
        const NAMES: [&str; PROJECTIONS.len()] = [PROJECTIONS[0].name(), PROJECTIONS[1].name()];
        self.of(&["projection"], &NAMES)
    }

    fn describe(&self) {
        match self.kind {
            Kind::Counter => describe_counter!(self.name, self.help),
            Kind::Gauge => describe_gauge!(self.name, self.help),
            Kind::Histogram(_) => describe_histogram!(self.name, self.help),
        }
        // From the start, so that the first of a kind is an increase.
        match (self.kind, self.labels) {
            (Kind::Counter, []) => counter!(self.name).increment(0),
            (Kind::Counter, [label]) => {
                for value in self.values {
                    counter!(self.name, *label => *value).increment(0);
                }
            }
            _ => {}
        }
    }
}

pub const BUILD_INFO: Metric =
    Metric::gauge("rookery_build_info", "Always 1; which release this is.").by(&["version"]);

pub const LOGGING_LINES_DROPPED: Metric = Metric::counter(
    "rookery_logging_lines_dropped_total",
    "Log lines that nobody will read, because too many waited to be written.",
);

pub const CONNECTION_WAIT: Metric = Metric::seconds(
    "rookery_connection_wait_seconds",
    "How long it took to get a connection, where all were in use. The application is what PostgreSQL knows them by.",
)
.by(&["application"]);

pub const HOPS_DROPPED: Metric = Metric::counter(
    "rookery_hops_dropped_total",
    "Hops of the journey page that were not recorded. No feed needs them.",
)
.of(&["table"], &["relay_hops", "projector_hops"]);

pub const LOG_POSITION: Metric =
    Metric::gauge("rookery_log_position", "Position of the log's head: how many events there are.");

pub const PROJECTOR_POSITION: Metric =
    Metric::gauge("rookery_projector_position", "Position up to which a projection is readable.")
        .of_projections();

pub const PROJECTOR_LAG_EVENTS: Metric =
    Metric::gauge("rookery_projector_lag_events", "Events in the log that it does not show yet.")
        .of_projections();

pub const PROJECTOR_LAG_SECONDS: Metric = Metric::gauge(
    "rookery_projector_lag_seconds",
    "For how long the oldest event has been in the log that it does not show yet; 0 when it shows all.",
)
.of_projections();

pub const PROJECTOR_FOLLOWS_LOG: Metric = Metric::gauge(
    "rookery_projector_follows_log",
    "1 while the projector reads the log itself, because RabbitMQ does not bring what is in it.",
)
.of_projections();

/// What both programs have, be it that each does it or that each sees it.
pub const OF_BOTH: &[Metric] = &[
    BUILD_INFO,
    LOGGING_LINES_DROPPED,
    CONNECTION_WAIT,
    HOPS_DROPPED,
    LOG_POSITION,
    PROJECTOR_POSITION,
    PROJECTOR_LAG_EVENTS,
    PROJECTOR_LAG_SECONDS,
    PROJECTOR_FOLLOWS_LOG,
];

/// Why the metrics cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("the metrics cannot be served on {address}: {source}")]
    Bind { address: SocketAddr, source: BuildError },
    #[error("the metrics could not be set up: {0}")]
    SetUp(#[from] BuildError),
}

/// Measures from now on what is in [`OF_BOTH`] and in `own`, and serves it on an `address` of its own if
/// there is one.
///
/// # Errors
/// [`MetricsError`], which says what an operator should do.
pub fn start(
    own: &[Metric],
    address: Option<SocketAddr>,
) -> Result<PrometheusHandle, MetricsError> {
    let mut builder = PrometheusBuilder::new();
    for metric in OF_BOTH.iter().chain(own) {
        if let Kind::Histogram(bounds) = metric.kind {
            let name = Matcher::Full(metric.name.to_owned());
            builder = builder.set_buckets_for_metric(name, bounds)?;
        }
    }
    let recorder = match address {
        None => builder.build_recorder(),
        Some(address) => {
            let (recorder, serving) = builder
                .with_http_listener(address)
                .build()
                .map_err(|source| MetricsError::Bind { address, source })?;
            tokio::spawn(serving);
            recorder
        }
    };
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(BuildError::from)?;
    for metric in OF_BOTH.iter().chain(own) {
        metric.describe();
    }
    gauge!(BUILD_INFO.name, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    tokio::spawn(look(handle.clone()));
    Ok(handle)
}

/// For as long as the process lives: what it does while it stops is of interest too.
async fn look(handle: PrometheusHandle) {
    let process = metrics_process::Collector::default();
    process.describe();
    loop {
        process.collect();
        counter!(LOGGING_LINES_DROPPED.name).absolute(log_lines_dropped());
        handle.run_upkeep();
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

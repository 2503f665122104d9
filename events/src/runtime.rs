//! How a process starts to log and how it is asked to stop.

use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::ChronoUtc;

/// From SIGTERM to the end of the process, at the latest.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(9);

/// What is logged without `RUST_LOG`. lapin reports each lost connection several times over; our
/// own message says it once.
const DEFAULT_FILTER: &str = "info,lapin=off,sqlx=warn";

/// Starts logging to standard error: for people on a terminal, JSON elsewhere.
///
/// # Errors
/// A sentence that names what is wrong with `RUST_LOG`.
pub fn init_logging() -> Result<(), String> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .map_err(|error| format!("RUST_LOG={text} is not a filter: {error}"))?,
        _ => EnvFilter::new(DEFAULT_FILTER),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_timer(ChronoUtc::rfc_3339());
    if io::stderr().is_terminal() {
        log.with_target(false).init();
    } else {
        log.json().flatten_event(true).init();
    }
    Ok(())
}

/// How this process is called wherever a person may look for it: `rookery relay host 4711`. In a
/// container every process has the same id, so the host is part of it.
#[must_use]
pub fn instance_name(role: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("rookery {role} {} {}", host.trim(), std::process::id())
}

/// A token that is cancelled by SIGTERM or SIGINT (Ctrl-C).
///
/// # Errors
/// The system's error when a handler cannot be set.
pub fn shutdown_on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop: finishing what is in flight");
        token.cancel();
    });
    Ok(shutdown)
}

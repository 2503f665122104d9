//! How a process starts to log and how it is asked to stop.
//!
//! **Invariant**: logging is best effort. Nothing that happens to the log changes what a process does.

use std::io::{self, IsTerminal, Write};
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::ChronoUtc;

/// From SIGTERM to the end of the process, at the latest.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(9);

/// What is logged without `RUST_LOG`. lapin reports each lost connection several times over; our
/// own message says it once.
const DEFAULT_FILTER: &str =
    "info,lapin=off,sqlx=warn,opentelemetry=warn,opentelemetry_sdk=warn,opentelemetry-otlp=warn";

/// The most lines that wait to be written: some megabytes. Beyond that lines are dropped and counted.
const LOG_WAITING_MAX_LINES: usize = 8_192;

/// Lines that could not be written, since the process began.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Writes the log. What waits when this is dropped is written, within a second.
#[derive(Debug)]
pub struct Logging {
    lines: NonBlocking,
    writing: Option<WorkerGuard>,
}

impl Logging {
    /// Starts logging to standard error: for people on a terminal, JSON elsewhere.
    ///
    /// A thread of its own writes, so that whatever stands at the other end, or no longer does, keeps
    /// nobody waiting and makes nobody fail.
    ///
    /// # Errors
    /// A sentence that names what is wrong with `RUST_LOG`.
    pub fn start() -> Result<Self, String> {
        let filter = match std::env::var("RUST_LOG") {
            Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
                .map_err(|error| format!("RUST_LOG={text} is not a filter: {error}"))?,
            _ => EnvFilter::new(DEFAULT_FILTER),
        };
        let (lines, writing) = NonBlockingBuilder::default()
            .buffered_lines_limit(LOG_WAITING_MAX_LINES)
            .thread_name("log")
            .finish(io::stderr());
        DROPPED.get_or_init(|| lines.error_counter());
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(lines.clone())
            .with_timer(ChronoUtc::rfc_3339())
            .log_internal_errors(false);
        if io::stderr().is_terminal() {
            log.with_target(false).init();
        } else {
            log.json().flatten_event(true).with_span_list(false).init();
        }
        std::panic::set_hook(Box::new(log_panic));
        Ok(Self { lines, writing: Some(writing) })
    }

    /// Writes one line that is no log line: what the process ends with.
    pub fn say(&self, line: &str) {
        // Writing to it only queues the line.
        let queued = self.lines.clone().write_all(format!("{line}\n").as_bytes());
        queued.unwrap_or_default();
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        // Where nobody reads what is full, the guard says so on standard output, or panics there.
        let writing = self.writing.take();
        drop(std::panic::catch_unwind(AssertUnwindSafe(|| drop(writing))));
    }
}

/// How many lines of the log could not be written because too many waited.
#[must_use]
pub fn log_lines_dropped() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.dropped_lines() as u64)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    tracing::error!(
        panic = panic.payload_as_str(),
        panic.location = location,
        "something panicked: a fault of this program"
    );
}

/// Ends a process whose settings are wrong before it could begin to log.
#[must_use]
pub fn usage_error(line: &str) -> ExitCode {
    // Where nobody reads it, the exit code has to do.
    writeln!(io::stderr(), "{line}").unwrap_or_default();
    ExitCode::from(2)
}

/// How this process is called wherever a person may look for it: `rookery relay host 4711`. In a
/// container every process has the same id, so the host is part of it.
#[must_use]
pub fn instance_name(role: &str) -> String {
    format!("rookery {role} {}", host_and_process())
}

/// Where this process runs, and its number there.
#[must_use]
pub fn host_and_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{} {}", host.trim(), std::process::id())
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
        token.cancel();
        tracing::info!("asked to stop: finishing what is in flight");
    });
    Ok(shutdown)
}

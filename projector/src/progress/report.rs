//! Reporting progress: a bar on a terminal, lines elsewhere, gauges, and a row for `status`.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use events::metrics::LOG_POSITION;
use events::store::{Connections, Fault};
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use metrics::gauge;
use serde::Serialize;
use sqlx::AssertSqlSafe;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};

use super::{Moment, Phase, Progress};
use crate::generation::{Layout, next_schema};
use crate::metrics::{REBUILD_FEED_ROWS, REBUILD_PHASE, REBUILD_PHASE_RATIO, REBUILD_POSITION};

/// How often the bar and the gauges move.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// How often the numbers are stored for `status`.
const STORE_EVERY: Duration = Duration::from_secs(1);

/// Prefix, bar and message in 80 columns.
const TEMPLATE: &str = "{prefix:>13} [{bar:20}] {msg}";

/// Reports until it is stopped.
#[derive(Debug)]
pub struct Reporter {
    task: JoinHandle<()>,
    stopped: CancellationToken,
}

impl Reporter {
    /// Starts to report `progress`; a rebuild of `next` stores it there as well.
    #[must_use]
    pub fn start(progress: Progress, next: Option<Connections>) -> Self {
        let stopped = CancellationToken::new();
        let task = tokio::spawn(report(progress, next, stopped.clone()));
        Self { task, stopped }
    }

    /// Reports a last time and ends.
    pub async fn stop(self) {
        self.stopped.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the progress could not be reported");
        }
    }
}

async fn report(progress: Progress, next: Option<Connections>, stopped: CancellationToken) {
    let mut display = Display::new();
    let mut stored: Option<Instant> = None;
    let mut phases_ended = 0;
    loop {
        let last = stopped.is_cancelled();
        for (phase, took) in progress.finished().drain(phases_ended..) {
            phases_ended += 1;
            display.phase_ended(phase, took);
        }
        let moment = progress.now();
        set_gauges(&moment);
        if last {
            return display.clear();
        }
        display.show(&moment);
        let due = stored.is_none_or(|at| at.elapsed() >= STORE_EVERY);
        if let Some(next) = next.as_ref().filter(|_| due && moment.phase != Phase::Swap) {
            stored = Some(Instant::now());
            if let Err(error) = store(next, &moment).await {
                tracing::debug!(%error, "the progress could not be stored for status");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(DRAW_EVERY) => {}
            () = stopped.cancelled() => {}
        }
    }
}

/// Where people look.
enum Display {
    Bar(ProgressBar),
    Lines(Lines),
}

/// Lines on standard output, written by a thread of their own: a reader that is slow or gone is no
/// reason to stop the work.
struct Lines {
    output: NonBlocking,
    /// Writes what waits when it is dropped.
    _writing: WorkerGuard,
    printed: Instant,
}

impl Lines {
    fn print(&mut self, line: &str) {
        // Writing to it only queues the line, or drops it where too many wait.
        self.output.write_all(format!("{line}\n").as_bytes()).unwrap_or_default();
    }
}

impl Display {
    fn new() -> Self {
        if !stderr().is_terminal() {
            let (output, writing) = tracing_appender::non_blocking(stdout());
            return Self::Lines(Lines { output, _writing: writing, printed: Instant::now() });
        }
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well-formed");
        bar.set_style(style.progress_chars("=> "));
        Self::Bar(bar)
    }

    fn show(&mut self, moment: &Moment) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(moment.total);
                bar.set_position(moment.done);
                bar.set_prefix(moment.phase.name());
                bar.set_message(moment.facts());
            }
            Self::Lines(lines) if lines.printed.elapsed() >= LINE_EVERY => {
                lines.printed = Instant::now();
                lines.print(&format!("{}: {}", moment.phase.name(), moment.facts()));
            }
            Self::Lines(_) => {}
        }
    }

    fn phase_ended(&mut self, phase: Phase, took: Duration) {
        let line = format!("{:>13}  {:.1} s", phase.name(), took.as_secs_f64());
        match self {
            Self::Bar(bar) => bar.println(line),
            Self::Lines(lines) => {
                lines.print(&line);
                tracing::info!(phase = phase.name(), elapsed_s = took.as_secs_f64(), "phase ended");
            }
        }
    }

    fn clear(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl Moment {
    /// Where it is, how fast it goes and how long it will take, as people read it.
    #[must_use]
    pub fn facts(&self) -> String {
        let elapsed = self.phase_began.elapsed();
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let per_second = |count: u64| count.saturating_mul(1_000) / milliseconds;
        let rate = per_second(self.done);
        let (done, total) = (HumanCount(self.done), HumanCount(self.total));
        let facts = match self.phase {
            Phase::Replay | Phase::CatchUp | Phase::CheckLog => {
                let position = HumanCount(self.position.0.unsigned_abs());
                let head = HumanCount(self.head.0.unsigned_abs());
                format!("position {position} of {head}, {} events/s", HumanCount(rate))
            }
            Phase::Feeds => {
                let rows = HumanCount(per_second(self.feed_rows));
                format!("{done} of {total} readers, {rows} feed rows/s")
            }
            phase => format!("{done} of {total} {}", phase.unit()),
        };
        if self.done == 0 || self.done >= self.total {
            return facts;
        }
        let left = elapsed.mul_f64((self.total - self.done) as f64 / self.done as f64);
        format!("{facts}, {} left", HumanDuration(left))
    }
}

fn set_gauges(moment: &Moment) {
    for phase in Phase::ALL {
        let here = if phase == moment.phase { 1.0 } else { 0.0 };
        gauge!(REBUILD_PHASE.name, "phase" => phase.name()).set(here);
    }
    let ratio = if moment.total == 0 { 0.0 } else { moment.done as f64 / moment.total as f64 };
    gauge!(REBUILD_PHASE_RATIO.name).set(ratio);
    gauge!(REBUILD_POSITION.name).set(moment.position.0 as f64);
    gauge!(REBUILD_FEED_ROWS.name).set(moment.feed_rows as f64);
    gauge!(LOG_POSITION.name).set(moment.head.0 as f64);
}

/// The numbers of a rebuild as `status` finds them.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Stored {
    pub phase: String,
    pub done: i64,
    pub total: i64,
    pub unit: String,
    pub position: i64,
    pub head: i64,
    pub feed_rows: i64,
    pub began_at: DateTime<Utc>,
    pub stored_at: DateTime<Utc>,
}

/// Makes the table for [`stored`] in a generation that is being built: it goes with its schema.
pub(crate) async fn make_table(next: &Connections) -> Result<(), sqlx::Error> {
    sqlx::query(
        "create table rebuild (
            only_row boolean primary key default true check (only_row),
            phase text not null, done bigint not null, total bigint not null, unit text not null,
            position bigint not null, head bigint not null, feed_rows bigint not null,
            began_at timestamptz not null default now(), stored_at timestamptz not null default now()
        )",
    )
    .execute(next)
    .await?;
    Ok(())
}

async fn store(next: &Connections, moment: &Moment) -> Result<(), sqlx::Error> {
    let Moment { phase, done, total, position, head, feed_rows, .. } = *moment;
    sqlx::query(
        "insert into rebuild (phase, done, total, unit, position, head, feed_rows)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (only_row) do update set phase = $1, done = $2, total = $3, unit = $4,
            position = $5, head = $6, feed_rows = $7, stored_at = now()",
    )
    .bind(phase.name())
    .bind(done.cast_signed())
    .bind(total.cast_signed())
    .bind(phase.unit())
    .bind(position.0)
    .bind(head.0)
    .bind(feed_rows.cast_signed())
    .execute(next)
    .await?;
    Ok(())
}

/// What a rebuild stored last; `None` when none is under way and none was left.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn stored(
    connections: &Connections,
    layout: Layout,
) -> Result<Option<Stored>, sqlx::Error> {
    let mut lent = connections.lend().await?;
    let Some(schema) = next_schema(&mut lent, layout).await? else {
        lent.give_back();
        return Ok(None);
    };
    let select = AssertSqlSafe(format!(
        "select phase, done, total, unit, position, head, feed_rows, began_at, stored_at from {schema}.rebuild"
    ));
    let stored = sqlx::query_as(select).fetch_optional(&mut *lent).await;
    lent.give_back();
    match stored {
        Err(error) if Fault::of(&error) == Fault::Absent => Ok(None),
        stored => stored,
    }
}

//! The appender: the one place where commands become events.
//!
//! Commands wait in a bounded queue. Whatever waits when the previous transaction has committed is
//! the next batch: one transaction, one lock of the log's head, one commit for all of it. The
//! batch grows by itself with the load, so nothing is delayed in order to fill it.
//!
//! **Invariant**: a command is answered with success only after the transaction that holds its
//! events has committed with `synchronous_commit = on`.

mod batch;
mod decision_store;
mod expected;
pub(crate) mod forget;
mod ranges;
mod transaction;

use std::time::Duration;

use events::recorded::Metadata;
use events::store::{Connections, follow};
use events::trace::{self, Span, SpanKind};
use events::{Clock, Position};
use metrics::{counter, histogram};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::{Command, Rejection};
use crate::metrics::{APPEND, APPEND_FAILURES};
pub use batch::{Accepted, IdempotencyKey};
use expected::Expected;
use ranges::Ranges;
use transaction::{Answers, AppendError, Beliefs};

/// The most commands that wait. At 10,000 commands/s the last one waits 200 ms; beyond it the
/// client hears 503 at once instead of queueing for longer than it would wait.
pub const APPEND_QUEUE_MAX: usize = 2_048;

/// The most commands in one transaction: larger batches no longer raise the rate, they only keep
/// the first of the batch waiting for the last.
pub const APPEND_BATCH_MAX: usize = 512;

/// How long a batch is tried again while the database is away, before its clients hear 503.
const APPEND_RETRY_MS: u64 = 3_000;

/// The wait between two such tries.
const APPEND_RETRY_PAUSE_MS: u64 = 50;

/// A command on its way to the log.
#[derive(Debug)]
pub struct Submission {
    pub command: Command,
    pub key: Option<IdempotencyKey>,
    pub metadata: Metadata,
    reply: oneshot::Sender<Result<Accepted, Refusal>>,
}

impl Submission {
    /// Whether there is nothing to write but an event, neither an account nor an answer to keep.
    fn brings_events_alone(&self) -> bool {
        let command = &self.command;
        self.key.is_none()
            && !matches!(command, Command::Register { .. } | Command::DeleteUser { .. })
    }
}

/// Why a command was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error("this Idempotency-Key was used with another request")]
    KeyReused,
    #[error("too many commands are waiting; nothing was stored")]
    Busy,
    #[error("the log cannot be reached; nothing was stored")]
    Unavailable,
    #[error(
        "the log did not answer in time, so the command may have been stored or not; \
         an Idempotency-Key makes it safe to repeat"
    )]
    Unknown,
}

/// Hands commands to the appender. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Appender {
    queue: mpsc::Sender<Submission>,
}

impl Appender {
    /// Makes the handle and the task behind it, which is to be [run](AppenderTask::run).
    /// `log_head` is told each new head of the log, which grows by ranges of `range_events` positions.
    #[must_use]
    pub fn new(
        log: Connections,
        clock: Clock,
        range_events: i64,
        log_head: watch::Sender<Position>,
    ) -> (Self, AppenderTask) {
        let (sender, queue) = mpsc::channel(APPEND_QUEUE_MAX);
        let requests = Handle::current();
        let beliefs = Beliefs { expected: Expected::default(), ranges: Ranges::of(range_events) };
        (Self { queue: sender }, AppenderTask { queue, log, clock, log_head, requests, beliefs })
    }

    /// Appends what `command` brings about, and returns once it is durable.
    ///
    /// # Errors
    /// The [`Refusal`]; nothing was appended then, except perhaps with [`Refusal::Unknown`].
    pub async fn submit(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
        mut metadata: Metadata,
    ) -> Result<Accepted, Refusal> {
        // From the queue to the commit. Its place is what the event is kept with.
        let request = metadata.traceparent;
        let mut span = request.and_then(|_| trace::begin(SpanKind::Internal, "append", request));
        metadata.traceparent = span.as_ref().map(Span::traceparent).or(request);
        let (reply, answer) = oneshot::channel();
        self.queue
            .try_send(Submission { command, key, metadata, reply })
            .map_err(|_| Refusal::Busy)?;
        let answer = answer.await.unwrap_or(Err(Refusal::Unknown));
        if let Some(span) = &mut span {
            match &answer {
                Ok(accepted) => span.set("rookery.position", accepted.position.0),
                Err(refusal) => span.set("rookery.refusal", refusal.to_string()),
            }
        }
        answer
    }
}

/// The task that owns the queue.
#[derive(Debug)]
pub struct AppenderTask {
    queue: mpsc::Receiver<Submission>,
    log: Connections,
    clock: Clock,
    log_head: watch::Sender<Position>,
    /// Where those wait who have submitted something.
    requests: Handle,
    beliefs: Beliefs,
}

impl AppenderTask {
    /// Appends batch after batch. When `shutdown` is cancelled it takes no more, appends what
    /// waits, and returns.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(APPEND_BATCH_MAX);
        loop {
            tokio::select! {
                _ = self.queue.recv_many(&mut batch, APPEND_BATCH_MAX) => {}
                () = shutdown.cancelled(), if !self.queue.is_closed() => self.queue.close(),
            }
            if batch.is_empty() && self.queue.is_closed() && self.queue.is_empty() {
                return;
            }
            self.append_once(std::mem::take(&mut batch)).await;
        }
    }

    async fn append_once(&mut self, batch: Vec<Submission>) {
        if batch.is_empty() {
            return;
        }
        let began = Instant::now();
        let end = self.append_with_retry(&batch).await;
        histogram!(APPEND.name).record(began.elapsed());
        if let Err(error) = &end {
            counter!(APPEND_FAILURES.name, "fault" => error.fault().name()).increment(1);
        }
        match end {
            Ok(answers) => self.answer(batch, answers),
            Err(AppendError::Statement(error)) if batch.len() > 1 => {
                // One command the database cannot take must not fail its neighbours.
                let request_ids = request_ids(&batch);
                tracing::error!(%error, request.ids = request_ids, "a batch was refused; appending one by one");
                for submission in batch {
                    Box::pin(self.append_once(vec![submission])).await;
                }
            }
            Err(error) => {
                let request_ids = request_ids(&batch);
                tracing::error!(%error, request.ids = request_ids, "commands could not be appended");
                let refusal = error.refusal();
                let answers = batch.iter().map(|_| Err(refusal.clone())).collect();
                self.answer(batch, answers);
            }
        }
    }

    /// Answers each of `batch`, where they wait: from here each would be a wake-up across threads.
    fn answer(&self, batch: Vec<Submission>, answers: Answers) {
        self.requests.spawn(async move {
            for (submission, answer) in batch.into_iter().zip(answers) {
                // A client that has gone no longer listens, and that is its right.
                drop(submission.reply.send(answer));
            }
        });
    }

    /// Tries the transaction again while the connection fails. An attempt whose commit was cut off
    /// is looked up in the log first, so that no batch is appended twice.
    async fn append_with_retry(&mut self, batch: &[Submission]) -> Result<Answers, AppendError> {
        let deadline = Instant::now() + Duration::from_millis(APPEND_RETRY_MS);
        let mut in_doubt = None;
        loop {
            let beliefs = &mut self.beliefs;
            let attempt =
                transaction::append_batch(&self.log, &self.clock, batch, beliefs, &mut in_doubt);
            match attempt.await {
                Ok((head, answers)) => {
                    self.beliefs.ends_at(head);
                    follow::raise(&self.log_head, head.position);
                    return Ok(answers);
                }
                Err(error @ (AppendError::Connection(_) | AppendError::InDoubt(_)))
                    if Instant::now() < deadline =>
                {
                    let request_ids = request_ids(batch);
                    tracing::warn!(
                        %error,
                        request.ids = request_ids,
                        "the log went away during an append; trying again"
                    );
                    tokio::time::sleep(Duration::from_millis(APPEND_RETRY_PAUSE_MS)).await;
                }
                // Whatever went wrong since: an earlier attempt may have been committed.
                Err(error) if in_doubt.is_some() => {
                    return Err(AppendError::InDoubt(error.into_source()));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whose commands these are, for the log.
fn request_ids(batch: &[Submission]) -> String {
    let ids = batch.iter().filter_map(|submission| submission.metadata.request_id.as_deref());
    ids.collect::<Vec<_>>().join(" ")
}

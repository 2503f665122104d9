//! One batch, one transaction.
//!
//! While nobody else appends, the log ends where this appender's last batch did. A batch is decided on
//! that and appended as one statement, which refuses if it is not so; then, and where the transaction
//! has more to write than events, the lock is taken first and the log is looked at under it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::Clock;
use events::metrics::LOG_POSITION;
use events::store::append::{self, BEGIN_LOCKED, Head};
use events::store::{Connections, Fault, late, read};
use metrics::{counter, gauge, histogram};
use sqlx::{Connection, PgConnection};

use super::batch::{self, Plan};
use super::decision_store;
use super::expected::Expected;
use super::ranges::Ranges;
use super::{Accepted, Refusal, Submission};
use crate::metrics::{APPEND_BATCH_COMMANDS, APPENDED_EVENTS};

/// What each command of a batch is told.
pub(super) type Answers = Vec<Result<Accepted, Refusal>>;

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    /// The connection failed before the commit: nothing was appended.
    #[error("the log cannot be reached: {0}")]
    Connection(sqlx::Error),
    /// The connection failed during the commit: the batch is in the log or it is not.
    #[error("the commit was cut off: {0}")]
    InDoubt(sqlx::Error),
    /// The database refused a statement: nothing was appended, and trying again would not help.
    #[error("the log refused the batch: {0}")]
    Statement(sqlx::Error),
}

impl AppendError {
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Connection(source) | Self::InDoubt(source) | Self::Statement(source) => {
                Fault::of(source)
            }
        }
    }

    pub(super) fn into_source(self) -> sqlx::Error {
        match self {
            Self::Connection(source) | Self::InDoubt(source) | Self::Statement(source) => source,
        }
    }

    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Connection(_) | Self::Statement(_) => Refusal::Unavailable,
            Self::InDoubt(_) => Refusal::Unknown,
        }
    }
}

impl From<sqlx::Error> for AppendError {
    fn from(error: sqlx::Error) -> Self {
        if Fault::of(&error).passes() { Self::Connection(error) } else { Self::Statement(error) }
    }
}

/// The most that an attempt may take, connection and all. The server's own limit ends a statement
/// sooner; this one is for a server that is gone without a word.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(12);

/// What an appender believes of the log.
#[derive(Debug)]
pub(super) struct Beliefs {
    pub expected: Expected,
    pub ranges: Ranges,
}

impl Beliefs {
    pub(super) fn ends_at(&mut self, head: Head) {
        self.expected.ends_at(head);
        self.ranges.ends_at(head);
    }
}

/// Appends `batch` within [`ATTEMPT_TIMEOUT`].
pub(super) async fn append_batch(
    log: &Connections,
    clock: &Clock,
    batch: &[Submission],
    beliefs: &mut Beliefs,
    in_doubt: &mut Option<Plan>,
) -> Result<(Head, Answers), AppendError> {
    let attempt = attempt(log, clock, batch, beliefs, in_doubt);
    match tokio::time::timeout(ATTEMPT_TIMEOUT, attempt).await {
        Ok(Err(AppendError::Statement(error))) if append::has_no_room(&error) => {
            beliefs.ranges.forget();
            Err(AppendError::Connection(error))
        }
        Ok(end) => end,
        Err(_) => Err(AppendError::Connection(late(ATTEMPT_TIMEOUT))),
    }
}

/// Appends `batch`, or finds out that an earlier attempt, whose commit was cut off, did.
async fn attempt(
    log: &Connections,
    clock: &Clock,
    batch: &[Submission],
    Beliefs { expected, ranges }: &mut Beliefs,
    in_doubt: &mut Option<Plan>,
) -> Result<(Head, Answers), AppendError> {
    let mut lent = log.lend().await?;
    ranges.open_ahead(&mut lent, batch.len()).await?;
    if in_doubt.is_none()
        && batch.iter().all(Submission::brings_events_alone)
        && let Some(head) = expected.head()
    {
        match append_at(&mut lent, head, clock, batch, in_doubt).await? {
            Attempt::Appended(head, answers) => {
                lent.give_back();
                return Ok((head, answers));
            }
            Attempt::Overtaken => expected.was_overtaken(),
            Attempt::Refused => {}
        }
    }

    let mut transaction = lent.begin_with(BEGIN_LOCKED).await?;
    let head = append::head(&mut transaction, ranges.seen).await?;
    ranges.make_room_at(&mut transaction, head, batch.len()).await?;
    if let Some(plan) = in_doubt.as_mut()
        && is_in_log(&mut transaction, plan).await?
    {
        return Ok((plan.new_head, std::mem::take(&mut plan.answers)));
    }
    let plan = match in_doubt {
        // A transaction in doubt has ended, because the lock is ours. A statement that the server has yet to
        // begin has not, and can come about for as long as the log ends here. So the same is written
        // again, event ids and all: whichever of the two comes first, the other is refused.
        Some(plan) if plan.old_head == head => {
            write(&mut transaction, plan).await?;
            plan
        }
        _ => {
            *in_doubt = None;
            let (state, known) = decision_store::load(&mut transaction, head, batch).await?;
            let plan = batch::decide(batch, state, known, time_after(head, *clock));
            if plan.is_empty() {
                transaction.rollback().await?;
                lent.give_back();
                return Ok((head, plan.answers));
            }
            write(&mut transaction, &plan).await?;
            in_doubt.insert(plan)
        }
    };
    transaction.commit().await.map_err(AppendError::InDoubt)?;
    lent.give_back();
    Ok(committed(plan))
}

/// Writes all that `plan` has.
async fn write(transaction: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    append::append(transaction, plan.old_head.position, &plan.events, plan.decided_at).await?;
    decision_store::save(transaction, plan).await
}

/// How an attempt without the lock ended.
enum Attempt {
    Appended(Head, Answers),
    /// The log does not end where it was expected to.
    Overtaken,
    /// No command was accepted, so there was no append to make sure that what was read is of one moment.
    Refused,
}

/// Decides `batch` as if the log ended at `head`, and appends it if it does.
///
/// What it is decided on is read without the lock, one statement after the other. It is of one moment
/// if nobody appends meanwhile, and that is what the append makes sure of.
async fn append_at(
    connection: &mut PgConnection,
    head: Head,
    clock: &Clock,
    batch: &[Submission],
    in_doubt: &mut Option<Plan>,
) -> Result<Attempt, AppendError> {
    let (state, known) = decision_store::load(connection, head, batch).await?;
    let plan = batch::decide(batch, state, known, time_after(head, *clock));
    if plan.events.is_empty() {
        return Ok(Attempt::Refused);
    }
    let plan = in_doubt.insert(plan);
    match append::append(connection, head.position, &plan.events, plan.decided_at).await {
        Ok(()) => {
            let (head, answers) = committed(plan);
            Ok(Attempt::Appended(head, answers))
        }
        Err(error) if append::is_overtaken(&error) => {
            *in_doubt = None;
            Ok(Attempt::Overtaken)
        }
        Err(error) if Fault::of(&error) == Fault::Away => Err(AppendError::InDoubt(error)),
        // The server said so itself: it has taken everything back.
        Err(error) => {
            *in_doubt = None;
            Err(error.into())
        }
    }
}

/// Time in the log never goes back, whatever the clocks of those who append to it do.
fn time_after(head: Head, clock: Clock) -> DateTime<Utc> {
    head.recorded_at.map_or(clock.now(), |last| last.max(clock.now()))
}

/// Counts what `plan` has appended.
fn committed(plan: &mut Plan) -> (Head, Answers) {
    counter!(APPENDED_EVENTS.name).increment(plan.events.len() as u64);
    histogram!(APPEND_BATCH_COMMANDS.name).record(plan.answers.len() as f64);
    gauge!(LOG_POSITION.name).set(plan.new_head.position.0 as f64);
    tracing::debug!(
        commands = plan.answers.len(),
        events = plan.events.len(),
        log.position = plan.new_head.position.0,
        "appended"
    );
    (plan.new_head, std::mem::take(&mut plan.answers))
}

/// Whether the events of `plan` are in the log.
async fn is_in_log(transaction: &mut PgConnection, plan: &Plan) -> Result<bool, sqlx::Error> {
    let Some(first) = plan.events.first() else { return Ok(false) };
    Ok(read::event_id_at(transaction, first.position).await? == Some(first.event_id))
}

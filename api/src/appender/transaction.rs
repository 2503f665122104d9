//! One batch, one transaction.

use std::time::Duration;

use events::Clock;
use events::store::append::{self, BEGIN_LOCKED, Head};
use events::store::{Connections, Fault, late, read};
use metrics::{counter, gauge, histogram};
use sqlx::{Connection, PgConnection};

use super::batch::{self, Plan};
use super::decision_store;
use super::{Accepted, Refusal, Submission};

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

/// Appends `batch` within [`ATTEMPT_TIMEOUT`].
pub(super) async fn append_batch(
    log: &Connections,
    clock: &Clock,
    batch: &[Submission],
    in_doubt: &mut Option<Plan>,
) -> Result<(Head, Vec<Result<Accepted, Refusal>>), AppendError> {
    let attempt = attempt(log, clock, batch, in_doubt);
    match tokio::time::timeout(ATTEMPT_TIMEOUT, attempt).await {
        Ok(end) => end,
        Err(_) => Err(AppendError::Connection(late(ATTEMPT_TIMEOUT))),
    }
}

/// Appends `batch`, or finds out that an earlier attempt, whose commit was cut off, did.
async fn attempt(
    log: &Connections,
    clock: &Clock,
    batch: &[Submission],
    in_doubt: &mut Option<Plan>,
) -> Result<(Head, Vec<Result<Accepted, Refusal>>), AppendError> {
    let mut lent = log.lend().await?;
    let mut transaction = lent.begin_with(BEGIN_LOCKED).await?;
    let head = append::head(&mut transaction).await?;
    // The lock is ours, so the transaction in doubt has ended one way or the other.
    if let Some(plan) = in_doubt.as_mut() {
        if is_in_log(&mut transaction, plan).await? {
            return Ok((plan.new_head, std::mem::take(&mut plan.answers)));
        }
        *in_doubt = None;
    }

    let (state, known) = decision_store::load(&mut transaction, head, batch).await?;
    // Time in the log never goes back, whatever the clocks of those who append to it do.
    let now = head.recorded_at.map_or(clock.now(), |last| last.max(clock.now()));
    let plan = batch::decide(batch, state, known, now);
    if plan.is_empty() {
        transaction.rollback().await?;
        lent.give_back();
        return Ok((head, plan.answers));
    }
    append::append(&mut transaction, plan.old_head.position, &plan.events, plan.decided_at).await?;
    decision_store::save(&mut transaction, &plan).await?;

    let plan = in_doubt.insert(plan);
    transaction.commit().await.map_err(AppendError::InDoubt)?;
    lent.give_back();
    counter!("rookery_appended_events_total").increment(plan.events.len() as u64);
    histogram!("rookery_append_batch_commands").record(batch.len() as f64);
    gauge!("rookery_log_head_position").set(plan.new_head.position.0 as f64);
    tracing::debug!(
        commands = batch.len(),
        events = plan.events.len(),
        log.position = plan.new_head.position.0,
        "appended"
    );
    Ok((plan.new_head, std::mem::take(&mut plan.answers)))
}

/// Whether the events of `plan` are in the log.
async fn is_in_log(transaction: &mut PgConnection, plan: &Plan) -> Result<bool, sqlx::Error> {
    let Some(first) = plan.events.first() else { return Ok(false) };
    Ok(read::event_id_at(transaction, first.position).await? == Some(first.event_id))
}

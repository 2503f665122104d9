//! Forgetting the answers that were kept for idempotency keys, when nobody repeats them any more.

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::Clock;
use events::retry::{Failure, Retry};
use events::store::Connections;
use tokio_util::sync::CancellationToken;

/// An answer is kept at least this long: longer than any client keeps retrying.
const KEY_KEPT: chrono::Duration = chrono::Duration::hours(24);

/// How often what is too old is looked for.
const FORGET_INTERVAL: Duration = Duration::from_mins(1);

/// The most answers that one statement removes: some milliseconds.
const FORGET_MAX_KEYS: i64 = 1_000;

/// Forgets until `shutdown` is cancelled.
pub(crate) async fn run(log: Connections, clock: Clock, shutdown: CancellationToken) {
    let mut retry = Retry::new("forgetting old answers");
    let mut forgotten_to = DateTime::<Utc>::UNIX_EPOCH;
    while !shutdown.is_cancelled() {
        match forget_once(&log, forgotten_to, clock.now() - KEY_KEPT).await {
            Ok(Some(reached)) => forgotten_to = reached,
            Ok(None) => tokio::select! {
                () = tokio::time::sleep(FORGET_INTERVAL) => {}
                () = shutdown.cancelled() => {}
            },
            Err(error) => {
                let Ok(()) = retry.after(Failure::Retry(error), &shutdown).await else { return };
            }
        }
    }
}

/// Removes the oldest answers from before `until`. Nothing from before `forgotten_to` is left, so the
/// index is entered there: while somebody holds an old snapshot, what was removed stays in it.
///
/// Returns how far it came, or `None` when nothing was left to remove.
async fn forget_once(
    log: &Connections,
    forgotten_to: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with gone as (
            delete from idempotency_keys
            where ctid = any(array(
                select ctid from idempotency_keys
                where recorded_at >= $1 and recorded_at < $2
                order by recorded_at
                limit $3
            ))
            returning recorded_at
        )
        select max(recorded_at) from gone
        "#,
        forgotten_to,
        until,
        FORGET_MAX_KEYS
    )
    .fetch_one(log)
    .await
}

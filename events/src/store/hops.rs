//! Hops: when events reached the stations of their way, for those who watch it.
//!
//! A record beside the work, never part of it: whoever does the work hands a hop over and goes on, and where
//! too many wait to be written, hops are dropped. Each table has two halves and is only ever inserted into.
//! Positions fill one half; when the next [`HOPS_KEPT`] begin, the other is emptied whole. So a table has the
//! hops of the last [`HOPS_KEPT`] to twice as many positions, and nothing in it is ever a dead row.
//!
//! Times are those of the process that did the work. Where processes have machines of their own, a hop
//! between two of them is as exact as their clocks agree.

use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::counter;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgExecutor};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Connections;
use crate::id::Position;
use crate::metrics::HOPS_DROPPED;

/// For so many positions back there are hops: some minutes at full load, days of a quiet service, and at
/// most about 20 MB.
pub const HOPS_KEPT: i64 = 100_000;

/// So many wait to be written: seconds of work at full load.
const WAITING_MAX: usize = 1_024;

/// The pause after each write, so that under load one statement takes many: five a second, whatever the load.
const PACE: Duration = Duration::from_millis(200);

/// How long emptying a half waits for those who read it; longer readers keep it until the next write.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '100ms'";

/// What is known of a run of events that made a part of their way together.
pub trait Hop: Send + Sync + Sized + 'static {
    /// The table, whose halves are called the same with `_0` and `_1`.
    const TABLE: &'static str;

    /// The last of the events.
    fn last(&self) -> Position;

    /// Inserts `hops`, each into its [half](half_of).
    fn insert(
        connection: &mut PgConnection,
        hops: &[Self],
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// What the relay knows: events that were published as one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayHop {
    pub first: Position,
    pub last: Position,
    /// The relay began to hand them to RabbitMQ.
    pub published_at: DateTime<Utc>,
    /// RabbitMQ has confirmed all of them.
    pub confirmed_at: DateTime<Utc>,
}

/// Takes hops from those who work. Cheap to clone.
#[derive(Debug)]
pub struct Recorder<H>(mpsc::Sender<H>);

/// Writes what was recorded.
#[derive(Debug)]
pub struct Recording<H> {
    hops: mpsc::Receiver<H>,
    connections: Connections,
    /// The newest span of positions that is known to have its half to itself.
    span: Option<i64>,
}

impl<H> Clone for Recorder<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H: Hop> Recorder<H> {
    /// A recorder, and what has to [run](Recording::run) so that it is written through `connections`.
    #[must_use]
    pub fn new(connections: Connections) -> (Self, Recording<H>) {
        let (sender, hops) = mpsc::channel(WAITING_MAX);
        (Self(sender), Recording { hops, connections, span: None })
    }

    /// Records `hop`, unless too many wait already.
    pub fn record(&self, hop: H) {
        if self.0.try_send(hop).is_err() {
            counter!(HOPS_DROPPED.name, "table" => H::TABLE).increment(1);
        }
    }
}

impl<H: Hop> Recording<H> {
    /// Writes until `stop` is cancelled. What cannot be written is dropped: nothing depends on it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut hops = Vec::new();
        loop {
            tokio::select! {
                count = self.hops.recv_many(&mut hops, WAITING_MAX) => if count == 0 { return },
                () = stop.cancelled() => return,
            }
            let written = tokio::select! {
                written = self.write(&hops) => written,
                // The process does not wait for a server that says nothing.
                () = stop.cancelled() => return,
            };
            if let Err(error) = written {
                counter!(HOPS_DROPPED.name, "table" => H::TABLE).increment(hops.len() as u64);
                tracing::debug!(%error, hops = hops.len(), "hops were not recorded");
            }
            hops.clear();
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn write(&mut self, hops: &[H]) -> Result<(), sqlx::Error> {
        let mut lent = self.connections.lend().await?;
        let mut spans: Vec<i64> = hops.iter().map(|hop| span_of(hop.last())).collect();
        spans.dedup();
        for span in spans {
            if self.span.is_none_or(|known| known < span) {
                let emptied = empty_of_older::<H>(&mut lent, span).await?;
                self.span = emptied.then_some(span);
            }
        }
        H::insert(&mut lent, hops).await?;
        lent.give_back();
        Ok(())
    }
}

fn span_of(position: Position) -> i64 {
    position.0 / HOPS_KEPT
}

/// The half in which the hops that end with `position` are.
#[must_use]
pub fn half_of(position: Position) -> i16 {
    i16::from(span_of(position) % 2 == 1)
}

/// Empties the half of `span` of what an older one left there. Whether it is empty of that now.
async fn empty_of_older<H: Hop>(
    connection: &mut PgConnection,
    span: i64,
) -> Result<bool, sqlx::Error> {
    let half = format!("{}_{}", H::TABLE, half_of(Position(span * HOPS_KEPT)));
    let mut transaction = connection.begin().await?;
    let older = format!("select exists (select from {half} where last_position < $1)");
    let has_older: bool = sqlx::query_scalar(AssertSqlSafe(older))
        .bind(span * HOPS_KEPT)
        .fetch_one(&mut *transaction)
        .await?;
    if has_older {
        sqlx::query(LOCK_TIMEOUT).execute(&mut *transaction).await?;
        let truncate = AssertSqlSafe(format!("truncate {half}"));
        if let Err(error) = sqlx::query(truncate).execute(&mut *transaction).await {
            tracing::debug!(%error, "old hops are still read");
            transaction.rollback().await?;
            return Ok(false);
        }
    }
    transaction.commit().await?;
    Ok(true)
}

impl Hop for RelayHop {
    const TABLE: &'static str = "relay_hops";

    fn last(&self) -> Position {
        self.last
    }

    async fn insert(connection: &mut PgConnection, hops: &[Self]) -> Result<(), sqlx::Error> {
        let halves: Vec<i16> = hops.iter().map(|hop| half_of(hop.last)).collect();
        let first: Vec<i64> = hops.iter().map(|hop| hop.first.0).collect();
        let last: Vec<i64> = hops.iter().map(|hop| hop.last.0).collect();
        let published_at: Vec<DateTime<Utc>> = hops.iter().map(|hop| hop.published_at).collect();
        let confirmed_at: Vec<DateTime<Utc>> = hops.iter().map(|hop| hop.confirmed_at).collect();
        sqlx::query!(
            r#"
            insert into relay_hops (half, first_position, last_position, published_at, confirmed_at)
            select * from unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])
            "#,
            &halves,
            &first,
            &last,
            &published_at,
            &confirmed_at,
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// The hops of each of `positions` that the relay's record still has, in no order.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn of_relay(
    log: impl PgExecutor<'_>,
    positions: &[Position],
) -> Result<Vec<RelayHop>, sqlx::Error> {
    let positions: Vec<i64> = positions.iter().map(|position| position.0).collect();
    sqlx::query_as!(
        RelayHop,
        r#"
        select hop.first_position as "first: Position", hop.last_position as "last: Position",
            hop.published_at, hop.confirmed_at
        from unnest($1::bigint[]) as asked (position)
        cross join lateral (
            select * from relay_hops
            where last_position >= asked.position
            order by last_position
            limit 1
        ) as hop
        where hop.first_position <= asked.position
        "#,
        &positions,
    )
    .fetch_all(log)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_fill_one_half_after_the_other() {
        assert_eq!(half_of(Position(1)), 0);
        assert_eq!(half_of(Position(HOPS_KEPT - 1)), 0);
        assert_eq!(half_of(Position(HOPS_KEPT)), 1);
        assert_eq!(half_of(Position(2 * HOPS_KEPT)), 0);
    }
}

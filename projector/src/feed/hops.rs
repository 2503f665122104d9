//! What the projector records of its work, for those who watch: see [`events::store::hops`].

use chrono::{DateTime, Utc};
use events::Position;
use events::store::hops::{Hop, half_of};
use sqlx::PgConnection;

/// Events that were applied in one transaction; or a step of fan-outs, which applies none: then `first` is after `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectorHop {
    pub first: Position,
    pub last: Position,
    /// The projector had them, from RabbitMQ or from the log.
    pub received_at: DateTime<Utc>,
    /// Their rows were written.
    pub applied_at: DateTime<Utc>,
    /// The transaction was committed, so that every reader finds them.
    pub readable_at: DateTime<Utc>,
    /// Rows of `feed_items` that they brought.
    pub deliveries: u64,
}

impl Hop for ProjectorHop {
    const TABLE: &'static str = "projector_hops";

    fn last(&self) -> Position {
        self.last
    }

    async fn insert(connection: &mut PgConnection, hops: &[Self]) -> Result<(), sqlx::Error> {
        let halves: Vec<i16> = hops.iter().map(|hop| half_of(hop.last)).collect();
        let first: Vec<i64> = hops.iter().map(|hop| hop.first.0).collect();
        let last: Vec<i64> = hops.iter().map(|hop| hop.last.0).collect();
        let received_at: Vec<DateTime<Utc>> = hops.iter().map(|hop| hop.received_at).collect();
        let applied_at: Vec<DateTime<Utc>> = hops.iter().map(|hop| hop.applied_at).collect();
        let readable_at: Vec<DateTime<Utc>> = hops.iter().map(|hop| hop.readable_at).collect();
        let deliveries: Vec<i64> = hops.iter().map(|hop| hop.deliveries.cast_signed()).collect();
        sqlx::query!(
            r#"
            insert into projector_hops
                (half, first_position, last_position, received_at, applied_at, readable_at, deliveries)
            select * from unnest(
                $1::smallint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
                $7::bigint[]
            )
            "#,
            &halves,
            &first,
            &last,
            &received_at,
            &applied_at,
            &readable_at,
            &deliveries,
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

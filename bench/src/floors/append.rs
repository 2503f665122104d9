//! One event row per transaction, from 32 connections at once.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use events::Clock;
use futures_util::future::try_join_all;
use sqlx::PgConnection;
use tokio::time::Instant;

use crate::build::Build;

pub const WHAT: &str = "32 connections inserting one event row per transaction into a table of the \
                        same columns and keys";

const CONNECTIONS: usize = 32;

/// The columns and keys of a range of `events`, with nothing else in it.
const TABLE: &str = "create table if not exists floor_events (
    position bigint primary key, event_id uuid not null unique, stream text not null,
    version integer not null, type text not null, schema_version smallint not null,
    payload jsonb not null, metadata jsonb not null, recorded_at timestamptz not null);
    create unique index if not exists floor_events_streams on floor_events (stream, version)
    where type <> 'TweetCreated'";

const INSERT: &str = "insert into floor_events
    values ($1, gen_random_uuid(), $2, 1, 'TweetCreated', 1, $3::jsonb, '{}', $4)";

/// Rows per second, as [`crate::load::load`] counts: after a third of `turn`, for `turn`.
pub async fn measure(build: &mut Build, turn: Duration) -> anyhow::Result<f64> {
    build.execute(TABLE).await?;
    let last = "select coalesce(max(position), 0) from floor_events";
    let mut connection = build.connect().await?;
    let last: i64 = sqlx::query_scalar(last).fetch_one(&mut connection).await?;
    let next = AtomicI64::new(last + 1);
    let connections = try_join_all((0..CONNECTIONS).map(|_| build.connect())).await?;
    let began = Instant::now();
    let (counted_from, end) = (began + turn / 3, began + turn / 3 + turn);
    let worker = async |mut connection: PgConnection| {
        let mut counted = 0_u32;
        while Instant::now() < end {
            let began = Instant::now();
            insert(&mut connection, next.fetch_add(1, Ordering::Relaxed)).await?;
            counted += u32::from(began >= counted_from);
        }
        anyhow::Ok(counted)
    };
    let counted = try_join_all(connections.into_iter().map(worker)).await?;
    Ok(f64::from(counted.into_iter().sum::<u32>()) / turn.as_secs_f64())
}

async fn insert(connection: &mut PgConnection, position: i64) -> Result<(), sqlx::Error> {
    let payload = format!(r#"{{"author_id": 7, "content": "tweet {position} of 7"}}"#);
    sqlx::query(INSERT)
        .bind(position)
        .bind(format!("tweet-{position}"))
        .bind(payload)
        .bind(Clock::system().now())
        .execute(connection)
        .await?;
    Ok(())
}

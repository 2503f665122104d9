//! The statement of a page, without HTTP.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use sqlx::PgConnection;
use tokio::time::Instant;

use crate::build::Build;

pub const WHAT: &str = "the statement of the page, prepared, over 4 connections";

/// The same text as the api's.
const PAGE: &str = include_str!("../../../api/src/views/feed/page.sql");

/// A page and one more, by which the api knows whether there is a next.
const LIMIT: i64 = 21;

/// Pages per second over so many `connections`, after a third of `turn`, for `turn`.
pub async fn measure(
    build: &Build,
    connections: usize,
    users: u32,
    turn: Duration,
) -> anyhow::Result<f64> {
    let connections = try_join_all((0..connections).map(|_| build.connect())).await?;
    let next = AtomicU32::new(0);
    let began = Instant::now();
    let (counted_from, end) = (began + turn / 3, began + turn / 3 + turn);
    let worker = async |mut connection: PgConnection| {
        sqlx::query("set plan_cache_mode = force_generic_plan").execute(&mut connection).await?;
        let mut counted = 0_u32;
        while Instant::now() < end {
            let began = Instant::now();
            let reader = 1 + next.fetch_add(1, Ordering::Relaxed) % users;
            sqlx::query(PAGE)
                .bind(i64::from(reader))
                .bind(i64::MAX)
                .bind(0_i64)
                .bind(LIMIT)
                .fetch_all(&mut connection)
                .await?;
            counted += u32::from(began >= counted_from);
        }
        anyhow::Ok(counted)
    };
    let counted = try_join_all(connections.into_iter().map(worker)).await?;
    Ok(f64::from(counted.into_iter().sum::<u32>()) / turn.as_secs_f64())
}

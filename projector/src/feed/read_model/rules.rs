//! `rules`: what was laid down when a generation was begun, and holds as long as it is read.

use sqlx::PgExecutor;

use crate::feed::pulled::PullFrom;

/// The rule of this generation; `wanted` becomes it, if there is none yet.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn laid_down(
    feed: impl PgExecutor<'_> + Copy,
    wanted: PullFrom,
) -> Result<PullFrom, sqlx::Error> {
    sqlx::query!("insert into rules (pull_from) values ($1) on conflict do nothing", wanted.0)
        .execute(feed)
        .await?;
    load(feed).await.map(|found| found.unwrap_or(wanted))
}

/// The rule of this generation, if one is laid down.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn load(feed: impl PgExecutor<'_>) -> Result<Option<PullFrom>, sqlx::Error> {
    let found = sqlx::query_scalar!("select pull_from from rules limit 1").fetch_optional(feed);
    Ok(found.await?.map(PullFrom))
}

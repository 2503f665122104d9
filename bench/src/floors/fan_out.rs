//! As many rows as a fan-out brings, by one statement and in the order of the key.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;

use crate::build::Build;

pub const WHAT: &str = "one insert … select … order by of as many rows into a table of the same \
                        columns and key";

const TABLE: &str = "create table if not exists floor_feed_items (
    user_id bigint not null, tweet_id bigint not null, primary key (user_id, tweet_id))";

/// The tweets from $2 to $3 to everyone who reads $1.
const INSERT: &str = "insert into floor_feed_items
    select follower_id, tweet_id from follows cross join generate_series($2::bigint, $3) as tweet_id
    where followed_id = $1 and until_position = 0
    order by follower_id, tweet_id";

/// Makes the table that the rows go to.
pub async fn prepare(build: &mut Build) -> anyhow::Result<()> {
    build.execute(TABLE).await
}

/// Delivers tweets `first` to `last` of `author`. Gives the rows and the time.
pub async fn deliver(
    connection: &mut PgConnection,
    author: u32,
    first: u64,
    last: u64,
) -> anyhow::Result<(u64, Duration)> {
    let began = Instant::now();
    let done = sqlx::query(INSERT)
        .bind(i64::from(author))
        .bind(i64::try_from(first)?)
        .bind(i64::try_from(last)?)
        .execute(connection)
        .await?;
    Ok((done.rows_affected(), began.elapsed()))
}

//! The rows of all feeds, made by one statement and indexed afterwards.

use std::time::Duration;

use tokio::time::Instant;

use crate::build::Build;

pub const WHAT: &str =
    "the same rows made of follows and tweets by one statement, and indexed afterwards";

const LOAD: &str = "drop table if exists floor_bulk;
    create table floor_bulk (user_id bigint not null, tweet_id bigint not null);
    insert into floor_bulk
        select follower_id, tweet_id from follows join tweets on author_id = followed_id
        where until_position = 0 and deleted_position = 0;
    alter table floor_bulk add primary key (user_id, tweet_id)";

/// How long it takes.
pub async fn measure(build: &mut Build) -> anyhow::Result<Duration> {
    let began = Instant::now();
    build.execute(LOAD).await?;
    let took = began.elapsed();
    build.execute("drop table floor_bulk").await?;
    Ok(took)
}

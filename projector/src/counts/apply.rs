//! Applying a run of events to the counts: one transaction, five statements.

use std::collections::BTreeMap;
use std::time::Instant;

use events::projection::ProjectionName;
use events::store::Connections;
use events::{RecordedEvent, UserId};
use sqlx::Connection;

use super::net::Net;
use crate::checkpoint::{self, Checkpoint};
use crate::projection::{ApplyError, measure_applied, run_after};

/// Applies `events`, which begin right after `checkpoint`, and returns where the counts stand then.
///
/// # Errors
/// [`ApplyError`]; the counts are as they were.
pub(super) async fn apply(
    database: &Connections,
    checkpoint: Checkpoint,
    events: &[RecordedEvent],
) -> Result<Checkpoint, ApplyError> {
    let Some(last) = run_after(checkpoint.position, events)? else { return Ok(checkpoint) };
    let began = Instant::now();
    let Net { registered, gone, tweets, follows } = Net::of(events)?;
    let pairs = |holds: bool| -> (Vec<i64>, Vec<i64>) {
        let held = follows.iter().filter(|(_, now)| **now == holds);
        held.map(|((follower, followed), _)| (follower.0, followed.0)).unzip()
    };
    let registered: Vec<i64> = registered.iter().map(|user| user.0).collect();
    let gone: Vec<i64> = gone.iter().map(|user| user.0).collect();
    let ((beginners, begun), (enders, ended)) = (pairs(true), pairs(false));

    let mut lent = database.lend().await?;
    let engine = lent.engine();
    let mut transaction = lent.begin().await?;
    let none = checkpoint.under_way;
    let moved = checkpoint::advance(
        &mut transaction,
        engine,
        ProjectionName::Counts,
        checkpoint,
        last,
        none,
    )
    .await?;
    sqlx::query!("insert into user_counts (user_id) select unnest($1::bigint[])", &registered)
        .execute(&mut *transaction)
        .await?;
    let followed =
        sqlx::query_file!("src/counts/follows.sql", &beginners, &begun, &enders, &ended, &gone)
            .fetch_all(&mut *transaction)
            .await?;

    // Each user's row is written once, whatever happened to it.
    let mut changed: BTreeMap<UserId, (i64, i64)> = BTreeMap::new();
    for (author, more) in tweets {
        changed.entry(author).or_default().0 += more;
    }
    for row in followed {
        changed.entry(row.user_id).or_default().1 += row.followers;
    }
    let users: Vec<i64> = changed.keys().map(|user| user.0).collect();
    let (tweets, followers): (Vec<i64>, Vec<i64>) = changed.into_values().unzip();
    sqlx::query!(
        "update user_counts set tweets = tweets + more_tweets, followers = followers + more_followers
        from unnest($1::bigint[], $2::bigint[], $3::bigint[]) as changed (id, more_tweets, more_followers)
        where user_id = id",
        &users,
        &tweets,
        &followers
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!("delete from user_counts where user_id = any($1)", &gone)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    lent.give_back();
    measure_applied(ProjectionName::Counts, events, began);
    Ok(moved)
}

//! Holding the counts against their definition, which reads the log.
//!
//! Both come in the order of users and are compared row by row, so memory does not grow with either. The counts are read in one
//! snapshot, which is held until the last of them is compared: they say nothing of the position at which they became what they are.

use std::cmp::Ordering;

use events::store::{Connections, history, ranges};
use events::{Position, UserId};
use futures_util::TryStreamExt;
use sqlx::{Connection, PgConnection};

use crate::checkpoint;
use crate::progress::{Phase, Progress};
use crate::projection::OtherHistory;
use crate::verify::{Differences, Part, Report, VerifyError, explain};

/// Of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    user_id: UserId,
    tweets: i64,
    followers: i64,
    following: i64,
}

/// Holds the counts that `connections` find against `log`, and lists up to so many differences.
///
/// # Errors
/// [`VerifyError`] when there is no telling.
pub async fn compare(
    log: &Connections,
    connections: &Connections,
    listed: usize,
    progress: &Progress,
) -> Result<Report, VerifyError> {
    ranges::live_after(log, Position::START).await?;
    let mut differences = Differences::up_to(listed);
    let mut lent = connections.lend().await.map_err(VerifyError::ReadModel)?;
    let mut snapshot = lent
        .begin_with("begin isolation level repeatable read read only")
        .await
        .map_err(VerifyError::ReadModel)?;
    let checkpoint = checkpoint::load(&mut *snapshot).await.map_err(VerifyError::ReadModel)?;
    let mark = checkpoint.mark();
    if !history::foreign(log, &[mark]).await.map_err(VerifyError::Log)?.is_empty() {
        differences.add(Part::Checkpoint, OtherHistory(mark).to_string(), Vec::new());
    }
    progress.sight(checkpoint.position);
    progress.begin(Phase::CompareCounts, 0);
    let mut report = rows(log, &mut snapshot, mark.position, &mut differences, progress).await?;
    let strays = strays(&mut snapshot).await.map_err(VerifyError::ReadModel)?;
    if strays > 0 {
        let what = format!("{strays} follows are kept of users who are not there");
        differences.add(Part::Counts, what, Vec::new());
    }
    snapshot.rollback().await.map_err(VerifyError::ReadModel)?;
    lent.give_back();
    explain(log, &mut differences.listed).await.map_err(VerifyError::Log)?;
    report.generation = checkpoint.generation;
    report.differences = differences.counted;
    report.listed = differences.listed;
    Ok(report)
}

/// Compares row by row.
async fn rows(
    log: &Connections,
    snapshot: &mut PgConnection,
    position: Position,
    differences: &mut Differences,
    progress: &Progress,
) -> Result<Report, VerifyError> {
    let mut report = Report { projection: "counts", position, ..Report::default() };
    report.events = position.0.unsigned_abs();
    let mut defined = sqlx::query_file_as!(Row, "src/counts/definition.sql", position.0).fetch(log);
    let mut counted = sqlx::query_file_as!(Row, "src/counts/all.sql").fetch(snapshot);
    let mut is = counted.try_next().await.map_err(VerifyError::ReadModel)?;
    let mut should_be = defined.try_next().await.map_err(VerifyError::Log)?;
    loop {
        let order = match (&should_be, &is) {
            (None, None) => return Ok(report),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(should_be), Some(is)) => should_be.user_id.cmp(&is.user_id),
        };
        let (expected, found) = match order {
            Ordering::Less => (should_be.take(), None),
            Ordering::Greater => (None, is.take()),
            Ordering::Equal => (should_be.take(), is.take()),
        };
        if expected != found {
            let Some(user) = expected.or(found).map(|row| row.user_id) else { continue };
            let what = format!(
                "user {user} {}, and {}",
                says("has", found),
                says("should have", expected)
            );
            differences.add(Part::Counts, what, vec![format!("user-{user}")]);
        }
        if let Some(expected) = expected {
            report.users += 1;
            report.tweets += expected.tweets.unsigned_abs();
            report.follows += expected.following.unsigned_abs();
            progress.advance(1);
            should_be = defined.try_next().await.map_err(VerifyError::Log)?;
        }
        if found.is_some() {
            is = counted.try_next().await.map_err(VerifyError::ReadModel)?;
        }
    }
}

fn says(verb: &str, row: Option<Row>) -> String {
    row.map_or_else(
        || format!("{verb} no counts"),
        |Row { tweets, followers, following, .. }| {
            format!("{verb} {tweets} tweets, {followers} followers and {following} followed")
        },
    )
}

/// Follows of users who are not there: they would be counted again if they were.
async fn strays(snapshot: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "strays!" from counted_follows
        where not exists (select from user_counts where user_id = follower_id)
        "#
    )
    .fetch_one(snapshot)
    .await
}

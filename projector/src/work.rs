//! How much of a run goes into one transaction: bounded in events, and in what they bring about.
//!
//! Two thousand tweets by someone with a hundred thousand readers are two hundred million rows. As
//! one transaction nobody would read any of them until all are written, and a projector that is
//! killed on the way would begin from the start.

use std::collections::HashMap;

use events::event::{DecodeError, Followed, TweetCreated};
use events::{Event, RecordedEvent, UserId};
use sqlx::PgExecutor;

/// The most events in one transaction. Larger ones no longer raise the rate; they only make those
/// who wait for the first event wait for the last.
pub const APPLY_MAX_EVENTS: usize = 2_048;

/// About the most rows that one transaction writes or takes out: half a second's worth. An event that brings
/// about more on its own goes alone.
pub const APPLY_MAX_ROWS: i64 = 250_000;

/// Into how many transactions `events` go, and how many of them into each, from the first on. Weighed once for all
/// of them, and those who begin to follow on the way are counted with the others.
///
/// # Errors
/// [`WorkError`] when an event cannot be read or the read model is away.
pub async fn transactions(
    feed: impl PgExecutor<'_>,
    events: &[RecordedEvent],
    kept: i64,
) -> Result<Vec<usize>, WorkError> {
    // A single event cannot be cut.
    if events.len() <= 1 {
        return Ok(vec![events.len()]);
    }
    let decoded = events.iter().map(RecordedEvent::event).collect::<Result<Vec<_>, _>>()?;
    let mut readers = count_readers(feed, &decoded).await?;
    let weights = decoded.iter().map(|event| match event {
        Event::TweetCreated(TweetCreated { author_id, .. }) => {
            readers.get(author_id).copied().unwrap_or(1)
        }
        // What an author brings in or leaves behind in a feed, and a feed itself, are bounded by what it keeps.
        Event::Followed(Followed { followed_id, .. }) => {
            *readers.entry(*followed_id).or_default() += 1;
            kept
        }
        Event::Unfollowed(_) | Event::UserDeleted(_) => kept,
        Event::UserRegistered(_) | Event::TweetDeleted(_) => 1,
    });
    Ok(cut(weights, APPLY_MAX_EVENTS, APPLY_MAX_ROWS))
}

/// Cuts into parts of at most `events_max` events, which weigh at most `rows_max` unless one does so alone.
fn cut(weights: impl Iterator<Item = i64>, events_max: usize, rows_max: i64) -> Vec<usize> {
    let (mut parts, mut events, mut rows) = (Vec::new(), 0, 0);
    for weight in weights {
        if events > 0 && (events == events_max || rows + weight > rows_max) {
            parts.push(events);
            (events, rows) = (0, 0);
        }
        events += 1;
        rows += weight;
    }
    if events > 0 {
        parts.push(events);
    }
    parts
}

/// Why a run could not be weighed.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// How many read each author, counted no further than matters.
async fn count_readers(
    feed: impl PgExecutor<'_>,
    events: &[Event],
) -> Result<HashMap<UserId, i64>, sqlx::Error> {
    let mut authors: Vec<i64> = events
        .iter()
        .filter_map(|event| match event {
            Event::TweetCreated(created) => Some(created.author_id.0),
            _ => None,
        })
        .collect();
    authors.sort_unstable();
    authors.dedup();
    let rows = sqlx::query!(
        r#"
        select author.user_id as "user_id!: UserId", readers.count as "count!"
        from unnest($1::bigint[]) as author (user_id)
        cross join lateral (
            select count(*) from (
                select from follows
                where follows.followed_id = author.user_id and follows.until_position = 0
                limit $2
            ) as counted
        ) as readers
        "#,
        &authors,
        APPLY_MAX_ROWS,
    )
    .fetch_all(feed)
    .await?;
    Ok(rows.into_iter().map(|row| (row.user_id, row.count)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_cut_by_events_and_by_rows() {
        let cut = |weights: &[i64]| cut(weights.iter().copied(), 4, 10);
        assert_eq!(cut(&[1; 10]), [4, 4, 2]);
        assert_eq!(cut(&[5, 5, 5, 1, 1]), [2, 3]);
        assert_eq!(cut(&[30, 1, 30, 30]), [1, 1, 1, 1], "what is too much by itself goes alone");
        assert_eq!(cut(&[1, 30]), [1, 1]);
        assert_eq!(cut(&[10]), [1]);
        assert_eq!(cut(&[]), [0; 0]);
    }
}

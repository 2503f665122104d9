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

/// About the most rows that one transaction delivers: half a second's worth. An event that brings
/// about more on its own goes alone.
pub const APPLY_MAX_DELIVERIES: i64 = 250_000;

/// Up to this many events a run is not weighed: weighing would take longer than applying them.
const UNWEIGHED_EVENTS: usize = 4;

/// How many of `events`, from the first, go into the next transaction.
///
/// # Errors
/// [`WorkError`] when an event cannot be read or the read model is away.
pub async fn next_transaction(
    feed: impl PgExecutor<'_>,
    events: &[RecordedEvent],
    kept: i64,
) -> Result<usize, WorkError> {
    let events = &events[..events.len().min(APPLY_MAX_EVENTS)];
    if events.len() <= UNWEIGHED_EVENTS {
        return Ok(events.len());
    }
    let decoded = events.iter().map(RecordedEvent::event).collect::<Result<Vec<_>, _>>()?;
    let readers = count_readers(feed, &decoded).await?;
    let mut deliveries = 0;
    for (index, event) in decoded.iter().enumerate() {
        deliveries += match event {
            Event::TweetCreated(TweetCreated { author_id, .. }) => {
                readers.get(author_id).copied().unwrap_or(1)
            }
            // What a followed author brings in is bounded by what a feed keeps.
            Event::Followed(Followed { .. }) => kept,
            _ => 1,
        };
        if deliveries > APPLY_MAX_DELIVERIES {
            return Ok(index.max(1));
        }
    }
    Ok(events.len())
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
        APPLY_MAX_DELIVERIES,
    )
    .fetch_all(feed)
    .await?;
    Ok(rows.into_iter().map(|row| (row.user_id, row.count)).collect())
}

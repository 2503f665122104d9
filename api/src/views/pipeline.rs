//! The read model's part of what those see who watch the pipeline.

use chrono::{DateTime, Utc};
use events::Position;
use events::store::{Connections, Fault};
use serde::Serialize;
use sqlx::AssertSqlSafe;
use utoipa::ToSchema;

/// Deliveries are counted over so many seconds: long enough for a rate that a person can read.
pub const DELIVERIES_SECONDS: f64 = 5.0;

/// And over so many hops at most, so that the count has an end. Under load the projector makes some
/// hundred a second.
const HOPS_MAX: i64 = 1_000;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedSide {
    pub generation: i32,
    pub position: Position,
    pub moved_at: DateTime<Utc>,
    /// Whether a projector leads.
    pub led: bool,
    /// What it goes by: `messages`, or the `log` because RabbitMQ brings nothing.
    pub follows: String,
    /// Rows of `feed_items` that came in the last [`DELIVERIES_SECONDS`].
    pub deliveries: i64,
    pub rebuild: Option<Rebuild>,
}

/// A generation that is being built, as `projector rebuild` stored it last.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow, ToSchema)]
pub struct Rebuild {
    #[schema(example = "replay")]
    pub phase: String,
    pub done: i64,
    pub total: i64,
    #[schema(example = "events")]
    pub unit: String,
    pub position: i64,
    pub head: i64,
    pub feed_rows: i64,
    pub began_at: DateTime<Utc>,
    pub stored_at: DateTime<Utc>,
}

/// Looks.
///
/// # Errors
/// [`sqlx::Error`] when the database is away or has no read model yet.
pub async fn look(feed: &Connections) -> Result<FeedSide, sqlx::Error> {
    let found = sqlx::query_file!("src/views/pipeline.sql", HOPS_MAX, DELIVERIES_SECONDS)
        .fetch_one(feed)
        .await?;
    let rebuild = match found.rebuilt_in {
        Some(schema) => rebuild(feed, &schema).await?,
        None => None,
    };
    Ok(FeedSide {
        generation: found.generation,
        position: found.position,
        moved_at: found.moved_at,
        led: found.led,
        follows: found.follows,
        deliveries: found.deliveries,
        rebuild,
    })
}

/// The table goes with its schema, in the moment of the swap: then there is no rebuild any more.
async fn rebuild(feed: &Connections, schema: &str) -> Result<Option<Rebuild>, sqlx::Error> {
    let select = AssertSqlSafe(format!(
        "select phase, done, total, unit, position, head, feed_rows, began_at, stored_at \
         from {schema}.rebuild"
    ));
    let stored = sqlx::query_as(select).fetch_optional(feed).await;
    match stored {
        Err(error) if Fault::of(&error) == Fault::Absent => Ok(None),
        stored => stored,
    }
}

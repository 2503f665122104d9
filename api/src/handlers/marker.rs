//! `/api/feed/unread` and `/api/feed/marker`: how far a reader has read.

use axum::extract::State;
use events::{Position, TweetId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::feed::reachable;
use crate::caller::Caller;
use crate::extract::{Json, Moment};
use crate::markers;
use crate::position::{AsOf, MinPosition};
use crate::problem::Problem;
use crate::reread::again_after_a_cut;
use crate::state::AppState;
use crate::views;
use crate::views::feed::UNREAD_MAX;

/// Up to where everything is read.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Marker {
    #[schema(minimum = 0)]
    tweet_id: TweetId,
}

/// How much is new to the caller.
#[derive(Debug, Serialize, ToSchema)]
pub struct Place {
    /// Tweets by others above the marker, counted up to 1,000.
    #[schema(minimum = 0, maximum = 1000)]
    unread: i64,
    /// Whether there are more than were counted.
    more: bool,
    /// The tweet up to which the caller has read; 0 before anything was.
    marker: TweetId,
}

/// How many tweets of the caller's home feed are new: those by others, above the marker.
#[utoipa::path(
    get,
    path = "/feed/unread",
    tag = "feed",
    params(MinPosition),
    security(("caller" = [])),
    responses((status = OK, body = Place), (status = NOT_FOUND))
)]
pub async fn unread(
    State(state): State<AppState>,
    Caller(reader): Caller,
    min: MinPosition,
) -> Result<AsOf<Place>, Problem> {
    let log = &state.log;
    let marker = again_after_a_cut(&|| markers::marker(log, reader)).await?;
    // One more says whether there are more.
    let read =
        |feed| async move { views::feed::unread(&feed, reader, marker, UNREAD_MAX + 1).await };
    let found = state.feeds.read(reader, min, read).await?;
    let AsOf { position, value } =
        found.or_not_found(|| format!("the calling user {reader} does not exist"))?;
    state.readings.note(reader);
    let place = Place { unread: value.min(UNREAD_MAX), more: value > UNREAD_MAX, marker };
    Ok(AsOf { position, value: place })
}

/// Moves the marker forward: everything up to this tweet is read.
///
/// It never moves backward; the answer says where it is. No event comes of it, and nobody else sees it.
#[utoipa::path(
    put,
    path = "/feed/marker",
    tag = "feed",
    request_body = Marker,
    security(("caller" = [])),
    responses((status = OK, body = Marker), (status = NOT_FOUND))
)]
pub async fn advance(
    State(state): State<AppState>,
    Caller(reader): Caller,
    Json(Marker { tweet_id }): Json<Marker>,
) -> Result<axum::Json<Marker>, Problem> {
    if tweet_id.0 < 0 {
        return Err(Problem::invalid("tweet_id", "must be 0 or more"));
    }
    // A marker past the end of the log would hide what is still to be written, and there is no way back.
    reachable(&state, Moment::Position(Position(tweet_id.0)), "tweet_id").await?;
    let tweet_id = state.markers.advance(reader, tweet_id).await?;
    Ok(axum::Json(Marker { tweet_id }))
}

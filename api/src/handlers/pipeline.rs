//! `/api/pipeline` and `/api/tweets/{id}/delivery`: events on their way.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use events::event::{Event, TweetCreated};
use events::store::hops::{RelayHop, of_relay};
use events::store::{ranges, read};
use events::{Position, TweetId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::extract::Id;
use crate::pipeline::Seen;
use crate::position::{AsOf, LogPosition, MinPosition};
use crate::problem::Problem;
use crate::state::AppState;
use crate::views;
use crate::views::delivery::Delivered;

/// The whole way, for those who may watch it. What is away is part of the answer.
#[utoipa::path(
    get,
    path = "/pipeline",
    tag = "pipeline",
    security((), ("caller" = [])),
    responses((status = OK, body = Seen))
)]
pub async fn look(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    state.authentication.ensure_watcher(&headers)?;
    let seen = state.pipeline.look().await;
    let not_kept = [(header::CACHE_CONTROL, "no-store")];
    Ok((not_kept, LogPosition(seen.projector.position), axum::Json(Arc::unwrap_or_clone(seen))))
}

/// How far a tweet has come.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    tweet_id: TweetId,
    /// The position of the read model that the counts hold for.
    position: Position,
    #[serde(flatten)]
    delivered: Delivered,
    /// It was accepted into the log.
    appended_at: DateTime<Utc>,
    /// The relay handed it to RabbitMQ. `null`, as the next, when the relay's record does not go back so far.
    published_at: Option<DateTime<Utc>>,
    /// RabbitMQ confirmed that it has it.
    confirmed_at: Option<DateTime<Utc>>,
    /// From the log to the last follower, in milliseconds.
    last_after_ms: Option<f64>,
    /// All of it in one sentence.
    #[schema(example = "in 2 of 2 followers’ feeds, the last after 12 ms")]
    sentence: String,
}

/// The author's own view of a tweet on its way.
#[utoipa::path(
    get,
    path = "/tweets/{id}/delivery",
    tag = "tweets",
    params(MinPosition),
    security(("caller" = [])),
    responses((status = OK, body = Delivery), (status = NOT_FOUND))
)]
pub async fn delivery(
    State(state): State<AppState>,
    Caller(author): Caller,
    min: MinPosition,
    Id(tweet_id): Id<TweetId>,
) -> Result<AsOf<Delivery>, Problem> {
    let detail = || format!("you have written no tweet {tweet_id}, or taken it back");
    let not_theirs = || Problem::not_found(detail());
    // By the log, which has it before the read model does.
    let Some(recorded) = read::at(&state.log, Position(tweet_id.0)).await? else {
        return Err(match ranges::archived(&state.log).await? {
            Some(archived) if tweet_id.0 <= archived.through.0 => archived.into(),
            _ => not_theirs(),
        });
    };
    match recorded.event() {
        Ok(Event::TweetCreated(TweetCreated { author_id, .. })) if author_id == author => {}
        Ok(_) => return Err(not_theirs()),
        Err(error) => {
            tracing::error!(%error, "an event cannot be read");
            return Err(Problem::internal());
        }
    }
    let read = || views::delivery::find(&state.feed.connections, tweet_id, author);
    let AsOf { position, value: delivered } =
        state.feed.freshness.read(min, read).await?.or_not_found(detail)?;
    let hop = of_relay(&state.log, &[recorded.position]).await?.into_iter().next();
    let appended_at = recorded.recorded_at;
    let delivery = Delivery {
        tweet_id,
        position,
        delivered,
        appended_at,
        published_at: hop.map(|RelayHop { published_at, .. }| published_at),
        confirmed_at: hop.map(|RelayHop { confirmed_at, .. }| confirmed_at),
        last_after_ms: delivered
            .readable_at
            .map(|readable_at| (readable_at - appended_at).as_seconds_f64() * 1_000.0),
        sentence: String::new(),
    };
    let sentence = delivery.sentence();
    Ok(AsOf { position, value: Delivery { sentence, ..delivery } })
}

impl Delivery {
    fn sentence(&self) -> String {
        let Delivered { followers, feeds, .. } = self.delivered;
        let after = self
            .last_after_ms
            .map(|milliseconds| format!(", the last after {milliseconds:.0} ms"))
            .unwrap_or_default();
        let of = match followers {
            1 => "1 follower's feed".to_owned(),
            followers => format!("{followers} followers' feeds"),
        };
        format!("At position {} it is in {feeds} of {of}{after}.", self.position)
    }
}

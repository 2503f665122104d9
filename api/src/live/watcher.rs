//! Looks what is new whenever the checkpoint has moved.

use std::sync::Arc;

use events::Position;
use events::retry::{Failure, Retry};
use events::store::Connections;
use metrics::histogram;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Live, LiveItem};
use crate::freshness::Readable;
use crate::views::feed::news;

/// The most positions of one look: with every stream open and every tweet for everyone, its answer
/// takes some tens of megabytes.
const LOOK_MAX_EVENTS: i64 = 256;

/// Hands what becomes readable to `live`, until `shutdown` is cancelled. `checkpoint` is told how far
/// the projector has come, and `readable` whether that can be read: while it cannot, no stream stays
/// open.
pub async fn watch(
    live: Live,
    feed: Connections,
    mut checkpoint: watch::Receiver<Position>,
    mut readable: watch::Receiver<Readable>,
    shutdown: CancellationToken,
) {
    let mut retry = Retry::new("looking for what is new in feeds");
    while !shutdown.is_cancelled() {
        let announced = *checkpoint.borrow_and_update();
        if *readable.borrow_and_update() != Readable::Yes {
            live.cut_off(announced);
            tokio::select! {
                changed = readable.changed() => if changed.is_err() { break },
                () = shutdown.cancelled() => {}
            }
            continue;
        }
        match look(&live, &feed, announced).await {
            Err(error) => {
                let Ok(()) = retry.after(Failure::Retry(error), &shutdown).await else { break };
            }
            Ok(reached) if reached < announced => {}
            Ok(_) => tokio::select! {
                moved = checkpoint.changed() => if moved.is_err() { break },
                changed = readable.changed() => if changed.is_err() { break },
                () = shutdown.cancelled() => {}
            },
        }
    }
    live.stop();
}

/// One look, at most as far as `announced`, and where it ended. An announcement may be of what a
/// crash of the server then took back: the look ends where the read model is.
async fn look(
    live: &Live,
    feed: &Connections,
    announced: Position,
) -> Result<Position, sqlx::Error> {
    let (readers, after) = live.begin_look();
    if announced <= after {
        return Ok(announced);
    }
    if readers.is_empty() {
        live.hand_over([], &[], announced);
        return Ok(announced);
    }
    let began = Instant::now();
    let to = Position(announced.0.min(after.0 + LOOK_MAX_EVENTS));
    let found = news(feed, &readers, after, to).await?;
    histogram!("rookery_live_look_seconds").record(began.elapsed());
    if found.position <= after {
        return Ok(announced);
    }
    let items = found.value.tweets.into_iter().map(|(item, readers)| {
        let json = serde_json::to_string(&item).expect("an item is plain data");
        (Arc::new(LiveItem { position: Position(item.tweet_id.0), json }), readers)
    });
    live.hand_over(items, &found.value.too_much, found.position);
    Ok(found.position)
}

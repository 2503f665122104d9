//! Looks what is new whenever the checkpoint has moved.

use std::sync::Arc;

use events::Position;
use events::retry::{Failure, Retry};
use events::store::Connections;
use metrics::histogram;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Live, LiveEvent, Told, turns};
use crate::freshness::Readable;
use crate::metrics::STREAM_LOOK;
use crate::views::feed::news;

/// The most positions of one look: with every stream open and every tweet for everyone, its answer
/// takes some tens of megabytes.
const LOOK_MAX_EVENTS: i64 = 256;

/// Hands what becomes readable to `live`, until `shutdown` is cancelled. `checkpoint` is told how far
/// the projector has come, and `readable` whether that can be read: while it cannot, no stream stays
/// open.
pub async fn watch(
    live: Live,
    log: Connections,
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
        match look(&live, &log, &feed, announced).await {
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
    log: &Connections,
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
    let turns = turns(log, feed, &readers, after, found.position).await?;
    histogram!(STREAM_LOOK.name).record(began.elapsed());
    if found.position <= after {
        return Ok(announced);
    }
    let items = found.value.tweets.into_iter().map(|(item, readers)| {
        let json = serde_json::to_string(&item).expect("an item is plain data");
        (LiveEvent { position: Position(item.tweet_id.0), name: None, json }, readers)
    });
    let gone: Vec<_> = turns.iter().filter_map(|turn| turn.gone).collect();
    let turns = turns.into_iter().map(|Told { event, readers, .. }| (event, readers));
    let mut events: Vec<_> =
        items.chain(turns).map(|(event, readers)| (Arc::new(event), readers)).collect();
    events.sort_by_key(|(event, _)| event.position);
    live.hand_over(events, &found.value.too_much, found.position);
    live.cut_off_gone(&gone);
    Ok(found.position)
}

//! Following a position that someone else moves: by announcement, with polling as the safety net.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Database;
use crate::id::Position;
use crate::retry::{Failure, Retry};

/// How often the position is read although nothing was announced. An announcement is lost only
/// with its connection, and that is noticed at once, so this is rarely what wakes anyone.
const POLL_MS: u64 = 1_000;

/// Keeps `position` at what is announced on `channel` of `database`, and at what `read` says: at
/// the start, after each reconnection (PostgreSQL keeps no announcement for those who are away),
/// and every second. Returns when `shutdown` is cancelled.
///
/// # Errors
/// None today: whatever fails here can pass.
pub async fn follow<Reading>(
    database: &Database,
    channel: &'static str,
    position: &watch::Sender<Position>,
    read: impl Fn() -> Reading,
    shutdown: &CancellationToken,
) -> Result<(), sqlx::Error>
where
    Reading: Future<Output = Result<Position, sqlx::Error>>,
{
    let mut retry = Retry::new(channel);
    while let Err(error) = follow_once(database, channel, position, &read, shutdown).await {
        retry.after(Failure::Retry(error), shutdown).await?;
    }
    Ok(())
}

async fn follow_once<Reading>(
    database: &Database,
    channel: &str,
    position: &watch::Sender<Position>,
    read: &impl Fn() -> Reading,
    shutdown: &CancellationToken,
) -> Result<(), sqlx::Error>
where
    Reading: Future<Output = Result<Position, sqlx::Error>>,
{
    if shutdown.is_cancelled() {
        return Ok(());
    }
    let mut listener = database.listen(channel).await?;
    let mut poll = tokio::time::interval(Duration::from_millis(POLL_MS));
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = listener.try_recv() => match heard? {
                Some(heard) => {
                    if let Ok(announced) = heard.payload().parse::<Position>() {
                        raise(position, announced);
                    }
                }
                // The connection was lost; the listener has made another.
                None => poll.reset_immediately(),
            },
            _ = poll.tick() => {
                // Read, it is true even when it is lower: after a crash of the server a checkpoint
                // may stand further back than it was announced.
                let read = read().await?;
                position.send_if_modified(|known| std::mem::replace(known, read) != read);
            }
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// Raises `position` to `to`, if it is lower.
pub fn raise(position: &watch::Sender<Position>, to: Position) {
    position.send_if_modified(|known| {
        let higher = to > *known;
        *known = to.max(*known);
        higher
    });
}

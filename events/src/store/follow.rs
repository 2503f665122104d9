//! Following a position that someone else moves: by announcement, with polling as the safety net.

use std::io;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgNotification};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Database, Fault};
use crate::id::Position;
use crate::retry::{Failure, Retry};

/// How often the position is read although nothing was announced. An announcement is lost only
/// with its connection, and that is noticed at once, so this is rarely what wakes anyone.
const POLL: Duration = Duration::from_secs(1);

/// How often it is read where nobody can listen: on a standby. A tenth of what a read with a
/// consistency token waits.
const POLL_DEAF: Duration = Duration::from_millis(200);

/// For how long nobody is listened to before it is tried again: the standby may have become a primary.
const DEAF_FOR: Duration = Duration::from_secs(10);

/// After so many polls in a row that found what should have been announced long before, the
/// connection is taken for one that nothing comes through any more.
const POLLS_AHEAD_MAX: u32 = 3;

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
    while !shutdown.is_cancelled() {
        if let Err(error) = follow_once(database, channel, position, &read, shutdown).await {
            retry.after(Failure::Retry(error), shutdown).await?;
        }
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
    let mut listener = match database.listen(channel).await {
        Ok(listener) => Some(listener),
        Err(error) if Fault::of(&error) == Fault::ReadOnly => {
            tracing::debug!("{channel} cannot be listened to on a standby; polling instead");
            None
        }
        Err(error) => return Err(error),
    };
    let mut poll = interval(if listener.is_some() { POLL } else { POLL_DEAF });
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut polls_ahead = 0;
    let deaf_until = Instant::now() + DEAF_FOR;
    loop {
        tokio::select! {
            () = sleep_until(deaf_until), if listener.is_none() => return Ok(()),
            heard = hear(&mut listener) => match heard? {
                Some(heard) => {
                    polls_ahead = 0;
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
                let moved = position.send_if_modified(|known| std::mem::replace(known, read) != read);
                polls_ahead = if moved { polls_ahead + 1 } else { 0 };
                if polls_ahead > POLLS_AHEAD_MAX && listener.is_some() {
                    // Opened anew by the caller.
                    return Err(io::Error::other("announcements do not arrive").into());
                }
            }
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// The next announcement; never one where nobody listens.
async fn hear(listener: &mut Option<PgListener>) -> Result<Option<PgNotification>, sqlx::Error> {
    match listener {
        Some(listener) => listener.try_recv().await,
        None => std::future::pending().await,
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

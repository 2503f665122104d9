//! Waiting for the read model, for reads that ask for a position.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use events::Position;
use metrics::counter;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::metrics::READ_WAITS;
use crate::position::{AsOf, MinPosition};
use crate::problem::Problem;
use crate::reread::again_after_a_cut;

/// The most reads that wait for their position at once: a quarter of the requests in work, so that
/// readers of a read model that is far behind leave room for everyone else.
pub const WAITING_READS_MAX: usize = 1_024;

/// How long a read waits that finds less than was announced, until it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Whether the read model can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    Yes,
    /// It is of a newer release, and this one would misread it.
    Newer,
    /// It was made from another log than this one is: see [`events::history`].
    OtherHistory,
}

impl Readable {
    /// In words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Yes => "the read model can be read",
            Self::Newer => "the read model is of a newer release, which this one cannot read",
            Self::OtherHistory => {
                "the read model is of another history than the log; commands are accepted, and \
                 projector rebuild makes it again from this log"
            }
        }
    }
}

/// Makes reads wait for the read model.
#[derive(Debug, Clone)]
pub struct Freshness {
    checkpoint: watch::Receiver<Position>,
    readable: watch::Receiver<Readable>,
    patience: Duration,
    waiting: Arc<Semaphore>,
}

impl Freshness {
    /// `checkpoint` is told how far the projector has come, and `readable` whether that can be read; a
    /// read waits for at most `patience`.
    #[must_use]
    pub fn new(
        checkpoint: watch::Receiver<Position>,
        readable: watch::Receiver<Readable>,
        patience: Duration,
    ) -> Self {
        let waiting = Arc::new(Semaphore::new(WAITING_READS_MAX));
        Self { checkpoint, readable, patience, waiting }
    }

    /// Runs `read` until what it finds is exact at `min` or later. Without waiting when it is so
    /// already: the announcements only say when it is worth another look, and what counts is the
    /// position that the read itself names.
    ///
    /// # Errors
    /// The read's own, or what it was that kept it from getting there in time.
    pub async fn read<T, Reading>(
        &self,
        min: MinPosition,
        read: impl Fn() -> Reading,
    ) -> Result<AsOf<T>, Missed>
    where
        Reading: Future<Output = Result<AsOf<T>, sqlx::Error>>,
    {
        let readable = *self.readable.borrow();
        if readable != Readable::Yes {
            return Err(Missed::Unreadable(readable));
        }
        let deadline = Instant::now() + self.patience;
        let mut place = None;
        let mut checkpoint = self.checkpoint.clone();
        loop {
            checkpoint.borrow_and_update();
            let found = again_after_a_cut(&read).await?;
            if found.position >= min.0 {
                if place.is_some() {
                    ended("reached");
                }
                return Ok(found);
            }
            if place.is_none() {
                place = Some(self.waiting.try_acquire().map_err(|_| {
                    ended("crowded");
                    Missed::Crowded { stands: found.position }
                })?);
            }
            let reached = async {
                // An announcement from before a crash of the server may lie above what the read model holds now; and
                // of a distributed one a node may not be there yet. Then it is worth another look all the same.
                let is_announced = *checkpoint.borrow() >= min.0;
                let looks_again =
                    async { if is_announced { sleep(LOOK_AGAIN).await } else { pending().await } };
                let moves = async {
                    while checkpoint.changed().await.is_ok() {
                        if *checkpoint.borrow() >= min.0 {
                            return;
                        }
                    }
                    pending::<()>().await;
                };
                tokio::select! {
                    () = moves => {}
                    () = looks_again => {}
                }
            };
            if timeout_at(deadline, reached).await.is_err() {
                ended("late");
                return Err(Missed::Late { asked: min.0, stands: found.position });
            }
        }
    }
}

/// Why a read found nothing.
#[derive(Debug, thiserror::Error)]
pub enum Missed {
    #[error("{}", .0.describe())]
    Unreadable(Readable),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("too many reads wait for the read model already")]
    Crowded { stands: Position },
    #[error("position {asked} is not readable yet; the read model is at {stands}")]
    Late { asked: Position, stands: Position },
}

/// 503, of a type of its own for each reason.
impl From<Missed> for Problem {
    fn from(missed: Missed) -> Self {
        let detail = missed.to_string();
        match missed {
            Missed::Unreadable(Readable::OtherHistory) => {
                Self::unavailable("read-model-of-another-history", detail)
            }
            Missed::Unreadable(Readable::Newer | Readable::Yes) => {
                Self::unavailable("read-model-newer", detail)
            }
            Missed::Database(error) => error.into(),
            Missed::Crowded { stands } => Self::unavailable("too-many-waiting", detail).at(stands),
            Missed::Late { stands, .. } => Self::unavailable("not-there-yet", detail).at(stands),
        }
    }
}

/// Counts a wait by its `end`.
fn ended(end: &'static str) {
    counter!(READ_WAITS.name, "end" => end).increment(1);
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "it stands for a read")]
    fn at(position: i64) -> Result<AsOf<()>, sqlx::Error> {
        Ok(AsOf { position: Position(position), value: () })
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_is_never_reached_is_refused_in_time() {
        let (_sender, checkpoint) = watch::channel(Position(3));
        let freshness =
            Freshness::new(checkpoint, watch::channel(Readable::Yes).1, Duration::from_secs(2));
        let started = Instant::now();
        let refused = freshness.read(MinPosition(Position(4)), || async { at(3) }).await;
        assert!(refused.is_err());
        assert_eq!(started.elapsed(), Duration::from_secs(2));
    }

    /// Whoever need not wait is served all the same.
    #[tokio::test(start_paused = true)]
    async fn so_many_reads_wait_and_the_next_is_refused_at_once() {
        let (_sender, checkpoint) = watch::channel(Position(3));
        let readable = watch::channel(Readable::Yes).1;
        let freshness = Freshness::new(checkpoint, readable, Duration::from_secs(2));
        let started = Instant::now();
        let wait = || freshness.read(MinPosition(Position(4)), || async { at(3) });
        let waiting = join_all((0..WAITING_READS_MAX).map(|_| wait()));
        let one_more = async {
            tokio::task::yield_now().await;
            assert!(wait().await.is_err());
            let served = freshness.read(MinPosition(Position(3)), || async { at(3) }).await;
            assert!(served.is_ok());
            assert_eq!(started.elapsed(), Duration::ZERO);
        };
        tokio::join!(waiting, one_more);
        assert_eq!(started.elapsed(), Duration::from_secs(2));
        assert!(wait().await.is_err(), "their places are free again");
        assert_eq!(started.elapsed(), Duration::from_secs(4));
    }

    #[tokio::test]
    async fn a_read_waits_until_the_position_is_reached() {
        let (sender, checkpoint) = watch::channel(Position(3));
        let freshness =
            Freshness::new(checkpoint, watch::channel(Readable::Yes).1, Duration::from_mins(1));
        let store = watch::channel(3).0;
        let read = freshness.read(MinPosition(Position(5)), || async { at(*store.borrow()) });
        let moves = async {
            for position in 4..=6 {
                store.send_replace(position);
                sender.send_replace(Position(position));
                tokio::task::yield_now().await;
            }
        };
        let (found, ()) = tokio::join!(read, moves);
        assert!(found.unwrap().position >= Position(5));
    }

    /// One node of several commits a little later than the one that announces it.
    #[tokio::test(start_paused = true)]
    async fn what_is_announced_and_not_there_yet_is_looked_for_again() {
        let (_sender, checkpoint) = watch::channel(Position(5));
        let freshness =
            Freshness::new(checkpoint, watch::channel(Readable::Yes).1, Duration::from_secs(2));
        let store = watch::channel(4).0;
        let started = Instant::now();
        let read = freshness.read(MinPosition(Position(5)), || async { at(*store.borrow()) });
        let commits = async {
            sleep(LOOK_AGAIN / 2).await;
            store.send_replace(5);
        };
        let (found, ()) = tokio::join!(read, commits);
        assert_eq!(found.unwrap().position, Position(5));
        assert_eq!(started.elapsed(), LOOK_AGAIN);
    }

    #[tokio::test]
    async fn an_announcement_that_was_lost_again_is_not_believed() {
        let (sender, checkpoint) = watch::channel(Position(9));
        let freshness =
            Freshness::new(checkpoint, watch::channel(Readable::Yes).1, Duration::from_mins(1));
        let store = watch::channel(3).0;
        let read = freshness.read(MinPosition(Position(9)), || async { at(*store.borrow()) });
        let moves = async {
            sender.send_replace(Position(3));
            tokio::task::yield_now().await;
            store.send_replace(9);
            sender.send_replace(Position(9));
        };
        let (found, ()) = tokio::join!(read, moves);
        assert_eq!(found.unwrap().position, Position(9));
    }
}

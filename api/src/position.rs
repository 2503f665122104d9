//! Consistency tokens: which position of the log an answer holds for, and waiting for one.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use events::Position;
use events::store::Fault;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::problem::Problem;

/// On an answer: the position of the command's event, or the position that a read is exact at.
pub const LOG_POSITION: HeaderName = HeaderName::from_static("x-log-position");

/// On a read: the position that it must at least be exact at.
const MIN_LOG_POSITION: HeaderName = HeaderName::from_static("x-min-log-position");

/// What a read found, and the position of the log for which that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsOf<T> {
    pub position: Position,
    pub value: T,
}

/// The position that the client asks a read to have reached; 0 when it does not ask.
#[derive(Debug, Clone, Copy)]
pub struct MinPosition(pub Position);

/// Sets `X-Log-Position` on an answer.
#[derive(Debug, Clone, Copy)]
pub struct LogPosition(pub Position);

/// Makes reads wait for the read model.
#[derive(Debug, Clone)]
pub struct Freshness {
    checkpoint: watch::Receiver<Position>,
    readable: watch::Receiver<bool>,
    patience: Duration,
    waiting: Arc<Semaphore>,
}

/// The most reads that wait for their position at once: a quarter of the requests in work, so that
/// readers of a read model that is far behind leave room for everyone else.
pub const WAITING_READS_MAX: usize = 1_024;

impl Freshness {
    /// `checkpoint` is told how far the projector has come, and `readable` whether this release can
    /// read what it writes; a read waits for at most `patience`.
    #[must_use]
    pub fn new(
        checkpoint: watch::Receiver<Position>,
        readable: watch::Receiver<bool>,
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
    /// The read's own, or 503 when the read model did not get there in time.
    pub async fn read<T, Reading>(
        &self,
        min: MinPosition,
        read: impl Fn() -> Reading,
    ) -> Result<AsOf<T>, Problem>
    where
        Reading: Future<Output = Result<AsOf<T>, sqlx::Error>>,
    {
        if !*self.readable.borrow() {
            let detail = "the read model is of a newer release, which this one cannot read";
            return Err(Problem::unavailable("read-model-newer", detail));
        }
        let deadline = Instant::now() + self.patience;
        let mut place = None;
        let mut checkpoint = self.checkpoint.clone();
        loop {
            checkpoint.borrow_and_update();
            let found = again_after_a_cut(&read).await?;
            if found.position >= min.0 {
                return Ok(found);
            }
            if place.is_none() {
                place = Some(self.waiting.try_acquire().map_err(|_| {
                    let detail = "too many reads wait for the read model already";
                    Problem::unavailable("too-many-waiting", detail).at(found.position)
                })?);
            }
            let reached = async {
                // Changed, and far enough: an announcement from before a crash of the server may
                // lie above what the read model holds now.
                while checkpoint.changed().await.is_ok() {
                    if *checkpoint.borrow() >= min.0 {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            };
            if timeout_at(deadline, reached).await.is_err() {
                let (asked, stands) = (min.0, found.position);
                let detail =
                    format!("position {asked} is not readable yet; the read model is at {stands}");
                return Err(Problem::unavailable("not-there-yet", detail).at(stands));
            }
        }
    }
}

/// A connection may have been cut since its last use, and all others with it, so that the next one is
/// new. A read changes nothing, so it is simply done again on that.
async fn again_after_a_cut<T, Reading>(read: &impl Fn() -> Reading) -> Result<T, sqlx::Error>
where
    Reading: Future<Output = Result<T, sqlx::Error>>,
{
    match read().await {
        Err(error) if is_cut(&error) => read().await,
        result => result,
    }
}

/// Whether the connection was cut, rather than the server silent: another wait of that length would
/// help nobody.
fn is_cut(error: &sqlx::Error) -> bool {
    let is_late = matches!(error, sqlx::Error::Io(error) if error.kind() == ErrorKind::TimedOut);
    let is_full = matches!(error, sqlx::Error::PoolTimedOut);
    Fault::of(error).ends_session() && !is_late && !is_full
}

impl<S: Sync> FromRequestParts<S> for MinPosition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(MIN_LOG_POSITION) else {
            return Ok(Self(Position::START));
        };
        value
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse::<Position>().ok())
            .filter(|position| *position >= Position::START)
            .map(Self)
            .ok_or_else(|| {
                Problem::invalid(
                    "X-Min-Log-Position",
                    "must be a position of the log: a number from 0 up",
                )
            })
    }
}

impl IntoResponseParts for LogPosition {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        parts.headers_mut().insert(LOG_POSITION, HeaderValue::from(self.0.0));
        Ok(parts)
    }
}

impl<T: serde::Serialize> IntoResponse for AsOf<T> {
    fn into_response(self) -> Response {
        (LogPosition(self.position), axum::Json(self.value)).into_response()
    }
}

impl<T> AsOf<Option<T>> {
    /// What was found, or 404 with `detail`: that too holds for a position.
    ///
    /// # Errors
    /// 404 when nothing was found.
    pub fn or_not_found(self, detail: impl FnOnce() -> String) -> Result<AsOf<T>, Problem> {
        match self.value {
            Some(value) => Ok(AsOf { position: self.position, value }),
            None => Err(Problem::not_found(detail()).at(self.position)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "it stands for a read")]
    fn at(position: i64) -> Result<AsOf<()>, sqlx::Error> {
        Ok(AsOf { position: Position(position), value: () })
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_is_never_reached_is_refused_in_time() {
        let (_sender, checkpoint) = watch::channel(Position(3));
        let freshness = Freshness::new(checkpoint, watch::channel(true).1, Duration::from_secs(2));
        let started = Instant::now();
        let refused = freshness.read(MinPosition(Position(4)), || async { at(3) }).await;
        assert!(refused.is_err());
        assert_eq!(started.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_read_waits_until_the_position_is_reached() {
        let (sender, checkpoint) = watch::channel(Position(3));
        let freshness = Freshness::new(checkpoint, watch::channel(true).1, Duration::from_mins(1));
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

    #[tokio::test]
    async fn an_announcement_that_was_lost_again_is_not_believed() {
        let (sender, checkpoint) = watch::channel(Position(9));
        let freshness = Freshness::new(checkpoint, watch::channel(true).1, Duration::from_mins(1));
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

//! Markers: how far each reader has read.
//!
//! A marker is no event: what nobody else ever sees belongs to no log. Those who move theirs wait in a bounded queue, and
//! whatever waits when the statement before has come back is the next: one round trip and one commit for all of them.
//!
//! **Invariant**: a marker never moves backward, and what was answered is durable.

use std::collections::BTreeMap;

use events::store::{Connections, Fault};
use events::{TweetId, UserId};
use sqlx::error::DatabaseError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::problem::Problem;

/// The most that wait: as many as [wait to append](crate::appender::APPEND_QUEUE_MAX).
const MOVES_WAITING_MAX: usize = 2_048;

/// The most that one statement moves: some milliseconds.
const MOVES_MAX: usize = 512;

/// Moves markers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Markers(mpsc::Sender<Move>);

/// Someone's wish to have read everything up to a tweet.
#[derive(Debug)]
struct Move {
    reader: UserId,
    tweet: TweetId,
    reply: oneshot::Sender<Result<TweetId, MarkerError>>,
}

/// Why a marker was not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MarkerError {
    #[error("too many markers wait to be moved")]
    Busy,
    #[error("there is no such reader")]
    Unknown,
    #[error("the log's database cannot be reached or is too slow now")]
    Away,
    #[error("the log's database refused it")]
    Refused,
}

impl From<MarkerError> for Problem {
    fn from(error: MarkerError) -> Self {
        match error {
            MarkerError::Busy => Self::unavailable("busy", error.to_string()),
            MarkerError::Unknown => Self::not_found("the calling user does not exist".to_owned()),
            MarkerError::Away => Self::unavailable("database-unavailable", error.to_string()),
            MarkerError::Refused => Self::internal(),
        }
    }
}

impl Markers {
    /// Markers, and the task that has to [run](MarkersTask::run) so that they move.
    #[must_use]
    pub fn new(log: Connections) -> (Self, MarkersTask) {
        let (sender, queue) = mpsc::channel(MOVES_WAITING_MAX);
        (Self(sender), MarkersTask { queue, log })
    }

    /// Moves the marker of `reader` to `tweet`, unless it is further already. Returns where it is.
    ///
    /// # Errors
    /// [`MarkerError`]; it may have moved all the same when the database went away meanwhile.
    pub async fn advance(&self, reader: UserId, tweet: TweetId) -> Result<TweetId, MarkerError> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Move { reader, tweet, reply }).map_err(|_| MarkerError::Busy)?;
        answer.await.unwrap_or(Err(MarkerError::Away))
    }
}

/// The task that owns the queue.
#[derive(Debug)]
pub struct MarkersTask {
    queue: mpsc::Receiver<Move>,
    log: Connections,
}

impl MarkersTask {
    /// Moves markers. When `shutdown` is cancelled it takes no more, moves what waits, and returns.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut moves = Vec::with_capacity(MOVES_MAX);
        loop {
            tokio::select! {
                _ = self.queue.recv_many(&mut moves, MOVES_MAX) => {}
                () = shutdown.cancelled(), if !self.queue.is_closed() => self.queue.close(),
            }
            if moves.is_empty() && self.queue.is_closed() && self.queue.is_empty() {
                return;
            }
            self.advance_once(&mut moves).await;
        }
    }

    async fn advance_once(&self, moves: &mut Vec<Move>) {
        let mut furthest: BTreeMap<UserId, TweetId> = BTreeMap::new();
        for Move { reader, tweet, .. } in moves.iter() {
            let known = furthest.entry(*reader).or_insert(*tweet);
            *known = (*known).max(*tweet);
        }
        if furthest.is_empty() {
            return;
        }
        let mut moved = advance(&self.log, &furthest).await;
        if moved.as_ref().is_err_and(is_of_somebody_just_deleted) {
            // Now it is seen who that is.
            moved = advance(&self.log, &furthest).await;
        }
        if let Err(error) = &moved {
            tracing::warn!(%error, markers = furthest.len(), "markers could not be moved");
        }
        for Move { reader, reply, .. } in moves.drain(..) {
            let answer = match &moved {
                Ok(moved) => moved.get(&reader).copied().ok_or(MarkerError::Unknown),
                Err(error) if Fault::of(error).passes() => Err(MarkerError::Away),
                Err(_) => Err(MarkerError::Refused),
            };
            // Whoever has gone no longer listens.
            let (Ok(()) | Err(_)) = reply.send(answer);
        }
    }
}

/// An account that goes between being looked up and having a marker.
fn is_of_somebody_just_deleted(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(DatabaseError::is_foreign_key_violation)
}

async fn advance(
    log: &Connections,
    furthest: &BTreeMap<UserId, TweetId>,
) -> Result<BTreeMap<UserId, TweetId>, sqlx::Error> {
    let readers: Vec<i64> = furthest.keys().map(|reader| reader.0).collect();
    let tweets: Vec<i64> = furthest.values().map(|tweet| tweet.0).collect();
    let moved = sqlx::query_file!("src/markers/move.sql", &readers, &tweets).fetch_all(log).await?;
    Ok(moved.into_iter().map(|marker| (marker.reader_id, marker.tweet_id)).collect())
}

/// The tweet up to which `reader` has read; the one before the first when nothing.
///
/// # Errors
/// [`sqlx::Error`] when the log is away.
pub async fn marker(log: &Connections, reader: UserId) -> Result<TweetId, sqlx::Error> {
    let found = sqlx::query_scalar!(
        r#"select tweet_id as "tweet_id: TweetId" from markers where reader_id = $1"#,
        reader.0
    )
    .fetch_optional(log)
    .await?;
    Ok(found.unwrap_or(TweetId(0)))
}

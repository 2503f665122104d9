//! When each reader last read their home feed, as far as somebody needs to know: the day.
//!
//! Whoever has not read for long is dormant, and the projector keeps no rows for them. So readings are state of the reader that is
//! written down, at most once a day, and who is back after long is announced. A read never waits for any of it, and what is not
//! written down by this process is by the next read: nothing that anybody reads depends on it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, NaiveTime, Utc};
use events::retry::{Failure, Retry};
use events::store::{Connections, DORMANT_AFTER_MIN, RETURNED_CHANNEL};
use events::{Clock, UserId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The most that wait. Beyond, a reading is not noted, and the next one of that reader is.
const READINGS_WAITING_MAX: usize = 8_192;

/// The most that one statement writes down: some tens of milliseconds.
const READINGS_MAX: usize = 2_048;

/// How long after one statement the next comes. Nobody waits for it.
const GATHERS_FOR: Duration = Duration::from_secs(1);

/// So many readers are remembered to have been noted today, one for each place: half a megabyte. Of two who have one place, each is
/// noted again after the other, which costs a look at a row and no write.
const NOTED_MAX: usize = 65_536;

/// Notes who reads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readings {
    waiting: mpsc::Sender<UserId>,
    noted: Arc<Noted>,
    clock: Clock,
}

/// Who was noted, and on which day.
#[derive(Debug)]
struct Noted(Box<[AtomicU64]>);

impl Readings {
    /// Readings, and the task that has to [run](ReadingsTask::run) so that they are written down.
    #[must_use]
    pub fn new(log: Connections, clock: Clock) -> (Self, ReadingsTask) {
        let (waiting, queue) = mpsc::channel(READINGS_WAITING_MAX);
        let places = (0..NOTED_MAX).map(|_| AtomicU64::new(0)).collect();
        let readings = Self { waiting, noted: Arc::new(Noted(places)), clock };
        (readings, ReadingsTask { queue, log, clock })
    }

    /// Notes that `reader` reads now.
    pub fn note(&self, reader: UserId) {
        let today = self.clock.now().timestamp() / SECONDS_PER_DAY;
        if self.noted.is_new(reader, today) && self.waiting.try_send(reader).is_err() {
            self.noted.forget(reader);
        }
    }
}

const SECONDS_PER_DAY: i64 = 86_400;

/// Bits that a day has in a place; the reader has the others.
const DAY_BITS: u32 = 16;

impl Noted {
    fn place(&self, reader: UserId) -> &AtomicU64 {
        &self.0[usize::try_from(reader.0.unsigned_abs()).unwrap_or_default() % self.0.len()]
    }

    /// Whether `reader` was not noted on `day`, and is from now on.
    fn is_new(&self, reader: UserId, day: i64) -> bool {
        let day = day.unsigned_abs() % (1 << DAY_BITS);
        let noted = (reader.0.unsigned_abs() << DAY_BITS) | day;
        let place = self.place(reader);
        // Looked at first: most reads are not the first of the day, and write nothing.
        place.load(Ordering::Relaxed) != noted && place.swap(noted, Ordering::Relaxed) != noted
    }

    fn forget(&self, reader: UserId) {
        self.place(reader).store(0, Ordering::Relaxed);
    }
}

/// The task that owns the queue.
#[derive(Debug)]
pub struct ReadingsTask {
    queue: mpsc::Receiver<UserId>,
    log: Connections,
    clock: Clock,
}

impl ReadingsTask {
    /// Writes readings down until `shutdown` is cancelled, and then what waits, if the log is there.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut retry = Retry::new("writing down who reads");
        let mut readers = Vec::with_capacity(READINGS_MAX);
        loop {
            tokio::select! {
                _ = self.queue.recv_many(&mut readers, READINGS_MAX) => {}
                () = shutdown.cancelled(), if !self.queue.is_closed() => self.queue.close(),
            }
            if readers.is_empty() && self.queue.is_closed() && self.queue.is_empty() {
                return;
            }
            let once: BTreeSet<UserId> = readers.drain(..).collect();
            while let Err(error) = note(&self.log, &once, self.clock.now()).await {
                let ended = retry.after(Failure::Retry(error), &shutdown).await.is_err();
                if ended || shutdown.is_cancelled() {
                    return;
                }
            }
            shutdown.run_until_cancelled(tokio::time::sleep(GATHERS_FOR)).await;
        }
    }
}

async fn note(
    log: &Connections,
    readers: &BTreeSet<UserId>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if readers.is_empty() {
        return Ok(());
    }
    let readers: Vec<UserId> = readers.iter().copied().collect();
    let today = now.with_time(NaiveTime::MIN).single().unwrap_or(now);
    let announced = sqlx::query_file_scalar!(
        "src/readings/note.sql",
        readers as _,
        now,
        today,
        now - DORMANT_AFTER_MIN,
        RETURNED_CHANNEL
    );
    announced.fetch_one(log).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted() -> Noted {
        Noted((0..8).map(|_| AtomicU64::new(0)).collect())
    }

    #[test]
    fn a_reader_is_new_once_a_day() {
        let noted = noted();
        let days = [20_000, 20_000, 20_001, 20_001];
        assert_eq!(days.map(|day| noted.is_new(UserId(5), day)), [true, false, true, false]);
    }

    #[test]
    fn two_who_have_one_place_are_never_taken_for_each_other() {
        let noted = noted();
        assert!(noted.is_new(UserId(5), 20_000));
        assert!(noted.is_new(UserId(13), 20_000));
        assert!(noted.is_new(UserId(5), 20_000), "noted again, which costs time alone");
        noted.forget(UserId(5));
        assert!(noted.is_new(UserId(5), 20_000), "there was no room to wait");
    }
}

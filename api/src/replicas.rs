//! Where home feeds are read: in the read model itself, or in replicas of it, where there are some.
//!
//! A reader stays with one replica, so that nobody's time goes back. Whatever the replica does not give, the read model gives;
//! and from then on the replica has to have come as far as that before it is read again. One that is away or behind is left
//! out, and comes back by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use events::store::{Connections, Fault};
use events::{Position, UserId};
use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::freshness::{Freshness, Missed, Readable};
use crate::metrics::{FEED_READS_PASSED_ON, FEED_REPLICA_IN_USE, FEED_REPLICA_POSITION};
use crate::position::{AsOf, MinPosition};
use crate::problem::Problem;
use crate::state::ReadModel;

/// How far behind in time a replica may be, and so how long a read waits for it before it is passed on. A streaming replica on
/// the same network is some milliseconds behind.
pub const LAG_MAX: Duration = Duration::from_secs(1);

/// How often a replica is looked at, although the read model did not move.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The same while it has yet to come as far as the read model: no replica can announce how far it is.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// One that failed a read stays out for so long: it may well answer a look.
const REST: Duration = Duration::from_secs(5);

/// Reads of home feeds.
#[derive(Debug)]
pub struct Feeds {
    primary: ReadModel,
    replicas: Vec<Arc<Replica>>,
}

/// A replica of the read model.
#[derive(Debug)]
pub struct Replica {
    /// Its address, for those who operate it.
    name: String,
    model: ReadModel,
    position: watch::Sender<Position>,
    /// How far the read model is that it replicates.
    primary: watch::Receiver<Position>,
    is_in_use: AtomicBool,
    /// Whether the log has it already why it is left out.
    is_told: AtomicBool,
    /// The furthest position that the read model gave in its stead.
    given: AtomicI64,
    failed_at: Mutex<Option<Instant>>,
}

impl Feeds {
    /// Reads in `primary` and its `replicas`.
    #[must_use]
    pub const fn new(primary: ReadModel, replicas: Vec<Arc<Replica>>) -> Self {
        Self { primary, replicas }
    }

    /// Does `read` for `reader` until what it finds is exact at `min` or later, on connections to the reader's replica or to the
    /// read model.
    ///
    /// # Errors
    /// The read's own, or 503 when nobody got there in time.
    pub async fn read<T, Reading>(
        &self,
        reader: UserId,
        min: MinPosition,
        read: impl Fn(Connections) -> Reading,
    ) -> Result<AsOf<T>, Problem>
    where
        Reading: Future<Output = Result<AsOf<T>, sqlx::Error>>,
    {
        let Some(replica) = self.replica_of(reader) else {
            return Ok(self.primary.read(min, read).await?);
        };
        if replica.is_in_use() {
            match replica.model.read(min.and(replica.given()), &read).await {
                Err(missed) if replica.passes_on(&missed) => {}
                end => return Ok(end?),
            }
        }
        counter!(FEED_READS_PASSED_ON.name, "replica" => replica.name.clone()).increment(1);
        let found = self.primary.read(min, read).await?;
        replica.given.fetch_max(found.position.0, Ordering::AcqRel);
        Ok(found)
    }

    fn replica_of(&self, reader: UserId) -> Option<&Replica> {
        let count = u64::try_from(self.replicas.len()).ok().filter(|count| *count > 0)?;
        let place = usize::try_from(reader.0.unsigned_abs() % count).ok()?;
        self.replicas.get(place).map(Arc::as_ref)
    }
}

impl Replica {
    /// A replica that `connections` lead to, of a read model that is at `primary`. It is left out until it has been looked at.
    #[must_use]
    pub fn new(name: String, connections: Connections, primary: watch::Receiver<Position>) -> Self {
        let (position, checkpoint) = watch::channel(Position::START);
        // What it must not be read for, a look leaves it out for.
        let freshness = Freshness::new(checkpoint, watch::channel(Readable::Yes).1, LAG_MAX);
        let model = ReadModel { connections, freshness };
        counter!(FEED_READS_PASSED_ON.name, "replica" => name.clone()).increment(0);
        let (is_in_use, is_told) = (AtomicBool::new(false), AtomicBool::new(false));
        let (given, failed_at) = (AtomicI64::new(0), Mutex::default());
        Self { name, model, position, primary, is_in_use, is_told, given, failed_at }
    }

    fn is_in_use(&self) -> bool {
        self.is_in_use.load(Ordering::Acquire)
    }

    fn given(&self) -> Position {
        Position(self.given.load(Ordering::Acquire))
    }

    /// Whether the read model is asked instead. Not where too many ask already: they would be too many for it as well.
    fn passes_on(&self, missed: &Missed) -> bool {
        match missed {
            Missed::Crowded { .. } | Missed::Database(sqlx::Error::PoolTimedOut) => false,
            // It took too long, or stood in the way of what the replica had to apply.
            Missed::Database(error) if Fault::of(error) == Fault::Busy => true,
            // Nobody is there yet.
            Missed::Late { asked, .. } if *self.primary.borrow() < *asked => true,
            Missed::Database(_) | Missed::Late { .. } | Missed::Unreadable(_) => {
                *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Instant::now());
                self.leave_out(&missed.to_string());
                true
            }
        }
    }

    fn leave_out(&self, why: &str) {
        self.is_in_use.store(false, Ordering::Release);
        if !self.is_told.swap(true, Ordering::AcqRel) {
            tracing::warn!(replica = self.name, "a replica is left out: {why}");
        }
    }

    fn come_in(&self) {
        let failed_at = *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        let rests = failed_at.is_some_and(|at| at.elapsed() < REST);
        if !rests && !self.is_in_use.swap(true, Ordering::AcqRel) {
            self.is_told.store(false, Ordering::Release);
            tracing::info!(replica = self.name, "feeds are read from a replica");
        }
    }

    /// Finds its `position` each time that the read model has moved, until it has come as far, and now and then; and once a second
    /// by `check` whether it can be read.
    pub(crate) async fn watch<Finding, Checking>(
        &self,
        position: impl Fn() -> Finding,
        check: impl Fn() -> Checking,
        stop: CancellationToken,
    ) where
        Finding: Future<Output = Result<Position, sqlx::Error>>,
        Checking: Future<Output = Result<Readable, sqlx::Error>>,
    {
        let mut primary = self.primary.clone();
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut goal = Position::START;
        let watching = async {
            loop {
                let is_checked = tokio::select! {
                    Ok(()) = primary.changed() => false,
                    _ = tick.tick() => true,
                };
                let before = std::mem::replace(&mut goal, *primary.borrow_and_update());
                if goal < before {
                    // A crash took it back, or it is of another history: what it gave from there is there no more.
                    self.given.store(goal.0, Ordering::Release);
                }
                let look = async {
                    if is_checked {
                        match check().await.map_err(|error| error.to_string())? {
                            Readable::Yes => {}
                            other => return Err(other.describe().to_owned()),
                        }
                    }
                    self.until_it_is_at(goal, &position).await
                };
                let end = look.await;
                if is_checked && end.is_ok() {
                    self.come_in();
                }
                if let Err(why) = &end {
                    self.leave_out(why);
                }
                let in_use = if self.is_in_use() { 1.0 } else { 0.0 };
                gauge!(FEED_REPLICA_IN_USE.name, "replica" => self.name.clone()).set(in_use);
                sleep(if end.is_ok() { LOOK_AGAIN } else { LOOK_EVERY }).await;
            }
        };
        tokio::select! {
            () = watching => {}
            () = stop.cancelled() => {}
        }
    }

    /// Waits until it is at `goal`, or says why that takes too long.
    async fn until_it_is_at<Finding>(
        &self,
        goal: Position,
        position: &impl Fn() -> Finding,
    ) -> Result<(), String>
    where
        Finding: Future<Output = Result<Position, sqlx::Error>>,
    {
        let began = Instant::now();
        loop {
            let found = position().await.map_err(|error| error.to_string())?;
            self.position.send_replace(found);
            let shown = found.0 as f64;
            gauge!(FEED_REPLICA_POSITION.name, "replica" => self.name.clone()).set(shown);
            if found >= goal {
                return Ok(());
            }
            if began.elapsed() > LAG_MAX {
                return Err(format!("it is at {found}, and the read model was at {goal} before"));
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

//! Writing into the read model, transaction by transaction: events, fan-outs that go on between them, and the rows of readers who
//! are dormant and who come back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chrono::{DateTime, Utc};
use events::projection::ProjectionName;
use events::store::Connections;
use events::store::hops::Recorder;
use events::{Clock, Position, RecordedEvent};
use tokio_util::sync::CancellationToken;

use super::apply::{Applied, apply};
use super::dormancy::Dormancy;
use super::flushing::Committed;
use super::hops::ProjectorHop;
use super::work::{Counted, FAN_OUTS_BEGUN_MAX, Work};
use crate::bounds::Bounds;
use crate::checkpoint::Checkpoint;
use crate::feed::read_model::fan_out::{self, FAN_OUTS_MAX, Stepped};
use crate::projection::{ApplyError, InTime, ProjectionError, add_to_traces};

/// See the module.
#[derive(Debug)]
pub struct HomeFeeds {
    feed: Connections,
    bounds: Bounds,
    in_time: InTime,
    committed: Option<Committed>,
    hops: Option<Recorder<ProjectorHop>>,
    dormancy: Option<Dormancy>,
    /// Until then fan-outs under way wait while there is something else to do.
    fan_outs_rest: Mutex<Option<Instant>>,
    /// What is known where the last run ended.
    counted: Mutex<Option<(Checkpoint, Counted)>>,
}

impl HomeFeeds {
    /// A writer of `feed` within `bounds`. Once `shutdown` is cancelled no further transaction begins.
    #[must_use]
    pub fn new(feed: Connections, bounds: Bounds, shutdown: CancellationToken) -> Self {
        Self {
            feed,
            bounds,
            in_time: InTime::until(shutdown),
            committed: None,
            hops: None,
            dormancy: None,
            fan_outs_rest: Mutex::default(),
            counted: Mutex::default(),
        }
    }

    /// The same, which has `committed` note what it commits.
    #[must_use]
    pub fn noting(self, committed: Committed) -> Self {
        Self { committed: Some(committed), ..self }
    }

    /// The same, which records in `hops` what it applies.
    #[must_use]
    pub fn recording(self, hops: Recorder<ProjectorHop>) -> Self {
        Self { hops: Some(hops), ..self }
    }

    /// The same, which keeps no rows for those who are dormant by `dormancy`.
    #[must_use]
    pub fn minding(self, dormancy: Dormancy) -> Self {
        Self { dormancy: Some(dormancy), ..self }
    }

    /// Waits until [tending](Self::tend) to dormant readers is due.
    pub(super) async fn until_due(&self) {
        match &self.dormancy {
            Some(dormancy) => dormancy.until_due().await,
            None => std::future::pending().await,
        }
    }

    /// Looks at some readers, or sets some right who are dormant and should not be, or the other way round.
    ///
    /// # Errors
    /// [`ProjectionError`]
    pub(super) async fn tend(&self, checkpoint: Checkpoint) -> Result<(), ProjectionError> {
        let Some(dormancy) = &self.dormancy else { return Ok(()) };
        self.in_time.run(dormancy.go_on(&self.feed, checkpoint, self.bounds)).await
    }

    /// Applies `events`, which begin right after `checkpoint`, in as many transactions as they need. Between two of them the
    /// fan-outs under way go a step on, for as much of the time as the events get: neither waits for the end of the other.
    ///
    /// # Errors
    /// [`ProjectionError`]; `checkpoint` stands where the read model does.
    pub(super) async fn write(
        &self,
        checkpoint: &mut Checkpoint,
        mut events: &[RecordedEvent],
    ) -> Result<(), ProjectionError> {
        let received_at = Clock::system().now();
        let known = self.counted().take().filter(|(at, _)| at.is_where(*checkpoint));
        let mut counted = known.map(|(_, counted)| counted).unwrap_or_default();
        let work = Work::of(&self.feed, events, self.bounds, &mut counted);
        let work = work.await.map_err(ApplyError::from)?;
        for count in work.transactions {
            if !work.ways.step_by_step.is_empty() {
                self.make_room_for_fan_outs(checkpoint).await?;
            }
            let (now, later) = events.split_at(count);
            let applying = apply(&self.feed, *checkpoint, now, &work.ways, self.bounds.kept);
            let Applied { checkpoint: moved, deliveries, applied_at } =
                self.in_time.run(applying).await?;
            let first = checkpoint.position.next();
            self.record(first, moved.position, received_at, applied_at, deliveries);
            add_to_traces(ProjectionName::Feed, now, received_at);
            *checkpoint = moved;
            events = later;
            if self.fan_outs_are_due() {
                self.go_on_with_fan_outs(checkpoint).await?;
            }
        }
        *self.counted() = Some((*checkpoint, counted));
        Ok(())
    }

    fn counted(&self) -> MutexGuard<'_, Option<(Checkpoint, Counted)>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes one step on with the fan-outs under way, if there are any.
    ///
    /// # Errors
    /// [`ProjectionError`]; `checkpoint` stands where the read model does.
    pub async fn go_on_with_fan_outs(
        &self,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), ProjectionError> {
        if checkpoint.under_way.is_none() {
            return Ok(());
        }
        let (began, began_at) = (Instant::now(), Clock::system().now());
        let stepping = fan_out::step(&self.feed, *checkpoint, self.bounds);
        let Stepped { checkpoint: moved, deliveries, applied_at } =
            self.in_time.run(stepping).await?;
        // No position was applied, so it is one of none.
        self.record(moved.position.next(), moved.position, began_at, applied_at, deliveries);
        *checkpoint = moved;
        *self.fan_outs_rest() = Some(Instant::now() + began.elapsed());
        Ok(())
    }

    fn fan_outs_are_due(&self) -> bool {
        self.fan_outs_rest().is_none_or(|until| until <= Instant::now())
    }

    fn fan_outs_rest(&self) -> MutexGuard<'_, Option<Instant>> {
        self.fan_outs_rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fan-outs that are under way cost every page of their readers a little: there are never more than
    /// [`FAN_OUTS_MAX`].
    async fn make_room_for_fan_outs(
        &self,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), ProjectionError> {
        while let Some(under_way) = checkpoint.under_way {
            let count = fan_out::count(&self.feed, under_way).await.map_err(ApplyError::from)?;
            if count + FAN_OUTS_BEGUN_MAX <= FAN_OUTS_MAX {
                break;
            }
            self.go_on_with_fan_outs(checkpoint).await?;
        }
        Ok(())
    }

    /// Takes note of a transaction that has committed.
    fn record(
        &self,
        first: Position,
        last: Position,
        received_at: DateTime<Utc>,
        applied_at: DateTime<Utc>,
        deliveries: u64,
    ) {
        if let Some(committed) = &self.committed {
            committed.note();
        }
        if let Some(hops) = &self.hops {
            let readable_at = Clock::system().now();
            hops.record(ProjectorHop {
                first,
                last,
                received_at,
                applied_at,
                readable_at,
                deliveries,
            });
        }
    }
}

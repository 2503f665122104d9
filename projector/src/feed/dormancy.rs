//! Who is dormant: whoever has not read for long. Their rows go, and come back when they read again.
//!
//! When a reader last read is state of the reader in the log's database, which the api writes at most once a day. Whoever has not
//! read since they registered counts from then. So nothing of this follows from the log, and nothing that anybody reads depends on
//! it: a feed is the same with rows and without.
//!
//! Everyone is looked at in rounds, a range of ids at a time, and what is found to be otherwise than it should be is set right. Whoever
//! comes back is [announced](RETURNED_CHANNEL) and need not wait for that. An announcement that is lost costs time alone.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};
use events::retry::{Failure, Retry};
use events::store::{Connections, Database, Fault, RETURNED_CHANNEL};
use events::{Clock, UserId};
use metrics::{counter, gauge};
use sqlx::PgExecutor;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::bounds::Bounds;
use crate::checkpoint::{AdvanceError, Checkpoint};
use crate::feed::read_model::dormant::{self, DORMANT_FLOOR, Served};
use crate::metrics::{BROUGHT_BACK, DELIVERIES, DORMANT_READERS, FELL_DORMANT};
use crate::projection::ApplyError;

/// How many ids a look covers: two statements of some milliseconds.
const LOOK_READERS: i64 = 2_000;

/// How long after one look the next comes while nothing was found: a hundred million users have a round in seven hours.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long after one round the next begins. Who is dormant is counted in days.
const ROUND_REST: Duration = Duration::from_hours(1);

/// How long after a look or a transaction that failed the next look comes.
const FAILED_REST: Duration = Duration::from_secs(10);

/// The most who wait to have their rows back; beyond, it is the next round that finds them.
const RETURNED_MAX: usize = 10_000;

/// The most named to one transaction, which serves as many of them as it has room for.
const NAMED_MAX: usize = 100;

/// For how long a reader may not have read before they are dormant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DormantAfter(pub Duration);

/// A hundred years.
pub const DORMANT_AFTER_DAYS_MAX: u64 = 36_500;

impl DormantAfter {
    /// After so many days; after 0 nobody is.
    #[must_use]
    pub const fn days(days: u64) -> Option<Self> {
        if days == 0 { None } else { Some(Self(Duration::from_hours(24 * days))) }
    }

    /// The rule. `since` is when they last read, or registered.
    #[must_use]
    pub fn is_dormant(self, since: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        (now - since).to_std().is_ok_and(|silent| silent >= self.0)
    }
}

/// A reader, as the read model has them, and as they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    pub id: UserId,
    pub is_dormant: bool,
    pub should_be: bool,
}

/// Who of the users from `first` on, up to so many ids, is dormant and who should be: nobody, if `after` is `None`.
///
/// # Errors
/// [`sqlx::Error`] when a database is away.
pub async fn look(
    log: impl PgExecutor<'_>,
    feed: impl PgExecutor<'_> + Copy,
    first: UserId,
    count: i64,
    after: Option<DormantAfter>,
) -> Result<Vec<Reader>, sqlx::Error> {
    let users = sqlx::query!(
        r#"
        select
            users.user_id as "user_id: UserId",
            users.created_at
        from users
        where users.user_id >= $1 and users.user_id < $2 and deleted_position = 0
        order by users.user_id
        "#,
        first.0,
        first.0 + count
    )
    .fetch_all(feed)
    .await?;
    // By itself, because floors are where their reader is.
    let dormant = sqlx::query_scalar!(
        r#"
        select user_id as "user_id: UserId" from floors
        where user_id >= $1 and user_id < $2 and floor = $3
        "#,
        first.0,
        first.0 + count,
        DORMANT_FLOOR.0
    )
    .fetch_all(feed)
    .await?;
    let dormant: HashSet<UserId> = dormant.into_iter().collect();
    let read = match after {
        Some(_) => last_readings(log, first, count).await?,
        None => HashMap::new(),
    };
    let now = Clock::system().now();
    let readers = users.into_iter().map(|user| {
        let since = read.get(&user.user_id).copied().unwrap_or(user.created_at);
        let (id, is_dormant) = (user.user_id, dormant.contains(&user.user_id));
        let should_be = after.is_some_and(|after| after.is_dormant(since, now));
        Reader { id, is_dormant, should_be }
    });
    Ok(readers.collect())
}

async fn last_readings(
    log: impl PgExecutor<'_>,
    first: UserId,
    count: i64,
) -> Result<HashMap<UserId, DateTime<Utc>>, sqlx::Error> {
    let read = sqlx::query!(
        r#"
        select reader_id as "reader_id: UserId", read_at from last_readings
        where reader_id >= $1 and reader_id < $2
        "#,
        first.0,
        first.0 + count
    )
    .fetch_all(log)
    .await?;
    Ok(read.into_iter().map(|reading| (reading.reader_id, reading.read_at)).collect())
}

/// The highest id there is; 0 when there is none.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn last(feed: impl PgExecutor<'_>) -> Result<UserId, sqlx::Error> {
    let last = sqlx::query_scalar!(
        r#"select user_id as "user_id: UserId" from users order by user_id desc limit 1"#
    );
    Ok(last.fetch_optional(feed).await?.unwrap_or(UserId(0)))
}

/// The rounds.
#[derive(Debug)]
pub struct Dormancy {
    log: Connections,
    plan: Mutex<Plan>,
}

/// Where the round is, and what it has found.
#[derive(Debug)]
struct Plan {
    heard: mpsc::Receiver<UserId>,
    next: UserId,
    /// In this round.
    dormant: u64,
    falling: VecDeque<UserId>,
    returned: VecDeque<UserId>,
    look_at: Instant,
    /// Until then what was found waits, so that events have half of the time.
    rests_until: Instant,
}

impl Dormancy {
    /// Rounds by the readings in `log`; `heard` brings those who are announced.
    #[must_use]
    pub fn new(log: Connections, heard: mpsc::Receiver<UserId>) -> Self {
        let now = Instant::now();
        let plan = Plan {
            heard,
            next: UserId(1),
            dormant: 0,
            falling: VecDeque::new(),
            returned: VecDeque::new(),
            look_at: now,
            rests_until: now,
        };
        Self { log, plan: Mutex::new(plan) }
    }

    /// Waits until there is something to do.
    pub(super) async fn until_due(&self) {
        let plan = &mut *self.plan.lock().await;
        loop {
            let due = if plan.has_work() { plan.rests_until } else { plan.look_at };
            tokio::select! {
                biased;
                Some(reader) = plan.heard.recv() => plan.hear(reader),
                () = sleep_until(due) => return,
            }
        }
    }

    /// Does a part of it: a look, or a transaction.
    pub(super) async fn go_on(
        &self,
        feed: &Connections,
        checkpoint: Checkpoint,
        bounds: Bounds,
    ) -> Result<(), ApplyError> {
        let plan = &mut *self.plan.lock().await;
        let began = Instant::now();
        let end = if plan.has_work() {
            plan.serve(feed, checkpoint, bounds).await
        } else {
            plan.look(&self.log, feed, bounds).await.map_err(AdvanceError::from)
        };
        match end {
            Ok(()) => plan.rests_until = Instant::now() + began.elapsed(),
            Err(AdvanceError::Fenced(error)) => return Err(error.into()),
            // Feeds do not need it, and so do not wait for it. The next round finds what was found.
            Err(AdvanceError::Database(error)) => {
                plan.falling.clear();
                plan.returned.clear();
                plan.look_at = Instant::now() + FAILED_REST;
                tracing::warn!(%error, "dormant readers cannot be seen to now");
            }
        }
        Ok(())
    }
}

impl Plan {
    fn has_work(&self) -> bool {
        !self.falling.is_empty() || !self.returned.is_empty()
    }

    fn hear(&mut self, reader: UserId) {
        self.falling.retain(|falling| *falling != reader);
        if self.returned.len() < RETURNED_MAX && !self.returned.contains(&reader) {
            self.returned.push_back(reader);
        }
    }

    async fn look(
        &mut self,
        log: &Connections,
        feed: &Connections,
        bounds: Bounds,
    ) -> Result<(), sqlx::Error> {
        let readers = look(log, feed, self.next, LOOK_READERS, bounds.dormant_after).await?;
        for reader in &readers {
            match (reader.is_dormant, reader.should_be) {
                (false, true) => self.falling.push_back(reader.id),
                (true, false) => self.returned.push_back(reader.id),
                (true, true) | (false, false) => {}
            }
            self.dormant += u64::from(reader.should_be);
        }
        self.next.0 += LOOK_READERS;
        self.look_at = Instant::now() + LOOK_AGAIN;
        if readers.is_empty() && last(feed).await? < self.next {
            gauge!(DORMANT_READERS.name).set(self.dormant as f64);
            (self.next, self.dormant) = (UserId(1), 0);
            self.look_at = Instant::now() + ROUND_REST;
        }
        Ok(())
    }

    /// Those who came back go first: somebody reads.
    async fn serve(
        &mut self,
        feed: &Connections,
        checkpoint: Checkpoint,
        bounds: Bounds,
    ) -> Result<(), AdvanceError> {
        if self.returned.is_empty() {
            let named: Vec<UserId> = self.falling.iter().take(NAMED_MAX).copied().collect();
            let Served { readers, changed, .. } =
                dormant::drop_rows(feed, checkpoint, &named, bounds).await?;
            self.falling.drain(..readers);
            counter!(FELL_DORMANT.name).increment(changed);
        } else {
            let named: Vec<UserId> = self.returned.iter().take(NAMED_MAX).copied().collect();
            let Served { readers, changed, deliveries } =
                dormant::bring_back(feed, checkpoint, &named, bounds).await?;
            self.returned.drain(..readers);
            counter!(BROUGHT_BACK.name).increment(changed);
            counter!(DELIVERIES.name).increment(deliveries);
        }
        Ok(())
    }
}

/// Listens in `database` for readers who return, and hands them to `heard`. Who finds no room there is found by the next round.
pub async fn listen(database: Database, heard: mpsc::Sender<UserId>, shutdown: CancellationToken) {
    let mut retry = Retry::new("listening for readers who return");
    while !shutdown.is_cancelled() {
        let Err(error) = listen_once(&database, &heard, &shutdown).await else { return };
        // Nobody can listen on a standby.
        if Fault::of(&error) == Fault::ReadOnly {
            shutdown.run_until_cancelled(tokio::time::sleep(ROUND_REST)).await;
        } else if retry.after(Failure::Retry(error), &shutdown).await.is_err() {
            return;
        }
    }
}

async fn listen_once(
    database: &Database,
    heard: &mpsc::Sender<UserId>,
    shutdown: &CancellationToken,
) -> Result<(), sqlx::Error> {
    let mut listener = database.listen(RETURNED_CHANNEL).await?;
    loop {
        let announced = tokio::select! {
            announced = listener.try_recv() => announced?,
            () = shutdown.cancelled() => return Ok(()),
        };
        if let Some(Ok(reader)) = announced.map(|announced| announced.payload().parse()) {
            // Full, or nobody listens any more.
            let (Ok(()) | Err(_)) = heard.try_send(reader);
        }
    }
}

/// Room for those who are announced.
#[must_use]
pub fn heard() -> (mpsc::Sender<UserId>, mpsc::Receiver<UserId>) {
    mpsc::channel(RETURNED_MAX)
}

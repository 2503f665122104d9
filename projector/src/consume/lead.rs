//! The lead: which projector is active, whether or not a broker can say who that is.
//!
//! A lease in the read model's database, renewed by a task of its own: a projector that is at a long transaction renews it
//! all the while, one that was stopped or cut off does not. It decides who works, and nothing else: that only one can
//! write is kept by the fence in `checkpoint.rs`, whatever a projector believes.

use std::time::Duration;

use events::ProjectionName;
use events::store::{Connections, NEWEST_ONE, interval, late};
use metrics::gauge;
use sqlx::PgExecutor;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::LEADING;

/// How long a lead holds without being renewed. Then whoever stands by takes over.
const LEASE: Duration = Duration::from_secs(2);

/// How often it is renewed, and how often those who stand by try to take it.
const LEASE_CHECK: Duration = Duration::from_millis(500);

/// How long giving the lead up may take: the process has to end.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the active projector goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    Messages,
    /// The log itself, because RabbitMQ brings nothing.
    Log,
}

impl Follows {
    const fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Log => "log",
        }
    }
}

/// Who leads, for those who watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Led {
    /// `None` while none does.
    pub holder: Option<String>,
    pub follows: String,
}

/// A projector's own view of the lead. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lead {
    projection: ProjectionName,
    database: Connections,
    name: String,
    held: watch::Sender<bool>,
    follows: watch::Sender<Follows>,
}

impl Lead {
    /// The lead of `projection`, whose tables `database` finds, for a projector that calls itself `name`, as nobody else does.
    #[must_use]
    pub fn new(projection: ProjectionName, database: Connections, name: String) -> Self {
        let (held, follows) = (watch::Sender::new(false), watch::Sender::new(Follows::Messages));
        Self { projection, database, name, held, follows }
    }

    /// Takes the lead when nobody has it and renews it, until `stop` is cancelled; then gives it up.
    pub async fn keep(&self, stop: CancellationToken) {
        let mut holds_until = Instant::now();
        let mut said = None;
        let mut follows = self.follows.subscribe();
        while !stop.is_cancelled() {
            let asked = Instant::now();
            follows.borrow_and_update();
            match self.hold().await {
                Ok(true) => holds_until = asked + LEASE,
                Ok(false) => holds_until = asked,
                Err(error) => tracing::debug!(%error, "the lead could not be renewed"),
            }
            let holds = Instant::now() < holds_until;
            self.held.send_replace(holds);
            gauge!(LEADING.name, "projection" => self.projection.name())
                .set(f64::from(u8::from(holds)));
            if said.replace(holds) != Some(holds) {
                let what = if holds { "this projector leads" } else { "standing by" };
                tracing::info!(projection = self.projection.name(), "{what}");
            }
            tokio::select! {
                () = sleep(LEASE_CHECK) => {}
                // So that those who watch hear of it at once.
                _ = follows.changed() => {}
                () = stop.cancelled() => {}
            }
        }
        self.held.send_replace(false);
        // Best effort: without it the lease runs out by itself.
        let released = timeout(RELEASE_TIMEOUT, release(&self.database, &self.name)).await;
        if let Err(error) = released.unwrap_or_else(|_| Err(late(RELEASE_TIMEOUT))) {
            tracing::debug!(%error, "the lead was not given up and will run out");
        }
    }

    /// Takes or renews the lead; whether that came about. Asks nobody for longer than the lease lasts.
    ///
    /// # Errors
    /// [`sqlx::Error`] when the database is away.
    pub async fn hold(&self) -> Result<bool, sqlx::Error> {
        let follows = *self.follows.borrow();
        timeout(LEASE, hold(&self.database, &self.name, follows))
            .await
            .unwrap_or_else(|_| Err(late(LEASE)))
    }

    /// Whether this projector leads, as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.held.subscribe()
    }

    /// Says what this projector goes by.
    pub fn follow(&self, follows: Follows) {
        self.follows.send_if_modified(|now| std::mem::replace(now, follows) != follows);
    }
}

/// Takes the lead for `name` when nobody has it, or renews it when they do: for `LEASE` from now, by the
/// database's clock. A lease that ends later than any could is void: it is left from before that clock was set back.
async fn hold(
    executor: impl PgExecutor<'_>,
    name: &str,
    follows: Follows,
) -> Result<bool, sqlx::Error> {
    let held = sqlx::query!(
        r#"
        update projector_lead
        set revision = revision + 1, holder = $1, leased_until = now() + $2::interval, follows = $3
        where revision = (select revision from projector_lead order by revision desc limit 1)
            and (holder = $1 or leased_until < now() or leased_until > now() + $2::interval)
        "#,
        name,
        interval(LEASE),
        follows.name(),
    )
    .execute(executor)
    .await?
    .rows_affected();
    Ok(held == 1)
}

async fn release(executor: impl PgExecutor<'_>, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        update projector_lead set revision = revision + 1, leased_until = '-infinity', holder = null
        where revision = (select revision from projector_lead order by revision desc limit 1) and holder = $1
        "#,
        name
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Who leads at this moment, and what they go by.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn load(executor: impl PgExecutor<'_>) -> Result<Led, sqlx::Error> {
    sqlx::query_as!(
        Led,
        r#"
        select case when leased_until >= now() then holder end as holder, follows
        from projector_lead
        order by revision desc
        limit $1
        "#,
        NEWEST_ONE
    )
    .fetch_one(executor)
    .await
}

//! Whether the databases are there: asked for by health checks, on connections of their own and at
//! most once at a time, so that however often it is asked, no request waits for it, and it waits
//! for none.

use std::sync::Arc;

use events::store::schema::{Schema, SchemaError};
use events::store::{Connections, Database, history};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::views;

/// What was found.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    pub log: Standing,
    pub feed: Standing,
    pub projector: Projecting,
}

/// What the projector does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projecting {
    FromMessages,
    /// RabbitMQ brings nothing.
    FromLog,
    /// None leads.
    No,
    /// The read model, which would say, cannot be read.
    Unknown,
}

/// How a database stands to this release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Ready,
    /// Its schema is not there yet, or older.
    Behind,
    /// Its schema is newer, in a way that this release cannot read.
    Newer,
    /// It was made from another log.
    OtherHistory,
    Unreachable,
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Looking>);

#[derive(Debug)]
struct Looking {
    log: Connections,
    feed: Connections,
    last: Mutex<Option<(Instant, Found)>>,
}

impl Readiness {
    /// The readiness of these two.
    #[must_use]
    pub fn new(log: &Database, feed: &Database) -> Self {
        let (log, feed) = (log.connections(1), feed.connections(1));
        Self(Arc::new(Looking { log, feed, last: Mutex::default() }))
    }

    /// Looks. All who ask while somebody looks share the next look, which begins after they asked.
    pub async fn look(&self) -> Found {
        let asked = Instant::now();
        let Looking { log, feed, last } = &*self.0;
        let mut last = last.lock().await;
        if let Some((began, found)) = &*last
            && *began >= asked
        {
            return *found;
        }
        let began = Instant::now();
        let (log_schema, feed_schema) =
            tokio::join!(Schema::Log.is_current(log), Schema::Feed.is_there(feed));
        let standing = match &log_schema {
            Ok(true) => Standing::Ready,
            Ok(false) => Standing::Behind,
            Err(_) => Standing::Unreachable,
        };
        let projector = Projecting::of(&views::followed(feed).await);
        let mut found = Found { log: standing, feed: Standing::of(&feed_schema), projector };
        if found.is_ready() && matches!(of_one_history(log, feed).await, Ok(false)) {
            found.feed = Standing::OtherHistory;
        }
        let before = last.replace((began, found)).map(|(_, before)| before);
        // Once, however often it is asked.
        if let (Err(error), true) =
            (&log_schema, before.is_none_or(|before| before.log != found.log))
        {
            tracing::warn!(%error, "the log cannot be used");
        }
        if let (Err(error), true) =
            (&feed_schema, before.is_none_or(|before| before.feed != found.feed))
        {
            tracing::warn!(%error, "the read model cannot be used");
        }
        found
    }
}

/// Whether what has been applied to the read model is of the log's history.
async fn of_one_history(log: &Connections, feed: &Connections) -> Result<bool, sqlx::Error> {
    // In this order: the log has what has been applied.
    let mark = views::checkpoint(feed).await?;
    Ok(history::foreign(log, &[mark]).await?.is_empty())
}

impl Found {
    /// Whether the service can do its work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.log == Standing::Ready && self.feed == Standing::Ready
    }
}

impl Projecting {
    fn of(followed: &Result<Option<String>, sqlx::Error>) -> Self {
        match followed.as_ref().map(Option::as_deref) {
            Ok(Some("log")) => Self::FromLog,
            Ok(Some(_)) => Self::FromMessages,
            Ok(None) => Self::No,
            Err(_) => Self::Unknown,
        }
    }

    /// In words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::FromMessages => "applies what RabbitMQ brings",
            Self::FromLog => "follows the log itself: RabbitMQ brings nothing",
            Self::No => "none leads: feeds stay as they are",
            Self::Unknown => "unknown: the read model cannot be read",
        }
    }
}

impl Standing {
    const fn of(there: &Result<bool, SchemaError>) -> Self {
        match there {
            Ok(true) => Self::Ready,
            Ok(false) => Self::Behind,
            Err(SchemaError::Newer { .. }) => Self::Newer,
            Err(_) => Self::Unreachable,
        }
    }

    /// Says at the start what readers will hear.
    pub fn warn_of(self) {
        if self != Self::Ready {
            let standing = self.describe();
            tracing::warn!("the read model: {standing}; until it is there, reads are answered 503");
        }
    }

    /// In words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Behind => "its schema is not there yet, or older than this release",
            Self::Newer => "its schema is newer than this release can read",
            Self::OtherHistory => {
                "of another history than the log; projector rebuild makes it again from this log"
            }
            Self::Unreachable => "unreachable",
        }
    }
}

//! Whether the databases are there: asked for by health checks, on connections of their own and at
//! most once at a time, so that however often it is asked, no request waits for it, and it waits
//! for none.

use std::sync::Arc;

use events::store::schema::{Schema, SchemaError};
use events::store::{Connections, Database};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// What was found.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    pub log: Standing,
    pub feed: Standing,
}

/// How a database stands to this release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Ready,
    /// Its schema is not there yet, or older.
    Behind,
    /// Its schema is newer, in a way that this release cannot read.
    Newer,
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
        let (log, feed) = tokio::join!(Schema::Log.is_current(log), Schema::Feed.is_there(feed));
        let standing = match &log {
            Ok(true) => Standing::Ready,
            Ok(false) => Standing::Behind,
            Err(_) => Standing::Unreachable,
        };
        let found = Found { log: standing, feed: Standing::of(&feed) };
        let before = last.replace((began, found)).map(|(_, before)| before);
        // Once, however often it is asked.
        if let (Err(error), true) = (&log, before.is_none_or(|before| before.log != found.log)) {
            tracing::warn!(%error, "the log cannot be used");
        }
        if let (Err(error), true) = (&feed, before.is_none_or(|before| before.feed != found.feed)) {
            tracing::warn!(%error, "the read model cannot be used");
        }
        found
    }
}

impl Found {
    /// Whether the service can do its work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.log == Standing::Ready && self.feed == Standing::Ready
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

    /// In words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Behind => "its schema is not there yet, or older than this release",
            Self::Newer => "its schema is newer than this release can read",
            Self::Unreachable => "unreachable",
        }
    }
}

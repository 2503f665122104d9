//! What is measured of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

/// An event store or outbox on a database of its own.
#[async_trait::async_trait]
pub trait Contender: Send + Sync {
    /// Appends `count` tweets of `writer` and returns when they are durable, with how often it had to be
    /// tried again.
    async fn append(&self, writer: usize, count: usize) -> anyhow::Result<u64>;

    /// Follows everything that is appended and counts it, without end. `None` where there is no way to.
    fn follow(self: Arc<Self>, seen: Seen) -> Option<BoxFuture<'static, anyhow::Result<()>>>;
}

/// How many events a reader has seen.
#[derive(Clone, Default)]
pub struct Seen(Arc<AtomicU64>);

impl Seen {
    pub fn add(&self, events: usize) {
        self.0.fetch_add(events as u64, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until `count` were seen, or none for as long as `silence`.
    pub async fn reaches(&self, count: u64, silence: Duration) {
        let (mut last, mut since) = (self.count(), Instant::now());
        while last < count && since.elapsed() < silence {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = self.count();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }
}

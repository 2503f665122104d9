//! mire: each append begins a stream.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mire::{Event, EventData, EventStore, ExpectedVersion};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::CONTENT;
use crate::contender::{Contender, Seen};
use crate::database::Database;

pub const NAME: &str = "mire";

/// How many events a reader takes at a time.
const PAGE: i64 = 512;

pub struct Mire(EventStore);

#[derive(Debug, Clone, Serialize, Deserialize, EventData)]
#[serde(tag = "type")]
#[mire(entity = "tweet")]
enum TweetEvent {
    Created { author_id: i64, content: String },
}

impl Mire {
    pub async fn start(database: &Database, writers: usize) -> anyhow::Result<Self> {
        // One more for the reader.
        let connections = u32::try_from(writers)? + 1;
        let pool = PgPoolOptions::new().max_connections(connections).connect(&database.url).await?;
        let store = EventStore::new(pool);
        store.migrate().await?;
        Ok(Self(store))
    }
}

#[async_trait::async_trait]
impl Contender for Mire {
    async fn append(&self, _writer: usize, count: usize) -> anyhow::Result<u64> {
        let stream = format!("tweet-{}", Uuid::now_v7());
        let event = TweetEvent::Created { author_id: 1, content: CONTENT.to_owned() };
        let events: Vec<_> = (0..count).map(|_| Event::new(event.clone())).collect();
        self.0.append(&stream, "tweet", ExpectedVersion::NoStream, &events).await?;
        Ok(0)
    }

    fn follow(self: Arc<Self>, seen: Seen) -> Option<BoxFuture<'static, anyhow::Result<()>>> {
        Some(Box::pin(async move {
            let mut last = (0, 0);
            loop {
                let page = self.0.read_all_after(last.0, last.1, PAGE).await?;
                match page.last() {
                    Some(event) => last = (event.transaction_id, event.global_position),
                    None => tokio::time::sleep(Duration::from_millis(1)).await,
                }
                seen.add(page.len());
            }
        }))
    }
}

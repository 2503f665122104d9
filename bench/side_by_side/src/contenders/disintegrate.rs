//! disintegrate-postgres: each append says what it was decided on, here that the tweet does not exist.

use std::sync::Arc;
use std::time::Duration;

use disintegrate::serde::json::Json;
use disintegrate::{Event, EventStore, StreamItem, StreamQuery, query};
use disintegrate_postgres::{Error, PgEventStore};
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sqlx_08::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::CONTENT;
use crate::contender::{Contender, Seen};
use crate::database::Database;

pub const NAME: &str = "disintegrate-postgres";

pub struct Disintegrate(PgEventStore<TweetEvent, Json<TweetEvent>>);

#[derive(Debug, Clone, PartialEq, Eq, Event, Serialize, Deserialize)]
enum TweetEvent {
    TweetCreated {
        #[id]
        tweet_id: String,
        author_id: i64,
        content: String,
    },
}

impl Disintegrate {
    pub async fn start(database: &Database, writers: usize) -> anyhow::Result<Self> {
        // One more for the reader.
        let connections = u32::try_from(writers)? + 1;
        let pool = PgPoolOptions::new().max_connections(connections).connect(&database.url).await?;
        Ok(Self(PgEventStore::try_new(pool, Json::default()).await?))
    }
}

#[async_trait::async_trait]
impl Contender for Disintegrate {
    async fn append(&self, _writer: usize, count: usize) -> anyhow::Result<u64> {
        let tweet_id = Uuid::now_v7().to_string();
        let events: Vec<TweetEvent> = (0..count)
            .map(|_| TweetEvent::TweetCreated {
                tweet_id: tweet_id.clone(),
                author_id: 1,
                content: CONTENT.to_owned(),
            })
            .collect();
        let mut retries = 0;
        loop {
            let decided_on: StreamQuery<i64, TweetEvent> =
                query!(TweetEvent; tweet_id == tweet_id.clone());
            match self.0.append(events.clone(), decided_on, 0).await {
                Ok(_) => return Ok(retries),
                Err(Error::Concurrency) => retries += 1,
                // A serialisation failure before the commit comes as what it is.
                Err(Error::Database(sqlx_08::Error::Database(error)))
                    if error.code().as_deref() == Some("40001") =>
                {
                    retries += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn follow(self: Arc<Self>, seen: Seen) -> Option<BoxFuture<'static, anyhow::Result<()>>> {
        Some(Box::pin(async move {
            let mut last = 0;
            loop {
                let everything: StreamQuery<i64, TweetEvent> =
                    query!(TweetEvent).change_origin(last);
                let mut count = 0;
                let mut stream = self.0.stream(&everything);
                while let Some(item) = stream.try_next().await? {
                    if let StreamItem::Event(event) = item {
                        last = event.id();
                        count += 1;
                    }
                }
                seen.add(count);
                if count == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }))
    }
}

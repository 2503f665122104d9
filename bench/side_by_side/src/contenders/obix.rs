//! obix: an outbox alone. Its events are read by a listener in the process, as Rookery's relay reads
//! the log.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use obix::MailboxConfig;
use obix::out::Outbox;
use serde::{Deserialize, Serialize};
use sqlx_08::postgres::PgPoolOptions;

use crate::CONTENT;
use crate::contender::{Contender, Seen};
use crate::database::Database;

pub const NAME: &str = "obix";

pub struct Obix(Outbox<TweetEvent>);

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
enum TweetEvent {
    TweetCreated { author_id: i64, content: String },
}

impl Obix {
    pub async fn start(database: &Database, writers: usize) -> anyhow::Result<Self> {
        database.run_file_of(NAME, "migrations/20251204130225_obix_setup.sql", None).await?;
        // Some for its own tasks.
        let connections = u32::try_from(writers)? + 4;
        let pool = PgPoolOptions::new().max_connections(connections).connect(&database.url).await?;
        Ok(Self(Outbox::init(&pool, MailboxConfig::builder().build()).await?))
    }
}

#[async_trait::async_trait]
impl Contender for Obix {
    async fn append(&self, _writer: usize, count: usize) -> anyhow::Result<u64> {
        let event = TweetEvent::TweetCreated { author_id: 1, content: CONTENT.to_owned() };
        let mut transaction = self.0.begin_op().await?;
        self.0.publish_all_persisted(&mut transaction, vec![event; count]).await?;
        transaction.commit().await?;
        Ok(0)
    }

    fn follow(self: Arc<Self>, seen: Seen) -> Option<BoxFuture<'static, anyhow::Result<()>>> {
        Some(Box::pin(async move {
            let mut listener = self.0.listen_persisted(None);
            while let Some(delivery) = listener.next().await {
                let delivery =
                    delivery.map_err(|_| anyhow::anyhow!("an event could not be decoded"))?;
                // A sequence number without an event is that of a transaction that was rolled back.
                seen.add(usize::from(delivery.payload.is_some()));
            }
            anyhow::bail!("the listener has ended")
        }))
    }
}

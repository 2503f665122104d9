//! postgres-es: each tweet is an aggregate, made by a command. Its events have no position among those
//! of others, so there is no reader of everything.

use std::sync::Arc;

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use futures_util::future::BoxFuture;
use postgres_es::{PostgresCqrs, postgres_cqrs};
use serde::{Deserialize, Serialize};
use sqlx_08::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::CONTENT;
use crate::contender::{Contender, Seen};
use crate::database::Database;

pub const NAME: &str = "postgres-es";

pub struct PostgresEs(PostgresCqrs<Tweets>);

#[derive(Default, Serialize, Deserialize)]
struct Tweets {
    count: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum TweetEvent {
    TweetCreated { author_id: i64, content: String },
}

impl DomainEvent for TweetEvent {
    fn event_type(&self) -> String {
        "TweetCreated".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

/// Writes so many tweets.
struct Write(usize);

impl Aggregate for Tweets {
    const TYPE: &'static str = "tweets";
    type Command = Write;
    type Event = TweetEvent;
    type Error = std::convert::Infallible;
    type Services = ();

    async fn handle(
        &mut self,
        Write(count): Write,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), Self::Error> {
        for _ in 0..count {
            let event = TweetEvent::TweetCreated { author_id: 1, content: CONTENT.to_owned() };
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, _: TweetEvent) {
        self.count += 1;
    }
}

impl PostgresEs {
    pub async fn start(database: &Database, writers: usize) -> anyhow::Result<Self> {
        // The first table of the file is that of the events.
        database.run_file_of(NAME, "db/init.sql", Some(";")).await?;
        let connections = u32::try_from(writers)?;
        let pool = PgPoolOptions::new().max_connections(connections).connect(&database.url).await?;
        Ok(Self(postgres_cqrs(pool, Vec::new(), ())))
    }
}

#[async_trait::async_trait]
impl Contender for PostgresEs {
    async fn append(&self, _writer: usize, count: usize) -> anyhow::Result<u64> {
        self.0.execute(&Uuid::now_v7().to_string(), Write(count)).await?;
        Ok(0)
    }

    fn follow(self: Arc<Self>, _: Seen) -> Option<BoxFuture<'static, anyhow::Result<()>>> {
        None
    }
}

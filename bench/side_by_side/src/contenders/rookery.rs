//! Rookery's appender, as the api has it: commands of all writers share transactions.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::appender::{Appender, Refusal};
use api::domain::{Command, Content, Email, Username};
use events::recorded::Metadata;
use events::store::schema::Schema;
use events::store::{Connections, read};
use events::{Clock, Position, UserId};
use futures_util::future::{BoxFuture, try_join_all};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::CONTENT;
use crate::contender::{Contender, Seen};
use crate::database::Database;

pub const NAME: &str = "Rookery";

/// The user that was registered first.
const AUTHOR: UserId = UserId(1);

/// How many events a reader takes at a time.
const PAGE: usize = 512;

/// As the api has it when nothing else is said.
const RANGE_EVENTS: i64 = 10_000_000;

pub struct Rookery {
    appender: Appender,
    log: Connections,
}

impl Rookery {
    pub async fn start(database: &Database) -> anyhow::Result<Self> {
        let log =
            events::store::Database::parse("DATABASE_URL", &database.url, NAME)?.connect(4).await?;
        Schema::Log.migrate(&log).await?;
        let (head, _) = watch::channel(Position::START);
        let (appender, task) = Appender::new(log.clone(), Clock::system(), RANGE_EVENTS, head);
        // On a thread of its own, as in the api.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("appender".to_owned())
            .spawn(move || runtime.block_on(task.run(CancellationToken::new())))?;
        let command = Command::Register {
            username: Username::parse("author").map_err(anyhow::Error::msg)?,
            email: Email::parse("author@example.org").map_err(anyhow::Error::msg)?,
        };
        appender.submit(command, None, Metadata::default()).await?;
        Ok(Self { appender, log })
    }

    async fn tweet(&self) -> anyhow::Result<u64> {
        let content = Content::parse(CONTENT).map_err(anyhow::Error::msg)?;
        let command = Command::Tweet { author_id: AUTHOR, content };
        let mut retries = 0;
        loop {
            match self.appender.submit(command.clone(), None, Metadata::default()).await {
                Ok(_) => return Ok(retries),
                Err(Refusal::Busy) => {
                    retries += 1;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(refusal) => return Err(refusal).context("a tweet was refused"),
            }
        }
    }
}

#[async_trait::async_trait]
impl Contender for Rookery {
    async fn append(&self, _writer: usize, count: usize) -> anyhow::Result<u64> {
        Ok(try_join_all((0..count).map(|_| self.tweet())).await?.iter().sum())
    }

    fn follow(self: Arc<Self>, seen: Seen) -> Option<BoxFuture<'static, anyhow::Result<()>>> {
        Some(Box::pin(async move {
            // The registration is not counted.
            let mut last = Position(1);
            loop {
                let page = read::after(&self.log, last, PAGE).await?;
                match page.last() {
                    Some(event) => last = event.position,
                    None => tokio::time::sleep(Duration::from_millis(1)).await,
                }
                seen.add(page.len());
            }
        }))
    }
}

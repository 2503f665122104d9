//! A consumer of your own: counts the tweets of each user, each event exactly once in effect.
//!
//! ```sh
//! eval "$(scripts/services.sh env)"    # or DATABASE_URL and AMQP_URL of your own
//! cargo run -p projector --example count_tweets
//! ```
//!
//! It binds a queue of its own to `rookery.events` and takes what comes. What it has counted and how far it has come
//! are written in one transaction: so a message that comes twice is known by its positions, and one that does not come is
//! missing by them, and its events are read from the log. Whatever happens to it, it ends, and begins where it was when it is
//! started again. See `docs/consumers.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use events::amqp::{self, Broker, EXCHANGE, SIGNATURE_HEADER};
use events::slice::SliceKey;
use events::store::{Connections, Database, history, outbox, read};
use events::{Event, Mark, Position, RecordedEvent, Slice};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};
use sqlx::Connection;
use uuid::Uuid;

const QUEUE: &str = "example.tweet-counts";

/// The most that waits in the queue. Beyond it the oldest go, and are read from the log.
const QUEUE_MAX_BYTES: i64 = 64 * 1024 * 1024;

/// Messages that are sent ahead of their acknowledgements.
const PREFETCH: u16 = 32;

/// How often the log is asked whether anything is missing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Events that are read and counted at a time.
const PAGE: usize = 1_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database_url = std::env::var("DATABASE_URL").context("DATABASE_URL: the log")?;
    let amqp_url = std::env::var("AMQP_URL").context("AMQP_URL: RabbitMQ")?;
    let log =
        Database::parse("DATABASE_URL", &database_url, "tweet counts: log")?.connect(1).await?;
    // Any database will do, as long as counts and checkpoint are in one.
    let own = Database::parse("DATABASE_URL", &database_url, "tweet counts")?.connect(1).await?;
    let mut counts = Counts::open(log.clone(), own).await?;

    let connection = Broker::parse(&amqp_url)?.connect("example: tweet counts").await?;
    let channel = connection.create_channel().await?;
    let mut messages = subscribe(&channel).await?;
    let key = outbox::slice_key(&log).await?;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            message = messages.next() => {
                let message = message.context("RabbitMQ took the queue away")??;
                match decode(&message.data, message.properties.headers().as_ref(), &key) {
                    Ok(slice) => counts.take(slice.into_events()).await?,
                    // Made by hand, or of somebody else: nothing in it is needed.
                    Err(error) => eprintln!("passed over a message: {error}"),
                }
                message.acker.ack(BasicAckOptions::default()).await?;
            }
            _ = looks.tick() => counts.read_to_the_end().await?,
        }
    }
}

/// A queue that harms nobody: bounded, and when it is full it lets the oldest go instead of refusing what is published, for
/// which everyone else would wait.
async fn subscribe(channel: &Channel) -> anyhow::Result<Consumer> {
    let bytes = match std::env::var("QUEUE_MAX_BYTES") {
        Ok(bytes) => bytes.parse().context("QUEUE_MAX_BYTES is a number")?,
        Err(_) => QUEUE_MAX_BYTES,
    };
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(bytes));
    arguments.insert("x-overflow".into(), text("drop-head"));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    amqp::declare_topology(channel).await?;
    channel.queue_declare(QUEUE.into(), options, arguments).await?;
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(QUEUE.into(), EXCHANGE.into(), "".into(), options, none).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    Ok(channel.basic_consume(QUEUE.into(), "tweet counts".into(), options, none).await?)
}

fn decode(body: &[u8], headers: Option<&FieldTable>, key: &SliceKey) -> anyhow::Result<Slice> {
    let signature = headers.and_then(|headers| headers.inner().get(SIGNATURE_HEADER));
    let Some(AMQPValue::LongString(signature)) = signature else { bail!("it is not signed") };
    Ok(Slice::decode(body, std::str::from_utf8(signature.as_bytes())?, key)?)
}

/// The counts, and how far they have come.
struct Counts {
    log: Connections,
    own: Connections,
    checkpoint: Mark,
}

impl Counts {
    async fn open(log: Connections, own: Connections) -> anyhow::Result<Self> {
        let mut lent = own.lend().await?;
        sqlx::raw_sql(
            "create table if not exists tweet_counts (author_id bigint primary key, tweets bigint not null);
             create table if not exists tweet_counts_checkpoint (position bigint not null, event_id uuid not null);
             insert into tweet_counts_checkpoint
             select 0, '00000000-0000-0000-0000-000000000000'
             where not exists (select from tweet_counts_checkpoint)",
        )
        .execute(&mut *lent)
        .await?;
        let found: (i64, Uuid) =
            sqlx::query_as("select position, event_id from tweet_counts_checkpoint")
                .fetch_one(&mut *lent)
                .await?;
        lent.give_back();
        let checkpoint = Mark { position: Position(found.0), event_id: found.1 };
        // A log that was restored from a backup may have other events where this one had ours.
        let foreign = history::foreign(&log, &[checkpoint]).await?;
        ensure!(
            foreign.is_empty(),
            "this log does not have {checkpoint}: drop both tables to count anew"
        );
        Ok(Self { log, own, checkpoint })
    }

    /// Counts `events`, which follow each other. What is known is passed over; what is missing before them is read.
    async fn take(&mut self, events: Vec<RecordedEvent>) -> anyhow::Result<()> {
        let Some(first) = events.first() else { return Ok(()) };
        if first.position > self.checkpoint.position.next() {
            self.read_to_the_end().await?;
        }
        let known = self.checkpoint.position;
        let new: Vec<_> = events.into_iter().filter(|event| event.position > known).collect();
        self.count(&new).await
    }

    async fn read_to_the_end(&mut self) -> anyhow::Result<()> {
        loop {
            let events = read::after(&self.log, self.checkpoint.position, PAGE).await?;
            if events.is_empty() {
                return Ok(());
            }
            self.count(&events).await?;
        }
    }

    /// One transaction for the counts and for how far they have come.
    async fn count(&mut self, events: &[RecordedEvent]) -> anyhow::Result<()> {
        let Some(last) = events.last() else { return Ok(()) };
        let mut changes: BTreeMap<i64, i64> = BTreeMap::new();
        for event in events {
            match event.event()? {
                Event::TweetCreated(event) => *changes.entry(event.author_id.0).or_default() += 1,
                Event::TweetDeleted(event) => *changes.entry(event.author_id.0).or_default() -= 1,
                _ => {}
            }
        }
        let (authors, tweets): (Vec<i64>, Vec<i64>) = changes.into_iter().unzip();
        let mut lent = self.own.lend().await?;
        let mut transaction = lent.begin().await?;
        sqlx::query(
            "insert into tweet_counts as counts select * from unnest($1::bigint[], $2::bigint[])
             on conflict (author_id) do update set tweets = counts.tweets + excluded.tweets",
        )
        .bind(authors)
        .bind(tweets)
        .execute(&mut *transaction)
        .await?;
        let moved = sqlx::query(
            "update tweet_counts_checkpoint set position = $1, event_id = $2 where position = $3",
        )
        .bind(last.position.0)
        .bind(last.event_id)
        .bind(self.checkpoint.position.0)
        .execute(&mut *transaction)
        .await?;
        ensure!(moved.rows_affected() == 1, "another one counts here too");
        transaction.commit().await?;
        lent.give_back();
        self.checkpoint = Mark::from(last);
        Ok(())
    }
}

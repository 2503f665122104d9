//! T5: from the POST's answer until the followers can read it, while many write; and from a
//! command's decision until its message has reached a consumer of one's own.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use events::Clock;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::time::{Instant, sleep_until};

use super::{Plan, memory};
use crate::build::Build;
use crate::load::{Call, Connection, Latencies, Pace, load};
use crate::measure::{Bound, Measure};
use crate::usage::Meter;

/// The readers of a tweet.
const FOLLOWERS: u32 = 100;

/// Connections over which they come.
const CONNECTIONS: usize = 64;

/// Of the tweets of a second, those whose arrival with a follower is waited for.
const PROBES: u32 = 100;

/// Probes that may be under way at once.
const PROBERS: u32 = 32;

/// As many times the rate of tweets the consumer is measured at, besides one event at a time.
const CONSUMED_TIMES: u32 = 5;

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let rate = plan.settings.rate;
    let users = plan.settings.users.max(2 * FOLLOWERS);
    let mut build = Build::start(&plan.folder).await?;
    build.fill((1..=users).map(Call::register)).await?;
    // Each is followed by the next ones, round the circle.
    let follows = (0..users).flat_map(|author| {
        (1..=FOLLOWERS).map(move |step| Call::follow(1 + (author + step) % users, 1 + author))
    });
    build.fill(follows).await?;

    let (mut p50, mut p99, mut processors) = (vec![], vec![], vec![]);
    for _ in plan.rounds("tweets at a rate of their own") {
        let meter = Meter::start(&build);
        let tweet =
            |number: u64| Call::tweet(1 + u32::try_from(number).unwrap_or(0) % users, number);
        let (pace, turn) = (Pace::Open { rate: rate.saturating_sub(PROBES) }, plan.turn());
        let (others, (probes, latencies)) = tokio::try_join!(
            load(build.address, CONNECTIONS, pace, turn, tweet),
            probe(&build, users, turn),
        )?;
        processors.push(meter.stop());
        build.acknowledge(others.answered + probes);
        build.caught_up().await?;
        p50.push(latencies.milliseconds(0.5));
        p99.push(latencies.milliseconds(0.99));
    }
    let memory = memory(&build, "tweets at a rate of their own");
    let what = format!("from the answer until readable, {rate} tweets/s to {FOLLOWERS} each");
    let mut measures = vec![
        Measure::cost("", format!("{what}, p50"), "ms", p50),
        Measure::cost("T5", format!("{what}, p99"), "ms", p99)
            .bound(Bound::AtMost(100.0))
            .with(&processors),
    ];
    measures.extend(memory);
    for rate in [1, CONSUMED_TIMES * rate] {
        measures.extend(consumed(plan, &mut build, users, rate).await?);
    }
    build.prove_and_stop().await?;
    Ok(measures)
}

/// Tweets, and for each the time until the last of its followers has it. Gives how many there were.
async fn probe(build: &Build, users: u32, turn: Duration) -> anyhow::Result<(u64, Latencies)> {
    let began = Instant::now();
    let (counted_from, end) = (began + turn / 3, began + turn / 3 + turn);
    let prober = async |first: u32| {
        let mut latencies = Latencies::new()?;
        let (mut author, mut reader) =
            (Connection::open(build.address).await?, Connection::open(build.address).await?);
        let mut sent = 0;
        for number in (first..).step_by(PROBERS as usize) {
            let meant = began + Duration::from_secs_f64(f64::from(number) / f64::from(PROBES));
            if meant >= end {
                break;
            }
            sleep_until(meant).await;
            let by = number % users;
            let position = author.send(&Call::tweet(1 + by, number.into())).await?;
            let answered = Instant::now();
            sent += 1;
            let last = 1 + (by + FOLLOWERS) % users;
            reader.send(&Call::feed(last).at_least(position)).await?;
            if meant >= counted_from {
                latencies.record(answered.elapsed());
            }
        }
        anyhow::Ok((sent, latencies))
    };
    let ends = try_join_all((0..PROBERS).map(prober)).await?;
    let (sent, latencies): (Vec<u64>, Vec<_>) = ends.into_iter().unzip();
    Ok((sent.into_iter().sum(), Latencies::of(latencies)?))
}

/// From an event's `recorded_at`, which is before its commit, until a consumer with a queue of its
/// own has the message, at so many events a second.
async fn consumed(
    plan: &Plan,
    build: &mut Build,
    users: u32,
    rate: u32,
) -> anyhow::Result<Vec<Measure>> {
    let (mut means, mut p99s) = (vec![], vec![]);
    for _ in plan.rounds(&format!("a consumer of one's own, {rate} events/s")) {
        let connection = build.vhost.connect().await;
        let channel = connection.create_channel().await?;
        let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await?;
        let (name, everything) = (queue.name().clone(), "#".into());
        let exchange = events::amqp::EXCHANGE.into();
        let bind = QueueBindOptions::default();
        channel.queue_bind(name.clone(), exchange, everything, bind, FieldTable::default()).await?;
        let itself = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut consumer =
            channel.basic_consume(name, "bench".into(), itself, FieldTable::default()).await?;

        let turn = plan.turn().max(Duration::from_secs(10 / u64::from(rate.min(10))));
        let tweet =
            |number: u64| Call::tweet(1 + u32::try_from(number).unwrap_or(0) % users, number);
        let loading = load(build.address, CONNECTIONS, Pace::Open { rate }, turn, tweet);
        tokio::pin!(loading);
        let mut latencies = Latencies::new()?;
        let (mut arrived, mut expected) = (0, None);
        while expected != Some(arrived) {
            tokio::select! {
                outcome = &mut loading, if expected.is_none() => expected = Some(outcome?.answered),
                delivery = consumer.next() => {
                    let delivery = delivery.context("the consumer was cancelled")??;
                    let now = Clock::system().now();
                    let events: Vec<serde_json::Value> = serde_json::from_slice(&delivery.data)?;
                    for event in events {
                        let time = event["time"].as_str().context("it has a time")?;
                        let took = now - time.parse::<DateTime<Utc>>()?;
                        latencies.record(took.to_std()?);
                        arrived += 1;
                    }
                }
            }
        }
        build.acknowledge(arrived);
        build.caught_up().await?;
        connection.close(200, "done".into()).await?;
        means.push(latencies.mean_milliseconds());
        p99s.push(latencies.milliseconds(0.99));
    }
    let what = format!("from an event's time until a consumer has it, {rate} events/s");
    Ok(vec![
        Measure::cost("", format!("{what}, mean"), "ms", means),
        Measure::cost("", format!("{what}, p99"), "ms", p99s),
    ])
}

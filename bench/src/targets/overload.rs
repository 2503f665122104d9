//! G10: more requests than it can take. What is accepted meanwhile, what the others hear, and what
//! memory it has afterwards.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use hyper::StatusCode;
use tokio::time::{Instant, sleep_until};

use super::{MIB, Plan};
use crate::build::Build;
use crate::load::{Call, Connection, Latencies, Pace};
use crate::measure::{Bound, Measure};
use crate::usage::{self, Meter};

/// As many as give the highest rate in closed loop.
const PEAK_CONNECTIONS: usize = 512;

/// More than the api has in work at once (4,096), so that some requests are refused.
const CONNECTIONS: usize = 6_000;

/// Connections that are opened at once: the kernel keeps 1,024 until they are accepted, and a client
/// beyond that waits a second before it tries again.
const OPENING: usize = 256;

/// What comes, as a multiple of the peak.
const TIMES: [u32; 3] = [1, 2, 4];

/// File descriptors beside those of the connections.
const DESCRIPTORS: u64 = 256;

/// How long nothing happens before the memory that is left is read.
const QUIET: Duration = Duration::from_secs(15);

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    rlimit::increase_nofile_limit(CONNECTIONS as u64 + DESCRIPTORS)?;
    let users = plan.settings.users;
    let mut build = Build::start(&plan.folder).await?;
    build.fill((1..=users).map(Call::register)).await?;
    let tweet = |number: u64| {
        Call::tweet(1 + u32::try_from(number % u64::from(users)).unwrap_or(0), number)
    };
    let mut peak = vec![];
    let mut under = TIMES.map(|_| Vec::new());
    for _ in plan.rounds("the most that it can take, and more than that") {
        let most = build.load(PEAK_CONNECTIONS, Pace::Closed, plan.turn(), tweet).await?;
        peak.push(most.per_second);
        build.caught_up().await?;
        for (times, under) in TIMES.into_iter().zip(&mut under) {
            let meter = Meter::start(&build);
            let rate = most.per_second * f64::from(times);
            let offered = offer(&build, rate, plan.turn(), tweet).await?;
            build.acknowledge(offered.accepted.count());
            under.push((offered, meter.stop()));
            build.caught_up().await?;
        }
    }
    let seconds = plan.settings.seconds;
    let mut measures = vec![];
    for (times, under) in TIMES.into_iter().zip(under) {
        let what = format!("at {times} times the peak");
        let (offers, processors): (Vec<_>, Vec<_>) = under.into_iter().unzip();
        let each = |of: fn(&Offered) -> f64| offers.iter().map(of).collect::<Vec<_>>();
        let a_second = |counts: Vec<f64>| counts.into_iter().map(|count| count / seconds).collect();
        let accepted = a_second(each(|offered| offered.accepted.count() as f64));
        let refused = a_second(each(|offered| offered.refused.count() as f64));
        let goodput = format!("tweets accepted {what}, {CONNECTIONS} connections, open loop");
        measures.extend([
            Measure::rate("G10", goodput, "per second", accepted)
                .beside("the peak: 512 connections, closed loop", peak.clone())
                .with(&processors)
                .bound(Bound::AtLeast(0.8)),
            Measure::cost("", format!("tweets refused {what}"), "per second", refused),
            Measure::cost(
                "",
                format!("wait of an accepted tweet {what}, p99"),
                "ms",
                each(|offered| offered.accepted.milliseconds(0.99)),
            ),
            Measure::cost(
                "",
                format!("wait for a 503 {what}, p99"),
                "ms",
                each(|offered| offered.refused.milliseconds(0.99)),
            ),
        ]);
    }
    let (_, api) = build.programs().next().context("the api runs")?;
    tokio::time::sleep(QUIET).await;
    let memory = usage::memory(api).context("the api runs")?;
    let mib = |bytes: u64| vec![bytes as f64 / MIB];
    measures.extend([
        Measure::cost(
            "",
            "resident memory of the api, highest, 6,000 connections",
            "MiB",
            mib(memory.highest),
        ),
        Measure::cost(
            "",
            "resident memory of the api 15 s after all of it",
            "MiB",
            mib(memory.now),
        ),
    ]);
    build.prove_and_stop().await?;
    Ok(measures)
}

/// What became of requests that came whether or not it could take them.
struct Offered {
    accepted: Latencies,
    refused: Latencies,
}

/// Offers so many requests a second for `turn`. What the client cannot send by then is not offered:
/// it uses the same processors.
async fn offer(
    build: &Build,
    rate: f64,
    turn: Duration,
    call: impl Fn(u64) -> Call,
) -> anyhow::Result<Offered> {
    let opening = stream::iter((0..CONNECTIONS).map(|_| Connection::open(build.address)));
    let opened: Vec<_> = opening.buffer_unordered(OPENING).try_collect().await?;
    // One of each for all connections: a histogram has a quarter of a megabyte.
    let accepted = Mutex::new(Latencies::new()?);
    let refused = Mutex::new(Latencies::new()?);
    let record = |into: &Mutex<Latencies>, took| {
        into.lock().unwrap_or_else(PoisonError::into_inner).record(took);
    };
    let (began, call) = (Instant::now(), &call);
    let worker = async |(first, mut connection): (usize, Connection)| {
        // Each connection has a rhythm of its own.
        for number in (first as u64..).step_by(CONNECTIONS) {
            let meant = began + Duration::from_secs_f64(number as f64 / rate);
            if meant.max(Instant::now()) >= began + turn {
                break;
            }
            sleep_until(meant).await;
            let sent = Instant::now();
            let answer = connection.exchange(&call(number)).await?;
            match answer.status {
                StatusCode::CREATED => record(&accepted, sent.elapsed()),
                StatusCode::SERVICE_UNAVAILABLE if answer.retry_after => {
                    record(&refused, sent.elapsed());
                }
                status => bail!("{status}: {}", answer.body()),
            }
        }
        anyhow::Ok(())
    };
    try_join_all(opened.into_iter().enumerate().map(worker)).await?;
    let of = |all: Mutex<Latencies>| all.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Offered { accepted: of(accepted), refused: of(refused) })
}

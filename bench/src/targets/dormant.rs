//! What readers cost who do not come: rows, WAL and time of a fan-out where one in ten is awake beside one where all are, and
//! what the first page takes of who comes back.

use std::time::Duration;

use anyhow::ensure;
use e2e::until;
use tokio::time::Instant;

use super::{Plan, memory};
use crate::build::{AUTHOR, Build};
use crate::load::{Call, Connection, Latencies};
use crate::measure::Measure;

/// One reader in so many is awake.
const ONE_IN: u32 = 10;

/// Authors whom everyone reads beside the one, and tweets of each.
const OTHERS: u32 = 10;
const TWEETS_EACH: u64 = 10;

/// Tweets in a round, and the connections over which they come.
const TWEETS: u64 = 100;
const CONNECTIONS: usize = 16;

/// Readers whose first pages are looked at, of either kind.
const PAGES: u32 = 100;

/// What a round of tweets costs.
#[derive(Default)]
struct Costs {
    rows: Vec<f64>,
    wal: Vec<f64>,
    milliseconds: Vec<f64>,
}

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let readers = plan.settings.readers;
    let mut awake = filled(plan, readers).await?;
    let mut asleep = filled(plan, readers).await?;
    let fall = fall_asleep(&mut asleep, readers).await?;

    let (mut all, mut few) = (Costs::default(), Costs::default());
    for round in plan.rounds("tweets to readers of whom one in ten is awake, beside all") {
        for (build, costs) in [(&mut awake, &mut all), (&mut asleep, &mut few)] {
            of_tweets(build, round, costs).await?;
        }
    }
    let pages = |build: &Build, is_dormant: bool| {
        let address = build.address;
        let of = (OTHERS + 2..=readers).filter(move |reader| is_asleep(*reader) == is_dormant);
        first_pages(address, of.take(PAGES as usize))
    };
    let (with_rows, without) = (pages(&asleep, false).await?, pages(&asleep, true).await?);
    let back = comes_back(&mut asleep, readers).await?;

    let memory = memory(&asleep, "readers who fall dormant and come back");
    awake.prove_and_stop().await?;
    asleep.prove_and_stop().await?;

    let beside = "the same where all are awake";
    let of = |what: &str| {
        format!("a tweet to {readers} readers of whom one in {ONE_IN} is awake, {what}")
    };
    let mut measures = vec![
        Measure::cost("", of("rows"), "rows", few.rows).beside(beside, all.rows),
        Measure::cost("", of("WAL"), "bytes", few.wal).beside(beside, all.wal),
        Measure::cost("", of("until all is delivered"), "ms", few.milliseconds)
            .beside(beside, all.milliseconds),
        Measure::cost("", "first page of a dormant reader, p50", "ms", vec![without])
            .beside("first page of one who is awake", vec![with_rows]),
        Measure::cost(
            "",
            "from a dormant reader's page until the rows are back, p50",
            "ms",
            vec![back],
        ),
        Measure::rate("", "readers who fall dormant", "per second", vec![fall]),
    ];
    measures.extend(memory);
    Ok(measures)
}

/// Authors are awake: they are the first.
const fn is_asleep(reader: u32) -> bool {
    reader > OTHERS + 1 && !reader.is_multiple_of(ONE_IN)
}

async fn filled(plan: &Plan, readers: u32) -> anyhow::Result<Build> {
    ensure!(readers > ONE_IN * PAGES / 5, "{readers} readers are too few");
    let mut build = Build::with_readers(&plan.folder, readers).await?;
    let others = AUTHOR + 1..=AUTHOR + OTHERS;
    let follows = (OTHERS + 2..=readers)
        .flat_map(|reader| others.clone().map(move |author| Call::follow(reader, author)));
    build.fill(follows).await?;
    let tweets = (0..TWEETS_EACH)
        .flat_map(|number| others.clone().map(move |author| Call::tweet(author, number)));
    build.fill(tweets).await?;
    Ok(build)
}

/// As if all but a few had last read a month ago. Gives how many of them fell dormant each second.
async fn fall_asleep(build: &mut Build, readers: u32) -> anyhow::Result<f64> {
    let dormant = (1..=readers).filter(|reader| is_asleep(*reader)).count();
    build
        .execute(&format!(
            "insert into last_readings select user_id, now() - interval '31 days' from accounts
            where user_id > {OTHERS} + 1 and user_id % {ONE_IN} <> 0"
        ))
        .await?;
    // A round begins with the projector.
    build.restart_projector().await;
    let began = Instant::now();
    while build.count("floors where floor = 9223372036854775807").await? < dormant as u64 {
        ensure!(began.elapsed() < Duration::from_mins(20), "not all of them fall dormant");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    build.execute("vacuum (analyze)").await?;
    Ok(dormant as f64 / took.as_secs_f64())
}

async fn of_tweets(build: &mut Build, round: u32, costs: &mut Costs) -> anyhow::Result<()> {
    build.checkpoint().await?;
    let (rows, wal) = (build.feed_rows().await?, build.wal().await?);
    let began = Instant::now();
    let numbers = u64::from(round) * TWEETS..u64::from(round + 1) * TWEETS;
    let tweets = numbers.map(|number| Call::tweet(AUTHOR, number));
    let last = build.send_all(CONNECTIONS, tweets).await?;
    build.delivered(last).await?;
    let each = |all: f64| all / TWEETS as f64;
    costs.milliseconds.push(each(began.elapsed().as_secs_f64() * 1e3));
    costs.rows.push(each((build.feed_rows().await? - rows) as f64));
    costs.wal.push(each(build.wal().await? - wal));
    Ok(())
}

/// The median, in milliseconds, of pages one after the other.
async fn first_pages(
    address: std::net::SocketAddr,
    readers: impl Iterator<Item = u32>,
) -> anyhow::Result<f64> {
    let mut connection = Connection::open(address).await?;
    let mut took = Latencies::new()?;
    for reader in readers {
        let began = Instant::now();
        connection.send(&Call::feed(reader)).await?;
        took.record(began.elapsed());
    }
    Ok(took.milliseconds(0.5))
}

/// The median, in milliseconds, from when a dormant reader reads until their rows are back.
async fn comes_back(build: &mut Build, readers: u32) -> anyhow::Result<f64> {
    let mut connection = Connection::open(build.address).await?;
    let mut took = Latencies::new()?;
    // From the other end: those who have read already are coming back.
    for reader in (OTHERS + 2..=readers).rev().filter(|reader| is_asleep(*reader)).take(20) {
        connection.send(&Call::feed(reader)).await?;
        let began = Instant::now();
        let floor = format!("floors where floor = 9223372036854775807 and user_id = {reader}");
        until("the rows are back", async || (build.count(&floor).await.ok()? == 0).then_some(()))
            .await;
        took.record(began.elapsed());
    }
    Ok(took.milliseconds(0.5))
}

//! What the read model costs on several nodes: the same work beside one PostgreSQL, by turns.
//!
//! On one machine the nodes share what one PostgreSQL has for itself, so that this says what is added, and nothing of what
//! more machines bring.

use anyhow::{Context, ensure};
use tokio::time::Instant;

use super::{Plan, delivery, memory};
use crate::build::{AUTHOR, Build};
use crate::load::{Call, Pace, load};
use crate::measure::Measure;

/// Tweets in a round that come at once, and the connections over which they do.
const TWEETS: u64 = 100;
const CONNECTIONS: usize = 16;

/// Tweets in a round that come alone.
const ALONE: u64 = 20;

/// Connections that read pages.
const READING: usize = 4;

/// What one of the two takes.
#[derive(Default)]
struct Costs {
    rows_per_second: Vec<f64>,
    delivery: Vec<f64>,
    pages_per_second: Vec<f64>,
    page: Vec<f64>,
}

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let url = std::env::var("FEED_DATABASE_URL")
        .context("FEED_DATABASE_URL has to name a coordinator: scripts/citus.sh env")?;
    let readers = plan.settings.readers;
    let mut one = Build::with_readers(&plan.folder, readers).await?;
    let mut several = Build::with_readers_at(&plan.folder, Some(&url), readers).await?;
    let (mut of_one, mut of_several) = (Costs::default(), Costs::default());
    for round in plan.rounds("the read model on several nodes, and on one") {
        for (build, costs) in [(&mut one, &mut of_one), (&mut several, &mut of_several)] {
            turn(plan, build, round, costs).await?;
        }
    }
    let memory = memory(&several, "a read model on several nodes");
    one.prove_and_stop().await?;
    several.prove_and_stop().await?;

    let beside = "on one PostgreSQL";
    let mut measures = vec![
        Measure::rate(
            "",
            format!("deliveries, {TWEETS} tweets to {readers} readers each"),
            "rows per second",
            of_several.rows_per_second,
        )
        .beside(beside, of_one.rows_per_second),
        Measure::cost(
            "",
            format!("from the answer until the last of {readers} can read it, p50"),
            "ms",
            of_several.delivery,
        )
        .beside(beside, of_one.delivery),
        Measure::rate(
            "",
            format!("first pages of feeds, {READING} connections"),
            "per second",
            of_several.pages_per_second,
        )
        .beside(beside, of_one.pages_per_second),
        Measure::cost("", "the same, p50", "ms", of_several.page).beside(beside, of_one.page),
    ];
    measures.extend(memory);
    Ok(measures)
}

async fn turn(plan: &Plan, build: &mut Build, round: u32, costs: &mut Costs) -> anyhow::Result<()> {
    let readers = plan.settings.readers;
    let before = build.feed_rows().await?;
    let began = Instant::now();
    let first = u64::from(round) * (TWEETS + ALONE);
    let tweets = (first..first + TWEETS).map(|number| Call::tweet(AUTHOR, number));
    let last = build.send_all(CONNECTIONS, tweets).await?;
    build.delivered(last).await?;
    let took = began.elapsed();
    let delivered = build.feed_rows().await? - before;
    ensure!(delivered == TWEETS * u64::from(readers), "{delivered} rows were delivered");
    costs.rows_per_second.push(delivered as f64 / took.as_secs_f64());

    let from = build.address;
    let alone = first + TWEETS..first + TWEETS + ALONE;
    costs.delivery.push(delivery::until_readable(build, from, alone, readers).await?);

    let page = |number: u64| Call::feed(1 + u32::try_from(number).unwrap_or(0) % readers);
    let pages = load(build.address, READING, Pace::Closed, plan.turn(), page).await?;
    costs.pages_per_second.push(pages.per_second);
    costs.page.push(pages.latencies.milliseconds(0.5));
    Ok(())
}

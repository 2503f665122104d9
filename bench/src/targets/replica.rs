//! Pages from a replica beside pages from the read model itself: two apis over one build, by turns.
//!
//! On one machine both servers share what each has for itself elsewhere, so that this says what a replica costs a page and
//! how much later a tweet is on it, and nothing of what one more machine brings.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use e2e::cluster::Cluster;
use e2e::until;

use super::{Plan, delivery, memory};
use crate::build::Build;
use crate::load::{Call, Pace, load};
use crate::measure::Measure;

/// Tweets in a turn, each after the last is read.
const TWEETS: u64 = 50;

/// Connections that read pages.
const READING: usize = 4;

const PASSED_ON: &str = "rookery_feed_reads_passed_on_total";

/// What pages take where they come from.
#[derive(Default)]
struct Costs {
    readable: Vec<f64>,
    pages_per_second: Vec<f64>,
    page: Vec<f64>,
}

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let primary = Cluster::primary().await;
    let primary = primary.context("PostgreSQL's programs, which replicas need, are not here")?;
    let replica = primary.standby().await;
    let [url, replica_url] = [&primary, &replica].map(|one| one.url_through(one.address));
    let readers = plan.settings.readers;
    let mut build = Build::with_readers_at(&plan.folder, Some(&url), readers).await?;
    let (mut api, address) = build.another_api(&[("FEED_REPLICA_URLS", &replica_url)]).await?;
    until("the replica is in use", async || {
        (metric(address, "rookery_feed_replica_in_use").await.ok()? > 0.0).then_some(())
    })
    .await;

    let (mut of_itself, mut of_replica) = (Costs::default(), Costs::default());
    let itself = build.address;
    for round in plan.rounds("pages from a replica, and from the read model itself") {
        for (turn, (from, costs)) in
            [(itself, &mut of_itself), (address, &mut of_replica)].into_iter().enumerate()
        {
            let first = (2 * u64::from(round) + turn as u64) * TWEETS;
            costs.readable.push(
                delivery::until_readable(&mut build, from, first..first + TWEETS, readers).await?,
            );
            let before = metric(from, PASSED_ON).await?;
            let page = |number: u64| Call::feed(1 + u32::try_from(number).unwrap_or(0) % readers);
            let pages = load(from, READING, Pace::Closed, plan.turn(), page).await?;
            let passed_on = metric(from, PASSED_ON).await? - before;
            ensure!(passed_on < 1.0, "{passed_on} pages did not come from the replica");
            costs.pages_per_second.push(pages.per_second);
            costs.page.push(pages.latencies.milliseconds(0.5));
        }
    }
    let memory = memory(&build, "pages from a replica");
    api.kill().await;
    build.prove_and_stop().await?;

    let beside = "from the read model itself";
    let mut measures = vec![
        Measure::rate(
            "",
            format!("first pages of feeds from a replica, {READING} connections"),
            "per second",
            of_replica.pages_per_second,
        )
        .beside(beside, of_itself.pages_per_second),
        Measure::cost("", "the same, p50", "ms", of_replica.page).beside(beside, of_itself.page),
        Measure::cost(
            "",
            format!("from the answer until the last of {readers} can read it from a replica, p50"),
            "ms",
            of_replica.readable,
        )
        .beside(beside, of_itself.readable),
    ];
    measures.extend(memory);
    Ok(measures)
}

/// All of `name` that the api at `address` says; 0 where it says nothing of it.
async fn metric(address: SocketAddr, name: &str) -> anyhow::Result<f64> {
    let metrics = reqwest::get(format!("http://{address}/metrics")).await?.text().await?;
    let of_name = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '{']))
    };
    let values = metrics.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| Ok(value.parse::<f64>()?)).sum()
}

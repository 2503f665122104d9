//! T1: tweets acknowledged per second over HTTP, with relay and projector running and keeping up.

use super::{Plan, memory};
use crate::build::Build;
use crate::data_set::DataSet;
use crate::floors::append;
use crate::load::{Call, Pace};
use crate::measure::{Bound, Measure};
use crate::usage::Meter;

const CONNECTIONS: usize = 64;

/// Whom each user follows where tweets are delivered to others too.
const FOLLOWEES: u32 = 10;

/// With the events of more seconds than that waiting at the end of a turn, relay and projector do not
/// keep up.
const LAG_MAX_SECONDS: f64 = 0.5;

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    // What the target is held against: the floor appends and delivers nothing.
    let mut measures = appends(plan, 0, "T1").await?;
    measures.extend(appends(plan, FOLLOWEES, "").await?);
    Ok(measures)
}

/// Tweets by users who follow so many others each, and so are followed by as many.
async fn appends(plan: &Plan, followees: u32, target: &str) -> anyhow::Result<Vec<Measure>> {
    let users = plan.settings.users;
    let data = DataSet { users, followees, tweets: 0, seed: plan.settings.seed };
    let mut build = Build::start(&plan.folder).await?;
    for part in data.all() {
        build.fill(part).await?;
    }
    let (mut tweets, mut floor, mut processors) = (vec![], vec![], vec![]);
    let (mut p99, mut lag) = (vec![], vec![]);
    for round in plan.rounds("tweets as fast as they are answered") {
        let meter = Meter::start(&build);
        let tweet = |number: u64| {
            let author = 1 + u32::try_from(number % u64::from(users)).unwrap_or(0);
            Call::tweet(author, number + u64::from(round))
        };
        let outcome = build.load(CONNECTIONS, Pace::Closed, plan.turn(), tweet).await?;
        processors.push(meter.stop());
        lag.push(build.lag().await? as f64 / outcome.per_second);
        tweets.push(outcome.per_second);
        p99.push(outcome.latencies.milliseconds(0.99));
        build.caught_up().await?;
        floor.push(append::measure(&mut build, plan.turn()).await?);
    }
    let what = format!("tweets to {followees} followers each, {CONNECTIONS} connections");
    let memory = memory(&build, &what);
    build.prove_and_stop().await?;
    let rate = Measure::rate(target, &what, "per second", tweets)
        .beside(append::WHAT, floor)
        .with(&processors);
    // Only what the target is said of is held against it.
    let rate = if target.is_empty() { rate } else { rate.bound(Bound::AtLeast(1.0)) };
    let mut measures = vec![
        rate,
        Measure::cost(target, format!("{what}, wait for the projector at the end"), "s", lag)
            .bound(Bound::AtMost(LAG_MAX_SECONDS)),
        Measure::cost("", format!("{what}, p99"), "ms", p99),
    ];
    measures.extend(memory);
    Ok(measures)
}

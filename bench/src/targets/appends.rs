//! T1: tweets acknowledged per second over HTTP, with relay and projector running and keeping up.

use anyhow::ensure;

use super::{Plan, memory};
use crate::build::Build;
use crate::data_set::DataSet;
use crate::floors::append;
use crate::load::{Call, Pace};
use crate::measure::{Bound, Measure};
use crate::usage::Meter;

const CONNECTIONS: usize = 64;

/// Whom each user follows, so that a tweet is delivered to so many others and its author.
const FOLLOWEES: u32 = 0;

/// The events of so many seconds may wait for the projector at the end of a turn; with more it does
/// not keep up.
const LAG_MAX_SECONDS: f64 = 1.0;

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let users = plan.settings.users;
    let data = DataSet { users, followees: FOLLOWEES, tweets: 0, seed: plan.settings.seed };
    let mut build = Build::start(&plan.folder).await?;
    for part in data.all() {
        build.fill(part).await?;
    }
    let (mut tweets, mut floor, mut p99, mut processors) = (vec![], vec![], vec![], vec![]);
    for round in plan.rounds("tweets as fast as they are answered") {
        let meter = Meter::start(&build);
        let tweet = |number: u64| {
            let author = 1 + u32::try_from(number % u64::from(users)).unwrap_or(0);
            Call::tweet(author, number + u64::from(round))
        };
        let outcome = build.load(CONNECTIONS, Pace::Closed, plan.turn(), tweet).await?;
        processors.push(meter.stop());
        let lag = build.lag().await?;
        let most = outcome.per_second * LAG_MAX_SECONDS;
        ensure!(lag as f64 <= most, "the projector does not keep up: {lag} events wait");
        tweets.push(outcome.per_second);
        p99.push(outcome.milliseconds(0.99));
        build.caught_up().await?;
        floor.push(append::measure(&mut build, plan.turn()).await?);
    }
    let memory = memory(&build, "tweets as fast as they are answered");
    build.prove_and_stop().await?;
    let what = format!("tweets, {CONNECTIONS} connections");
    let mut measures = vec![
        Measure::rate("T1", &what, "per second", tweets)
            .beside(append::WHAT, floor)
            .bound(Bound::AtLeast(1.0))
            .with(&processors),
        Measure::cost("", format!("{what}, p99"), "ms", p99),
    ];
    measures.extend(memory);
    Ok(measures)
}

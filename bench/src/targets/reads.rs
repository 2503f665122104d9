//! T6: pages per second, and whether they stay as fast with ten times the log and followees.

use super::{Plan, memory};
use crate::build::Build;
use crate::data_set::DataSet;
use crate::floors::read;
use crate::load::{Call, Outcome, Pace, load};
use crate::measure::{Bound, Measure};
use crate::usage::Meter;

const CONNECTIONS: usize = 4;

/// Followees and tweets of each user, at most.
const SMALL: u32 = 20;

/// And so many users for each of them.
const USERS_EACH: u32 = 25;

/// The larger one has so many times the followees and tweets.
const LARGER: u32 = 10;

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let users = plan.settings.users / 2;
    let small = (users / USERS_EACH).clamp(1, SMALL);
    let mut builds = Vec::new();
    for times in [1, LARGER] {
        let (followees, tweets) = (small * times, small * times);
        eprintln!("bench: {users} users who follow {followees} and wrote {tweets} tweets each");
        let data = DataSet { users, followees, tweets, seed: plan.settings.seed };
        let mut build = Build::start(&plan.folder).await?;
        for part in data.all() {
            build.fill(part).await?;
        }
        builds.push(build);
    }
    let (mut rates, mut floor, mut processors) = (vec![], vec![], vec![]);
    let mut p50s = [vec![], vec![]];
    for _ in plan.rounds("first pages of feeds") {
        let meter = Meter::start(&builds[0]);
        let outcome = pages(plan, &builds[0], users).await?;
        processors.push(meter.stop());
        rates.push(outcome.per_second);
        p50s[0].push(outcome.latencies.milliseconds(0.5));
        floor.push(read::measure(&builds[0], CONNECTIONS, users, plan.turn()).await?);
        p50s[1].push(pages(plan, &builds[1], users).await?.latencies.milliseconds(0.5));
    }
    let memory = memory(&builds[1], "reads");
    for build in builds {
        build.prove_and_stop().await?;
    }
    let [small, large] = p50s;
    let mut measures = vec![
        Measure::rate("T6", "first pages of feeds, 4 connections", "per second", rates)
            .beside(read::WHAT, floor)
            .bound(Bound::AtLeast(0.5))
            .with(&processors),
        Measure::cost("T6", "the same, p50 with 10 times the log and followees", "ms", large)
            .beside("p50 with the smaller one", small)
            .bound(Bound::AtMost(1.1)),
    ];
    measures.extend(memory);
    Ok(measures)
}

async fn pages(plan: &Plan, build: &Build, users: u32) -> anyhow::Result<Outcome> {
    let page = |number: u64| Call::feed(1 + u32::try_from(number).unwrap_or(0) % users);
    load(build.address, CONNECTIONS, Pace::Closed, plan.turn(), page).await
}

//! T2: an author whom many follow is answered as fast as others, and does not make them wait.

use tokio::time::Instant;

use super::{Plan, memory};
use crate::build::{AUTHOR, Build};
use crate::load::{Call, Connection, Pace, load};
use crate::measure::{Bound, Measure, Spread};
use crate::usage::Meter;

/// So many others write while the celebrity does.
const OTHERS: u32 = 20;

/// Tweets a second of all others together: far from what it can take, so that a wait is the
/// celebrity's doing.
const OTHERS_RATE: u32 = 200;

/// The celebrity's tweets a second meanwhile.
const CELEBRITY_RATE: u32 = 1;

/// Tweets of each in a round of the first half.
const TWEETS_PER_ROUND: u64 = 20;

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let followers = plan.settings.followers;
    let mut build = Build::with_readers(&plan.folder, 1 + followers).await?;
    let mut measures = alone(plan, &mut build).await?;
    measures.extend(beside_others(plan, &mut build).await?);
    measures.extend(memory(&build, "a celebrity's tweets"));
    build.prove_and_stop().await?;
    Ok(measures)
}

/// One POST after the other, by turns.
async fn alone(plan: &Plan, build: &mut Build) -> anyhow::Result<Vec<Measure>> {
    let mut connection = Connection::open(build.address).await?;
    let (mut celebrity, mut ordinary) = (vec![], vec![]);
    for round in plan.rounds("a celebrity's POST beside an ordinary one") {
        let mut took = [vec![], vec![]];
        for number in 0..TWEETS_PER_ROUND {
            for (author, took) in [AUTHOR, AUTHOR + 1].into_iter().zip(&mut took) {
                let began = Instant::now();
                let position =
                    connection.send(&Call::tweet(author, number + u64::from(round))).await?;
                took.push(began.elapsed().as_secs_f64() * 1e3);
                build.acknowledge(1);
                build.delivered(position).await?;
            }
        }
        let [of_celebrity, of_ordinary] = took;
        celebrity.push(Spread::of(of_celebrity).median);
        ordinary.push(Spread::of(of_ordinary).median);
    }
    let what = format!("POST by an author with {} followers, p50", plan.settings.followers);
    Ok(vec![
        Measure::cost("T2", what, "ms", celebrity)
            .beside("POST by a user whom nobody follows, p50", ordinary)
            .bound(Bound::AtMost(1.1)),
    ])
}

/// Others at a rate of their own, with the celebrity and without, by turns.
async fn beside_others(plan: &Plan, build: &mut Build) -> anyhow::Result<Vec<Measure>> {
    let other = |number: u64| {
        let author = AUTHOR + 1 + u32::try_from(number % u64::from(OTHERS)).unwrap_or(0);
        Call::tweet(author, number)
    };
    let tweet = |number: u64| Call::tweet(AUTHOR, number);
    let (mut disturbed, mut idle, mut processors) = (vec![], vec![], vec![]);
    for _ in plan.rounds("others while the celebrity writes") {
        let pace = Pace::Open { rate: OTHERS_RATE };
        let outcome = build.load(OTHERS as usize, pace, plan.turn(), other).await?;
        idle.push(outcome.latencies.milliseconds(0.99));
        build.caught_up().await?;

        let meter = Meter::start(build);
        let rate = Pace::Open { rate: CELEBRITY_RATE };
        let (others, celebrity) = tokio::try_join!(
            load(build.address, OTHERS as usize, pace, plan.turn(), other),
            load(build.address, 1, rate, plan.turn(), tweet),
        )?;
        processors.push(meter.stop());
        build.acknowledge(others.answered + celebrity.answered);
        disturbed.push(others.latencies.milliseconds(0.99));
        build.caught_up().await?;
    }
    let what = "others' POST while the celebrity writes once a second, p99";
    Ok(vec![
        Measure::cost("T2", what, "ms", disturbed)
            .beside("others' POST without the celebrity, p99", idle)
            .bound(Bound::AtMost(1.5))
            .with(&processors),
    ])
}

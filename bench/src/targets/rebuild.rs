//! T7: rows rebuilt per second beside the service that goes on, and whether twice the log takes twice
//! the time.

use tokio::time::Instant;

use super::{MIB, PROJECTOR_MEMORY_MAX_MIB, Plan};
use crate::build::Build;
use crate::data_set::DataSet;
use crate::floors::bulk;
use crate::measure::{Bound, Measure};
use crate::usage::Meter;

/// Whom each follows, and what each has written: a log that is mostly tweets, each with many readers.
const FOLLOWEES: u32 = 50;
const TWEETS: u32 = 20;

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let users = plan.settings.users.max(2 * FOLLOWEES);
    let mut builds = Vec::new();
    for times in [1, 2] {
        let users = users * times;
        eprintln!("bench: {users} users who follow {FOLLOWEES} and wrote {TWEETS} tweets each");
        let data =
            DataSet { users, followees: FOLLOWEES, tweets: TWEETS, seed: plan.settings.seed };
        let mut build = Build::start(&plan.folder).await?;
        for part in data.all() {
            build.fill(part).await?;
        }
        builds.push(build);
    }
    let (mut rates, mut floor, mut processors, mut memory) = (vec![], vec![], vec![], vec![]);
    let mut times = [vec![], vec![]];
    for _ in plan.rounds("rebuilds") {
        for (which, build) in builds.iter_mut().enumerate() {
            let rows = build.feed_rows().await? as f64;
            let meter = Meter::start(build);
            let began = Instant::now();
            memory.push(build.projector("rebuild feed").await? as f64 / MIB);
            let took = began.elapsed().as_secs_f64();
            times[which].push(took);
            if which == 1 {
                processors.push(meter.stop());
                rates.push(rows / took);
                floor.push(rows / bulk::measure(build).await?.as_secs_f64());
            }
        }
    }
    for build in builds {
        build.prove_and_stop().await?;
    }
    let [once, twice] = times;
    let most = Bound::AtMost(PROJECTOR_MEMORY_MAX_MIB);
    Ok(vec![
        Measure::rate("T7", "rebuild", "rows per second", rates)
            .beside(bulk::WHAT, floor)
            .bound(Bound::AtLeast(0.8))
            .with(&processors),
        Measure::cost("T7", "rebuild of twice the log", "s", twice)
            .beside("a rebuild of the log", once)
            .bound(Bound::AtMost(2.0)),
        Measure::cost("T8", "highest resident memory of projector rebuild", "MiB", memory)
            .bound(most),
    ])
}

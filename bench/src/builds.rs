//! Two builds, phase by phase, by turns.

use std::path::Path;

use crate::build::Build;
use crate::data_set::DataSet;
use crate::load::{Call, Outcome, Pace, load};
use crate::measure::{Measure, Settings, Spread};
use crate::report;

/// Each follows a fifth of the others and has written twenty tweets.
const FOLLOWS_ONE_IN: u32 = 5;
const TWEETS: u32 = 20;

/// One kind of load.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// First pages of feeds.
    Reads,
    /// Tweets as fast as they are answered.
    Tweets,
    /// Tweets at a rate of their own.
    TweetsAtRate,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Reads, Self::Tweets, Self::TweetsAtRate];

    fn name(self, rate: u32) -> String {
        match self {
            Self::Reads => format!("feed reads, closed loop, {} connections", self.connections()),
            Self::Tweets => format!("tweets, closed loop, {} connections", self.connections()),
            Self::TweetsAtRate => format!("tweets, {rate} a second, open loop"),
        }
    }

    const fn connections(self) -> usize {
        match self {
            Self::Reads => 4,
            Self::Tweets | Self::TweetsAtRate => 64,
        }
    }

    async fn run(
        self,
        build: &mut Build,
        settings: &Settings,
        rate: u32,
    ) -> anyhow::Result<Outcome> {
        let user = |number: u64| 1 + u32::try_from(number).unwrap_or(0) % settings.users;
        let read = |number: u64| Call::feed(user(number));
        let write = |number: u64| Call::tweet(user(number), number);
        let (connections, turn) = (self.connections(), settings.turn());
        let outcome = match self {
            Self::Reads => load(build.address, connections, Pace::Closed, turn, read).await?,
            Self::Tweets => build.load(connections, Pace::Closed, turn, write).await?,
            Self::TweetsAtRate => build.load(connections, Pace::Open { rate }, turn, write).await?,
        };
        // The next one starts with nothing left to do.
        build.caught_up().await?;
        Ok(outcome)
    }
}

/// Compares the builds in two folders and prints what was found.
pub async fn compare(
    before: &Path,
    after: &Path,
    settings: &Settings,
    rate: u32,
) -> anyhow::Result<()> {
    let users = settings.users;
    let (followees, tweets) = (users / FOLLOWS_ONE_IN, TWEETS);
    let data = DataSet { users, followees, tweets, seed: settings.seed };
    eprintln!("bench: making two data sets of {users} users");
    let mut builds = [Build::start(before).await?, Build::start(after).await?];
    for build in &mut builds {
        for part in data.all() {
            build.fill(part).await?;
        }
    }
    let mut table = report::titled(&["", "", "", "before", "after", "after ÷ before"]);
    for phase in Phase::ALL {
        let name = phase.name(rate);
        let mut outcomes = [Vec::new(), Vec::new()];
        for round in 1..=settings.rounds {
            eprintln!("bench: {name}: round {round} of {}", settings.rounds);
            // Who begins changes from round to round.
            for turn in 0..2 {
                let which = usize::try_from((round + turn) % 2)?;
                outcomes[which].push(phase.run(&mut builds[which], settings, rate).await?);
            }
        }
        for measure in measures(&name, &outcomes) {
            table.add_row(row(&measure));
        }
    }
    for build in builds {
        build.prove_and_stop().await?;
    }
    println!("{table}");
    println!("every acknowledged command is one event in the log, and verify found no differences");
    Ok(())
}

/// What was measured of the build after, beside the one before.
fn measures(phase: &str, outcomes: &[Vec<Outcome>; 2]) -> [Measure; 3] {
    let of = |measure: &dyn Fn(&Outcome) -> f64| {
        outcomes.each_ref().map(|outcomes| outcomes.iter().map(measure).collect::<Vec<_>>())
    };
    let [before, after] = of(&|outcome| outcome.per_second);
    let rate = Measure::rate("", phase, "per second", after).beside("before", before);
    let [before, after] = of(&|outcome| outcome.latencies.milliseconds(0.5));
    let p50 = Measure::cost("", phase, "p50, ms", after).beside("before", before);
    let [before, after] = of(&|outcome| outcome.latencies.milliseconds(0.99));
    let p99 = Measure::cost("", phase, "p99, ms", after).beside("before", before);
    [rate, p50, p99]
}

fn row(measure: &Measure) -> [String; 6] {
    let before = measure.floor.as_ref().map_or(&[][..], |floor| &floor.values);
    let [before, after] =
        [before, &measure.measured].map(|values| Spread::of(values.iter().copied()));
    [
        String::new(),
        measure.what.clone(),
        measure.unit.clone(),
        before.to_string(),
        after.to_string(),
        format!("{:.2}", after.median / before.median),
    ]
}

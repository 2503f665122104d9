//! Two builds, phase by phase, by turns.

use std::path::Path;
use std::time::Duration;

use hyper::{Method, StatusCode};

use crate::build::{Build, Sizes, tweet};
use crate::load::{Call, Outcome, Pace, load};
use crate::report::Report;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub rounds: u32,
    pub turn: Duration,
    pub rate: u32,
}

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

    fn name(self, plan: &Plan) -> String {
        match self {
            Self::Reads => format!("feed reads, closed loop, {} connections", self.connections()),
            Self::Tweets => format!("tweets, closed loop, {} connections", self.connections()),
            Self::TweetsAtRate => format!("tweets, {} a second, open loop", plan.rate),
        }
    }

    const fn connections(self) -> usize {
        match self {
            Self::Reads => 4,
            Self::Tweets | Self::TweetsAtRate => 64,
        }
    }

    async fn run(self, build: &mut Build, sizes: Sizes, plan: &Plan) -> anyhow::Result<Outcome> {
        let user = |number: u64| 1 + u32::try_from(number % u64::from(sizes.users)).unwrap_or(0);
        let read = |number: u64| {
            let caller = Some(i64::from(user(number)));
            Call { method: Method::GET, path: "/api/feed/".to_owned(), caller, body: None }
        };
        let write = |number: u64| tweet(user(number), number);
        let (address, connections, turn) = (build.address, self.connections(), plan.turn);
        let outcome = match self {
            Self::Reads => {
                load(address, connections, Pace::Closed, turn, StatusCode::OK, read).await?
            }
            Self::Tweets => {
                load(address, connections, Pace::Closed, turn, StatusCode::CREATED, write).await?
            }
            Self::TweetsAtRate => {
                let pace = Pace::Open { rate: plan.rate };
                load(address, connections, pace, turn, StatusCode::CREATED, write).await?
            }
        };
        if !matches!(self, Self::Reads) {
            build.acknowledged += outcome.answered;
        }
        // The next one starts with nothing left to do.
        build.caught_up().await?;
        Ok(outcome)
    }
}

/// Compares the builds in two folders and prints what was found.
pub async fn compare(before: &Path, after: &Path, sizes: Sizes, plan: &Plan) -> anyhow::Result<()> {
    eprintln!("making two data sets of {} users", sizes.users);
    let mut builds = [Build::start(before, sizes).await?, Build::start(after, sizes).await?];
    let mut report = Report::default();
    for phase in Phase::ALL {
        let name = phase.name(plan);
        let mut outcomes = [Vec::new(), Vec::new()];
        for round in 1..=plan.rounds {
            eprintln!("{name}: round {round} of {}", plan.rounds);
            // Who begins changes from round to round.
            for turn in 0..2 {
                let which = usize::try_from((round + turn) % 2)?;
                outcomes[which].push(phase.run(&mut builds[which], sizes, plan).await?);
            }
        }
        report.add(&name, &outcomes);
    }
    let [before, after] = builds;
    before.prove_and_stop().await?;
    after.prove_and_stop().await?;
    println!("{report}");
    println!("every acknowledged command is one event in the log, and verify found no differences");
    Ok(())
}

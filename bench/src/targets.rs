//! What Rookery promises of its speed, a file for each promise: what it loads, what it measures, and
//! beside which floor.

mod appends;
mod celebrity;
mod delivery;
mod dormant;
mod fan_out;
mod growth;
mod heavy;
mod keeping;
mod large;
mod nodes;
mod overload;
mod reads;
mod rebuild;
mod replica;
mod streams;
mod under_load;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::build::Build;
use crate::measure::{Bound, Measure, Settings};
use crate::usage;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// T1: tweets acknowledged per second
    Appends,
    /// T2: whether an author with many followers is slower, or makes others so
    Celebrity,
    /// T3, T11: rows delivered per second, and what one costs in WAL and on disk
    FanOut,
    /// T4: from the answer until the last follower can read it
    Delivery,
    /// T5: the same under load, and from the commit until a consumer of one's own has the message
    UnderLoad,
    /// T6: pages per second, and whether they stay as fast with a longer log
    Reads,
    /// T7: rows rebuilt per second, and whether twice the log takes twice the time
    Rebuild,
    /// T9: memory of idle streams, and a tweet to all of them
    Streams,
    /// G10: what is accepted when more comes than it can take, and the memory of that
    Overload,
    /// What a page, a POST and a delivery cost after very many commands, and what an event and a row take
    Keeping,
    /// The same at 1, 4 and 16 times the users
    Growth,
    /// T10: a tweet of an author with very many followers, and a page with it; --followers 1000000 for the target's own size
    Heavy,
    /// What readers cost who do not come, and the first page of who comes back
    Dormant,
    /// Pages from a replica of the read model beside pages from itself, and when a tweet is on them
    Replica,
    /// Many users, a few of whom very many read: not part of `all`, --users 1000000 takes an hour
    Large,
    /// The read model on several nodes beside one PostgreSQL, that of `FEED_DATABASE_URL`, which is empty: not part of `all`
    Nodes,
}

/// How and with what is measured.
pub struct Plan {
    /// Where the programs are.
    pub folder: PathBuf,
    pub settings: Settings,
}

/// T8.
const API_MEMORY_MAX_MIB: f64 = 48.0;
const PROJECTOR_MEMORY_MAX_MIB: f64 = 64.0;

const MIB: f64 = 1_048_576.0;

impl Target {
    /// Measures it, and proves afterwards that nothing was lost on the way.
    pub async fn measure(self, plan: &Plan) -> anyhow::Result<Vec<Measure>> {
        match self {
            Self::Appends => appends::measure(plan).await,
            Self::Celebrity => celebrity::measure(plan).await,
            Self::FanOut => fan_out::measure(plan).await,
            Self::Delivery => delivery::measure(plan).await,
            Self::UnderLoad => under_load::measure(plan).await,
            Self::Reads => reads::measure(plan).await,
            Self::Rebuild => rebuild::measure(plan).await,
            Self::Streams => streams::measure(plan).await,
            Self::Overload => overload::measure(plan).await,
            Self::Keeping => keeping::measure(plan).await,
            Self::Growth => growth::measure(plan).await,
            Self::Heavy => heavy::measure(plan).await,
            Self::Dormant => dormant::measure(plan).await,
            Self::Replica => replica::measure(plan).await,
            Self::Large => large::measure(plan).await,
            Self::Nodes => nodes::measure(plan).await,
        }
    }
}

impl Plan {
    /// How long one turn takes.
    fn turn(&self) -> Duration {
        self.settings.turn()
    }

    /// The rounds, each announced.
    fn rounds(&self, what: &str) -> impl Iterator<Item = u32> {
        let rounds = self.settings.rounds;
        (1..=rounds).inspect(move |round| eprintln!("bench: {what}: round {round} of {rounds}"))
    }
}

/// What the programs of `build` had of memory at most, which T8 bounds.
fn memory(build: &Build, during: &str) -> Vec<Measure> {
    let of = |(name, id): (&str, u32)| {
        let highest = usage::memory(id)?.highest as f64 / MIB;
        let most = if name == "api" { API_MEMORY_MAX_MIB } else { PROJECTOR_MEMORY_MAX_MIB };
        let what = format!("highest resident memory of the {name}, {during}");
        Some(Measure::cost("T8", what, "MiB", vec![highest]).bound(Bound::AtMost(most)))
    };
    build.programs().filter_map(of).collect()
}

//! Measures Rookery under load.
//!
//! Machines are shared and noisy: what is compared is measured by turns in one run, and ratios are
//! what to look at.

mod build;
mod compare;
mod load;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::build::Sizes;
use crate::compare::Plan;

/// Compares two builds of Rookery under load, by turns.
///
/// Each build is a folder with the programs `api` and `projector`. Needs a PostgreSQL and a RabbitMQ:
/// scripts/services.sh up; eval "$(scripts/services.sh env)".
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    version,
    after_help = "Example:\n  \
        cargo build --release -p api -p projector -p bench\n  \
        target/release/bench ../before/target/release target/release\n\n\
        Exit codes: 0 measured and proven, 1 failed, 2 bad usage."
)]
struct Arguments {
    /// The build to compare with.
    #[arg(value_name = "BEFORE")]
    before: PathBuf,

    /// The build that is compared.
    #[arg(value_name = "AFTER")]
    after: PathBuf,

    /// How often each build has its turn in each phase.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// How long one turn takes. A third of that before it is not counted.
    #[arg(long, default_value_t = 3, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// Users, each of whom follows a fifth of the others, and has written twenty tweets.
    #[arg(long, default_value_t = 250, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=5_000))]
    users: u32,

    /// Tweets a second in the phase in which they come at a rate of their own.
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = Plan {
        rounds: arguments.rounds,
        turn: Duration::from_secs(arguments.seconds),
        rate: arguments.rate,
    };
    let sizes = Sizes { users: arguments.users };
    match compare::compare(&arguments.before, &arguments.after, sizes, &plan).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

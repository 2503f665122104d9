//! Measures Rookery under load, and in the same run the floor under it.
//!
//! Machines are shared and noisy: what is compared is measured by turns in one run, and ratios are
//! what to look at.

mod build;
mod builds;
mod compare;
mod data_set;
mod demo;
mod floors;
mod load;
mod machine;
mod measure;
mod plot;
mod report;
mod scale;
mod services;
mod targets;
mod usage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::machine::Machine;
use crate::measure::{Results, Settings};
use crate::targets::{Plan, Target};

/// Measures Rookery and the floor under it, by turns.
///
/// Brings up PostgreSQL and RabbitMQ by scripts/services.sh where the environment does not name
/// them, and works in databases and virtual hosts of its own. After each target it proves that
/// every acknowledged command is one event in the log, and that projector verify finds no differences.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    version,
    after_help = "Examples:\n  \
        cargo run --release -p bench -- all --json bench/results/today.json\n  \
        cargo run --release -p bench -- target appends reads\n  \
        cargo run --release -p bench -- builds ../before/target/release target/release\n  \
        cargo run --release -p bench -- compare before.json after.json\n  \
        cargo run --release -p bench -- table bench/results/today.json\n  \
        cargo run --release -p bench -- scale bench/results/today.json\n\n\
        Exit codes: 0 measured and proven, 1 failed, or compare found something slower, 2 bad usage."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures every target.
    All(Measured),
    /// Measures some targets.
    Target {
        #[arg(value_enum, required = true, value_name = "TARGET")]
        targets: Vec<Target>,

        #[command(flatten)]
        measured: Measured,
    },
    /// Compares two builds under the same load: folders with the programs api and projector.
    Builds {
        #[arg(value_name = "BEFORE")]
        before: PathBuf,

        #[arg(value_name = "AFTER")]
        after: PathBuf,

        /// Tweets a second in the phase in which they come at a rate of their own.
        #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rate: u32,

        #[command(flatten)]
        sizes: Sizes,
    },
    /// Says what became slower from one run to another, beyond the noise of both.
    Compare {
        #[arg(value_name = "BEFORE.json")]
        before: PathBuf,

        #[arg(value_name = "AFTER.json")]
        after: PathBuf,
    },
    /// Prints the targets of a run as a table in Markdown, which README.md has between two comments.
    Table {
        #[arg(value_name = "RESULTS.json")]
        results: PathBuf,
    },
    /// Works out of a run what 1, 10 and 100 million users would cost, as tables in Markdown: docs/scale.md.
    Scale {
        /// Of each figure the first that has it counts.
        #[arg(required = true, value_name = "RESULTS.json")]
        results: Vec<PathBuf>,
    },
    /// Draws the curves of a run as SVG.
    Plot {
        #[arg(value_name = "RESULTS.json")]
        results: PathBuf,

        #[arg(value_name = "CURVES.svg")]
        svg: PathBuf,
    },
    /// The parts of `run_demo.sh`, which says how they follow each other.
    #[command(subcommand)]
    Demo(demo::Demo),
    /// The server that is the floor of streams.
    #[command(name = floors::streams::SERVE, hide = true)]
    ServeIdleStreams,
}

#[derive(Debug, Args)]
struct Measured {
    /// Where the results are kept as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// The folder of the programs. They are built if it is not given.
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,

    #[command(flatten)]
    sizes: Sizes,
}

#[derive(Debug, Args)]
struct Sizes {
    /// Small sizes and one short round: for whether it works, not for how fast.
    #[arg(long)]
    quick: bool,

    /// How often each has its turn.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,

    /// How long one turn takes. A third of that before it is not counted.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: Option<u32>,

    /// Users, where nothing else is said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    users: Option<u32>,

    /// Readers of one tweet, where deliveries are measured.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    readers: Option<u32>,

    /// Followers of the celebrity.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    followers: Option<u32>,

    /// Open streams.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=10_000))]
    streams: Option<u32>,

    /// Mixed commands between two looks at what everything costs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    commands: Option<u32>,

    /// Makes the same data set again.
    #[arg(long, default_value_t = 7, value_name = "N")]
    seed: u64,
}

impl Sizes {
    fn settings(&self) -> Settings {
        let or = |given: Option<u32>, full, quick| {
            given.unwrap_or(if self.quick { quick } else { full })
        };
        Settings {
            rounds: or(self.rounds, 5, 1),
            seconds: or(self.seconds, 3, 1).into(),
            users: or(self.users, 1_000, 100),
            readers: or(self.readers, 10_000, 500),
            followers: or(self.followers, 100_000, 2_000),
            streams: or(self.streams, 10_000, 500),
            rate: or(None, 1_000, 200),
            commands: or(self.commands, 500_000, 5_000).into(),
            looks: or(None, 500, 50),
            seed: self.seed,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(end) => end,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::All(measured) => {
            // The large size says nothing at another one, but that it works.
            let all = Target::value_variants().iter().copied();
            let all = all.filter(|target| match target {
                Target::Large => measured.sizes.quick,
                Target::Nodes => false,
                _ => true,
            });
            measure(&all.collect::<Vec<_>>(), &measured).await
        }
        Command::Target { targets, measured } => measure(&targets, &measured).await,
        Command::Builds { before, after, rate, sizes } => {
            services::ensure_up()?;
            let defaults = Sizes { users: sizes.users.or(Some(250)), ..sizes };
            builds::compare(&before, &after, &defaults.settings(), rate).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Compare { before, after } => Ok(compare::compare(&read(&before)?, &read(&after)?)),
        Command::Table { results } => {
            let Results { machine, settings, measures } = read(&results)?;
            let Settings { rounds, seconds, .. } = settings;
            let at = &machine.measured_at;
            println!(
                "Measured {at} on {machine}: medians of {rounds} rounds of {seconds} s by turns.\n"
            );
            println!("{}", report::markdown(&measures));
            Ok(ExitCode::SUCCESS)
        }
        Command::Scale { results } => {
            let results: Vec<_> =
                results.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
            println!("{}", scale::report(&results)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Plot { results, svg } => {
            plot::plot(&read(&results)?.measures, &svg)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo(part) => {
            demo::run(&part).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::ServeIdleStreams => {
            floors::streams::serve().await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn measure(targets: &[Target], measured: &Measured) -> anyhow::Result<ExitCode> {
    services::ensure_up()?;
    if targets.contains(&Target::Reads) {
        // Now, and not after the targets before it.
        floors::read::pgbench()?;
    }
    let settings = measured.sizes.settings();
    let folder = match &measured.programs {
        Some(folder) => folder.clone(),
        None => services::build_programs()?,
    };
    let machine = Machine::look().await?;
    let plan = Plan { folder, settings: settings.clone() };
    let mut measures = Vec::new();
    for target in targets {
        measures.extend(target.measure(&plan).await?);
    }
    println!("{machine}");
    println!("{}", report::table(&measures));
    println!("{}", report::notes(&measures).join("\n"));
    println!("every acknowledged command is one event in the log, and verify found no differences");
    if let Some(path) = &measured.json {
        let results = Results { machine, settings, measures };
        std::fs::write(path, serde_json::to_string_pretty(&results)? + "\n")
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<Results> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not a file of results", path.display()))
}

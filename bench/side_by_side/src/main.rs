//! Event stores and an outbox that a Rust user could take instead, beside the log of Rookery: the same
//! PostgreSQL, the same events, each used as its documentation says.
//!
//! A cell of the table is a database of its own, in which some writers append without pause while a
//! reader follows what they append. At the end the reader has all the time it needs; what it has not
//! seen by then it has missed.

mod contender;
mod contenders;
mod database;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use futures_util::future::try_join_all;

use contender::{Contender, Seen};
use contenders::{disintegrate, mire, obix, postgres_es, rookery};
use database::Database;

/// A reader that has seen nothing new for so long has seen all that it will.
const SILENCE: Duration = Duration::from_secs(5);

/// What every tweet says.
const CONTENT: &str = "A tweet as people write them: a sentence or two, some hundred characters in all, and perhaps a name.";

/// Measures event stores and an outbox beside the log of Rookery
#[derive(Parser)]
struct Args {
    /// A PostgreSQL whose user may create databases
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// How many append at once
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8,32")]
    writers: Vec<usize>,
    /// How many events one of them appends at a time
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,100")]
    batches: Vec<usize>,
    /// How long each cell is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    seconds: u64,
    /// How often each cell has its turn; the median counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
}

/// What one cell came to in one round.
struct Outcome {
    events_per_second: f64,
    retries: u64,
    /// `None` where there is no reader of everything.
    missed: Option<u64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "",
        "writers",
        "batch",
        "events per second (lowest to highest)",
        "tried again",
        "missed by a reader",
    ]);
    let mut left_out = BTreeMap::new();
    for &batch in &args.batches {
        for &writers in &args.writers {
            let mut outcomes: BTreeMap<&str, Vec<Outcome>> = BTreeMap::new();
            for round in 0..args.rounds {
                eprintln!(
                    "{writers} writers, batches of {batch}: round {} of {}",
                    round + 1,
                    args.rounds
                );
                for name in contenders::NAMES {
                    if left_out.contains_key(name) {
                        continue;
                    }
                    match measure(&args, name, writers, batch).await {
                        Err(error) if error.is::<DoesNotStart>() => {
                            left_out.insert(name, error.root_cause().to_string());
                        }
                        outcome => outcomes.entry(name).or_default().push(outcome.context(name)?),
                    }
                }
            }
            for name in contenders::NAMES {
                if let Some(rounds) = outcomes.get(name) {
                    table.add_row(row(name, writers, batch, rounds));
                }
            }
        }
    }
    println!("{table}");
    for (name, why) in left_out {
        println!("{name} is left out, because it does not start on this server: {why}");
    }
    Ok(())
}

/// Not everything runs on every version of PostgreSQL.
#[derive(Debug, thiserror::Error)]
#[error("it does not start on this server")]
struct DoesNotStart;

fn row(name: &str, writers: usize, batch: usize, rounds: &[Outcome]) -> [String; 6] {
    let mut rates: Vec<f64> = rounds.iter().map(|round| round.events_per_second).collect();
    rates.sort_by(f64::total_cmp);
    let (lowest, median, highest) = (rates[0], rates[rates.len() / 2], rates[rates.len() - 1]);
    let retries: u64 = rounds.iter().map(|round| round.retries).sum();
    let missed = rounds.iter().map(|round| round.missed).sum::<Option<u64>>();
    [
        name.to_owned(),
        writers.to_string(),
        batch.to_string(),
        format!("{median:.0} ({lowest:.0} to {highest:.0})"),
        retries.to_string(),
        missed.map_or_else(|| "has none".to_owned(), |missed| missed.to_string()),
    ]
}

/// One cell, once.
async fn measure(args: &Args, name: &str, writers: usize, batch: usize) -> anyhow::Result<Outcome> {
    let database = Database::create(&args.database_url).await?;
    let contender = start(name, &database, writers).await.context(DoesNotStart)?;
    let seen = Seen::default();
    let reader = contender.clone().follow(seen.clone()).map(tokio::spawn);

    let retries = AtomicU64::new(0);
    let began = Instant::now();
    let until = began + Duration::from_secs(args.seconds);
    let appended = try_join_all((0..writers).map(|writer| {
        let (contender, retries) = (contender.clone(), &retries);
        async move {
            let mut appended = 0_u64;
            while Instant::now() < until {
                retries.fetch_add(contender.append(writer, batch).await?, Ordering::Relaxed);
                appended += batch as u64;
            }
            anyhow::Ok(appended)
        }
    }))
    .await?;
    let took = began.elapsed();
    let appended: u64 = appended.iter().sum();

    let missed = match reader {
        None => None,
        Some(reader) => {
            seen.reaches(appended, SILENCE).await;
            if reader.is_finished() {
                reader.await??;
                anyhow::bail!("the reader has ended");
            }
            reader.abort();
            Some(appended.saturating_sub(seen.count()))
        }
    };
    drop(contender);
    database.remove().await?;
    Ok(Outcome {
        events_per_second: appended as f64 / took.as_secs_f64(),
        retries: retries.into_inner(),
        missed,
    })
}

async fn start(
    name: &str,
    database: &Database,
    writers: usize,
) -> anyhow::Result<Arc<dyn Contender>> {
    Ok(match name {
        rookery::NAME => Arc::new(rookery::Rookery::start(database).await?),
        postgres_es::NAME => Arc::new(postgres_es::PostgresEs::start(database, writers).await?),
        disintegrate::NAME => Arc::new(disintegrate::Disintegrate::start(database, writers).await?),
        mire::NAME => Arc::new(mire::Mire::start(database, writers).await?),
        obix::NAME => Arc::new(obix::Obix::start(database, writers).await?),
        _ => anyhow::bail!("nobody is called {name}"),
    })
}

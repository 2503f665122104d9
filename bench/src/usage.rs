//! What processes of this machine take of it, as `/proc` says: see proc(5).

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::build::Build;

/// `/proc` counts processor time in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// How often the memory of a short process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Processors in use, one being all of one, by what used them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Processors(BTreeMap<String, f64>);

/// The processor time of everything that takes part, up to some moment.
pub struct Meter {
    programs: Vec<(&'static str, u32)>,
    /// Of each process.
    before: BTreeMap<u32, f64>,
    began: Instant,
}

impl Meter {
    /// Begins to count what `build`, the servers under it and this program use.
    pub fn start(build: &Build) -> Self {
        let programs: Vec<_> = build.programs().chain([("bench", std::process::id())]).collect();
        let times = processes(&programs).filter_map(|(_, id)| Some((id, processor_seconds(id)?)));
        Self { before: times.collect(), programs, began: Instant::now() }
    }

    /// Processors in use since the start, on average. What a process used that has ended is missing.
    pub fn stop(self) -> Processors {
        let took = self.began.elapsed().as_secs_f64();
        let mut used: BTreeMap<String, f64> = BTreeMap::new();
        for (name, id) in processes(&self.programs) {
            let before = self.before.get(&id).copied().unwrap_or(0.0);
            let after = processor_seconds(id).unwrap_or(before);
            *used.entry(name.to_owned()).or_default() += (after - before) / took;
        }
        Processors(used)
    }
}

/// `programs`, and the servers as they are now: PostgreSQL has a process for each connection.
fn processes(programs: &[(&'static str, u32)]) -> impl Iterator<Item = (&'static str, u32)> {
    let servers = [("PostgreSQL", "postgres"), ("RabbitMQ", "beam.smp")];
    let servers =
        servers.into_iter().flat_map(|(name, program)| ids_of(program).map(move |id| (name, id)));
    programs.iter().copied().chain(servers)
}

impl Processors {
    /// Of all but this program, which only watches.
    pub fn of_the_product(&self) -> f64 {
        self.0.iter().filter(|(name, _)| *name != "bench").map(|(_, used)| used).sum()
    }

    /// The average of several.
    pub fn average(all: &[Self]) -> Self {
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for one in all {
            for (name, used) in &one.0 {
                *sums.entry(name.clone()).or_default() += used / all.len() as f64;
            }
        }
        Self(sums)
    }
}

impl std::fmt::Display for Processors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: Vec<_> = self.0.iter().map(|(name, used)| format!("{name} {used:.2}")).collect();
        f.write_str(&all.join(", "))
    }
}

/// User and system time of a process, in seconds.
fn processor_seconds(id: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in parentheses, may have spaces in it. utime is the 14th field, the 12th after it.
    let after_name = stat.rsplit_once(") ")?.1;
    let mut fields = after_name.split(' ').skip(11).map(str::parse::<f64>);
    Some((fields.next()?.ok()? + fields.next()?.ok()?) / TICKS_PER_SECOND)
}

fn ids_of(program: &str) -> impl Iterator<Item = u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(move |entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        (name.trim_end() == program).then_some(id)
    })
}

/// The resident memory of a process in bytes: now, and the most it had.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub now: u64,
    pub highest: u64,
}

/// What a process has of memory, if it runs.
pub fn memory(id: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().split(' ').next()?.parse::<u64>().ok()
    };
    Some(Memory { now: kilobytes("VmRSS")? * 1_024, highest: kilobytes("VmHWM")? * 1_024 })
}

/// The most memory that a process had until it ended, as far as it was seen.
pub async fn highest_memory_until_its_end(id: u32) -> u64 {
    let mut highest = 0;
    while let Some(memory) = memory(id) {
        highest = memory.highest.max(highest);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    highest
}

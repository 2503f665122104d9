//! The statement of a page, without HTTP: by pgbench, which takes less of the machine than any client
//! of ours.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::build::Build;

pub const WHAT: &str = "the statement of the page, prepared, by pgbench over 4 connections";

/// The same text as the api's.
const PAGE: &str = include_str!("../../../api/src/views/feed/page.sql");

/// What the api asks for: from the newest on, a page and one more by which it knows whether there is a
/// next.
const ARGUMENTS: [(&str, &str); 4] =
    [("$1", ":reader"), ("$2", "9223372036854775807"), ("$3", "0"), ("$4", "21")];

/// As the api's sessions plan.
const OPTIONS: &str = "-c plan_cache_mode=force_generic_plan";

/// Pages per second over so many `connections`, for `turn`.
pub async fn measure(
    build: &Build,
    connections: usize,
    users: u32,
    turn: Duration,
) -> anyhow::Result<f64> {
    let statement = PAGE.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>();
    let statement = ARGUMENTS
        .iter()
        .fold(statement.join("\n"), |text, (name, value)| text.replace(name, value));
    let script = format!("\\set reader random(1, {users})\n{statement};\n");
    let mut pgbench = Command::new(pgbench()?)
        .args(["--no-vacuum", "--protocol", "prepared", "--jobs", "2", "--file", "-"])
        .args(["--client", &connections.to_string(), "--time", &turn.as_secs().to_string()])
        .arg(&build.database.url)
        .env("PGOPTIONS", OPTIONS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = pgbench.stdin.take().context("it is piped")?;
    stdin.write_all(script.as_bytes()).await?;
    drop(stdin);
    let run = pgbench.wait_with_output().await?;
    let (said, complained) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    ensure!(run.status.success(), "pgbench: {complained}");
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate.and_then(|rate| rate.split(' ').next()).context("pgbench says its rate")?;
    Ok(rate.parse()?)
}

/// Where pgbench is. Debian has it beside the server and not in the path.
pub fn pgbench() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    std::env::split_paths(&path)
        .chain(debian.map(|version| version.path().join("bin")))
        .map(|folder| folder.join("pgbench"))
        .find(|program| program.exists())
        .context(
            "there is no pgbench here, which is the floor of reads: Debian has it in postgresql",
        )
}

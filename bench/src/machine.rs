//! On what it was measured.

use std::fs;
use std::process::Command;

use anyhow::Context;
use chrono::SecondsFormat;
use events::Clock;
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};

/// See the module. What the system does not tell is empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub measured_at: String,
    /// The commit of the checkout, with a `+` where files differ from it.
    pub commit: String,
    pub processor: String,
    pub processors: usize,
    pub memory_gib: u64,
    pub kernel: String,
    pub postgresql: String,
    pub rabbitmq: String,
}

impl Machine {
    /// This machine and its servers.
    pub async fn look() -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(&e2e::setting("DATABASE_URL")).await?;
        let postgresql =
            sqlx::query_scalar("show server_version").fetch_one(&mut connection).await?;
        let overview = reqwest::Client::new()
            .get(format!("{}/api/overview", e2e::setting("RABBITMQ_UI")))
            .basic_auth(
                e2e::setting("RABBITMQ_UI_USER"),
                Some(e2e::setting("RABBITMQ_UI_PASSWORD")),
            )
            .send()
            .await
            .context("RabbitMQ's management plugin answers")?;
        let overview: serde_json::Value = overview.json().await?;
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        Ok(Self {
            measured_at: Clock::system().now().to_rfc3339_opts(SecondsFormat::Secs, true),
            commit: commit(),
            processor: of_file("/proc/cpuinfo", "model name").unwrap_or_default(),
            processors,
            memory_gib: of_file("/proc/meminfo", "MemTotal")
                .and_then(|total| total.split(' ').next()?.parse::<u64>().ok())
                .map_or(0, |kilobytes| kilobytes >> 20),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map(|release| release.trim().to_owned())
                .unwrap_or_default(),
            postgresql,
            rabbitmq: overview["rabbitmq_version"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { commit, processor, processors, memory_gib, postgresql, rabbitmq, .. } = self;
        write!(
            f,
            "commit {commit}, {processors} × {processor}, {memory_gib} GiB, \
             PostgreSQL {postgresql}, RabbitMQ {rabbitmq}"
        )
    }
}

/// What stands after `name` and a colon in a file of the system.
fn of_file(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn commit() -> String {
    let described = Command::new("git").args(["describe", "--always", "--dirty=+"]).output();
    let described = described.ok().filter(|output| output.status.success());
    described
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

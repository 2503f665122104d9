//! One of the two programs, as an operator runs it.

use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::{PATIENCE, until};

/// So many of its last complaints are printed where a test fails.
const COMPLAINTS: usize = 20;

/// A running program. Killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `program` with `arguments` and `variables`.
    #[must_use]
    pub fn start(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = spawn(program, arguments, variables, Stdio::null(), Stdio::piped());
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("it is piped");
        let lines = Arc::clone(&log);
        tokio::spawn(async move {
            let mut stderr = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = stderr.next_line().await {
                lines.lock().expect("no holder panics").push(line);
            }
        });
        Self { child, log }
    }

    /// The same with its output and log to somewhere else.
    #[must_use]
    pub fn start_to(
        program: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
        output: Stdio,
        log: Stdio,
    ) -> Self {
        Self { child: spawn(program, arguments, variables, output, log), log: Arc::default() }
    }

    /// Its id in the system.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it has logged so far, a line each.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no holder panics").clone()
    }

    /// Waits for a log line with `message` and returns its fields.
    pub async fn logged(&mut self, message: &str) -> Value {
        self.logged_any(&[message]).await
    }

    /// The same with any of `messages`.
    pub async fn logged_any(&mut self, messages: &[&str]) -> Value {
        let what = format!("a log line of {messages:?}");
        until(&what, async || {
            if let Some(status) = self.child.try_wait().expect("it can be asked") {
                panic!("ended with {status} before {messages:?}:\n{}", self.log().join("\n"));
            }
            let lines = self.log();
            lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(
                |fields| {
                    let text = fields["message"].as_str().unwrap_or_default();
                    messages.iter().any(|message| text.starts_with(message))
                },
            )
        })
        .await
    }

    /// Sends `signal`, as in `kill -TERM`.
    pub async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([signal, &id]).status().await;
        assert!(sent.expect("kill runs").success(), "kill {signal} {id}");
    }

    /// Kills it with -9 and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it ends in time").expect("it can be waited for")
    }
}

/// For whoever looks into a test that failed.
impl Drop for Process {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let log = self.log();
        let complaints: Vec<_> =
            log.iter().filter(|line| !line.contains("\"INFO\"")).rev().take(COMPLAINTS).collect();
        println!("process {:?} complained, at last:", self.id());
        complaints.iter().rev().for_each(|line| println!("{line}"));
    }
}

fn spawn(
    program: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
    output: Stdio,
    log: Stdio,
) -> Child {
    Command::new(path_of(program))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{program} does not start: {error}"))
}

/// Runs `program` to its end.
pub async fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let running = Command::new(path_of(program))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(PATIENCE, running).await;
    ended.expect("it ends in time").expect("it starts")
}

/// The programs are built beside the tests: `target/debug/deps/e2e-…`, `target/debug/api`. One that is
/// named with its folder is where that says.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn path_of(program: &str) -> PathBuf {
    if program.contains('/') {
        return PathBuf::from(program);
    }
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    path.pop();
    path.push(program);
    assert!(path.exists(), "{} is missing: cargo build --workspace", path.display());
    path
}

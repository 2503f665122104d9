//! A program that outlives the one that started it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// Both programs promise to end within 10 s of a SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// The pause between two looks at whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What it keeps of the variables of whoever starts it: the others are meant for other services.
const KEPT: [&str; 8] = [
    "PATH",
    "HOME",
    "TERM",
    "NO_COLOR",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// A process that can be told from a later one with the same id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    id: u32,
    born: String,
}

impl Program {
    /// Starts the program at `path` in a process group of its own, which Ctrl-C in a terminal does not
    /// reach. What it says goes to `log`.
    pub fn start(
        path: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        // What is missing in a URL of the user's own may be in PGPASSWORD and its like.
        let kept = std::env::vars_os().filter(|(name, _)| {
            name.to_str().is_some_and(|name| KEPT.contains(&name) || name.starts_with("PG"))
        });
        let child = Command::new(path)
            .args(arguments)
            .env_clear()
            .envs(kept)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} does not start", path.display()))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        Self::find(&name, child.id()).with_context(|| format!("{name} ended as soon as it started"))
    }

    /// The process with this id.
    pub fn find(name: &str, id: u32) -> Option<Self> {
        Some(Self { name: name.to_owned(), id, born: born(id)? })
    }

    /// Whether it has not ended.
    pub fn runs(&self) -> bool {
        born(self.id).is_some_and(|born| born == self.born)
    }

    /// Tells it to end, and waits until it has. One that does not is killed, which is an error.
    pub async fn stop(&self) -> anyhow::Result<()> {
        let name = &self.name;
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.runs() {
            if Instant::now() > deadline {
                self.signal(Signal::KILL)?;
                bail!("{name} did not stop within {STOP_PATIENCE:?} and was killed");
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Nothing, if it has ended.
    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = i32::try_from(self.id).ok().and_then(Pid::from_raw).context("it has an id")?;
        if !self.runs() {
            return Ok(());
        }
        kill_process(id, signal)
            .or_else(|error| if self.runs() { Err(error) } else { Ok(()) })
            .with_context(|| format!("{} cannot be told to end", self.name))
    }
}

/// When the process with this id was started. None if there is none, or only one that waits for its
/// parent to ask how it ended.
fn born(id: u32) -> Option<String> {
    if !Path::new("/proc/self").exists() {
        let ps = Command::new("ps").args(["-o", "lstart=", "-p", &id.to_string()]).output().ok()?;
        let started = String::from_utf8_lossy(&ps.stdout).trim().to_owned();
        return (!started.is_empty()).then_some(started);
    }
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in brackets, is the only field that can have blanks. See proc(5) for those after it.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18).map(str::to_owned)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_ends_when_it_is_told_to_and_not_twice() {
        let log = std::env::temp_dir().join(format!("rookery-program-{}", std::process::id()));
        let sleep = Program::start(Path::new("/bin/sleep"), &["60"], &[], &log).expect("it starts");
        assert!(sleep.runs());
        let other = Program { born: "another time".to_owned(), ..sleep.clone() };
        assert!(!other.runs(), "a later process with its id is not it");
        other.stop().await.expect("nothing to stop");
        assert!(sleep.runs());
        sleep.stop().await.expect("it ends");
        assert!(!sleep.runs());
        sleep.stop().await.expect("it has ended");
        fs::remove_file(log).expect("its log is there");
    }
}

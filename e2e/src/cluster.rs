//! PostgreSQL servers of a test's own, a primary and a standby that follows it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sqlx::{Connection, PgConnection};

use crate::until;

/// A server that ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    root: PathBuf,
    programs: PathBuf,
    /// Of its own, for its command line.
    settings: String,
    pub address: SocketAddr,
}

impl Cluster {
    /// A new primary, or `None` where PostgreSQL's programs are not installed on this machine.
    pub async fn primary() -> Option<Self> {
        Some(Self::primary_of(programs()?, &[]).await)
    }

    /// A new primary with `settings`, or `None` where PostgreSQL's programs have no such `extension`.
    pub async fn primary_with(extension: &str, settings: &[&str]) -> Option<Self> {
        let programs = programs()?;
        let version = programs.parent()?.file_name()?;
        let control = Path::new("/usr/share/postgresql").join(version).join("extension");
        let control = control.join(format!("{extension}.control"));
        if !control.exists() {
            return None;
        }
        Some(Self::primary_of(programs, settings).await)
    }

    async fn primary_of(programs: PathBuf, settings: &[&str]) -> Self {
        let mut cluster = Self::unused(programs).await;
        cluster.settings = settings.iter().flat_map(|setting| [" -c ", setting]).collect();
        let data = cluster.data();
        let how = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
        cluster.run("initdb", &[&["-D", &data], how.as_slice()].concat());
        cluster.start().await;
        cluster
    }

    /// A hot standby of this server.
    pub async fn standby(&self) -> Self {
        self.standby_through(self.address).await
    }

    /// The same, which follows it by `address`.
    pub async fn standby_through(&self, address: SocketAddr) -> Self {
        let standby = Self::unused(self.programs.clone()).await;
        let (data, port) = (standby.data(), address.port().to_string());
        let from = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
        self.run("pg_basebackup", &[&from, ["-D", &data, "-R", "-c", "fast"].as_slice()].concat());
        standby.start().await;
        standby
    }

    /// A folder of this server's user that is not there yet.
    #[must_use]
    pub fn folder(&self, name: &str) -> String {
        self.root.join(name).to_string_lossy().into_owned()
    }

    /// Runs lines for a shell as this server's user, with PostgreSQL's programs to be found.
    ///
    /// # Panics
    /// With what they said when one of them fails.
    pub fn shell(&self, lines: &str, variables: &[(&str, &str)]) {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.programs.display());
        let mut shell = self.command("/bin/sh", &["-ec", lines]);
        shell.env("PATH", path).envs(variables.iter().copied());
        let output = shell.stderr(Stdio::piped()).output().expect("there is a shell");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{lines}{said}");
    }

    /// Makes a primary of a standby.
    pub fn promote(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-w", "promote"]);
    }

    /// Stops it as a crash would. It can be dropped later.
    pub fn stop_at_once(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
    }

    /// Starts it again.
    pub async fn start_again(&self) {
        self.start().await;
    }

    /// A server whose data the lines of `copy` make and which those of `start` start. Both find `variables`, and as `PGDATA` where
    /// its data has to be.
    pub async fn made_by(&self, copy: &str, start: &str, variables: &[(&str, &str)]) -> Self {
        let made = Self::unused(self.programs.clone()).await;
        let (port, root, data) = (made.address.port(), made.root.display(), made.data());
        // Of this machine: a port that is free, and where its socket may be.
        let own = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{root}'\n"
        );
        let variables = [variables, &[("PGDATA", &data), ("OWN", &own)]].concat();
        made.shell(copy, &variables);
        made.shell("printf '%s' \"$OWN\" >> \"$PGDATA/postgresql.auto.conf\"", &variables);
        made.shell(start, &variables);
        let url = made.url_through(made.address);
        until("the server answers", async || PgConnection::connect(&url).await.ok()).await;
        made
    }

    /// The URL of its first database, with another server's `address` in it.
    #[must_use]
    pub fn url_through(&self, address: SocketAddr) -> String {
        format!("postgres://postgres@{address}/postgres")
    }

    async fn unused(programs: PathBuf) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let root = std::env::temp_dir().join(format!("rookery-cluster-{}", address.port()));
        std::fs::create_dir_all(&root).expect("a temporary folder can be made");
        let cluster = Self { root, programs, settings: String::new(), address };
        if is_root() {
            let root = cluster.root.to_string_lossy();
            let given = Command::new("chown").args(["postgres", &root]).status();
            assert!(given.expect("chown runs").success(), "the user postgres exists");
        }
        cluster
    }

    async fn start(&self) {
        let port = self.address.port();
        let options = format!(
            "-c port={port} -c listen_addresses=127.0.0.1 -c fsync=off -k {}{}",
            self.root.display(),
            self.settings
        );
        let log = self.root.join("log").to_string_lossy().into_owned();
        self.run("pg_ctl", &["-D", &self.data(), "-o", &options, "-l", &log, "-w", "start"]);
        let url = self.url_through(self.address);
        until("the server answers", async || PgConnection::connect(&url).await.ok()).await;
    }

    fn data(&self) -> String {
        self.root.join("data").to_string_lossy().into_owned()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = self.command(program, arguments).status();
        assert!(status.expect("it runs").success(), "{program} {arguments:?}");
    }

    /// PostgreSQL refuses to run as root.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(arguments).current_dir(&self.root).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stop = ["-D", &self.data(), "-m", "immediate", "stop"];
        if let Err(error) = self.command("pg_ctl", &stop).status() {
            eprintln!("a server of {} was left behind: {error}", self.root.display());
        }
        if let Err(error) = std::fs::remove_dir_all(&self.root) {
            eprintln!("{} was left behind: {error}", self.root.display());
        }
    }
}

/// The newest PostgreSQL that Debian has put here.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|bin| Path::exists(&bin.join("initdb")))
        .collect();
    found.sort();
    found.pop()
}

/// Only root can look into its own folder.
pub(crate) fn is_root() -> bool {
    std::fs::read_dir("/root").is_ok()
}

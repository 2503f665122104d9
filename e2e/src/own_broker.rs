//! A RabbitMQ of a test's own, which may be killed without harm to any other test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A server that ends, with all that it has, when this is dropped.
#[derive(Debug)]
pub struct OwnBroker {
    /// What `scripts/services.sh` keeps of it.
    local: PathBuf,
    /// Its first virtual host.
    pub url: String,
}

impl OwnBroker {
    /// Starts one, or says why there can be none: where the services of the tests are in Docker, RabbitMQ need not be
    /// installed on this machine.
    ///
    /// # Errors
    /// The reason, in words.
    ///
    /// # Panics
    /// When it does not start where it could.
    pub fn start(name: &str) -> Result<Self, String> {
        let local = root().join("target").join(name);
        std::fs::create_dir_all(&local).expect("a folder can be made beside the build");
        let mut broker = Self { local, url: String::new() };
        let started = broker.services("start-broker");
        let said = said(&started);
        if said.contains("Docker") {
            return Err(said);
        }
        assert!(started.status.success(), "{said}");
        let address = said.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(',').next());
        let port = address.expect("it says where it is");
        broker.url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        Ok(broker)
    }

    /// Kills it with -9.
    ///
    /// # Panics
    /// When that fails.
    pub fn kill(&self) {
        let killed = self.services("kill-broker");
        assert!(killed.status.success(), "{}", said(&killed));
    }

    /// Starts it again at the same address.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&self) {
        let started = self.services("start-broker");
        assert!(started.status.success(), "{}", said(&started));
    }

    /// The same, but it takes no messages unless so much disk is free.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again_wanting_disk(&self, free: &str) {
        let started = self
            .command("start-broker")
            .env("ROOKERY_BROKER_DISK_FREE", free)
            .output()
            .expect("the script runs");
        assert!(started.status.success(), "{}", said(&started));
    }

    fn services(&self, command: &str) -> Output {
        self.command(command).output().expect("the script runs")
    }

    fn command(&self, command: &str) -> Command {
        let mut services = Command::new(root().join("scripts/services.sh"));
        services
            .args(command.split(' '))
            .env("ROOKERY_LOCAL", &self.local)
            .env_remove("DATABASE_URL")
            .env_remove("AMQP_URL");
        services
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        self.services("kill-broker");
        self.services("down --remove");
        // What is left is an empty lock file. Nobody would look at an error here.
        drop(std::fs::remove_dir_all(&self.local));
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in the workspace")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

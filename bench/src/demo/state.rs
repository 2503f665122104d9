//! What a demo has to clean up, kept in a file until it has.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::program::Program;
use crate::services::checkout;

/// A demo, from before the first thing is made to after the last is gone. There is one at a time: two
/// would measure each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// That of its database and of its virtual host.
    pub name: String,
    /// The script that shows it.
    pub script: Program,
    /// Whether it stays when that ends.
    pub kept: bool,
    /// Whether PostgreSQL and RabbitMQ were started for it.
    pub stop_servers: bool,
    pub servers: Servers,
    /// The api and the projector, as far as they were started.
    pub programs: Vec<Program>,
    pub address: Option<SocketAddr>,
}

/// As `scripts/services.sh env` names them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Servers {
    pub database_url: String,
    pub amqp_url: String,
    pub management: Option<Management>,
    /// Whether the user chose them, and the script started nothing.
    pub given: bool,
}

/// RabbitMQ's HTTP API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Management {
    pub url: String,
    pub user: String,
    pub password: String,
}

impl State {
    /// The folder of this file and of the logs.
    pub fn folder() -> PathBuf {
        let local = std::env::var_os("ROOKERY_LOCAL").filter(|local| !local.is_empty());
        local.map_or_else(|| checkout().join(".local"), PathBuf::from).join("demo")
    }

    /// Where the program of that name says what it does.
    pub fn log(name: &str) -> PathBuf {
        Self::folder().join(format!("{name}.log"))
    }

    fn path() -> PathBuf {
        Self::folder().join("state.json")
    }

    /// The demo that there is.
    pub fn load() -> anyhow::Result<Self> {
        Self::find()?.context("there is no demo; run: ./run_demo.sh --keep")
    }

    /// The demo, if there is one.
    pub fn find() -> anyhow::Result<Option<Self>> {
        let path = Self::path();
        match fs::read(&path) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| {
                format!("{} is damaged; look at it, then delete it", path.display())
            })?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(path.display().to_string()),
        }
    }

    /// Keeps it. It has passwords in it, so it is its owner's alone.
    pub fn save(&self) -> anyhow::Result<()> {
        let (path, new) = (Self::path(), Self::folder().join("state.new"));
        let write = || {
            fs::create_dir_all(Self::folder())?;
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&new)?.write_all(&serde_json::to_vec_pretty(self)?)?;
            fs::rename(&new, &path)
        };
        write().with_context(|| {
            let folder = Self::folder();
            format!("cannot write to {}; set ROOKERY_LOCAL to a folder of yours", folder.display())
        })
    }

    /// Forgets it: everything is cleaned up.
    pub fn remove() -> anyhow::Result<()> {
        fs::remove_file(Self::path()).context(Self::path().display().to_string())
    }

    /// Its database's URL and that of its virtual host.
    pub fn urls(&self) -> anyhow::Result<(String, String)> {
        let Servers { database_url, amqp_url, management, .. } = &self.servers;
        let own = |url: &str| {
            let mut url = reqwest::Url::parse(url)?;
            url.set_path(&self.name);
            anyhow::Ok(url.to_string())
        };
        let amqp_url = if management.is_some() { own(amqp_url)? } else { amqp_url.clone() };
        Ok((own(database_url)?, amqp_url))
    }

    /// Where the api listens.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.address.context("the demo's api does not run")
    }

    /// Assignments of everything that one needs to use it.
    pub fn variables(&self) -> anyhow::Result<String> {
        let (database_url, amqp_url) = self.urls()?;
        let api = format!("http://{}", self.address()?);
        let vhost = if self.servers.management.is_some() { &self.name } else { "" };
        let all = [
            ("DATABASE_URL", database_url.as_str()),
            ("AMQP_URL", amqp_url.as_str()),
            ("ROOKERY", &api),
            ("ROOKERY_VHOST", vhost),
        ];
        let line = |(name, value): (&str, &str)| {
            if value.contains('\'') {
                bail!("{name} has a quote in it, which no URL needs");
            }
            Ok(format!("export {name}='{value}'\n"))
        };
        all.into_iter().map(line).collect()
    }
}

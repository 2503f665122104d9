//! A real pgbouncer with the configuration of `deploy/pgbouncer.ini`.

use std::net::SocketAddr;
use std::path::Path;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::cluster::{Cluster, is_root};
use crate::process::Process;
use crate::prometheus::free_address;
use crate::{unpacked, until};

/// Who connects through it.
const USER: &str = "rookery";
const PASSWORD: &str = "only for this test";

/// See the module. Killed when this is dropped.
#[derive(Debug)]
pub struct Pgbouncer {
    process: Process,
    config: String,
    /// Of a database through it.
    pub url: String,
}

impl Pgbouncer {
    /// One before `server`, with a database and a user of its own.
    pub async fn before(server: &Cluster) -> Self {
        let mut connection = PgConnection::connect(&server.url_through(server.address))
            .await
            .expect("the server answers");
        let made = format!(
            "create role {USER} login password '{PASSWORD}'; create database rookery owner {USER}"
        );
        for statement in made.split("; ") {
            let statement = AssertSqlSafe(statement.to_owned());
            sqlx::query(statement).execute(&mut connection).await.expect("it may");
        }
        let address: SocketAddr = free_address().parse().expect("an address");
        let users = server.folder("userlist.txt");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/pgbouncer.ini");
        let mut config = std::fs::read_to_string(path).expect("it is there");
        for (ours, here) in [
            ("port=5432", format!("port={}", server.address.port())),
            ("listen_port = 6432", format!("listen_port = {}", address.port())),
            ("/etc/pgbouncer/userlist.txt", users.clone()),
        ] {
            assert!(config.contains(ours), "{ours}: {config}");
            config = config.replace(ours, &here);
        }
        let file = server.folder("pgbouncer.ini");
        std::fs::write(&file, config).expect("it can be written");
        std::fs::write(users, format!("\"{USER}\" \"{PASSWORD}\"\n")).expect("it can be written");
        let password = PASSWORD.replace(' ', "%20");
        let url = format!("postgres://{USER}:{password}@{address}/rookery");
        let pgbouncer = Self { process: start(&file), config: file, url };
        pgbouncer.answers().await;
        pgbouncer
    }

    /// Kills it, with every session through it, and starts it again.
    pub async fn die_and_rise(&mut self) {
        self.process.kill().await;
        self.process = start(&self.config);
        self.answers().await;
    }

    async fn answers(&self) {
        until("pgbouncer answers", async || {
            let options: sqlx::postgres::PgConnectOptions = self.url.parse().expect("a URL");
            PgConnection::connect_with(&options).await.ok()
        })
        .await;
    }
}

/// It refuses to run as root.
fn start(config: &str) -> Process {
    let program = unpacked::program("usr/sbin", "pgbouncer");
    let libraries = [("LD_LIBRARY_PATH", unpacked::libraries())];
    let libraries = libraries.each_ref().map(|(name, value)| (*name, value.as_str()));
    let arguments: &[&str] = if is_root() { &["-u", "postgres", config] } else { &[config] };
    Process::start(&program, arguments, &libraries)
}

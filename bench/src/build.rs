//! A build of Rookery that runs: its programs, with a database and a virtual host of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::database::TestDatabase;
use e2e::process::Process;
use e2e::until;
use e2e::vhost::Vhost;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::process::Command;
use tokio::time::Instant;

use crate::load::{Call, Outcome, Pace, load, send_all};
use crate::usage;

/// Who writes where one author is read by many: the first who registers.
pub const AUTHOR: u32 = 1;

/// Connections that make a data set.
const LOADERS: usize = 32;

/// The pause between two looks at how far the read model is.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Debug)]
pub struct Build {
    pub address: SocketAddr,
    pub database: TestDatabase,
    pub vhost: Vhost,
    api: Process,
    projector: Process,
    folder: String,
    /// Where the read model is, if that is not where the log is.
    feed_url: Option<String>,
    /// At the log.
    looks: PgConnection,
    /// At the read model.
    feed: PgConnection,
    /// Events that were acknowledged.
    acknowledged: u64,
}

impl Build {
    /// Starts the programs in `folder`.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(folder, &[]).await
    }

    /// The same, with these variables more for the projector.
    pub async fn start_with(folder: &Path, more: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_at(folder, None, more).await
    }

    async fn start_at(
        folder: &Path,
        feed_url: Option<&str>,
        more: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let folder = std::path::absolute(folder)?.to_string_lossy().into_owned();
        for program in ["api", "projector"] {
            let path = format!("{folder}/{program}");
            ensure!(Path::new(&path).exists(), "there is no {path}: cargo build --release");
        }
        let (database, vhost) = (TestDatabase::create().await, Vhost::create().await);
        let feed = feed_url.unwrap_or(&database.url);
        let variables = [
            ("DATABASE_URL", database.url.as_str()),
            ("FEED_DATABASE_URL", feed),
            ("AMQP_URL", vhost.url.as_str()),
        ];
        let (api, address) = start_api(&folder, &variables).await?;
        let of_projector = [variables.as_slice(), more].concat();
        let projector = start_projector(&folder, &of_projector).await;
        let looks = PgConnection::connect(&database.url).await?;
        let feed = PgConnection::connect(feed).await?;
        let (feed_url, acknowledged) = (feed_url.map(str::to_owned), 0);
        Ok(Self {
            address,
            database,
            vhost,
            api,
            projector,
            folder,
            feed_url,
            looks,
            feed,
            acknowledged,
        })
    }

    /// Ends the projector and starts another, with no variables more.
    pub async fn restart_projector(&mut self) {
        self.projector.kill().await;
        self.projector = start_projector(&self.folder, &self.variables()).await;
    }

    /// One more api beside its own, with these variables more. Gives also where it listens.
    pub async fn another_api(
        &self,
        more: &[(&str, &str)],
    ) -> anyhow::Result<(Process, SocketAddr)> {
        start_api(&self.folder, &[self.variables().as_slice(), more].concat()).await
    }

    /// Where its programs find what they need.
    fn variables(&self) -> [(&'static str, &str); 3] {
        let (database, vhost) = (self.database.url.as_str(), self.vhost.url.as_str());
        let feed = self.feed_url.as_deref().unwrap_or(database);
        [("DATABASE_URL", database), ("FEED_DATABASE_URL", feed), ("AMQP_URL", vhost)]
    }

    /// Starts the programs in `folder`, with so many users who all read [`AUTHOR`], the author among them.
    pub async fn with_readers(folder: &Path, readers: u32) -> anyhow::Result<Self> {
        Self::with_readers_at(folder, None, readers).await
    }

    /// The same, with the read model at `feed_url`, if given.
    pub async fn with_readers_at(
        folder: &Path,
        feed_url: Option<&str>,
        readers: u32,
    ) -> anyhow::Result<Self> {
        let mut build = Self::start_at(folder, feed_url, &[]).await?;
        build.fill((1..=readers).map(Call::register)).await?;
        build.fill((AUTHOR + 1..=readers).map(|reader| Call::follow(reader, AUTHOR))).await?;
        Ok(build)
    }

    /// A connection to its database, with everything that a role may set as it is for others.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.database.url).await?)
    }

    /// Its programs: what they are called and their ids in the system.
    pub fn programs(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let ids = [("api", self.api.id()), ("projector", self.projector.id())];
        ids.into_iter().filter_map(|(name, id)| Some((name, id?)))
    }

    /// Counts a command that was acknowledged outside of [`Build::fill`] and [`Build::load`].
    pub fn acknowledge(&mut self, events: u64) {
        self.acknowledged += events;
    }

    /// Sends `commands` over some connections at once and waits until their events are readable, and the
    /// server knows of its tables what it would know a minute later by itself.
    pub async fn fill(&mut self, commands: impl Iterator<Item = Call>) -> anyhow::Result<()> {
        self.send_all(LOADERS, commands).await?;
        self.caught_up().await?;
        self.execute("vacuum (analyze)").await?;
        sqlx::raw_sql("vacuum (analyze)").execute(&mut self.feed).await?;
        Ok(())
    }

    /// Sends `commands` over so many `connections` at once. Gives the position of the last.
    pub async fn send_all(
        &mut self,
        connections: usize,
        commands: impl Iterator<Item = Call>,
    ) -> anyhow::Result<u64> {
        let sent = send_all(self.address, connections, commands).await?;
        self.acknowledged += sent.count;
        Ok(sent.highest)
    }

    /// Puts commands on it; see [`load`].
    pub async fn load(
        &mut self,
        connections: usize,
        pace: Pace,
        turn: Duration,
        command: impl Fn(u64) -> Call,
    ) -> anyhow::Result<Outcome> {
        let outcome = load(self.address, connections, pace, turn, command).await?;
        self.acknowledged += outcome.answered;
        Ok(outcome)
    }

    /// Waits until the read model has everything, for as long as it comes closer, and everything has
    /// been delivered.
    pub async fn caught_up(&mut self) -> anyhow::Result<()> {
        let mut lag = i64::MAX;
        while lag > 0 {
            let closer = until("the read model comes closer", async || {
                let now = self.lag().await.ok()?;
                (now < lag).then_some(now)
            });
            lag = closer.await;
        }
        let under_way = "select exists (select from fan_outs)";
        until("the last fan-out ends", async || {
            let under_way: bool =
                sqlx::query_scalar(under_way).fetch_one(&mut self.feed).await.ok()?;
            (!under_way).then_some(())
        })
        .await;
        Ok(())
    }

    /// The events that the read model does not have yet.
    pub async fn lag(&mut self) -> anyhow::Result<i64> {
        let head = "select coalesce(max(position), 0) from events";
        let head: i64 = sqlx::query_scalar(head).fetch_one(&mut self.looks).await?;
        let applied = "select max(position) from checkpoint";
        let applied: i64 = sqlx::query_scalar(applied).fetch_one(&mut self.feed).await?;
        Ok(head - applied)
    }

    /// Waits until the read model has `position` and no fan-out is under way.
    pub async fn delivered(&mut self, position: u64) -> anyhow::Result<()> {
        let look = "select (select max(position) from checkpoint) >= $1
            and not exists (select from fan_outs)";
        let position = i64::try_from(position)?;
        let deadline = Instant::now() + Duration::from_mins(5);
        loop {
            let there: bool =
                sqlx::query_scalar(look).bind(position).fetch_one(&mut self.feed).await?;
            if there {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "position {position} is not delivered");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Rows of the feeds.
    pub async fn feed_rows(&mut self) -> anyhow::Result<u64> {
        let count = "select count(*) from feed_items";
        let rows: i64 = sqlx::query_scalar(count).fetch_one(&mut self.feed).await?;
        Ok(rows.unsigned_abs())
    }

    /// Rows of `table`.
    pub async fn count(&mut self, table: &str) -> anyhow::Result<u64> {
        let count = AssertSqlSafe(format!("select count(*) from {table}"));
        let rows: i64 = sqlx::query_scalar(count).fetch_one(&mut self.looks).await?;
        Ok(rows.unsigned_abs())
    }

    /// Bytes of the write-ahead log so far, of the whole server.
    pub async fn wal(&mut self) -> anyhow::Result<f64> {
        let look = "select (pg_current_wal_insert_lsn() - '0/0')::float8";
        Ok(sqlx::query_scalar(look).fetch_one(&mut self.looks).await?)
    }

    /// Bytes of `table` and its indexes, in all of its ranges.
    pub async fn disk(&mut self, table: &str) -> anyhow::Result<f64> {
        let look = "select (pg_total_relation_size($1::regclass)
            + (select coalesce(sum(pg_total_relation_size(relid)), 0)
                from pg_partition_tree($1::regclass) where level > 0))::float8";
        Ok(sqlx::query_scalar(look).bind(table).fetch_one(&mut self.looks).await?)
    }

    /// Runs statements as they are, without an answer.
    pub async fn execute(&mut self, statements: &str) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut self.looks).await?;
        Ok(())
    }

    /// Has the server write out what it holds, so that the next pages of everybody are logged whole
    /// alike. It needs a role that may.
    pub async fn checkpoint(&mut self) -> anyhow::Result<()> {
        self.execute("checkpoint").await.context("the role of DATABASE_URL may not checkpoint")
    }

    /// Runs one of the projector's commands to its end. Gives the most memory that it had, in bytes.
    pub async fn projector(&self, command: &str) -> anyhow::Result<u64> {
        let child = Command::new(format!("{}/projector", self.folder))
            .args(command.split(' '))
            .env_clear()
            .envs(self.variables())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id().context("it runs")?;
        let watch = tokio::spawn(usage::highest_memory_until_its_end(id));
        let ended = child.wait_with_output().await?;
        let said = [ended.stdout, ended.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(ended.status.success(), "projector {command} ended with {}:\n{said}", ended.status);
        Ok(watch.await?)
    }

    /// Holds what was acknowledged against the log, and everything against everything else, and ends.
    pub async fn prove_and_stop(mut self) -> anyhow::Result<()> {
        self.caught_up().await?;
        let (stored, acknowledged) = (self.count("events").await?, self.acknowledged);
        ensure!(
            stored == acknowledged,
            "{acknowledged} commands were acknowledged, {stored} events stored"
        );
        self.projector("verify").await?;
        self.api.kill().await;
        self.projector.kill().await;
        self.vhost.remove().await;
        Ok(())
    }
}

async fn start_api(
    folder: &str,
    variables: &[(&str, &str)],
) -> anyhow::Result<(Process, SocketAddr)> {
    let bound = [variables, &[("BIND", "127.0.0.1:0")]].concat();
    let mut api = Process::start(&format!("{folder}/api"), &[], &bound);
    let listening = api.logged("listening").await;
    let address = listening["http.address"].as_str().context("it says where")?.parse()?;
    Ok((api, address))
}

async fn start_projector(folder: &str, variables: &[(&str, &str)]) -> Process {
    let mut projector = Process::start(&format!("{folder}/projector"), &["run"], variables);
    projector.logged("subscribed").await;
    projector
}

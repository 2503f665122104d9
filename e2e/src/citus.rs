//! A Citus of a test's own: a coordinator and workers, set up as `docs/citus.md` says.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::cluster::Cluster;
use crate::gate::Gate;
use crate::pages;

/// What its servers need. The certificate that Citus makes for itself is signed by nobody, and nobody is told of this. Few shards, so
/// that tests are quick; what a worker has prepared is looked after each second, and not each minute.
const SETTINGS: [&str; 9] = [
    "shared_preload_libraries=citus",
    "wal_level=logical",
    "max_prepared_transactions=100",
    "max_connections=100",
    "ssl=off",
    "citus.node_conninfo=sslmode=disable",
    "citus.shard_count=6",
    "citus.recover_2pc_interval=1s",
    "citus.enable_statistics_collection=off",
];

/// See the module. Its servers end when this is dropped.
#[derive(Debug)]
pub struct Citus {
    pub coordinator: Cluster,
    pub workers: Vec<Cluster>,
}

impl Citus {
    /// A coordinator and two workers, or `None`, said in a line, where the extension is not installed.
    pub async fn start() -> Option<Self> {
        let Some(coordinator) = server().await else {
            println!("not run: the extension citus is not installed here (docs/citus.md)");
            return None;
        };
        let mut citus = Self { coordinator, workers: Vec::new() };
        let port = citus.coordinator.address.port().to_string();
        let variables = [
            ("FEED_DATABASE_URL", citus.url()),
            ("COORDINATOR_HOST", "127.0.0.1".to_owned()),
            ("COORDINATOR_PORT", port),
        ];
        as_the_page_says("citus_set_coordinator_host", &variables).await;
        for _ in 0..2 {
            citus.add_worker().await;
        }
        Some(citus)
    }

    /// One more worker.
    pub async fn add_worker(&mut self) {
        let worker = server().await.expect("the extension is installed");
        let variables = [
            ("FEED_DATABASE_URL", self.url()),
            ("WORKER_HOST", "127.0.0.1".to_owned()),
            ("WORKER_PORT", worker.address.port().to_string()),
        ];
        as_the_page_says("citus_add_node", &variables).await;
        self.workers.push(worker);
    }

    /// Moves readers until each worker has its share.
    pub async fn rebalance(&self) {
        as_the_page_says("citus_rebalance_start", &[("FEED_DATABASE_URL", self.url())]).await;
    }

    /// A gate between the coordinator and a worker, which it is reached through from now on.
    pub async fn gate_before(&self, worker: usize) -> Gate {
        let address = self.workers[worker].address;
        let gate = Gate::to(address).await;
        let (old, new) = (address.port(), gate.address.port());
        self.run(&format!(
            "select citus_update_node(nodeid, '127.0.0.1', {new}) from pg_dist_node where nodeport = {old}"
        ))
        .await;
        gate
    }

    /// The URL of its database.
    #[must_use]
    pub fn url(&self) -> String {
        self.coordinator.url_through(self.coordinator.address)
    }

    /// How many shards of `table` each worker has that has any.
    pub async fn shards_of(&self, table: &str) -> Vec<i64> {
        let count = sqlx::query_scalar(
            "select count(*) from citus_shards where table_name = $1::regclass group by nodeport order by nodeport",
        );
        let mut coordinator = connection(&self.coordinator).await;
        count.bind(table).fetch_all(&mut coordinator).await.expect("the coordinator answers")
    }

    /// Runs a statement on the coordinator.
    pub async fn run(&self, statement: &str) {
        let mut coordinator = connection(&self.coordinator).await;
        let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
        statement.execute(&mut coordinator).await.expect("the coordinator does it");
    }
}

async fn server() -> Option<Cluster> {
    let server = Cluster::primary_with("citus", &SETTINGS).await?;
    let url = server.url_through(server.address);
    as_the_page_says("create extension", &[("SERVER_URL", url)]).await;
    Some(server)
}

/// Runs the commands of `docs/citus.md` in which there is `what`.
async fn as_the_page_says(what: &str, variables: &[(&str, String)]) {
    let blocks = pages::commands("citus.md");
    let lines = blocks.iter().find(|block| block.contains(what)).expect("the page says how");
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    pages::succeed(lines, &variables).await;
}

async fn connection(server: &Cluster) -> PgConnection {
    PgConnection::connect(&server.url_through(server.address)).await.expect("the server answers")
}

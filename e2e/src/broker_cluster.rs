//! A cluster of three RabbitMQ nodes of a test's own, on this machine. Each may be killed, started again, and cut off from the others.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use uuid::Uuid;

use crate::process::Process;
use crate::prometheus::free_address;
use crate::until;

/// After so many seconds without a sign of life nodes believe each other to be gone.
const NET_TICK_S: u32 = 8;

const NODES: usize = 3;

/// See the module. Ended, with all that it has, when this is dropped.
#[derive(Debug)]
pub struct BrokerCluster {
    nodes: Vec<Node>,
    /// Tells the nodes where the others are; none of the machine's own Erlang is asked.
    _epmd: Process,
    epmd_port: String,
    root: PathBuf,
}

#[derive(Debug)]
struct Node {
    name: String,
    port: String,
    dist_port: String,
    process: Option<Process>,
}

impl BrokerCluster {
    /// Starts one, or `None` where RabbitMQ is not installed on this machine.
    pub async fn start() -> Option<Self> {
        let (_, epmd) = (programs()?, epmd()?);
        let root = std::env::temp_dir().join(format!("rookery-rabbit-{}", Uuid::now_v7()));
        std::fs::create_dir(&root).expect("a folder for temporary files");
        let epmd_port = free_port();
        let arguments = ["-port", &epmd_port, "-address", "127.0.0.1"];
        let running = Process::start(&epmd, &arguments, &[]);
        let tag = Uuid::now_v7().simple().to_string();
        let nodes = (1..=NODES).map(|number| Node {
            name: format!("rookery-test-{tag}-{number}@localhost"),
            port: free_port(),
            dist_port: free_port(),
            process: None,
        });
        let nodes = nodes.collect();
        let mut cluster = Self { nodes, _epmd: running, epmd_port, root };
        for node in 0..NODES {
            cluster.configure(node, &tag);
            cluster.begin(node).await;
        }
        cluster.all_run().await;
        Some(cluster)
    }

    /// The nodes, as `AMQP_URL` has them.
    #[must_use]
    pub fn url(&self) -> String {
        let urls: Vec<_> = (0..NODES).map(|node| self.url_of(node)).collect();
        urls.join(",")
    }

    /// One of them.
    #[must_use]
    pub fn url_of(&self, node: usize) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.nodes[node].port)
    }

    /// Kills it with -9.
    pub async fn kill(&mut self, node: usize) {
        let mut process = self.nodes[node].process.take().expect("it runs");
        process.kill().await;
    }

    /// Starts it again, and waits until it is one of the cluster.
    pub async fn start_again(&mut self, node: usize) {
        self.begin(node).await;
        self.all_run().await;
    }

    /// Cuts it off from the other nodes, and waits until those notice. It pauses then, because it is the minority.
    ///
    /// # Panics
    /// When the node does not do it.
    pub async fn cut_off(&self, node: usize) {
        // At once: a node that sees one of two others would have them part from each other.
        let cut = "Others = nodes(), [erlang:set_cookie(Other, nobody_has_this) || Other <- Others], \
             [erlang:disconnect_node(Other) || Other <- Others].";
        self.eval(node, cut);
        // One of the other side, which hears of it as of a lost connection.
        let seen = (node + 1) % NODES;
        until("the others notice", async || (self.running(seen) == Some(2)).then_some(())).await;
    }

    /// The opposite, and waits until it is one of the cluster.
    ///
    /// # Panics
    /// When the node does not do it.
    pub async fn heal(&self, node: usize) {
        for other in (0..NODES).filter(|other| *other != node) {
            let name = &self.nodes[other].name;
            self.eval(node, &format!("erlang:set_cookie('{name}', erlang:get_cookie())."));
        }
        self.all_run().await;
    }

    async fn all_run(&self) {
        until("all nodes run as one cluster", async || {
            (0..NODES).all(|node| self.running(node) == Some(NODES)).then_some(())
        })
        .await;
    }

    /// How many nodes a node sees, itself among them; `None` when it does not answer.
    fn running(&self, node: usize) -> Option<usize> {
        let status = self.ctl(node, &["cluster_status", "--formatter", "json"])?;
        let status: Value = serde_json::from_str(&status).ok()?;
        Some(status["running_nodes"].as_array()?.len())
    }

    fn eval(&self, node: usize, expression: &str) {
        let done = self.ctl(node, &["eval", expression]);
        assert!(done.is_some(), "{expression} on node {node}");
    }

    /// What a node says to a command; `None` when it does not answer.
    fn ctl(&self, node: usize, command: &[&str]) -> Option<String> {
        let ctl = programs()?.join("rabbitmqctl");
        let output = Command::new(ctl)
            .args(["-n", &self.nodes[node].name, "-q"])
            .args(command)
            .env_clear()
            .envs(self.environment(node))
            .stdin(Stdio::null())
            .output()
            .expect("rabbitmqctl starts");
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(said)
    }

    async fn begin(&mut self, node: usize) {
        let program = programs().expect("they were there").join("rabbitmq-server");
        let environment = self.environment(node);
        let variables: Vec<_> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let program = program.display().to_string();
        self.nodes[node].process = Some(Process::start(&program, &[], &variables));
        let address = format!("127.0.0.1:{}", self.nodes[node].port);
        until("the node listens", async || tokio::net::TcpStream::connect(&address).await.ok())
            .await;
    }

    fn configure(&self, node: usize, cookie: &str) {
        let folder = self.folder(node);
        std::fs::create_dir(&folder).expect("the folder is ours");
        let mut config = format!(
            "listeners.tcp.local = 127.0.0.1:{}\n\
             disk_free_limit.absolute = 64MB\n\
             vm_memory_high_watermark.absolute = 600MB\n\
             cluster_partition_handling = pause_minority\n\
             cluster_formation.peer_discovery_backend = classic_config\n",
            self.nodes[node].port
        );
        let peers = self.nodes.iter().enumerate().map(|(number, peer)| {
            format!("cluster_formation.classic_config.nodes.{} = {}\n", number + 1, peer.name)
        });
        config.extend(peers);
        write(&folder.join("rabbitmq.conf"), &config);
        write(&folder.join("enabled_plugins"), "[].\n");
        write(&folder.join("rabbitmq-env.conf"), "");
        let path = folder.join(".erlang.cookie");
        write(&path, cookie);
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        std::fs::set_permissions(&path, private).expect("the file is ours");
    }

    fn environment(&self, node: usize) -> Vec<(&'static str, String)> {
        let folder = self.folder(node);
        let within = |name: &str| folder.join(name).display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let erlang = format!(
            "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {{127,0,0,1}} -kernel net_ticktime {NET_TICK_S}"
        );
        vec![
            ("PATH", path),
            ("LANG", "C.UTF-8".to_owned()),
            // So that the process that is started is Erlang itself, and not a shell beside it.
            ("RUNNING_UNDER_SYSTEMD", "1".to_owned()),
            ("HOME", folder.display().to_string()),
            ("RABBITMQ_NODENAME", self.nodes[node].name.clone()),
            ("RABBITMQ_MNESIA_BASE", within("mnesia")),
            ("RABBITMQ_LOG_BASE", within("log")),
            ("RABBITMQ_CONFIG_FILE", within("rabbitmq.conf")),
            ("RABBITMQ_CONFIG_FILES", within("conf.d")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", within("advanced.config")),
            ("RABBITMQ_CONF_ENV_FILE", within("rabbitmq-env.conf")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", within("enabled_plugins")),
            ("RABBITMQ_DIST_PORT", self.nodes[node].dist_port.clone()),
            ("RABBITMQ_SCHEDULER_BIND_TYPE", "u".to_owned()),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", erlang),
            ("ERL_EPMD_PORT", self.epmd_port.clone()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("ERL_CRASH_DUMP", within("erl_crash.dump")),
        ]
    }

    fn folder(&self, node: usize) -> PathBuf {
        self.root.join((node + 1).to_string())
    }
}

impl Drop for BrokerCluster {
    fn drop(&mut self) {
        self.nodes.clear();
        if let Err(error) = std::fs::remove_dir_all(&self.root) {
            eprintln!("{} was left behind: {error}", self.root.display());
        }
    }
}

/// Where RabbitMQ's own programs are, not those of Debian, which run as a user of the system.
fn programs() -> Option<PathBuf> {
    let folder = Path::new("/usr/lib/rabbitmq/bin");
    folder.join("rabbitmq-server").exists().then(|| folder.to_owned())
}

fn epmd() -> Option<String> {
    let found = std::fs::read_dir("/usr/lib/erlang").ok()?;
    let programs = found.filter_map(|entry| Some(entry.ok()?.path().join("bin/epmd")));
    let mut programs = programs.chain([PathBuf::from("/usr/bin/epmd")]);
    programs.find(|program| program.exists()).map(|program| program.display().to_string())
}

fn free_port() -> String {
    let address = free_address();
    address.rsplit_once(':').expect("it has a port").1.to_owned()
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the folder is ours");
}

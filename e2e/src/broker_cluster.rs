//! A cluster of three RabbitMQ nodes of a test's own, on this machine. Each may be killed, started again, and cut off from the others.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::process::Process;
use crate::prometheus::free_address;
use crate::{in_time, until};

const NODES: usize = 3;

/// See the module. Ended, with all that it has, when this is dropped.
#[derive(Debug)]
pub struct BrokerCluster {
    nodes: Vec<Node>,
    /// Tells the nodes where the others are; none of the machine's own Erlang is asked.
    _epmd: Process,
    epmd_port: String,
    erl_call: PathBuf,
    cookie: String,
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
        programs()?;
        let erlang = erlang()?;
        let root = std::env::temp_dir().join(format!("rookery-rabbit-{}", Uuid::now_v7()));
        std::fs::create_dir(&root).expect("a folder for temporary files");
        let epmd_port = free_port();
        let arguments = ["-port", &epmd_port, "-address", "127.0.0.1"];
        let epmd = erlang.join("epmd").display().to_string();
        let running = Process::start(&epmd, &arguments, &[]);
        let cookie = Uuid::now_v7().simple().to_string();
        let nodes = (1..=NODES).map(|number| Node {
            name: format!("rookery-test-{cookie}-{number}@localhost"),
            port: free_port(),
            dist_port: free_port(),
            process: None,
        });
        let nodes = nodes.collect();
        let erl_call = erlang.join("erl_call");
        let mut cluster = Self { nodes, _epmd: running, epmd_port, erl_call, cookie, root };
        for node in 0..NODES {
            cluster.configure(node);
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

    /// Cuts it off from the other nodes, and waits until those go on without it and it has paused, because it is the minority.
    ///
    /// # Panics
    /// When the nodes do not do it.
    pub async fn cut_off(&self, node: usize) {
        // Nobody gets a new connection with it from now on; those that there are stay.
        self.order(node, "[erlang:set_cookie(Other, nobody_has_this) || Other <- nodes()]").await;
        // They end while it stands still. Who loses it asks the other one, who would ask it by the connection that is left,
        // and if it answered, these two would part as well.
        let process = self.nodes[node].process.as_ref().expect("it runs");
        process.signal("-STOP").await;
        let name = &self.nodes[node].name;
        for other in others(node) {
            self.order(other, &format!("erlang:disconnect_node('{name}')")).await;
        }
        process.signal("-CONT").await;
        until("the others go on without it", async || self.run_as(others(node), NODES - 1).await)
            .await;
        // One that is healed before it has noticed never becomes one of them again.
        until("it pauses", async || {
            (self.eval(node, "rabbit:is_running()").await? == "false").then_some(())
        })
        .await;
    }

    /// The opposite, and waits until it is one of the cluster.
    ///
    /// # Panics
    /// When the node does not do it.
    pub async fn heal(&self, node: usize) {
        // All with one command: with one of two it would be no minority any more, and cut off from the third.
        let others: Vec<_> =
            others(node).map(|other| format!("'{}'", self.nodes[other].name)).collect();
        let others = others.join(", ");
        let heal =
            format!("[erlang:set_cookie(Other, erlang:get_cookie()) || Other <- [{others}]]");
        self.order(node, &heal).await;
        self.all_run().await;
    }

    async fn all_run(&self) {
        until("all nodes run as one cluster", async || self.run_as(0..NODES, NODES).await).await;
    }

    /// Whether each of `nodes` runs and sees so many, itself among them.
    async fn run_as(&self, nodes: impl Iterator<Item = usize>, seen: usize) -> Option<()> {
        for node in nodes {
            let status = "{rabbit:is_running(), length(rabbit_mnesia:cluster_nodes(running))}";
            if self.eval(node, status).await? != format!("{{true, {seen}}}") {
                return None;
            }
        }
        Some(())
    }

    /// What an expression is on a node; `None` where the node does not answer, or it cannot be evaluated.
    ///
    /// Asked as one Erlang node asks another, by a program that takes milliseconds. `rabbitmqctl` takes a second of the processor.
    async fn eval(&self, node: usize, expression: &str) -> Option<String> {
        let address = format!("127.0.0.1:{}", self.nodes[node].dist_port);
        let mut asked = tokio::process::Command::new(&self.erl_call)
            .args(["-c", &self.cookie, "-address", &address, "-e"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("erl_call starts");
        let mut stdin = asked.stdin.take().expect("it is piped");
        // Where the node does not answer, it ends without having read it.
        let _ = stdin.write_all(format!("{expression}.\n").as_bytes()).await;
        drop(stdin);
        let answer = in_time("erl_call ends", asked.wait_with_output()).await.expect("it runs");
        let answer = String::from_utf8_lossy(&answer.stdout);
        Some(answer.trim().strip_prefix("{ok, ")?.strip_suffix('}')?.to_owned())
    }

    async fn order(&self, node: usize, expression: &str) {
        let done = self.eval(node, expression).await;
        assert!(done.is_some(), "{expression} on node {node}");
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

    fn configure(&self, node: usize) {
        let folder = self.folder(node);
        std::fs::create_dir(&folder).expect("the folder is ours");
        let mut config = format!(
            "listeners.tcp.local = 127.0.0.1:{}\n\
             disk_free_limit.absolute = 64MB\n\
             vm_memory_high_watermark.absolute = 600MB\n\
             cluster_partition_handling = pause_minority\n\
             cluster_formation.peer_discovery_backend = classic_config\n\
             cluster_formation.discovery_retry_limit = 1\n",
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
        write(&path, &self.cookie);
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        std::fs::set_permissions(&path, private).expect("the file is ours");
    }

    fn environment(&self, node: usize) -> Vec<(&'static str, String)> {
        let folder = self.folder(node);
        let within = |name: &str| folder.join(name).display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let erlang = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none \
             -kernel inet_dist_use_interface {127,0,0,1}";
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
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", erlang.to_owned()),
            ("ERL_EPMD_PORT", self.epmd_port.clone()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("ERL_CRASH_DUMP", within("erl_crash.dump")),
        ]
    }

    /// What the nodes thought worth a warning, for whoever looks into a test that failed.
    fn print_logs(&self) {
        for node in 0..NODES {
            let path = self.folder(node).join("log").join(format!("{}.log", self.nodes[node].name));
            let log = std::fs::read_to_string(&path).unwrap_or_else(|error| error.to_string());
            println!("node {node}:");
            let lines =
                log.lines().filter(|line| line.contains("[error]") || line.contains("[warning]"));
            lines.for_each(|line| println!("{line}"));
        }
    }

    fn folder(&self, node: usize) -> PathBuf {
        self.root.join((node + 1).to_string())
    }
}

impl Drop for BrokerCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
        self.nodes.clear();
        if let Err(error) = std::fs::remove_dir_all(&self.root) {
            eprintln!("{} was left behind: {error}", self.root.display());
        }
    }
}

fn others(node: usize) -> impl Iterator<Item = usize> {
    (0..NODES).filter(move |other| *other != node)
}

/// Where RabbitMQ's own programs are, not those of Debian, which run as a user of the system.
fn programs() -> Option<PathBuf> {
    let folder = Path::new("/usr/lib/rabbitmq/bin");
    folder.join("rabbitmq-server").exists().then(|| folder.to_owned())
}

/// Where Erlang's are, `epmd` and `erl_call`.
fn erlang() -> Option<PathBuf> {
    let found = std::fs::read_dir("/usr/lib/erlang").ok()?;
    let mut folders = found.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    folders.find(|folder| ["epmd", "erl_call"].iter().all(|name| folder.join(name).exists()))
}

fn free_port() -> String {
    let address = free_address();
    address.rsplit_once(':').expect("it has a port").1.to_owned()
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the folder is ours");
}

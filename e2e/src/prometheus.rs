//! A real Prometheus with the configuration, the rules and the dashboard of `monitoring/`, and a node exporter.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::Value;
use uuid::Uuid;

use crate::process::Process;
use crate::{unpacked, until};

/// How often the tests' Prometheus scrapes: they have no time for the interval of `monitoring/prometheus.yml`.
const SCRAPE_INTERVAL: &str = "scrape_interval: 1s";

/// What Grafana puts in the place of its variable, for a dashboard of some minutes.
const RATE_INTERVAL: &str = "5m";

/// See the module. Killed, with all that it stored, when this is dropped.
#[derive(Debug)]
pub struct Prometheus {
    _processes: [Process; 2],
    dir: PathBuf,
    base: String,
}

/// A rule of `monitoring/alerts.yml`.
#[derive(Debug, Clone)]
pub struct Alert {
    pub name: String,
    pub expression: String,
}

impl Prometheus {
    /// Starts one that scrapes the metrics of an api and a projector at these addresses.
    pub async fn watching(api: &str, projector: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("rookery-prometheus-{}", Uuid::now_v7()));
        std::fs::create_dir_all(&dir).expect("a folder for temporary files");
        let (node, address) = (free_address(), free_address());
        let config = std::fs::read_to_string(monitoring("prometheus.yml")).expect("it is there");
        let config = config
            .replace("scrape_interval: 15s", SCRAPE_INTERVAL)
            .replace("alerts.yml", &monitoring("alerts.yml").display().to_string())
            .replace("api:8005", api)
            .replace("projector:8004", projector)
            .replace("node-exporter:9100", &node);
        assert!(config.contains(SCRAPE_INTERVAL) && config.contains(api), "{config}");
        let file = dir.join("prometheus.yml");
        std::fs::write(&file, config).expect("the folder is ours");

        let exporter = Process::start(
            &program("prometheus-node-exporter"),
            &[
                &format!("--web.listen-address={node}"),
                "--collector.disable-defaults",
                "--collector.filesystem",
            ],
            &[],
        );
        let server = Process::start(
            &program("prometheus"),
            &[
                &format!("--config.file={}", file.display()),
                &format!("--storage.tsdb.path={}", dir.join("data").display()),
                &format!("--web.listen-address={address}"),
            ],
            &[],
        );
        let prometheus =
            Self { _processes: [exporter, server], dir, base: format!("http://{address}") };
        until("Prometheus scrapes all three", async || {
            let up = prometheus.try_query("sum(up) == 3").await?;
            (!up.is_empty()).then_some(())
        })
        .await;
        prometheus
    }

    /// What `expression` is now: a series each.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        self.try_query(expression).await.unwrap_or_else(|| panic!("not evaluated: {expression}"))
    }

    async fn try_query(&self, expression: &str) -> Option<Vec<Value>> {
        let url = format!("{}/api/v1/query", self.base);
        let request = reqwest::Client::new().get(url).query(&[("query", expression)]);
        let answer: Value = request.send().await.ok()?.json().await.ok()?;
        assert_ne!(answer["status"], "error", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned()
    }

    /// The rules, as Prometheus has read them.
    pub async fn alerts(&self) -> Vec<Alert> {
        let answer = reqwest::get(format!("{}/api/v1/rules", self.base)).await.expect("it answers");
        let answer: Value = answer.json().await.expect("in JSON");
        let rules = answer["data"]["groups"][0]["rules"].as_array().expect("a group of rules");
        let text = |rule: &Value, field: &str| rule[field].as_str().expect("it has one").to_owned();
        rules
            .iter()
            .map(|rule| Alert { name: text(rule, "name"), expression: text(rule, "query") })
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // The servers may still write to it for a moment; what is left is in the system's folder for such files.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// The queries of the dashboard: the title of the panel, the expression.
///
/// # Panics
/// When the dashboard is not what Grafana reads.
#[must_use]
pub fn dashboard_queries() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(monitoring("grafana/dashboards/rookery.json"));
    let dashboard: Value = serde_json::from_str(&text.expect("it is there")).expect("JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            let expression = expression.replace("$__rate_interval", RATE_INTERVAL);
            queries.push((panel["title"].as_str().expect("a title").to_owned(), expression));
        }
    }
    queries
}

/// An address of this machine that nobody listens on now.
///
/// # Panics
/// When no port is free.
#[must_use]
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").to_string()
}

fn monitoring(file: &str) -> PathBuf {
    root().join("monitoring").join(file)
}

fn program(name: &str) -> String {
    unpacked::program("usr/bin", name)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in the workspace")
}

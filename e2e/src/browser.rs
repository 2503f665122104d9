//! A real browser, driven as a person would: a headless Chromium and its driver.

use std::path::{Path, PathBuf};
use std::process::{Command as Now, Stdio};
use std::time::Duration;

use events::UserId;
use serde_json::{Value, json};
use thirtyfour::prelude::*;
use thirtyfour::{LoggingPrefsLogLevel, TypingData};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::until;

/// How large a window is, as most people have it, and as the smallest telephones have it.
pub const WIDE: (u32, u32) = (1_280, 900);
pub const NARROW: (u32, u32) = (360, 740);

/// How often, and how many times, it is tried to remove what a browser leaves.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOKS_MAX: usize = 500;

/// Chromium asks the driver for a log level above this.
const COMPLAINT: &str = "SEVERE";

/// It looks for a port that is free for IPv4, and ends when the same is taken for IPv6: then another is tried.
const STARTS: usize = 5;

/// See the module. Its processes end when this is dropped.
pub struct Browser {
    pub driver: WebDriver,
    server: Child,
    /// What both write, which a killed Chromium would leave behind.
    folder: PathBuf,
}

impl Browser {
    /// Starts a browser with an empty window.
    pub async fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("rookery-browser-{}", Uuid::now_v7()));
        std::fs::create_dir_all(&folder).expect("there is room for a folder");
        let (server, port) = driver(&folder).await;
        let mut wanted = DesiredCapabilities::chrome();
        for argument in [
            "--headless=new",
            // The pages are our own, and root has no sandbox.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--hide-scrollbars",
            "--lang=en",
        ] {
            wanted.add_arg(argument).expect("it is an argument");
        }
        wanted.set_browser_log_level(LoggingPrefsLogLevel::All).expect("it is a level");
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), wanted)
            .await
            .expect("Chromium starts");
        let browser = Self { driver, server, folder };
        browser.look_like(WIDE, &[]).await;
        browser
    }

    /// Makes the window so large, with these media features.
    pub async fn look_like(&self, (width, height): (u32, u32), features: &[(&str, &str)]) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", size).await;
        let features: Vec<Value> =
            features.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        self.tell("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Tells Chromium something that its driver has no word for.
    pub async fn tell(&self, method: &str, parameters: Value) -> Value {
        self.driver.cdp().send_raw(method, parameters).await.expect("Chromium understands")
    }

    /// Opens the page of the service at `base` as `user`, with the view behind `hash`.
    pub async fn open(&self, base: &str, user: Option<UserId>, hash: &str) {
        self.driver.goto(format!("{base}/")).await.expect("the page loads");
        if let Some(user) = user {
            let id = user.0.to_string();
            let set = "localStorage.setItem('rookery.user', arguments[0])";
            self.driver.execute(set, vec![json!(id)]).await.expect("it runs");
        }
        self.driver.goto(format!("{base}/#/{hash}")).await.expect("the page loads");
        self.driver.refresh().await.expect("the page loads");
    }

    /// Runs `script` in the page, and returns what that returns.
    pub async fn run(&self, script: &str) -> Value {
        let ran = self.driver.execute(script, vec![]).await.expect("the script runs");
        ran.json().clone()
    }

    /// The same for a script that calls its last argument with what it found.
    pub async fn run_async(&self, script: &str, arguments: Vec<Value>) -> Value {
        let ran = self.driver.execute_async(script, arguments).await.expect("the script runs");
        ran.json().clone()
    }

    /// Waits until something shown that `css` selects has `text` in it.
    pub async fn sees(&self, css: &str, text: &str) -> WebElement {
        until(&format!("{css} shows {text:?}"), async || {
            for element in self.driver.find_all(By::Css(css)).await.ok()? {
                // What was replaced meanwhile is looked for again.
                let shown = element.text().await.ok()?;
                let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
                if shown.contains(text) && element.is_displayed().await.ok()? {
                    return Some(element);
                }
            }
            None
        })
        .await
    }

    /// Waits until nothing that `css` selects is shown with `text` in it.
    pub async fn sees_no_more(&self, css: &str, text: &str) {
        until(&format!("{css} shows no {text:?}"), async || {
            for element in self.driver.find_all(By::Css(css)).await.ok()? {
                if element.text().await.ok()?.contains(text) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// How many elements `css` selects.
    pub async fn count(&self, css: &str) -> usize {
        self.driver.find_all(By::Css(css)).await.map_or(0, |found| found.len())
    }

    /// Presses the button that says `text`, once it is there.
    pub async fn press(&self, text: &str) {
        // What is behind a dialog cannot be pressed.
        let css = if self.count("dialog").await == 0 { "button" } else { "dialog button" };
        self.sees(css, text).await.click().await.expect("it can be clicked");
    }

    /// Types `keys` to whatever has the focus.
    pub async fn types(&self, keys: impl Into<TypingData>) {
        let typing = self.driver.action_chain().send_keys(keys);
        typing.perform().await.expect("it can be typed");
    }

    /// Writes `text` into the field `id`.
    pub async fn writes(&self, id: &str, text: &str) {
        let field = self.driver.find(By::Id(id)).await.expect("there is the field");
        field.send_keys(text).await.expect("it takes text");
    }

    /// The role and the name of what has the focus, as a screen reader would say them.
    pub async fn focused(&self) -> (String, String) {
        let nodes = self.accessible().await;
        let focused =
            nodes.into_iter().find(|node| {
                let properties = node["properties"].as_array();
                properties.into_iter().flatten().any(|property| {
                    property["name"] == "focused" && property["value"]["value"] == true
                }) && node["role"]["value"] != "RootWebArea"
            });
        focused.map_or_else(Default::default, |node| (said(&node, "role"), said(&node, "name")))
    }

    /// The page as a screen reader has it.
    pub async fn accessible(&self) -> Vec<Value> {
        self.tell("Accessibility.enable", json!({})).await;
        let tree = self.tell("Accessibility.getFullAXTree", json!({})).await;
        let nodes = tree["nodes"].as_array().expect("there is a tree").clone();
        nodes.into_iter().filter(|node| node["ignored"] != true).collect()
    }

    /// What Chromium has complained of since the last time: errors of scripts, of the content security policy, and
    /// answers that it took for failures.
    pub async fn complaints(&self) -> Vec<String> {
        let entries = self.driver.browser_log().await.expect("there is a log");
        let complaints = entries.into_iter().filter(|entry| entry.level == COMPLAINT);
        complaints.map(|entry| entry.message).collect()
    }

    /// Keeps pictures of the page as it is, wide and narrow, light and dark, beside the build: for people to look at.
    pub async fn picture(&self, name: &str) {
        for (size, at) in [("wide", WIDE), ("narrow", NARROW)] {
            for scheme in ["light", "dark"] {
                self.look_like(at, &[("prefers-color-scheme", scheme)]).await;
                self.keep(&format!("{name}-{size}-{scheme}")).await;
            }
        }
        self.look_like(WIDE, &[]).await;
    }

    /// Keeps one picture.
    pub async fn keep(&self, name: &str) {
        // target/debug/deps/e2e-…
        let program = std::env::current_exe().expect("a test has a path");
        let target = program.ancestors().nth(3).expect("it is built in a folder of its own");
        let folder = target.join("page");
        std::fs::create_dir_all(&folder).expect("there is room for a folder");
        let path = folder.join(format!("{name}.png"));
        self.driver.screenshot(&path).await.expect("it can be drawn");
    }
}

/// The pause between two looks at whether the folder can be removed.
fn pause() -> bool {
    std::thread::sleep(LOOK_EVERY);
    false
}

/// What a node of the accessibility tree has as `property`.
#[must_use]
pub fn said(node: &Value, property: &str) -> String {
    node[property]["value"].as_str().unwrap_or_default().to_owned()
}

impl Drop for Browser {
    /// The driver and every process of Chromium: they are of one group.
    fn drop(&mut self) {
        if let Some(id) = self.server.id() {
            let group = format!("-{id}");
            let kill = Now::new("kill").args(["-KILL", "--", &group]).status();
            if let Err(error) = kill {
                eprintln!("the browser was not ended: {error}");
            }
        }
        // They write on until they are gone.
        let is_removed = || std::fs::remove_dir_all(&self.folder).is_ok();
        let looks = (0..LOOKS_MAX).any(|_| is_removed() || pause());
        if !looks {
            eprintln!("{} is left", self.folder.display());
        }
    }
}

/// Starts Chromium's driver, and the port that it says it listens on.
async fn driver(folder: &Path) -> (Child, u16) {
    let mut said = Vec::new();
    for _ in 0..STARTS {
        let mut server = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver is there: scripts/browser.sh installs it");
        let mut lines = BufReader::new(server.stdout.take().expect("it is piped")).lines();
        while let Some(line) = lines.next_line().await.expect("it can be read") {
            let port = line.split("successfully on port ").nth(1);
            if let Some(Ok(port)) = port.map(|rest| rest.trim_end_matches('.').parse()) {
                return (server, port);
            }
            said.push(line);
        }
    }
    panic!("chromedriver ended {STARTS} times: {said:?}");
}

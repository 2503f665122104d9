//! The beginning and the end of a demo: a database, a virtual host, api and projector on them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::program::Program;
use super::say;
use super::state::{Management, Servers, State};
use crate::services::checkout;

/// 8003 is where everyone looks for it.
const PORTS: std::ops::Range<u16> = 8003..8023;

/// From its start until the api is ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two looks at whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Makes everything. What may be there is noted before it is made, so that [`down`] finds it whenever
/// this is cut off.
pub async fn up(mut stop_servers: bool) -> anyhow::Result<()> {
    if let Some(other) = State::find()? {
        if other.kept && other.programs.iter().any(Program::runs) {
            bail!("a demo was kept and runs; to end it: ./run_demo.sh --stop");
        }
        ensure!(!other.script.runs(), "another run_demo.sh is at work here");
        say("a demo was cut off before this one:");
        end(&other).await?;
        // They were started for that one, and nobody has stopped them since.
        stop_servers |= other.stop_servers;
    }
    let script = std::os::unix::process::parent_id();
    let mut state = State {
        name: format!("rookery_demo_{}", &Uuid::new_v4().simple().to_string()[..8]),
        script: Program::find("run_demo.sh", script).context("the script runs")?,
        kept: false,
        stop_servers,
        servers: Servers::from_environment()?,
        programs: vec![],
        address: None,
    };
    state.save()?;
    execute(&state.servers, &format!("create database {}", state.name))
        .await
        .context("a database cannot be made")?;
    if let Some(management) = &state.servers.management {
        make_vhost(management, &state).await.context("a virtual host cannot be made")?;
        say(&format!("a database and a virtual host, both called {}", state.name));
    } else {
        say(&format!("a database, {}", state.name));
        say(
            "RABBITMQ_UI, RABBITMQ_UI_USER and RABBITMQ_UI_PASSWORD do not name RabbitMQ's management",
        );
        say(
            "API: no virtual host is made, and the demo uses that of AMQP_URL. The exchanges and queues",
        );
        say(
            "rookery.* stay there afterwards. If another Rookery uses it too, they share one queue.",
        );
    }
    start_programs(&mut state).await
}

async fn start_programs(state: &mut State) -> anyhow::Result<()> {
    let folder = std::env::current_exe()?.with_file_name("");
    let (database_url, amqp_url) = state.urls()?;
    let variables = [("DATABASE_URL", database_url.as_str()), ("AMQP_URL", amqp_url.as_str())];
    let address = free_address()?;
    let bind = address.to_string();
    // The projector first: the api is ready only when it has made the read model.
    for (name, arguments) in [("projector", &["run"][..]), ("api", &["--bind", &bind])] {
        let log = State::log(name);
        let program = Program::start(&folder.join(name), arguments, &variables, &log)?;
        say(&format!("{name} runs, log {}", log.display()));
        state.programs.push(program);
        state.save()?;
    }
    ready(state, address).await?;
    say(&format!("the api is ready at http://{address}"));
    state.address = Some(address);
    state.save()
}

/// The first on this machine that nobody listens at.
fn free_address() -> anyhow::Result<SocketAddr> {
    for port in PORTS {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
        say(&format!("port {port} is taken by another program"));
    }
    bail!("no port from {} to {} is free", PORTS.start, PORTS.end - 1)
}

/// Waits until the api is ready.
async fn ready(state: &State, address: SocketAddr) -> anyhow::Result<()> {
    let url = format!("http://{address}/health/ready");
    let client = Client::builder().no_proxy().timeout(READY_PATIENCE).build()?;
    let deadline = Instant::now() + READY_PATIENCE;
    loop {
        for program in &state.programs {
            ensure!(
                program.runs(),
                "{} ended; its log is {}",
                program.name,
                State::log(&program.name).display()
            );
        }
        let answer = client.get(&url).send().await;
        if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let answer = answer.map(|answer| answer.status());
            bail!("the api was not ready within {READY_PATIENCE:?}: {answer:?}");
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Ends the demo that there is. With `own` only if it is that of the script that runs this, and was
/// not kept.
pub async fn down(own: bool) -> anyhow::Result<()> {
    let Some(state) = State::find()? else {
        say("there is nothing to clean up");
        return Ok(());
    };
    let script = Program::find("run_demo.sh", std::os::unix::process::parent_id());
    if own && (state.kept || script.is_none_or(|script| script != state.script)) {
        return Ok(());
    }
    if !own && !state.kept && state.script.runs() {
        bail!("its run_demo.sh is at work; end that with Ctrl-C");
    }
    end(&state).await?;
    if !state.stop_servers {
        return Ok(());
    }
    if others(&state.servers).await? > 0 {
        say("PostgreSQL and RabbitMQ stay up, because another program uses them;");
        say("to stop them: scripts/services.sh down");
        return Ok(());
    }
    services("down")?;
    say("PostgreSQL and RabbitMQ stopped");
    Ok(())
}

/// Ends `state`, and forgets it if nothing is left.
async fn end(state: &State) -> anyhow::Result<()> {
    let mut left = Vec::new();
    for program in state.programs.iter().rev().filter(|program| program.runs()) {
        match program.stop().await {
            Ok(()) => say(&format!("{} stopped", program.name)),
            Err(error) => left.push(format!("{error:#}")),
        }
    }
    if !state.servers.given {
        // They may have been stopped since, with the data still in them.
        services("up").context("the servers that have its data do not start")?;
    }
    match execute(&state.servers, &format!("drop database if exists {} with (force)", state.name))
        .await
    {
        Ok(()) => say(&format!("deleted the database {}", state.name)),
        Err(error) => left.push(format!("the database {} is not deleted: {error:#}", state.name)),
    }
    if let Some(management) = &state.servers.management {
        match management.call(Method::DELETE, &format!("vhosts/{}", state.name), Value::Null).await
        {
            Ok(()) => say(&format!("deleted the virtual host {}", state.name)),
            Err(error) => left.push(format!("the virtual host is not deleted: {error:#}")),
        }
    }
    if !left.is_empty() {
        bail!(
            "{}\nto try again: ./run_demo.sh --stop; to forget it: rm -r '{}'",
            left.join("\n"),
            State::folder().display()
        );
    }
    State::remove()
}

/// `scripts/services.sh` with one argument, which speaks only if it fails.
fn services(command: &str) -> anyhow::Result<()> {
    let ended = Command::new(checkout().join("scripts/services.sh"))
        .arg(command)
        // With these it would take its own servers for those that a user chose.
        .env_remove("DATABASE_URL")
        .env_remove("AMQP_URL")
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "scripts/services.sh {command}: {said}");
    Ok(())
}

impl Servers {
    fn from_environment() -> anyhow::Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let needed = |name: &str| {
            variable(name).with_context(|| {
                format!("{name} is not set; it comes from: eval \"$(scripts/services.sh env)\"")
            })
        };
        let management = match variable("RABBITMQ_UI") {
            Some(url) => Some(Management {
                url,
                user: needed("RABBITMQ_UI_USER")?,
                password: needed("RABBITMQ_UI_PASSWORD")?,
            }),
            None => None,
        };
        Ok(Self {
            database_url: needed("DATABASE_URL")?,
            amqp_url: needed("AMQP_URL")?,
            management,
            // services.sh marks what is its own.
            given: variable("ROOKERY_SERVICES_MARK").is_none(),
        })
    }
}

/// Those who are connected to PostgreSQL beside this.
async fn others(servers: &Servers) -> anyhow::Result<i64> {
    let clients = "select count(*) from pg_stat_activity
        where backend_type = 'client backend' and pid <> pg_backend_pid()";
    let mut connection = PgConnection::connect(&servers.database_url).await?;
    Ok(sqlx::query_scalar(clients).fetch_one(&mut connection).await?)
}

/// One statement on the server, in the database that its URL names.
async fn execute(servers: &Servers, statement: &str) -> anyhow::Result<()> {
    let options: PgConnectOptions = servers.database_url.parse()?;
    let mut connection = PgConnection::connect_with(&options).await?;
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// For whom the programs connect as, and for whom the user looks at the UI as.
async fn make_vhost(management: &Management, state: &State) -> anyhow::Result<()> {
    let name = &state.name;
    management.call(Method::PUT, &format!("vhosts/{name}"), json!({})).await?;
    let amqp = reqwest::Url::parse(&state.servers.amqp_url)?;
    let connects_as = if amqp.username().is_empty() { "guest" } else { amqp.username() };
    for user in [connects_as, &management.user] {
        let everything = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        management.call(Method::PUT, &format!("permissions/{name}/{user}"), everything).await?;
    }
    Ok(())
}

impl Management {
    /// One request. That what should be deleted is not there is as good.
    async fn call(&self, method: Method, path: &str, body: Value) -> anyhow::Result<()> {
        let url = format!("{}/api/{path}", self.url);
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let request =
            client.request(method.clone(), &url).basic_auth(&self.user, Some(&self.password));
        let status = request.json(&body).send().await?.status();
        let gone = method == Method::DELETE && status == StatusCode::NOT_FOUND;
        ensure!(status.is_success() || gone, "{url}: {status}");
        Ok(())
    }
}

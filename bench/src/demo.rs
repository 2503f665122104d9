//! What `run_demo.sh` cannot say in a line: the programs and data of one demo, and load by the clock.

mod crowd;
mod program;
mod stage;
mod state;

use clap::Subcommand;

use self::crowd::Crowd;
use self::state::State;

/// A part of `run_demo.sh`.
#[derive(Debug, Subcommand)]
pub enum Demo {
    /// Makes a database and a virtual host, and starts api and projector on them.
    Up {
        /// Stop PostgreSQL and RabbitMQ too when the demo ends, if nobody else uses them.
        #[arg(long)]
        stop_servers: bool,
    },
    /// Says where the demo is, for a shell to evaluate.
    Env,
    /// Makes the users, who follows whom, and some tweets.
    Populate,
    /// Times POSTs of an ordinary user and of the celebrity.
    Posts,
    /// Times from the celebrity's POST until her last follower can read it.
    Deliveries {
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000))]
        tweets: u64,
    },
    /// Leaves the demo running when its script ends.
    Keep,
    /// Stops the programs and deletes the data.
    Down {
        /// Only what the script that runs this has made, and has not kept.
        #[arg(long)]
        own: bool,
    },
}

/// Does one part.
pub async fn run(part: &Demo) -> anyhow::Result<()> {
    match part {
        Demo::Up { stop_servers } => stage::up(*stop_servers).await,
        Demo::Env => {
            print!("{}", State::load()?.variables()?);
            Ok(())
        }
        Demo::Populate => Crowd::of(&State::load()?)?.populate().await,
        Demo::Posts => Crowd::of(&State::load()?)?.posts().await,
        Demo::Deliveries { tweets } => Crowd::of(&State::load()?)?.deliveries(*tweets).await,
        Demo::Keep => State { kept: true, ..State::load()? }.save(),
        Demo::Down { own } => stage::down(*own).await,
    }
}

/// One line of what a demo says.
fn say(line: &str) {
    println!("   {line}");
}

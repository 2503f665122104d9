//! `api`: the HTTP service and the outbox relay.

use std::process::ExitCode;

use api::config::Config;
use api::service;
use clap::Parser;
use events::runtime::{Logging, usage_error};

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    let logging = match Logging::start() {
        Ok(logging) => logging,
        Err(error) => return usage_error(&format!("api: {error}")),
    };
    match service::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging.say(&format!("api: {error}"));
            error.exit_code()
        }
    }
}

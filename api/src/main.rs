//! `api`: the HTTP service and the outbox relay.

use std::process::ExitCode;

use api::config::Config;
use api::service;
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(error) = events::runtime::init_logging() {
        eprintln!("api: {error}");
        return ExitCode::from(2);
    }
    match service::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("api: {error}");
            error.exit_code()
        }
    }
}

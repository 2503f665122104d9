//! `api`: the HTTP service and the outbox relay.

use std::process::ExitCode;

use api::config::Config;
use api::service;
use events::runtime::{Logging, usage_error};
use events::settings;

/// Gives memory back when a rush is over, and takes less of it from the rush: see ADR 0021.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let config: Config = settings::parse(&["jwt_secret", "jwt_public_key"]);
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

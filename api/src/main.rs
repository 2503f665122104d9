//! `api`: the HTTP service and the outbox relay.

use std::process::ExitCode;

use api::command_line::CommandLine;
use api::{archiving, service};
use events::runtime::{Logging, usage_error};
use events::settings;

/// Gives memory back when a rush is over, and takes less of it from the rush: see ADR 0021.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let asked: CommandLine = settings::parse(&["jwt_secret", "jwt_public_key"]);
    let logging = match Logging::start() {
        Ok(logging) => logging,
        Err(error) => return usage_error(&format!("api: {error}")),
    };
    let ended = match asked {
        CommandLine::Serve(config) => {
            service::run(*config).await.map_err(|error| (error.to_string(), error.exit_code()))
        }
        CommandLine::Archive(arguments) => archiving::archive(arguments)
            .await
            .map_err(|error| (error.to_string(), error.exit_code())),
        CommandLine::Restore(arguments) => archiving::restore(arguments)
            .await
            .map_err(|error| (error.to_string(), error.exit_code())),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, exit_code)) => {
            logging.say(&format!("api: {error}"));
            exit_code
        }
    }
}

//! `projector`: builds the read model and looks after it.

use std::process::ExitCode;

use events::runtime::{Logging, usage_error};
use events::settings;
use projector::commands;
use projector::config::{Command, Config};

#[tokio::main]
async fn main() -> ExitCode {
    let config: Config = settings::parse(&[]);
    let logging = match Logging::start() {
        Ok(logging) => logging,
        Err(error) => return usage_error(&format!("projector: {error}")),
    };
    let only_looks = config.command.only_looks();
    let end = match config.command {
        Command::Run(arguments) => commands::run::run(arguments).await,
        Command::Rebuild(arguments) => commands::rebuild::rebuild(arguments).await,
        Command::Rollback(arguments) => commands::rebuild::roll_back(arguments).await,
        Command::Verify(arguments) => commands::verify::verify(arguments).await,
        Command::Status(arguments) => commands::status::status(arguments).await,
        Command::DeadLetters(arguments) => commands::dead_letters::dead_letters(arguments).await,
        Command::Explain(arguments) => commands::explain::explain(arguments).await,
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging.say(&format!("projector: {error}"));
            error.exit_code(only_looks)
        }
    }
}

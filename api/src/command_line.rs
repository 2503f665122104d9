//! What the program is asked to do: to serve, unless a command is named.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{
    ArgMatches, Args, Command, CommandFactory, Error, FromArgMatches, Parser, value_parser,
};

use crate::config::Config;
use crate::secret::Secret;

const ARCHIVE: &str = "archive";
const RESTORE: &str = "restore";

/// See the module.
#[derive(Debug)]
pub enum CommandLine {
    Serve(Box<Config>),
    Archive(ArchiveArguments),
    Restore(RestoreArguments),
}

/// Take old ranges of the log out of the database, into files.
///
/// A range goes once its file was written and read back, oldest first, while everything goes on. What is needed to decide on
/// commands stays. Needs the database's owner. Can be run again whenever it ended early. See docs/archives.md.
#[derive(Debug, Args)]
pub struct ArchiveArguments {
    /// PostgreSQL with the log, as its owner.
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub database_url: Secret,

    /// PostgreSQL with the read model, which has to be past what goes [default: the same as --database-url].
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub feed_database_url: Option<Secret>,

    /// The folder for the files.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,

    /// Ranges that end at this position or before; never the one that has the last event. `log_ranges` in that database shows
    /// what there is.
    #[arg(long, value_name = "POSITION", value_parser = value_parser!(i64).range(1..))]
    pub through: i64,
}

/// Bring archived ranges back into the log.
///
/// Newest first, each once its file is what was archived, while everything goes on. Needs the database's owner. Can be run
/// again whenever it ended early.
#[derive(Debug, Args)]
pub struct RestoreArguments {
    /// PostgreSQL with the log, as its owner.
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub database_url: Secret,

    /// The folder with the files.
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,

    /// Down to the range that has this position.
    #[arg(long, value_name = "POSITION", default_value_t = 1, value_parser = value_parser!(i64).range(1..))]
    pub down_to: i64,
}

impl CommandFactory for CommandLine {
    fn command() -> Command {
        let archive = ArchiveArguments::augment_args(Command::new(ARCHIVE));
        let restore = RestoreArguments::augment_args(Command::new(RESTORE));
        Config::command().subcommand(archive).subcommand(restore)
    }

    fn command_for_update() -> Command {
        Self::command()
    }
}

impl FromArgMatches for CommandLine {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        match matches.subcommand() {
            Some((ARCHIVE, asked)) => ArchiveArguments::from_arg_matches(asked).map(Self::Archive),
            Some((RESTORE, asked)) => RestoreArguments::from_arg_matches(asked).map(Self::Restore),
            Some(_) => Err(Error::new(ErrorKind::InvalidSubcommand)),
            None => Config::from_arg_matches(matches).map(Box::new).map(Self::Serve),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Parser for CommandLine {}

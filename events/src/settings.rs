//! Reading flags and environment variables, and what shells and `man` know of them.

use std::io;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command, Parser, value_parser};
use clap_complete::Shell;

/// Reads what a process was started with, or ends it with what is wrong. A variable that is set but
/// empty is as if it were not set: that is how many a deployment leaves one out. Not so for `keys`,
/// the names of arguments without which less is asked of callers: an empty one of those is a mistake.
///
/// Asked for completions or manual pages, it writes those and ends the process.
#[must_use]
pub fn parse<T: Parser>(keys: &[&str]) -> T {
    let command = with_documents(T::command());
    let mut documented = command.clone();
    let matches: ArgMatches = without_empty_variables(command, keys).get_matches();
    let written = match matches.subcommand() {
        Some((COMPLETIONS, asked)) => {
            let shell = *asked.get_one::<Shell>("shell").expect("it is required");
            write_completions(&mut documented, shell)
        }
        Some((MAN, asked)) => {
            let folder = asked.get_one::<PathBuf>("folder").expect("it is required");
            write_manual(documented.clone(), folder)
        }
        _ => return T::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()),
    };
    match written {
        Ok(()) => std::process::exit(0),
        Err(error) => documented.error(ErrorKind::Io, error).exit(),
    }
}

const COMPLETIONS: &str = "completions";
const MAN: &str = "man";

/// `command` with two more: what it says of itself, for shells and for `man`.
fn with_documents(command: Command) -> Command {
    let shell = Arg::new("shell").required(true).value_parser(value_parser!(Shell));
    let completions = Command::new(COMPLETIONS)
        .about("Print completions for a shell")
        .long_about(
            "Print completions for a shell. For bash, for instance, into \
             ~/.local/share/bash-completion/completions/ under the program's name.",
        )
        .arg(shell);
    let folder =
        Arg::new("folder").required(true).value_name("DIR").value_parser(value_parser!(PathBuf));
    let man = Command::new(MAN)
        .about("Write manual pages into a folder, one for each command")
        .arg(folder);
    // Whoever asks for these needs no database.
    command.subcommand(completions).subcommand(man).subcommand_negates_reqs(true)
}

fn write_completions(command: &mut Command, shell: Shell) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let mut completions = Vec::new();
    clap_complete::generate(shell, command, name, &mut completions);
    io::Write::write_all(&mut io::stdout(), &completions)
}

fn write_manual(command: Command, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}

fn without_empty_variables(command: Command, keys: &[&str]) -> Command {
    let is_left_out = |argument: &Arg| {
        let variable = argument.get_env().and_then(std::env::var_os);
        variable.is_some_and(|value| value.is_empty())
            && !keys.contains(&argument.get_id().as_str())
    };
    command
        .mut_args(|argument| if is_left_out(&argument) { argument.env(None) } else { argument })
        .mut_subcommands(|command| without_empty_variables(command, keys))
}

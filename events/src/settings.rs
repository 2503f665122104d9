//! Reading flags and environment variables.

use clap::{Arg, ArgMatches, Command, Parser};

/// Reads what a process was started with, or ends it with what is wrong. A variable that is set but
/// empty is as if it were not set: that is how many a deployment leaves one out.
#[must_use]
pub fn parse<T: Parser>() -> T {
    let matches: ArgMatches = without_empty_variables(T::command()).get_matches();
    T::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn without_empty_variables(command: Command) -> Command {
    let is_empty = |argument: &Arg| {
        let variable = argument.get_env().and_then(std::env::var_os);
        variable.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|argument| if is_empty(&argument) { argument.env(None) } else { argument })
        .mut_subcommands(without_empty_variables)
}

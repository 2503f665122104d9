//! Reading flags and environment variables.

use clap::{Arg, ArgMatches, Command, Parser};

/// Reads what a process was started with, or ends it with what is wrong. A variable that is set but
/// empty is as if it were not set: that is how many a deployment leaves one out. Not so for `keys`,
/// the names of arguments without which less is asked of callers: an empty one of those is a mistake.
#[must_use]
pub fn parse<T: Parser>(keys: &[&str]) -> T {
    let matches: ArgMatches = without_empty_variables(T::command(), keys).get_matches();
    T::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
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

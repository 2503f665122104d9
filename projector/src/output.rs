//! What commands print. As with the log, nothing that happens to standard output changes what a
//! command does: it ends as it would have.

use std::io::{self, StdoutLock, Write};

use serde::Serialize;

/// Prints what `write` writes.
pub(crate) fn print(write: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>) {
    let mut output = io::stdout().lock();
    if let Err(error) = write(&mut output).and_then(|()| output.flush()) {
        tracing::warn!(%error, "the output could not be written");
    }
}

/// Prints `value` for a program that reads line by line.
pub(crate) fn print_json_line(value: &impl Serialize) {
    print(|output| {
        serde_json::to_writer(&mut *output, value)?;
        writeln!(output)
    });
}

/// Prints `value` for a program.
pub(crate) fn print_json(value: &impl Serialize) {
    print(|output| {
        serde_json::to_writer_pretty(&mut *output, value)?;
        writeln!(output)
    });
}

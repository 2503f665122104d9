//! `projector dead-letters`: what was set aside, why, and that no feed needs it.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table};
use events::Position;
use events::amqp::Broker;
use events::projection::PROJECTIONS;

use super::{CommandError, STATEMENT_TIMEOUT, empty_table};
use crate::checkpoint;
use crate::config::{DeadLettersArguments, DeadLettersCommand, Pipeline};
use crate::dead_letters::{DeadLetter, DeadLetters};
use crate::output::{print, print_json};

/// So much of a body is shown: more than any slice of ours has.
const BODY_SHOWN_BYTES: usize = 1024 * 1024;

/// Does what was asked for.
///
/// # Errors
/// [`CommandError`] when something is away, or there is no such dead letter.
pub async fn dead_letters(arguments: DeadLettersArguments) -> Result<(), CommandError> {
    match arguments.command {
        DeadLettersCommand::List { at, json } => list(&at, json).await,
        DeadLettersCommand::Show { at, id, json } => show(&at, &id, json).await,
        DeadLettersCommand::Discard { amqp_url, ids, all } => discard(&amqp_url, &ids, all).await,
    }
}

async fn list(at: &Pipeline, json: bool) -> Result<(), CommandError> {
    let found = look(at).await?;
    if json {
        print_json(&found);
    } else if found.is_empty() {
        print(|output| writeln!(output, "there are none"));
    } else {
        print(|output| writeln!(output, "{}", table(&found)));
    }
    Ok(())
}

async fn show(at: &Pipeline, id: &str, json: bool) -> Result<(), CommandError> {
    let found = look(at).await?;
    let wanted = found.iter().find(|letter| letter.id == id);
    let letter = wanted.ok_or_else(|| CommandError::NoDeadLetter(id.to_owned()))?;
    if json {
        print_json(letter);
    } else {
        print(|output| write_text(output, letter));
    }
    Ok(())
}

async fn discard(amqp_url: &str, ids: &[String], all: bool) -> Result<(), CommandError> {
    let held = DeadLetters::hold(&Broker::parse(amqp_url)?).await?;
    let (discarded, left) = held.discard(|id| all || ids.iter().any(|meant| meant == id)).await?;
    print(|output| writeln!(output, "discarded {discarded}, {left} are left"));
    if discarded == 0 && !all {
        return Err(CommandError::NoDeadLetter(ids.join(", ")));
    }
    Ok(())
}

async fn look(at: &Pipeline) -> Result<Vec<DeadLetter>, CommandError> {
    let log_database = at.databases.log_database()?.with_statement_timeout(STATEMENT_TIMEOUT);
    let feed_database = at.databases.feed_database()?.with_statement_timeout(STATEMENT_TIMEOUT);
    let broker = Broker::parse(&at.amqp_url)?;
    let log = log_database.connect(1).await?;
    let mut reached = Vec::new();
    for projection in PROJECTIONS {
        let connections = feed_database.clone().of(projection).connect(1).await?;
        let checkpoint = checkpoint::load(&connections).await.map_err(CommandError::Feed)?;
        reached.push((projection, checkpoint.position));
    }
    let reached = |projection| {
        let found = reached.iter().find(|(of, _)| *of == projection);
        found.map_or(Position::START, |(_, position)| *position)
    };
    let held = DeadLetters::hold(&broker).await?;
    let described = held.describe(&log, reached).await.map_err(CommandError::Log);
    held.put_back().await?;
    described
}

fn table(found: &[DeadLetter]) -> Table {
    let mut table = empty_table();
    table.set_header(["id", "of", "since", "bytes", "why it was set aside; why it is not needed"]);
    for letter in found {
        let why = format!("{}; {}", letter.why, letter.not_needed);
        let of = letter.projection.to_owned();
        table.add_row([&letter.id, &of, &since(letter), &letter.bytes.to_string(), &why]);
    }
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn write_text(output: &mut impl Write, letter: &DeadLetter) -> io::Result<()> {
    writeln!(output, "id          {}", letter.id)?;
    writeln!(output, "of          {}", letter.projection)?;
    writeln!(output, "since       {}", since(letter))?;
    writeln!(output, "why         {}", letter.why)?;
    writeln!(output, "not needed  {}", letter.not_needed)?;
    for (name, value) in &letter.headers {
        writeln!(output, "header      {}: {}", printable(name), printable(value))?;
    }
    writeln!(output, "\n{}", body(&letter.body))
}

fn since(letter: &DeadLetter) -> String {
    let format =
        |since: chrono::DateTime<chrono::Utc>| since.format("%Y-%m-%d %H:%M:%S").to_string();
    letter.since.map_or_else(|| "unknown".to_owned(), format)
}

/// JSON is laid out; of anything else what can be printed.
fn body(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(json) => format!("{json:#}"),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let mut shown: String = printable(&text);
    if shown.len() > BODY_SHOWN_BYTES {
        shown.truncate(shown.floor_char_boundary(BODY_SHOWN_BYTES));
        shown.push_str("\n… and more");
    }
    shown
}

/// Whoever sent it may have meant to write to the terminal of who looks at it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_says_stays_in_its_place() {
        assert_eq!(printable("a\u{1b}[2Jb\r\nc"), "a\u{fffd}[2Jb\u{fffd}\nc");
        assert_eq!(body(b"{\"a\":1}"), "{\n  \"a\": 1\n}");
        assert_eq!(body(&[0xff, b'x']), "\u{fffd}x");
        assert!(body(&vec![b'x'; BODY_SHOWN_BYTES + 1]).ends_with("and more"));
    }
}

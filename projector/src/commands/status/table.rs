//! What was found, as a table in 80 columns.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table};
use events::amqp;

use super::look::{RebuildStatus, Status};
use super::wrong::Wrong;
use crate::commands::TABLE_WIDTH;
use crate::progress::Stored;

/// What was found, and below it what is wrong.
#[must_use]
pub fn of(status: &Status) -> String {
    let facts = facts(status);
    if status.wrong.is_empty() {
        return format!("{facts}\n");
    }
    format!("{facts}\n{}\n", wrong(&status.wrong))
}

fn wrong(wrong: &[Wrong]) -> Table {
    let mut table = empty();
    table.set_header(["what is wrong", "what to do"]);
    for Wrong { what, to_do } in wrong {
        table.add_row([Cell::new(what).fg(Color::Red), Cell::new(to_do)]);
    }
    table
}

/// Colours are for terminals, and not where `NO_COLOR` is set (<https://no-color.org>).
fn empty() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(TABLE_WIDTH);
    if console::colors_enabled() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

fn facts(status: &Status) -> Table {
    let Status { log, relay, broker, feed, rebuild, .. } = status;
    let count = |count: Option<u32>| match (broker.reachable, count) {
        (false, _) => "broker unreachable".to_owned(),
        (true, None) => "no such queue".to_owned(),
        (true, Some(count)) => count.to_string(),
    };
    let lag = |events: i64, seconds: f64| format!("{events} events, {seconds:.1} s behind");
    let mut table = empty();
    table.set_header(["", "at", ""]);
    let leader = relay.leader.as_deref().unwrap_or("no relay leads");
    let generation = format!("generation {}", feed.generation);
    table.add_row(["log head", &log.head.to_string(), ""]);
    table.add_row([
        "relay cursor",
        &relay.position.to_string(),
        &format!("{}; {leader}", lag(relay.lag_events, relay.lag_seconds)),
    ]);
    let queue = broker.error.as_deref().unwrap_or(amqp::FEED_QUEUE);
    table.add_row(["queue depth", &count(broker.queue_depth), queue]);
    table.add_row(["dead letters", &count(broker.dead_letters), amqp::FEED_DEAD_LETTER_QUEUE]);
    table.add_row([
        "feed checkpoint",
        &feed.position.to_string(),
        &format!(
            "{}; {generation}",
            if feed.is_of_this_log {
                lag(feed.lag_events, feed.lag_seconds)
            } else {
                "of another history".to_owned()
            }
        ),
    ]);
    let projector = match (&feed.projector, feed.follows.as_str()) {
        (None, _) => "none leads".to_owned(),
        (Some(name), "log") => {
            format!("follows the log itself: RabbitMQ brings nothing; {name}")
        }
        (Some(name), _) => name.clone(),
    };
    table.add_row(["projector", "", &projector]);
    if feed.fan_outs > 0 {
        let what = "tweets that very many read, in all their feeds and not yet all in rows";
        table.add_row(["fan-outs under way", &feed.fan_outs.to_string(), what]);
    }
    if let Some(previous) = feed.previous_generation {
        table.add_row([
            "generation before",
            &previous.to_string(),
            "projector rollback goes back to it",
        ]);
    }
    if let Some(rebuild) = rebuild {
        let (at, what) = rebuild.describe();
        table.add_row([&format!("generation {}", rebuild.generation), &at, &what]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl RebuildStatus {
    /// Its position, and what is going on.
    fn describe(&self) -> (String, String) {
        let at =
            self.progress.as_ref().map_or_else(String::new, |stored| stored.position.to_string());
        let Some(by) = &self.by else {
            return (at, "left unfinished; the next projector rebuild removes it".to_owned());
        };
        let what = self.progress.as_ref().map_or_else(
            || format!("begun by {by}"),
            |Stored { phase, done, total, unit, feed_rows, .. }| {
                format!("{phase}: {done} of {total} {unit}, {feed_rows} feed rows; {by}")
            },
        );
        (at, what)
    }
}

//! What was found, as a table in 80 columns.

use comfy_table::{Cell, CellAlignment, Color, Table};
use events::store::nodes::Node;

use super::look::{ProjectionStatus, RebuildStatus, Status};
use super::wrong::Wrong;
use crate::commands::empty_table;
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
    let mut table = empty_table();
    table.set_header(["what is wrong", "what to do"]);
    for Wrong { what, to_do } in wrong {
        table.add_row([Cell::new(what).fg(Color::Red), Cell::new(to_do)]);
    }
    table
}

fn facts(status: &Status) -> Table {
    let Status { log, relay, broker, .. } = status;
    let mut table = empty_table();
    table.set_header(["", "at", ""]);
    let leader = relay.leader.as_deref().unwrap_or("no relay leads");
    table.add_row(["log head", &log.head.to_string(), ""]);
    table.add_row([
        "relay cursor",
        &relay.position.to_string(),
        &format!("{}; {leader}", lag(relay.lag_events, relay.lag_seconds)),
    ]);
    if let Some(error) = &broker.error {
        table.add_row(["RabbitMQ", "", error]);
    }
    for found in status.projections() {
        add_projection(&mut table, found, broker.reachable);
    }
    for Node { address, position, shards } in &status.nodes {
        let position = position.map_or("away".to_owned(), |position| position.to_string());
        table.add_row([&format!("feed node {address}"), &position, &format!("{shards} shards")]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn lag(events: i64, seconds: f64) -> String {
    format!("{events} events, {seconds:.1} s behind")
}

fn add_projection(table: &mut Table, found: &ProjectionStatus, sees_broker: bool) {
    let ProjectionStatus { projection, .. } = found;
    let name = projection.name();
    let count = |count: Option<u32>| match (sees_broker, count) {
        (false, _) => "unknown".to_owned(),
        (true, None) => "no such queue".to_owned(),
        (true, Some(count)) => count.to_string(),
    };
    table.add_row(["queue depth", &count(found.queues.queue_depth), projection.queue()]);
    table.add_row(["dead letters", &count(found.queues.dead_letters), projection.dead_letters()]);
    let behind = if found.is_of_this_log {
        lag(found.lag_events, found.lag_seconds)
    } else {
        "of another history".to_owned()
    };
    let generation = format!("{behind}; generation {}", found.generation);
    table.add_row([&format!("{name} checkpoint"), &found.position.to_string(), &generation]);
    let projector = match (&found.projector, found.follows.as_str()) {
        (None, _) => "none leads".to_owned(),
        (Some(name), "log") => {
            format!("follows the log itself: RabbitMQ brings nothing; {name}")
        }
        (Some(name), _) => name.clone(),
    };
    table.add_row([&format!("{name} projector"), "", &projector]);
    if let Some(fan_outs) = found.fan_outs.filter(|count| *count > 0) {
        let what = "tweets that very many read, in all their feeds and not yet all in rows";
        table.add_row(["fan-outs under way", &fan_outs.to_string(), what]);
    }
    if let Some(previous) = found.previous_generation {
        table.add_row([
            &format!("{name} generation before"),
            &previous.to_string(),
            &format!("projector rollback {name} goes back to it"),
        ]);
    }
    if let Some(rebuild) = &found.rebuild {
        let (at, what) = rebuild.describe();
        table.add_row([&format!("{name} generation {}", rebuild.generation), &at, &what]);
    }
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

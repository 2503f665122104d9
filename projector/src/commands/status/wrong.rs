//! What is wrong, and what to do about it.

use serde::Serialize;

use super::look::{ProjectionStatus, Status};

/// Something that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Wrong {
    pub what: String,
    pub to_do: String,
}

/// What is wrong with what was found, the most decisive first. To be behind for up to `behind_after`
/// seconds is not.
#[must_use]
pub fn wrong(status: &Status, behind_after: f64) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    for found in status.projections() {
        wrong.extend(projection(found, behind_after));
    }
    for node in status.nodes.iter().filter(|node| node.position.is_none()) {
        wrong.push(Wrong {
            what: format!("node {} of the feeds is away", node.address),
            to_do:
                "bring it back: its readers are refused until then, and the projection waits for it"
                    .to_owned(),
        });
    }
    wrong.extend(broker(status, behind_after));
    for found in status.projections() {
        wrong.extend(left_over(found));
    }
    wrong
}

fn projection(found: &ProjectionStatus, behind_after: f64) -> Vec<Wrong> {
    let name = found.projection.name();
    if !found.is_of_this_log {
        let what = format!("{name} is of another history than the log, at {}", found.mark);
        return vec![Wrong {
            what,
            to_do: format!(
                "look whether DATABASE_URL and FEED_DATABASE_URL belong together; if they do, the log was restored from a backup: \
                 projector rebuild {name} makes it again from that"
            ),
        }];
    }
    let mut wrong = Vec::new();
    if found.projector.is_none() {
        wrong.push(Wrong {
            what: format!("no projector leads: {name} stands still"),
            to_do: "start projector run; if one runs, its log says what it waits for".to_owned(),
        });
    }
    if found.lag_seconds > behind_after {
        let (events, seconds) = (found.lag_events, found.lag_seconds);
        wrong.push(Wrong {
            what: format!("{name} is {events} events and {seconds:.0} s behind"),
            to_do: "look again (--watch): if the checkpoint moves it catches up, if not the projector's log says why"
                .to_owned(),
        });
    }
    wrong
}

fn broker(status: &Status, behind_after: f64) -> Vec<Wrong> {
    let (broker, relay) = (&status.broker, &status.relay);
    if let Some(error) = &broker.error {
        return vec![Wrong {
            what: error.clone(),
            to_do: "bring RabbitMQ back; until then commands are accepted and projections follow the log"
                .to_owned(),
        }];
    }
    let mut wrong = Vec::new();
    for found in status.projections().filter(|found| found.queues.queue_depth.is_none()) {
        wrong.push(Wrong {
            what: format!("there is no queue {}", found.projection.queue()),
            to_do: "the api and the projector each declare it when they reach RabbitMQ; is it the same virtual host?"
                .to_owned(),
        });
    }
    if relay.leader.is_none() {
        wrong.push(Wrong {
            what: "no relay leads: nothing is published".to_owned(),
            to_do: "start an api with its relay (without --no-relay); if one runs, its log says what it waits for"
                .to_owned(),
        });
    }
    if relay.lag_seconds > behind_after {
        let (events, seconds) = (relay.lag_events, relay.lag_seconds);
        wrong.push(Wrong {
            what: format!("{events} events are not published, the first for {seconds:.0} s"),
            to_do:
                "the api's log says why; a queue that is full, also one of somebody else's, refuses"
                    .to_owned(),
        });
    }
    for found in status.projections() {
        if found.follows == "log" && found.projector.is_some() {
            let name = found.projection.name();
            wrong.push(Wrong {
                what: format!(
                    "{name} follows the log itself: RabbitMQ does not bring what is in it"
                ),
                to_do:
                    "nothing, if messages come again soon; else look at the queue in RabbitMQ's UI"
                        .to_owned(),
            });
        }
    }
    wrong
}

fn left_over(found: &ProjectionStatus) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    if let Some(count) = found.queues.dead_letters.filter(|count| *count > 0) {
        wrong.push(Wrong {
            what: format!("messages in {}: {count}", found.projection.dead_letters()),
            to_do: "no projection needs them; projector dead-letters list says what they are"
                .to_owned(),
        });
    }
    if let Some(rebuild) = found.rebuild.as_ref().filter(|rebuild| rebuild.by.is_none()) {
        let name = found.projection.name();
        wrong.push(Wrong {
            what: format!("generation {} of {name} was left unfinished", rebuild.generation),
            to_do: format!("it only takes disk; the next projector rebuild {name} removes it"),
        });
    }
    wrong
}

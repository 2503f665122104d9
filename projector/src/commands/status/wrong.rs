//! What is wrong, and what to do about it.

use events::amqp::{FEED_DEAD_LETTER_QUEUE, FEED_QUEUE};
use serde::Serialize;

use super::look::Status;

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
    let mut wrong = feeds(status, behind_after);
    wrong.extend(broker(status, behind_after));
    wrong.extend(left_over(status));
    wrong
}

fn feeds(status: &Status, behind_after: f64) -> Vec<Wrong> {
    let feed = &status.feed;
    if !feed.is_of_this_log {
        let what = format!("the read model is of another history than the log, at {}", feed.mark);
        return vec![Wrong {
            what,
            to_do: "look whether DATABASE_URL and FEED_DATABASE_URL belong together; if they do, the log was restored from a backup: \
                    projector rebuild makes the read model again from it"
                .to_owned(),
        }];
    }
    let mut wrong = Vec::new();
    if feed.projector.is_none() {
        wrong.push(Wrong {
            what: "no projector leads: feeds stand still".to_owned(),
            to_do: "start projector run; if one runs, its log says what it waits for".to_owned(),
        });
    }
    if feed.lag_seconds > behind_after {
        let (events, seconds) = (feed.lag_events, feed.lag_seconds);
        wrong.push(Wrong {
            what: format!("feeds are {events} events and {seconds:.0} s behind"),
            to_do: "look again (--watch): if the checkpoint moves they catch up, if not the projector's log says why"
                .to_owned(),
        });
    }
    wrong
}

fn broker(status: &Status, behind_after: f64) -> Vec<Wrong> {
    let (broker, relay, feed) = (&status.broker, &status.relay, &status.feed);
    if let Some(error) = &broker.error {
        return vec![Wrong {
            what: error.clone(),
            to_do: "bring RabbitMQ back; until then commands are accepted and feeds follow the log"
                .to_owned(),
        }];
    }
    let mut wrong = Vec::new();
    if broker.queue_depth.is_none() {
        wrong.push(Wrong {
            what: format!("there is no queue {FEED_QUEUE}"),
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
    if feed.follows == "log" && feed.projector.is_some() {
        wrong.push(Wrong {
            what: "feeds follow the log itself: RabbitMQ does not bring what is in it".to_owned(),
            to_do: "nothing, if messages come again soon; else look at the queue in RabbitMQ's UI"
                .to_owned(),
        });
    }
    wrong
}

fn left_over(status: &Status) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    if let Some(count) = status.broker.dead_letters.filter(|count| *count > 0) {
        wrong.push(Wrong {
            what: format!("messages in {FEED_DEAD_LETTER_QUEUE}: {count}"),
            to_do: "no feed needs them; projector dead-letters list says what they are".to_owned(),
        });
    }
    if let Some(rebuild) = status.rebuild.as_ref().filter(|rebuild| rebuild.by.is_none()) {
        wrong.push(Wrong {
            what: format!("generation {} was left unfinished", rebuild.generation),
            to_do: "it only takes disk; the next projector rebuild removes it".to_owned(),
        });
    }
    wrong
}

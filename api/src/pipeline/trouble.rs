//! What does not work, in words: what happened, what works on, what waits, and what becomes of it.

use serde::Serialize;
use utoipa::ToSchema;

use super::{BrokerState, FeedsState, LogState, ProjectorState, RelaySeenState, Seen};
use crate::freshness::Readable;

/// Something that does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Trouble {
    pub part: Part,
    #[schema(example = "RabbitMQ is away")]
    pub title: &'static str,
    /// What works all the same.
    #[schema(example = "Posting and reading.")]
    pub works: &'static str,
    /// What waits, and since where.
    #[schema(example = "Nothing: feeds follow the log itself.")]
    pub waits: String,
    /// Why nothing is lost.
    #[schema(example = "Every event is in the log.")]
    pub kept: &'static str,
}

/// A part of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Log,
    Relay,
    Broker,
    Projector,
    Feeds,
}

/// The troubles behind what was `seen`, the most decisive first.
pub(super) fn of(seen: &Seen, readable: Readable) -> Vec<Trouble> {
    let databases = databases(seen, readable);
    // Of the rest nothing can be said without them.
    if databases.is_empty() { way(seen) } else { databases }
}

fn databases(seen: &Seen, readable: Readable) -> Vec<Trouble> {
    let (log, feeds) = (seen.log.state, seen.feeds.state);
    let checkpoint = seen.projector.position;
    let mut troubles = Vec::new();
    if log == LogState::Unreachable && feeds == FeedsState::Unreachable {
        troubles.push(Trouble {
            part: Part::Log,
            title: "PostgreSQL is away",
            works: "This page, and whatever you are writing on it.",
            waits: "Nothing can be posted or read until PostgreSQL answers again; requests hear 503 and may be \
                    repeated."
                .to_owned(),
            kept: "Nothing is lost: whatever was accepted is on its disk.",
        });
    } else if log == LogState::Unreachable {
        troubles.push(Trouble {
            part: Part::Log,
            title: "The log's database is away",
            works: "Feeds, profiles and lists can be read.",
            waits: format!(
                "Nothing can be posted: commands hear 503 and may be repeated. Feeds stay as of position \
                 {checkpoint}."
            ),
            kept: "Nothing is lost: whatever was accepted is on its disk.",
        });
    } else if feeds == FeedsState::Unreachable {
        troubles.push(Trouble {
            part: Part::Feeds,
            title: "The read model's database is away",
            works: "Posting and following: commands are accepted into the log.",
            waits: "Feeds and lists cannot be read until it answers again.".to_owned(),
            kept: "Nothing is lost: the feeds follow from the log, and catch up.",
        });
    }
    if feeds == FeedsState::Refused {
        troubles.push(Trouble {
            part: Part::Feeds,
            title: "The read model cannot be read",
            works: "Posting and following: commands are accepted into the log.",
            waits: format!("{}.", readable.describe()),
            kept: "Nothing is lost: the read model can be made again from the log.",
        });
    }
    troubles
}

fn way(seen: &Seen) -> Vec<Trouble> {
    let checkpoint = seen.projector.position;
    let behind = seen.projector.lag_events.unwrap_or_default();
    let unpublished = seen.relay.lag_events.unwrap_or_default();
    let mut troubles = Vec::new();
    if seen.broker.state == BrokerState::Unreachable {
        troubles.push(Trouble {
            part: Part::Broker,
            title: "RabbitMQ is away",
            works: "Posting, following and reading; feeds follow the log itself, a second behind.",
            waits: format!("{} to be published to others who listen.", wait(unpublished)),
            kept: "Nothing is lost: the relay publishes from the log when RabbitMQ is back.",
        });
    } else if seen.projector.state == ProjectorState::FollowsLog {
        troubles.push(Trouble {
            part: Part::Broker,
            title: "RabbitMQ brings nothing",
            works: "Posting, following and reading; feeds follow the log itself, a second behind.",
            waits: format!("{} to be published.", wait(unpublished)),
            kept: "Nothing is lost: the log has all of it.",
        });
    } else if seen.relay.state == RelaySeenState::Waiting {
        troubles.push(Trouble {
            part: Part::Relay,
            title: "No relay leads",
            works: "Posting, following and reading: commands need the log alone.",
            waits: format!("{} to be published.", wait(unpublished)),
            kept: "Nothing is lost: a relay begins where the last one stopped.",
        });
    }
    match seen.projector.state {
        ProjectorState::Away => troubles.push(Trouble {
            part: Part::Projector,
            title: "No projector runs",
            works: "Posting, following and reading.",
            waits: format!("Feeds stay as of position {checkpoint}; {}.", wait(behind)),
            kept: "Nothing is lost: messages stay in the queue, and the log has all of them.",
        }),
        ProjectorState::Behind if troubles.is_empty() => troubles.push(Trouble {
            part: Part::Projector,
            title: "The feeds are behind",
            works: "Posting, following and reading.",
            waits: format!("Feeds are as of position {checkpoint}; {}.", wait(behind)),
            kept: "Nothing is lost: the projector catches up from the queue, or from the log.",
        }),
        ProjectorState::Behind
        | ProjectorState::Working
        | ProjectorState::FollowsLog
        | ProjectorState::Unknown => {}
    }
    troubles
}

fn wait(events: i64) -> String {
    match events {
        0 => "no event waits".to_owned(),
        1 => "1 event waits".to_owned(),
        more => format!("{more} events wait"),
    }
}

//! What the projector and a rebuild measure.

use events::metrics::Metric;

pub const LEADING: Metric =
    Metric::gauge("rookery_projector_leading", "1 while this projector is the active one.")
        .of_projections();

pub const BROKER_CONNECTED: Metric = Metric::gauge(
    "rookery_projector_broker_connected",
    "1 while this projector has a connection to RabbitMQ.",
)
.of_projections();

pub const APPLIED_EVENTS: Metric = Metric::counter(
    "rookery_projector_applied_events_total",
    "Events that this process applied to a projection.",
)
.of_projections();

pub const DELIVERIES: Metric =
    Metric::counter("rookery_projector_deliveries_total", "Feed items that this process wrote.");

pub const PULLED: Metric = Metric::counter(
    "rookery_projector_pulled_tweets_total",
    "Tweets that this process wrote as pulled: they enter no feed, and pages take them from their authors.",
);

pub const DORMANT_READERS: Metric = Metric::gauge(
    "rookery_dormant_readers",
    "Readers who have not read for so long that no row is kept for them, at the end of the last round of the active projector.",
);

pub const FELL_DORMANT: Metric = Metric::counter(
    "rookery_projector_readers_fell_dormant_total",
    "Readers whose rows this process dropped because they had not read for long.",
);

pub const BROUGHT_BACK: Metric = Metric::counter(
    "rookery_projector_readers_brought_back_total",
    "Dormant readers whose rows this process brought back.",
);

pub const APPLY: Metric = Metric::seconds(
    "rookery_projector_apply_seconds",
    "How long a transaction took that applied events.",
)
.of_projections();

pub const FAN_OUT_STEP: Metric = Metric::seconds(
    "rookery_projector_fan_out_step_seconds",
    "How long a transaction took that brought tweets of authors with many readers to some of them.",
);

pub const EVENT_AGE: Metric = Metric::seconds(
    "rookery_projector_event_age_seconds",
    "From when an event was recorded until it was applied; of each transaction its oldest event.",
)
.of_projections();

pub const GAP_REPAIRS: Metric = Metric::counter(
    "rookery_projector_gap_repairs_total",
    "How often events were read from the log because no message brought them.",
)
.of_projections();

pub const DEAD_LETTERS: Metric = Metric::counter(
    "rookery_projector_dead_letters_total",
    "Messages that were no slice of the log and were set aside.",
)
.of_projections();

pub const REBUILD_PHASE: Metric =
    Metric::gauge("rookery_rebuild_phase", "1 for the phase in which the rebuild is.")
        .by(&["phase"]);

pub const REBUILD_PHASE_RATIO: Metric =
    Metric::gauge("rookery_rebuild_phase_ratio", "How much of its phase is done, from 0 to 1.");

pub const REBUILD_POSITION: Metric =
    Metric::gauge("rookery_rebuild_position", "Position up to which the new generation has come.");

pub const REBUILD_FEED_ROWS: Metric =
    Metric::gauge("rookery_rebuild_feed_rows", "Feed items in the new generation.");

/// All of the above.
pub const OF_THE_PROJECTOR: &[Metric] = &[
    LEADING,
    BROKER_CONNECTED,
    APPLIED_EVENTS,
    DELIVERIES,
    PULLED,
    DORMANT_READERS,
    FELL_DORMANT,
    BROUGHT_BACK,
    APPLY,
    FAN_OUT_STEP,
    EVENT_AGE,
    GAP_REPAIRS,
    DEAD_LETTERS,
    REBUILD_PHASE,
    REBUILD_PHASE_RATIO,
    REBUILD_POSITION,
    REBUILD_FEED_ROWS,
];

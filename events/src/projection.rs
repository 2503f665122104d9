//! The projections of the log, by what each is called wherever it has a name of its own.

/// What a projection is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectionName {
    /// In flags, metrics and logs.
    pub name: &'static str,
    /// The queue that brings it the log.
    pub queue: &'static str,
    /// Where waits what it refused of that, for a person to look at.
    pub dead_letters: &'static str,
    /// The channel of its database on which it announces how far it has come.
    pub channel: &'static str,
    /// The schema of its tables; `None` is where sessions find theirs by themselves.
    pub schema: Option<&'static str>,
}

/// The home feeds, and who and what is in them.
pub const FEED: ProjectionName = ProjectionName {
    name: "feed",
    queue: "rookery.feed",
    dead_letters: "rookery.feed.dead-letters",
    channel: "rookery_checkpoint",
    schema: None,
};

/// How many tweets, followers and authors followed each user has.
pub const COUNTS: ProjectionName = ProjectionName {
    name: "counts",
    queue: "rookery.counts",
    dead_letters: "rookery.counts.dead-letters",
    channel: "rookery_counts_checkpoint",
    schema: Some("counts"),
};

/// All of them.
pub const PROJECTIONS: [ProjectionName; 2] = [FEED, COUNTS];

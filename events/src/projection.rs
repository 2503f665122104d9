//! The projections of the log, by what each is called wherever it has a name of its own.

use clap::ValueEnum;

/// A projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProjectionName {
    /// The home feeds, and who and what is in them.
    Feed,
    /// How many tweets, followers and authors followed each user has.
    Counts,
}

/// All of them.
pub const PROJECTIONS: [ProjectionName; 2] = [ProjectionName::Feed, ProjectionName::Counts];

impl ProjectionName {
    /// In arguments, metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Counts => "counts",
        }
    }

    /// The queue that brings it the log.
    #[must_use]
    pub const fn queue(self) -> &'static str {
        match self {
            Self::Feed => "rookery.feed",
            Self::Counts => "rookery.counts",
        }
    }

    /// Where what it refused of that waits for a person to look at it.
    #[must_use]
    pub const fn dead_letters(self) -> &'static str {
        match self {
            Self::Feed => "rookery.feed.dead-letters",
            Self::Counts => "rookery.counts.dead-letters",
        }
    }

    /// The channel of its database on which it announces how far it has come.
    #[must_use]
    pub const fn channel(self) -> &'static str {
        match self {
            Self::Feed => "rookery_checkpoint",
            Self::Counts => "rookery_counts_checkpoint",
        }
    }

    /// The schema of its tables; `None` is where sessions find theirs by themselves.
    #[must_use]
    pub const fn schema(self) -> Option<&'static str> {
        match self {
            Self::Feed => None,
            Self::Counts => Some("counts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_projection_can_be_named_in_arguments_and_is_among_all() {
        assert_eq!(ProjectionName::value_variants(), PROJECTIONS);
        for projection in PROJECTIONS {
            assert_eq!(ProjectionName::from_str(projection.name(), false), Ok(projection));
        }
    }
}

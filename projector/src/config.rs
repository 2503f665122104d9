//! What can be set, by flag or environment.

use std::net::SocketAddr;

use clap::builder::TypedValueParser;
use clap::{Args, Parser, Subcommand, value_parser};
use events::store::{ConnectError, DORMANT_AFTER_MIN, Database};
use events::{Position, ProjectionName, TweetId, UserId};

use crate::bounds::{
    APPLY_MAX_ROWS, Bounds, DORMANT_AFTER_DAYS_DEFAULT, FAN_OUT_ROWS_DEFAULT, FEED_KEPT_DEFAULT,
    FEED_KEPT_MAX, PULL_FROM_DEFAULT,
};
use crate::feed::dormancy::{DORMANT_AFTER_DAYS_MAX, DormantAfter};
use crate::feed::pulled::PullFrom;
use crate::verify::DIFFERENCES_LISTED;

/// Builds Rookery's read model from its log, and looks after it.
#[derive(Debug, Parser)]
#[command(
    name = "projector",
    version,
    after_help = "Examples:\n  \
        projector run                            project until stopped\n  \
        projector rebuild                        make the read models again, while they serve\n  \
        projector rebuild feed                   that of the feeds alone\n  \
        projector verify                         hold everything against the log\n  \
        projector status                         how far everything is, as a table\n  \
        projector status --json                  the same for a program\n  \
        projector dead-letters list              what was set aside\n  \
        projector explain --user 2 --tweet 42    why it is in that feed or not\n\n\
        Exit codes: 0 done, 1 failed or differs, 2 bad usage; of verify, status and explain also\n\
        3 could not look, 4 behind.\n\
        Logs go to standard error: for people on a terminal, JSON elsewhere; RUST_LOG filters them.\n\
        OTEL_EXPORTER_OTLP_ENDPOINT, if set, is where traces go; see docs/tracing.md."
)]
pub struct Config {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Consume the log's slices from RabbitMQ and keep the projections up to date.
    ///
    /// Any number may run: of each projection one is active, the others stand by.
    Run(RunArguments),
    /// Make new generations of projections from the log and put them in the place of the live ones.
    ///
    /// The live one goes on serving and projecting until the new one has caught up and was compared
    /// with the log; readers notice nothing. It is kept until the next rebuild. Whatever happens on
    /// the way, the live generation is as it was. Needs as much disk again as the projection takes.
    Rebuild(RebuildArguments),
    /// Make a projection's generation before its last rebuild the live one again.
    ///
    /// It catches up first, so that nobody reads an older feed, and is compared like a rebuilt one.
    Rollback(RollbackArguments),
    /// Hold the projections, the decision state and the log against the log.
    ///
    /// Locks nothing; everything may go on meanwhile. Exit code 1 when something differs, 3 when there
    /// is no telling.
    Verify(VerifyArguments),
    /// Show the log's head, the relay's cursor, the queue, the checkpoint and the lag.
    ///
    /// Exit code 1 when the read model is of another history than the log, 3 when a database cannot be
    /// looked at, 4 when the relay or the feeds are behind. A broker that is away is part of the answer.
    Status(StatusArguments),
    /// Look at messages that were set aside, and discard them.
    ///
    /// They were no slice of the log: made by hand, of another history, or of another system. No feed
    /// needs them.
    DeadLetters(DeadLettersArguments),
    /// Tell why a tweet is in a user's home feed or not, naming the events that make it so.
    Explain(ExplainArguments),
}

impl Command {
    /// Whether it changes nothing.
    #[must_use]
    pub const fn only_looks(&self) -> bool {
        match self {
            Self::Verify(_) | Self::Status(_) | Self::Explain(_) => true,
            Self::DeadLetters(arguments) => arguments.command.only_looks(),
            Self::Run(_) | Self::Rebuild(_) | Self::Rollback(_) => false,
        }
    }
}

/// Of `projector run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Which projections to run [default: all].
    ///
    /// Each is independent of the others. One that cannot go on ends the process; give each a process of its own where that
    /// must not end the others.
    #[arg(value_name = "PROJECTION")]
    pub projections: Vec<ProjectionName>,

    #[command(flatten)]
    pub databases: Databases,

    /// RabbitMQ; of a cluster several nodes, with commas between them.
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub amqp_url: String,

    #[command(flatten)]
    pub feeds: Feeds,

    /// Serve Prometheus metrics here [default: not at all].
    #[arg(long, env = "PROJECTOR_METRICS_BIND", value_name = "HOST:PORT")]
    pub metrics_bind: Option<SocketAddr>,
}

/// Of `projector rebuild`.
#[derive(Debug, Args)]
pub struct RebuildArguments {
    /// Which projections, one after the other [default: all].
    #[arg(value_name = "PROJECTION")]
    pub projections: Vec<ProjectionName>,

    #[command(flatten)]
    pub with: RebuildWith,
}

/// Of `projector rollback`.
#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// Which projection.
    #[arg(default_value = ProjectionName::Feed.name(), value_name = "PROJECTION")]
    pub projection: ProjectionName,

    #[command(flatten)]
    pub with: RebuildWith,
}

/// What a rebuild and a rollback need.
#[derive(Debug, Args)]
pub struct RebuildWith {
    #[command(flatten)]
    pub databases: Databases,

    #[command(flatten)]
    pub feeds: Feeds,

    /// Serve Prometheus metrics here while it runs [default: not at all].
    #[arg(long, env = "REBUILD_METRICS_BIND", value_name = "HOST:PORT")]
    pub metrics_bind: Option<SocketAddr>,
}

/// Of `projector verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// Which projections, with the log and the decision state if it is the feed [default: all].
    #[arg(value_name = "PROJECTION")]
    pub projections: Vec<ProjectionName>,

    #[command(flatten)]
    pub databases: Databases,

    /// How many differences to list; all are counted.
    #[arg(long, default_value_t = DIFFERENCES_LISTED, value_name = "N")]
    pub differences: usize,

    /// Print JSON instead of lines: an array with a report for each projection.
    #[arg(long)]
    pub json: bool,
}

/// Of `projector status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
        projector status                    once, as a table\n  \
        projector status --watch            again every second, until Ctrl-C\n  \
        projector status --watch 10 --json  a line of JSON every ten seconds\n\n\
        Exit codes: 0 all is well, or what is wrong does not keep feeds from being right and up to date;\n\
        1 another history; 2 bad usage; 3 could not look; 4 behind.")]
pub struct StatusArguments {
    #[command(flatten)]
    pub databases: Databases,

    /// RabbitMQ; of a cluster several nodes, with commas between them.
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub amqp_url: String,

    /// For how long the relay or the feeds may be behind the log before that is exit code 4.
    #[arg(long, default_value_t = BEHIND_AFTER_S, value_name = "SECONDS")]
    pub behind_after: u64,

    /// Look again every second, or every so many (up to 3,600), until stopped.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,

    /// Print JSON instead of a table; with --watch, a line each time.
    #[arg(long)]
    pub json: bool,
}

/// Of `projector dead-letters`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
        projector dead-letters list                what there is, oldest first\n  \
        projector dead-letters show 2c26b46b68     one of them, whole\n  \
        projector dead-letters discard 2c26b46b68  that one is gone for good\n  \
        projector dead-letters discard --all       all that are there now\n\n\
        Exit codes: 0 done; 1 there is no such message; 2 bad usage; 3 could not look.")]
pub struct DeadLettersArguments {
    #[command(subcommand)]
    pub command: DeadLettersCommand,
}

/// What to do with them.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List them, oldest first.
    List {
        #[command(flatten)]
        at: Pipeline,

        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Show one of them, whole.
    Show {
        #[command(flatten)]
        at: Pipeline,

        /// As `list` has it.
        id: String,

        /// Print JSON instead of text, without the body.
        #[arg(long)]
        json: bool,
    },
    /// Discard some of them, for good.
    Discard {
        /// RabbitMQ; of a cluster several nodes, with commas between them.
        #[arg(long, env, hide_env_values = true, value_name = "URL")]
        amqp_url: String,

        /// As `list` has them.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<String>,

        /// All that are there now.
        #[arg(long)]
        all: bool,
    },
}

impl DeadLettersCommand {
    const fn only_looks(&self) -> bool {
        matches!(self, Self::List { .. } | Self::Show { .. })
    }
}

/// Where all of it is.
#[derive(Debug, Args)]
pub struct Pipeline {
    #[command(flatten)]
    pub databases: Databases,

    /// RabbitMQ; of a cluster several nodes, with commas between them.
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub amqp_url: String,
}

/// Feeds are readable milliseconds after the answer, and catch up within seconds when something was
/// away: what waits for longer is stuck, or more than the machine can do.
const BEHIND_AFTER_S: u64 = 10;

/// Ids begin at 1, and so does the log.
const FROM_ONE: std::ops::RangeFrom<i64> = 1..;

/// Of `projector explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
        projector explain --user 2 --tweet 42            now, and what the read model has\n  \
        projector explain --user 2 --tweet 42 --at 100   as it was at position 100\n  \
        projector explain --user 2 --tweet 42 --json     for a program\n\n\
        Exit codes: 0 explained, whether the tweet is in the feed or not; 1 the read model \
        differs from the log; 2 bad usage; 3 could not look.")]
pub struct ExplainArguments {
    #[command(flatten)]
    pub databases: Databases,

    /// Whose feed.
    #[arg(long, value_name = "ID", value_parser = value_parser!(i64).range(FROM_ONE).map(UserId))]
    pub user: UserId,

    /// Which tweet.
    #[arg(long, value_name = "ID", value_parser = value_parser!(i64).range(FROM_ONE).map(TweetId))]
    pub tweet: TweetId,

    /// As of which position of the log; only the log is read then [default: its end, and what the
    /// read model has].
    #[arg(long, value_name = "POSITION", value_parser = value_parser!(i64).range(0..).map(Position))]
    pub at: Option<Position>,

    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What bounds feeds: the same for all that write the read model.
#[derive(Debug, Args)]
pub struct Feeds {
    /// How many of its newest tweets a feed keeps ready; older ones are read from their authors.
    #[arg(long, env, default_value_t = FEED_KEPT_DEFAULT, value_name = "N", value_parser = value_parser!(i64).range(1..=FEED_KEPT_MAX))]
    feed_kept: i64,

    /// A tweet with more readers than this enters their feeds step by step, at most 2,500 of them at a time, while everything
    /// else goes on; who does not have it yet reads it from its author.
    #[arg(long, env, default_value_t = FAN_OUT_ROWS_DEFAULT, value_name = "N", value_parser = value_parser!(i64).range(1..=APPLY_MAX_ROWS))]
    fan_out_rows: i64,

    /// A tweet of an author with so many readers or more enters no feed: pages take it from its author. Holds for a read model
    /// from its beginning; `projector rebuild` changes it.
    #[arg(long, env, default_value_t = PULL_FROM_DEFAULT, value_name = "N", value_parser = value_parser!(i64).range(1..))]
    pull_from: i64,

    /// Who has not read for so many days is dormant: no row is kept for them, their pages come from the authors, and the rows come
    /// back when they read again. At least 2, or 0: nobody is.
    #[arg(long, env, default_value_t = DORMANT_AFTER_DAYS_DEFAULT, value_name = "DAYS", value_parser = dormant_after_days)]
    dormant_after_days: u64,
}

/// 0, or as many as [`DORMANT_AFTER_MIN`] at least.
fn dormant_after_days(text: &str) -> Result<u64, String> {
    let days: u64 = text.parse().map_err(|_| "must be a number of days".to_owned())?;
    match DormantAfter::days(days) {
        Some(DormantAfter(after)) if after < DORMANT_AFTER_MIN => {
            Err("must be 0 or at least 2: a reading is written down once a day".to_owned())
        }
        _ if days > DORMANT_AFTER_DAYS_MAX => {
            Err(format!("must be at most {DORMANT_AFTER_DAYS_MAX}"))
        }
        _ => Ok(days),
    }
}

impl Feeds {
    /// What they say.
    #[must_use]
    pub const fn bounds(&self) -> Bounds {
        Bounds {
            kept: self.feed_kept,
            fan_out_rows: self.fan_out_rows,
            pull_from: PullFrom(self.pull_from),
            dormant_after: DormantAfter::days(self.dormant_after_days),
        }
    }
}

/// Where the databases are.
#[derive(Debug, Args)]
pub struct Databases {
    /// PostgreSQL with the log.
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    database_url: String,

    /// PostgreSQL with the read model [default: the same as --database-url].
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    feed_database_url: Option<String>,
}

impl Databases {
    /// The database with the log.
    ///
    /// # Errors
    /// [`ConnectError::Url`] when it is not a PostgreSQL URL.
    pub fn log_database(&self) -> Result<Database, ConnectError> {
        Database::parse("DATABASE_URL", &self.database_url, "rookery projector: log")
    }

    /// The database with the read model.
    ///
    /// # Errors
    /// [`ConnectError::Url`] when it is not a PostgreSQL URL.
    pub fn feed_database(&self) -> Result<Database, ConnectError> {
        let (setting, url) = match &self.feed_database_url {
            Some(url) => ("FEED_DATABASE_URL", url),
            None => ("DATABASE_URL", &self.database_url),
        };
        Database::parse(setting, url, "rookery projector: feed")
    }
}

//! `api archive` and `api restore`: ranges of the log into files, and back.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use events::archive::{self, ArchiveError, Reader, Span};
use events::projection::PROJECTIONS;
use events::store::connections::Lent;
use events::store::ranges::{self, ArchivedRange, LiveRange};
use events::store::schema::{Schema, SchemaError};
use events::store::{ConnectError, Connections, Database, Fault, read};
use events::{Mark, Position, ProjectionName, hex};
use sqlx::PgConnection;

use crate::command_line::{ArchiveArguments, RestoreArguments};
use crate::views;

/// Events that are read or written at a time.
const PAGE_EVENTS: usize = 4_096;

/// How long everybody may have to wait behind a range that waits to be taken out.
const TAKE_OUT_PATIENCE: Duration = Duration::from_millis(200);

/// Between two tries everyone who had to wait gets through.
const TAKE_OUT_PAUSE: Duration = Duration::from_millis(500);

/// How often it is tried.
const TAKE_OUT_TRIES: u32 = 120;

/// Why not everything was archived or restored. What was stays so.
#[derive(Debug, thiserror::Error)]
pub enum ArchivingError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(
        "the log's schema is not there, or of another release: api --migrate-only brings it to this one"
    )]
    OtherRelease,
    #[error("the log cannot be read or changed: {0}")]
    Log(#[from] sqlx::Error),
    #[error("the read model cannot be looked at: {0}")]
    ReadModel(#[source] sqlx::Error),
    #[error(
        "the projection {} is at position {position} and still needs the range up to {last}; \
         nothing of that was archived", projection.name()
    )]
    Needed { projection: ProjectionName, position: Position, last: Position },
    #[error(transparent)]
    File(#[from] ArchiveError),
    #[error("somebody else archives or restores ranges of this log now")]
    NotAlone,
    #[error("the log ends within the range from {first} to {last}")]
    Short { first: Position, last: Position },
    #[error(
        "the range from {first} to {last} could not be taken out: somebody has read the log in one transaction all the \
         time; its file is there, and it can be run again"
    )]
    InTheWay { first: Position, last: Position },
}

impl ArchivingError {
    /// 2 for what a flag or variable says, 1 for the rest.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Connect(ConnectError::Url { .. }) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Archives each range that was asked for.
///
/// # Errors
/// [`ArchivingError`]
pub async fn archive(arguments: ArchiveArguments) -> Result<(), ArchivingError> {
    let ArchiveArguments { database_url, feed_database_url, to, through } = arguments;
    let log = connect(database_url.expose()).await?;
    let feed_url = feed_database_url.as_ref().unwrap_or(&database_url);
    let feed = Database::parse("FEED_DATABASE_URL", feed_url.expose(), "rookery api: archive")?;
    let mut alone = alone(&log).await?;
    let wanted = ranges::to_archive(&log, Position(through)).await?;
    if wanted.is_empty() {
        say(&format!("no range ends at {through} or before, and before the last event"));
    }
    for range in wanted {
        is_not_needed(&feed, range.span).await?;
        let sha256 = write(&log, range.span, &to).await?;
        ranges::keep_authors(&log, &range).await?;
        take_out(&mut alone, &range, &sha256).await?;
        let Span { first, last } = range.span;
        let (sum, file) = (hex::encode(&sha256), range.span.file_in(&to));
        say(&format!("archived positions {first} to {last}: {sum}  {}", file.display()));
    }
    alone.give_back();
    Ok(())
}

/// Restores each range that was asked for.
///
/// # Errors
/// [`ArchivingError`]
pub async fn restore(arguments: RestoreArguments) -> Result<(), ArchivingError> {
    let RestoreArguments { database_url, from, down_to } = arguments;
    let log = connect(database_url.expose()).await?;
    let mut alone = alone(&log).await?;
    let wanted = ranges::to_restore(&log, Position(down_to)).await?;
    if wanted.is_empty() {
        say(&format!("nothing from {down_to} on is archived"));
    }
    for range in wanted {
        put_back(&mut alone, &range, &from).await?;
        let Span { first, last } = range.span;
        let file = range.span.file_in(&from);
        say(&format!("restored positions {first} to {last} from {}", file.display()));
    }
    alone.give_back();
    Ok(())
}

async fn connect(url: &str) -> Result<Connections, ArchivingError> {
    let database = Database::parse("DATABASE_URL", url, "rookery api: archive")?;
    let database = database.with_settings([("synchronous_commit", "on")]).for_long_work();
    let log = database.writable().connect(2).await?;
    if Schema::Log.is_current(&log).await? { Ok(log) } else { Err(ArchivingError::OtherRelease) }
}

/// A session that has a lock of which there is one: "archives" as a number. It goes with the session.
async fn alone(log: &Connections) -> Result<Lent, ArchivingError> {
    let mut lent = log.lend().await?;
    let is_ours =
        sqlx::query_scalar!(r#"select pg_try_advisory_lock(107157007034739) as "is_ours!""#)
            .fetch_one(&mut *lent)
            .await?;
    if is_ours { Ok(lent) } else { Err(ArchivingError::NotAlone) }
}

/// Makes sure that every projection is past `span`.
async fn is_not_needed(feed: &Database, span: Span) -> Result<(), ArchivingError> {
    for projection in PROJECTIONS {
        let connections = feed.clone().of(projection).connect(1).await?;
        match views::checkpoint(&connections).await {
            Ok(Mark { position, .. }) if position < span.last => {
                return Err(ArchivingError::Needed { projection, position, last: span.last });
            }
            Ok(_) => {}
            // It was never made, and will be when all of the log is there.
            Err(error) if Fault::of(&error) == Fault::Absent => {}
            Err(error) => return Err(ArchivingError::ReadModel(error)),
        }
    }
    Ok(())
}

/// Writes the file of `span` and reads it back. Returns its SHA-256.
async fn write(log: &Connections, span: Span, folder: &Path) -> Result<[u8; 32], ArchivingError> {
    let Span { first, last } = span;
    let mut writer = archive::Writer::begin(folder, span)?;
    let mut reached = Position(first.0 - 1);
    while reached < last {
        let wanted = usize::try_from(last.0 - reached.0).unwrap_or(usize::MAX);
        let events = read::after(log, reached, wanted.min(PAGE_EVENTS)).await?;
        let end = events.last().filter(|end| end.position <= last);
        reached = end.ok_or(ArchivingError::Short { first, last })?.position;
        writer.add(&events)?;
    }
    let sha256 = writer.finish()?;
    let mut reader = Reader::open(folder, span, &sha256)?;
    while !reader.next(PAGE_EVENTS)?.is_empty() {}
    Ok(sha256)
}

async fn take_out(
    log: &mut PgConnection,
    range: &LiveRange,
    sha256: &[u8],
) -> Result<(), ArchivingError> {
    for _ in 0..TAKE_OUT_TRIES {
        if ranges::take_out(log, range, sha256, TAKE_OUT_PATIENCE).await? {
            return Ok(());
        }
        tokio::time::sleep(TAKE_OUT_PAUSE).await;
    }
    let Span { first, last } = range.span;
    Err(ArchivingError::InTheWay { first, last })
}

async fn put_back(
    log: &mut PgConnection,
    range: &ArchivedRange,
    folder: &Path,
) -> Result<(), ArchivingError> {
    let mut reader = Reader::open(folder, range.span, &range.sha256)?;
    let table = ranges::make_table(log, range.span).await?;
    loop {
        let events = reader.next(PAGE_EVENTS)?;
        if events.is_empty() {
            break;
        }
        ranges::fill(log, &table, &events).await?;
    }
    ranges::put_back(log, &table, range.span).await?;
    Ok(())
}

/// Prints a line. Who no longer reads what is printed must not stop what is done.
fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

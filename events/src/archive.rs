//! Files in which ranges of the log are kept when they are no longer in the database.
//!
//! One file has one range: a line for each event, in order, as CloudEvents JSON, all of it compressed with gzip. Beside it is
//! a file with its SHA-256, as `sha256sum --check` reads it. So what is archived can be read without Rookery.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use ring::digest::{Context, SHA256};

use crate::cloud_event::{CloudEvent, NoPosition};
use crate::hex;
use crate::id::Position;
use crate::recorded::RecordedEvent;

/// The most that a line may be long: an event is at most about 1.8 KiB.
const LINE_MAX_BYTES: u64 = 64 * 1024;

/// Why an archive cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("{path} cannot be written: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} cannot be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not what was archived: its SHA-256 is {found}, and was {expected}")]
    Changed { path: PathBuf, found: String, expected: String },
    #[error("{path} is no archive: after position {after} comes {what}")]
    Malformed { path: PathBuf, after: Position, what: String },
}

/// The positions of one range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub first: Position,
    pub last: Position,
}

impl Span {
    /// The file of this range in `folder`.
    #[must_use]
    pub fn file_in(self, folder: &Path) -> PathBuf {
        // Names sort as positions do.
        folder.join(format!("events-{:019}-{:019}.jsonl.gz", self.first.0, self.last.0))
    }
}

/// Writes one archive. Under its own name it is there only once it is whole and on the disk.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    unfinished: PathBuf,
    lines: GzEncoder<Hashing<BufWriter<File>>>,
}

impl Writer {
    /// Begins the archive of `span` in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// [`ArchiveError::Write`]
    pub fn begin(folder: &Path, span: Span) -> Result<Self, ArchiveError> {
        let path = span.file_in(folder);
        let unfinished = path.with_extension("gz.unfinished");
        let file = fs::create_dir_all(folder).and_then(|()| File::create(&unfinished));
        let file = file.map_err(|source| unwritten(&unfinished, source))?;
        let lines = GzEncoder::new(Hashing::of(BufWriter::new(file)), Compression::default());
        Ok(Self { path, unfinished, lines })
    }

    /// Adds the next events.
    ///
    /// # Errors
    /// [`ArchiveError::Write`]
    pub fn add(&mut self, events: &[RecordedEvent]) -> Result<(), ArchiveError> {
        for event in events {
            // A line at a time: the compressor would be given each token of it.
            let mut line = serde_json::to_vec(&CloudEvent::from(event))
                .expect("strings and numbers always have a JSON form");
            line.push(b'\n');
            self.lines.write_all(&line).map_err(|source| unwritten(&self.unfinished, source))?;
        }
        Ok(())
    }

    /// Ends it. Returns its SHA-256.
    ///
    /// # Errors
    /// [`ArchiveError::Write`]
    pub fn finish(self) -> Result<[u8; 32], ArchiveError> {
        let Self { path, unfinished, lines } = self;
        let finish = || {
            let Hashing { inner, hash } = lines.finish()?;
            let file = inner.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            let hash = finished(hash);
            let sum = path.with_extension("gz.sha256");
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let mut beside = File::create(&sum)?;
            writeln!(beside, "{}  {name}", hex::encode(&hash))?;
            beside.sync_all()?;
            fs::rename(&unfinished, &path)?;
            // The names as well.
            if let Some(folder) = path.parent() {
                File::open(folder)?.sync_all()?;
            }
            Ok(hash)
        };
        finish().map_err(|source| unwritten(&path, source))
    }
}

/// Reads one archive.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    last: Position,
    reached: Position,
    lines: BufReader<GzDecoder<File>>,
}

impl Reader {
    /// Opens the archive of `span` in `folder`, whose SHA-256 has to be `expected`.
    ///
    /// # Errors
    /// [`ArchiveError::Read`], or [`ArchiveError::Changed`] when it is another.
    pub fn open(folder: &Path, span: Span, expected: &[u8]) -> Result<Self, ArchiveError> {
        let path = span.file_in(folder);
        let open = || {
            let mut hashing = Hashing::of(io::sink());
            io::copy(&mut File::open(&path)?, &mut hashing)?;
            Ok((finished(hashing.hash), File::open(&path)?))
        };
        let (found, file) = open().map_err(|source| unread(&path, source))?;
        if found != expected {
            return Err(ArchiveError::Changed {
                path,
                found: hex::encode(&found),
                expected: hex::encode(expected),
            });
        }
        let reached = Position(span.first.0 - 1);
        Ok(Self { path, last: span.last, reached, lines: BufReader::new(GzDecoder::new(file)) })
    }

    /// The next events, at most `limit`; none at the end, which is where the range ends.
    ///
    /// # Errors
    /// [`ArchiveError`] when it ends before, or has anything else in it.
    pub fn next(&mut self, limit: usize) -> Result<Vec<RecordedEvent>, ArchiveError> {
        let mut events = Vec::new();
        while events.len() < limit {
            let mut line = String::new();
            let read = self.lines.by_ref().take(LINE_MAX_BYTES).read_line(&mut line);
            if read.map_err(|source| unread(&self.path, source))? == 0 {
                if self.reached != self.last {
                    return Err(self.malformed("the end".to_owned()));
                }
                break;
            }
            let event = self.decode(&line)?;
            if event.position != self.reached.next() || event.position > self.last {
                return Err(self.malformed(format!("position {}", event.position)));
            }
            self.reached = event.position;
            events.push(event);
        }
        Ok(events)
    }

    fn decode(&self, line: &str) -> Result<RecordedEvent, ArchiveError> {
        let event: CloudEvent<'_> =
            serde_json::from_str(line).map_err(|error| self.malformed(error.to_string()))?;
        event.try_into().map_err(|error: NoPosition| self.malformed(error.to_string()))
    }

    fn malformed(&self, what: String) -> ArchiveError {
        ArchiveError::Malformed { path: self.path.clone(), after: self.reached, what }
    }
}

/// Hashes what is written through it.
struct Hashing<W> {
    inner: W,
    hash: Context,
}

impl<W> Hashing<W> {
    fn of(inner: W) -> Self {
        Self { inner, hash: Context::new(&SHA256) }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W> std::fmt::Debug for Hashing<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashing(…)")
    }
}

fn finished(hash: Context) -> [u8; 32] {
    hash.finish().as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

fn unwritten(path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Write { path: path.to_owned(), source }
}

fn unread(path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Read { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::event::{Event, TweetCreated};
    use crate::id::UserId;
    use crate::recorded::Metadata;

    const SPAN: Span = Span { first: Position(41), last: Position(60) };

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("rookery-archive-{}", Uuid::now_v7())))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn tweet(position: i64) -> RecordedEvent {
        let content = format!("tweet {position}: é, \n and \u{1f426}");
        let event = Event::TweetCreated(TweetCreated { author_id: UserId(7), content });
        RecordedEvent {
            position: Position(position),
            event_id: Uuid::now_v7(),
            stream: event.stream(Position(position)),
            version: 1,
            kind: event.kind().to_owned(),
            schema_version: event.schema_version(),
            payload: RawValue::from_string(event.payload()).unwrap(),
            metadata: Metadata {
                request_id: Some("r-1".to_owned()),
                traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok(),
            },
            recorded_at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
        }
    }

    fn write(folder: &Path, events: &[RecordedEvent]) -> [u8; 32] {
        let mut writer = Writer::begin(folder, SPAN).unwrap();
        for page in events.chunks(7) {
            writer.add(page).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(folder: &Path, sha256: &[u8]) -> Result<Vec<RecordedEvent>, ArchiveError> {
        let mut reader = Reader::open(folder, SPAN, sha256)?;
        let mut events = Vec::new();
        loop {
            let page = reader.next(6)?;
            if page.is_empty() {
                return Ok(events);
            }
            events.extend(page);
        }
    }

    #[test]
    fn what_was_written_is_read_and_the_same_is_written_alike() {
        let folder = Folder::new();
        let events: Vec<_> = (41..=60).map(tweet).collect();
        let sha256 = write(&folder.0, &events);
        let found = read(&folder.0, &sha256).unwrap();
        assert_eq!(format!("{found:?}"), format!("{events:?}"));
        assert_eq!(write(&folder.0, &events), sha256);
        let names: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|it| it.unwrap().path()).collect();
        assert_eq!(names.len(), 2, "an archive and its checksum: {names:?}");
    }

    #[test]
    fn what_is_not_the_whole_range_in_order_is_refused() {
        let folder = Folder::new();
        for (positions, words) in [
            ((41..=59).collect::<Vec<_>>(), "after position 59 comes the end"),
            ((41..=61).collect(), "after position 60 comes position 61"),
            ((42..=60).collect(), "after position 40 comes position 42"),
            ((41..=50).chain(52..=60).collect(), "after position 50 comes position 52"),
        ] {
            let events: Vec<_> = positions.into_iter().map(tweet).collect();
            let sha256 = write(&folder.0, &events);
            let error = read(&folder.0, &sha256).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn another_file_is_refused() {
        let folder = Folder::new();
        let sha256 = write(&folder.0, &(41..=60).map(tweet).collect::<Vec<_>>());
        let path = SPAN.file_in(&folder.0);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(read(&folder.0, &sha256), Err(ArchiveError::Changed { .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(read(&folder.0, &sha256), Err(ArchiveError::Read { .. })));
    }

    #[test]
    fn nothing_that_a_file_says_makes_the_reader_panic() {
        let folder = Folder::new();
        fs::create_dir(&folder.0).unwrap();
        let endless = "x".repeat(200_000);
        for text in ["", "\n", "{}\n", "[1]", "\u{0}", endless.as_str()] {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            let bytes = gzip.finish().unwrap();
            fs::write(SPAN.file_in(&folder.0), &bytes).unwrap();
            let sha256 = ring::digest::digest(&SHA256, &bytes);
            assert!(read(&folder.0, sha256.as_ref()).is_err(), "{text:.20}");
        }
    }
}

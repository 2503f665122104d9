//! What each event passes through that is neither PostgreSQL nor RabbitMQ: deciding a batch, signing and
//! reading a slice, working out what a run changes.
//!
//! `cargo bench -p bench --bench hot_pieces`. How fast the whole is, `cargo run --release -p bench` says.

use std::hint::black_box;

use api::appender::APPEND_BATCH_MAX;
use api::domain::{Account, Command, Content, DecisionState};
use chrono::{DateTime, Utc};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use events::event::TweetCreated;
use events::recorded::{Metadata, RecordedEvent};
use events::slice::{SLICE_MAX_EVENTS, Slice, SliceKey};
use events::store::append::Head;
use events::{Event, Position, UserId};
use projector::changes::{Changes, Ways};
use serde_json::value::RawValue;
use uuid::Uuid;

const USERS: i64 = 1_000;
const CONTENT: &str = "Up before the sun, and so is everyone else.";

/// A batch as large as there are, of tweets by users who all exist.
fn decide(criterion: &mut Criterion) {
    let now = DateTime::<Utc>::UNIX_EPOCH;
    let head =
        Head { position: Position(USERS), recorded_at: Some(now), last_user_id: UserId(USERS) };
    let mut state = DecisionState::at(head);
    state.accounts.extend((1..=USERS).map(UserId).map(|user_id| {
        let (username, email) = (format!("user{user_id}"), format!("{user_id}@example.org"));
        (user_id, Account { user_id, username, email, created_at: now })
    }));
    let content = Content::parse(CONTENT).expect("it is a tweet");
    let batch: Vec<_> = (1..=USERS)
        .take(APPEND_BATCH_MAX)
        .map(|author| Command::Tweet { author_id: UserId(author), content: content.clone() })
        .collect();
    let decide = |mut state: DecisionState| {
        for command in &batch {
            let event = command.decide(&state).expect("its author exists");
            black_box(state.evolve(&event, now));
        }
    };
    let mut group = criterion.benchmark_group("decide");
    group.throughput(Throughput::Elements(batch.len() as u64));
    group.bench_function("a batch of tweets", |bencher| {
        bencher.iter_batched(|| state.clone(), decide, BatchSize::LargeInput);
    });
    group.finish();
}

/// A run of tweets as the relay reads it from the log.
fn run() -> Vec<RecordedEvent> {
    let event = |number: usize| {
        let position = Position(i64::try_from(number).expect("a slice is short") + 1);
        let author_id = UserId(position.0 % USERS + 1);
        let content = CONTENT.to_owned();
        let event = Event::TweetCreated(TweetCreated { author_id, content });
        RecordedEvent {
            position,
            event_id: Uuid::from_u128(position.0.unsigned_abs().into()),
            stream: event.stream(position),
            version: 1,
            kind: event.kind().to_owned(),
            schema_version: event.schema_version(),
            payload: RawValue::from_string(event.payload()).expect("it is JSON"),
            metadata: Metadata { request_id: Some(Uuid::nil().to_string()), traceparent: None },
            recorded_at: DateTime::UNIX_EPOCH,
        }
    };
    (0..SLICE_MAX_EVENTS).map(event).collect()
}

/// A slice as large as there are, from the relay to the projector.
fn slice(criterion: &mut Criterion) {
    let key = SliceKey::new(b"a secret of the log's database");
    let slice = Slice::new(run()).expect("it has no hole");
    let body = slice.encode();
    let signature = key.sign(&body);
    let mut group = criterion.benchmark_group("slice");
    group.throughput(Throughput::Elements(slice.len() as u64));
    group.bench_function("encode and sign", |bencher| {
        bencher.iter(|| key.sign(black_box(&slice.encode())));
    });
    group.bench_function("check and decode", |bencher| {
        bencher.iter(|| Slice::decode(black_box(&body), &signature, &key).expect("it is signed"));
    });
    group.finish();
}

/// What the same run does to feeds.
fn changes(criterion: &mut Criterion) {
    let (run, ways) = (run(), Ways::default());
    let mut group = criterion.benchmark_group("changes");
    group.throughput(Throughput::Elements(run.len() as u64));
    group.bench_function("of a run, in feeds", |bencher| {
        bencher.iter(|| {
            let changes = Changes::of(black_box(&run)).expect("it can be read");
            changes.in_feeds(&ways)
        });
    });
    group.finish();
}

criterion_group!(hot_pieces, decide, slice, changes);
criterion_main!(hot_pieces);

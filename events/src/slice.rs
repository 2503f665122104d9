//! A slice of the log as one message: a CloudEvents JSON batch, signed by the relay.
//!
//! The format is the JSON batch binding of CloudEvents 1.0
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md#4-json-batch-format>).

use std::fmt;

use ring::hmac;

use crate::cloud_event::{CloudEvent, NoPosition};
use crate::hex;
use crate::history::Mark;
use crate::id::Position;
use crate::recorded::RecordedEvent;

/// The content type of a message.
pub const CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// The most events in one slice. An event is at most about 1.8 KiB of JSON (280 characters of four
/// bytes and their envelope), so a message stays below half a MiB, far from any broker's limit.
pub const SLICE_MAX_EVENTS: usize = 256;

/// Up to this many waiting events travel as one message each, so that a quiet system can be read
/// in the RabbitMQ UI event by event.
pub const QUIET_MAX_EVENTS: usize = 8;

/// One or more events with consecutive positions.
#[derive(Debug, Clone)]
pub struct Slice {
    events: Vec<RecordedEvent>,
}

/// Why a message is not a slice.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    #[error("the signature is missing or wrong: the relay did not write this message")]
    Forged,
    #[error("the body is not a CloudEvents batch: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error(transparent)]
    Position(#[from] NoPosition),
    #[error("the batch is empty")]
    Empty,
    #[error("it is of another history: it ends with {0}, which the log does not have")]
    OtherHistory(Mark),
    #[error("position {found} follows {after}: a slice has no holes")]
    Hole { after: Position, found: Position },
}

impl Slice {
    /// A slice of `events`.
    ///
    /// # Errors
    /// [`SliceError::Empty`] or [`SliceError::Hole`] when they are not one run of the log.
    pub fn new(events: Vec<RecordedEvent>) -> Result<Self, SliceError> {
        if events.is_empty() {
            return Err(SliceError::Empty);
        }
        for pair in events.windows(2) {
            if pair[1].position != pair[0].position.next() {
                return Err(SliceError::Hole { after: pair[0].position, found: pair[1].position });
            }
        }
        Ok(Self { events })
    }

    /// Cuts a run of the log into slices: single events while there are few, full slices beyond.
    ///
    /// # Errors
    /// [`SliceError::Hole`] when `events` are not one run of the log.
    pub fn cut(mut events: Vec<RecordedEvent>) -> Result<Vec<Self>, SliceError> {
        let size = if events.len() <= QUIET_MAX_EVENTS { 1 } else { SLICE_MAX_EVENTS };
        let mut slices = Vec::with_capacity(events.len().div_ceil(size));
        while !events.is_empty() {
            let rest = events.split_off(size.min(events.len()));
            slices.push(Self::new(std::mem::replace(&mut events, rest))?);
        }
        Ok(slices)
    }

    /// The position of its first event.
    #[must_use]
    pub fn first(&self) -> Position {
        self.events[0].position
    }

    /// The position of its last event.
    #[must_use]
    pub fn last(&self) -> Position {
        self.events[self.events.len() - 1].position
    }

    /// Its last event as a mark: where that is in a log, the whole slice is.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark::from(&self.events[self.events.len() - 1])
    }

    /// How many events it has: one at least.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a slice is never empty")]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Its events, in order.
    #[must_use]
    pub fn events(&self) -> &[RecordedEvent] {
        &self.events
    }

    /// Its events, in order.
    #[must_use]
    pub fn into_events(self) -> Vec<RecordedEvent> {
        self.events
    }

    /// The body of the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let batch: Vec<_> = self.events.iter().map(CloudEvent::from).collect();
        serde_json::to_vec(&batch).expect("strings and numbers always have a JSON form")
    }

    /// Reads the body of a message, after checking that the relay signed it.
    ///
    /// # Errors
    /// [`SliceError::Forged`] without a true signature; the other variants for a body that is
    /// signed but still not a slice.
    pub fn decode(body: &[u8], signature: &str, key: &SliceKey) -> Result<Self, SliceError> {
        if !key.is_signature_of(body, signature) {
            return Err(SliceError::Forged);
        }
        let batch: Vec<CloudEvent<'_>> = serde_json::from_slice(body)?;
        let events =
            batch.into_iter().map(RecordedEvent::try_from).collect::<Result<_, NoPosition>>()?;
        Self::new(events)
    }
}

/// The secret with which the relay signs slices. It is kept in the log's database: whoever can
/// read the log can check a slice, and whoever only reaches the broker cannot make one.
#[derive(Clone)]
pub struct SliceKey(hmac::Key);

impl SliceKey {
    /// HMAC-SHA256 (RFC 2104, FIPS 180-4) with `secret`.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Whether `signature` is that of `body`, compared in a time that says nothing about it.
    #[must_use]
    pub fn is_signature_of(&self, body: &[u8], signature: &str) -> bool {
        hex::decode(signature)
            .is_some_and(|signature| hmac::verify(&self.0, body, &signature).is_ok())
    }

    /// The signature of a message's body: 64 digits in base 16, because the RabbitMQ UI shows
    /// headers as text.
    #[must_use]
    pub fn sign(&self, body: &[u8]) -> String {
        hex::encode(hmac::sign(&self.0, body).as_ref())
    }
}

impl fmt::Debug for SliceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SliceKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::event::{Event, TweetCreated};
    use crate::id::UserId;
    use crate::recorded::Metadata;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn tweet(position: i64, content: &str) -> RecordedEvent {
        let event =
            Event::TweetCreated(TweetCreated { author_id: UserId(7), content: content.to_owned() });
        RecordedEvent {
            position: Position(position),
            event_id: Uuid::from_u128(1),
            stream: event.stream(Position(position)),
            version: 1,
            kind: event.kind().to_owned(),
            schema_version: event.schema_version(),
            payload: RawValue::from_string(event.payload()).unwrap(),
            metadata: Metadata {
                request_id: Some("r-1".to_owned()),
                traceparent: TRACEPARENT.parse().ok(),
            },
            recorded_at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
        }
    }

    fn key() -> SliceKey {
        SliceKey::new(b"secret")
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(first in 1_i64..i64::MAX - 100, contents in prop::collection::vec(any::<String>(), 1..20)) {
            let events: Vec<_> = (first..).zip(&contents).map(|(position, content)| tweet(position, content)).collect();
            let body = Slice::new(events.clone()).unwrap().encode();
            let decoded = Slice::decode(&body, &key().sign(&body), &key()).unwrap();
            prop_assert_eq!(decoded.first(), Position(first));
            prop_assert_eq!(format!("{:?}", decoded.into_events()), format!("{events:?}"));
        }

        #[test]
        fn no_body_makes_the_decoder_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Slice::decode(&body, &key().sign(&body), &key());
        }
    }

    #[test]
    fn a_message_that_the_relay_did_not_sign_is_forged() {
        let body = Slice::new(vec![tweet(1, "hello")]).unwrap().encode();
        let by_another = SliceKey::new(b"another secret").sign(&body);
        assert!(matches!(Slice::decode(&body, &by_another, &key()), Err(SliceError::Forged)));
        assert!(matches!(Slice::decode(&body, "zé", &key()), Err(SliceError::Forged)));

        let mut changed = body.clone();
        let last = changed.len() - 3;
        changed[last] ^= 1;
        let signature = key().sign(&body);
        assert!(matches!(Slice::decode(&changed, &signature, &key()), Err(SliceError::Forged)));
    }

    #[test]
    fn a_slice_has_no_holes() {
        let holed = Slice::new(vec![tweet(1, "one"), tweet(3, "three")]);
        assert!(matches!(holed, Err(SliceError::Hole { .. })));
        assert!(matches!(Slice::new(vec![]), Err(SliceError::Empty)));
    }

    #[test]
    fn few_events_travel_alone_and_many_together() {
        let few = (1..=8).map(|position| tweet(position, "quiet")).collect();
        assert_eq!(Slice::cut(few).unwrap().len(), 8);

        let many = (1..=600).map(|position| tweet(position, "busy")).collect();
        let slices = Slice::cut(many).unwrap();
        let runs: Vec<_> = slices.iter().map(|slice| (slice.first().0, slice.last().0)).collect();
        assert_eq!(runs, [(1, 256), (257, 512), (513, 600)]);
    }
}

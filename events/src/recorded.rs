//! An event as the log keeps it: numbered, dated and in a stream.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::event::{DecodeError, Event};
use crate::id::Position;
use crate::trace::{self, TraceParent};

/// A row of the log. The payload stays JSON text until someone asks for the [`Event`]: the relay
/// passes it on as it is.
#[derive(Debug, Clone)]
pub struct RecordedEvent {
    pub position: Position,
    /// UUIDv7. It identifies the event; it does not order it.
    pub event_id: Uuid,
    pub stream: String,
    /// 1, 2, 3, … within the stream.
    pub version: i32,
    pub kind: String,
    pub schema_version: i16,
    pub payload: Box<RawValue>,
    pub metadata: Metadata,
    pub recorded_at: DateTime<Utc>,
}

/// What is known about the command behind an event, apart from what it says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The request that carried the command, as in the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The append, as a place in the request's trace.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "trace::lenient")]
    pub traceparent: Option<TraceParent>,
}

impl RecordedEvent {
    /// The event itself, upcast to today's form.
    ///
    /// # Errors
    /// [`DecodeError`] when this release does not know the event or cannot read its payload.
    pub fn event(&self) -> Result<Event, DecodeError> {
        Event::decode(&self.kind, self.schema_version, self.payload.get())
    }
}

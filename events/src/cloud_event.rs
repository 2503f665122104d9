//! An event as others read it, in messages and archives: CloudEvents 1.0 in JSON
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>).
//!
//! A position is 64 bits and a CloudEvents integer only 32, so it travels as a string.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::recorded::{Metadata, RecordedEvent};
use crate::trace::{self, TraceParent};

/// What an event has in the place of its position.
#[derive(Debug, thiserror::Error)]
#[error("the position {0:?} is not a number")]
pub struct NoPosition(String);

/// An event. Names are CloudEvents attributes: lower case, no separators.
#[derive(Serialize, Deserialize)]
pub(crate) struct CloudEvent<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    id: Uuid,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    /// The stream.
    #[serde(borrow)]
    subject: Cow<'a, str>,
    time: DateTime<Utc>,
    #[serde(borrow)]
    datacontenttype: Cow<'a, str>,
    #[serde(borrow)]
    position: Cow<'a, str>,
    streamversion: i32,
    schemaversion: i16,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    requestid: Option<Cow<'a, str>>,
    /// As in CloudEvents' distributed tracing extension: of what made the event, not of its way here.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "trace::lenient")]
    traceparent: Option<TraceParent>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl<'a> From<&'a RecordedEvent> for CloudEvent<'a> {
    fn from(event: &'a RecordedEvent) -> Self {
        Self {
            specversion: "1.0".into(),
            id: event.event_id,
            source: "/rookery/log".into(),
            kind: event.kind.as_str().into(),
            subject: event.stream.as_str().into(),
            time: event.recorded_at,
            datacontenttype: "application/json".into(),
            position: event.position.to_string().into(),
            streamversion: event.version,
            schemaversion: event.schema_version,
            requestid: event.metadata.request_id.as_deref().map(Cow::from),
            traceparent: event.metadata.traceparent,
            data: &event.payload,
        }
    }
}

impl TryFrom<CloudEvent<'_>> for RecordedEvent {
    type Error = NoPosition;

    fn try_from(event: CloudEvent<'_>) -> Result<Self, NoPosition> {
        Ok(Self {
            position: event.position.parse().map_err(|_| NoPosition(event.position.to_string()))?,
            event_id: event.id,
            stream: event.subject.into_owned(),
            version: event.streamversion,
            kind: event.kind.into_owned(),
            schema_version: event.schemaversion,
            payload: event.data.to_owned(),
            metadata: Metadata {
                request_id: event.requestid.map(Cow::into_owned),
                traceparent: event.traceparent,
            },
            recorded_at: event.time,
        })
    }
}

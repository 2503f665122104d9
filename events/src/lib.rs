//! What both sides of Rookery share: the events, the log that holds them, and the form in which
//! they travel.
//!
//! The `api` appends to the log and relays it; the `projector` reads what the relay published and,
//! where something is missing, the log itself. Neither depends on the other: the event JSON, the
//! broker's topology and the tables are all that they have in common, and all of that is here.

pub mod amqp;
pub mod archive;
pub mod clock;
mod cloud_event;
pub mod event;
pub mod explain;
pub mod hex;
pub mod history;
pub mod id;
pub mod lifecycle;
pub mod metrics;
pub mod name_key;
pub mod projection;
pub mod recorded;
pub mod retry;
pub mod runtime;
pub mod settings;
pub mod slice;
pub mod store;
pub mod trace;

pub use clock::Clock;
pub use event::Event;
pub use explain::Explanation;
pub use history::Mark;
pub use id::{Position, TweetId, UserId};
pub use projection::ProjectionName;
pub use recorded::RecordedEvent;
pub use slice::Slice;

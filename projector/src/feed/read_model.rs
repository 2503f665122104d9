//! The tables of the read model, a file for each, and how a run of events is written into it.

pub mod dormant;
pub mod fan_out;
pub(crate) mod feed_items;
pub(crate) mod floor;
pub(crate) mod follows;
pub mod holding;
pub(crate) mod reader_counts;
pub mod rules;
pub(crate) mod tweets;
pub(crate) mod users;

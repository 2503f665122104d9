//! Builds Rookery's read model from its log.
//!
//! `consume` takes what RabbitMQ brings or reads the log, `projection` finds what of it is new and applies it, transaction by
//! transaction: their net effect is `changes`, which goes into the tables of `read_model`, and `checkpoint` moves with
//! it. `rebuild` makes another `generation` of all that beside the live one, and `verify` holds it against the log.

pub mod bounds;
pub mod changes;
pub mod checkpoint;
pub mod commands;
pub mod config;
pub mod consume;
pub mod counts;
pub mod dead_letters;
pub mod feed;
pub mod generation;
pub mod metrics;
mod output;
pub mod progress;
pub mod projection;
pub mod rebuild;
pub mod verify;

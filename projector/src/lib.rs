//! Builds Rookery's read models from its log.
//!
//! `consume` takes what RabbitMQ brings or reads the log, `projection` finds what of it is new and has it applied, transaction by
//! transaction, with which `checkpoint` moves. What is made of it is particular to each projection: `feed` and `counts`. `rebuild`
//! makes another `generation` beside the live one, and `verify` holds feeds and log against the log.

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

//! Builds Rookery's read model from its log.
//!
//! A message goes `consume` → `projection` → `apply` → `changes`, the net effect of its events, and
//! from there into one table per module: `users`, `tweets`, `follows`, `feed_items`, `floor`.

pub mod apply;
pub mod changes;
pub mod checkpoint;
pub mod commands;
pub mod config;
pub mod consume;
pub mod fan_out;
mod feed_items;
pub mod floor;
mod follows;
pub mod generation;
pub mod holding;
pub mod hops;
pub mod lead;
mod listen;
mod output;
pub mod progress;
pub mod projection;
pub mod rebuild;
mod subscription;
mod tweets;
mod users;
pub mod verify;
pub mod work;

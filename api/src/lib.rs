//! Rookery's HTTP service and outbox relay.
//!
//! A command goes `routes` → `handlers` → `domain` → `appender` → the log; the `relay` publishes the
//! log; a read goes `routes` → `handlers` → `views`.

pub mod appender;
pub mod archiving;
pub mod authentication;
mod body;
mod caller;
pub mod changes;
pub mod command_line;
pub mod config;
pub mod domain;
mod extract;
pub mod freshness;
mod handlers;
mod header;
mod lingering;
pub mod live;
pub mod markers;
pub mod metrics;
mod openapi;
mod own_hosts;
mod page;
mod parts;
pub mod pipeline;
pub mod position;
pub mod problem;
pub mod readiness;
pub mod readings;
pub mod relay;
pub mod replicas;
mod reread;
mod routes;
pub mod secret;
mod server;
pub mod service;
mod state;
pub mod ticket;
mod traced;
pub mod views;
mod web;

//! Rookery on real servers: each guarantee, and what happens when something fails.

mod appender;
mod authentication;
mod changes;
mod connections;
mod explain;
mod explain_command;
mod faults;
mod feeds;
mod generations;
mod histories;
mod http;
mod live;
mod log;
mod logs;
mod operators;
mod plans;
mod projection;
mod relay;
mod roles;
mod sessions;
mod snapshots;
mod start;
mod swap;
mod turns;
mod verification;

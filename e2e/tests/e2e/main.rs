//! Rookery on real servers: each guarantee, and what happens when something fails.

mod appender;
mod explain;
mod explain_command;
mod faults;
mod feeds;
mod generations;
mod http;
mod log;
mod operators;
mod projection;
mod relay;
mod swap;
mod verification;

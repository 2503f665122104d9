//! Rookery on real servers: each guarantee, and what happens when something fails.

mod appender;
mod authentication;
mod faults;
mod feeds;
mod http;
mod log;
mod operators;
mod projection;
mod relay;
mod roles;
mod start;

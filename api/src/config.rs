//! What can be set, by flag or environment.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::Parser;

/// Rookery's HTTP service and outbox relay.
///
/// Applies the migrations at start. Both parts run in one process unless a flag leaves one out.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "api",
    version,
    after_help = "Examples:\n  \
        api                                   both parts, on http://127.0.0.1:8003\n  \
        api --no-relay --bind 127.0.0.1:8004  one more HTTP server beside it\n  \
        api --no-http                         one more relay, ready to take over\n\n\
        Exit codes: 0 stopped in order, 1 failed, 2 bad usage.\n\
        Logs go to standard error: for people on a terminal, JSON elsewhere; RUST_LOG filters them."
)]
pub struct Config {
    /// PostgreSQL with the log: events, outbox cursor, decision state.
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub database_url: String,

    /// PostgreSQL with the read model [default: the same as --database-url].
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub feed_database_url: Option<String>,

    /// RabbitMQ, for the relay. May be away: commands are accepted all the same.
    #[arg(
        long,
        env,
        hide_env_values = true,
        value_name = "URL",
        required_unless_present = "no_relay"
    )]
    pub amqp_url: Option<String>,

    /// Where to listen. Beyond loopback only with --trust-user-header.
    #[arg(long, env, default_value = "127.0.0.1:8003", value_name = "HOST:PORT")]
    pub bind: String,

    /// Believe X-User-ID on any address, because a gateway in front sets it and strips what clients send.
    #[arg(long, env)]
    pub trust_user_header: bool,

    /// Serve no HTTP: only relay.
    #[arg(long, conflicts_with = "no_relay")]
    pub no_http: bool,

    /// Do not relay: only serve HTTP. Some other process has to.
    #[arg(long)]
    pub no_relay: bool,

    /// Connections to the read model. A read needs one for about half a millisecond.
    #[arg(long, env, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub feed_connections: u32,

    /// How long a read with X-Min-Log-Position waits for the read model before it answers 503.
    #[arg(long, env, default_value_t = 2_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub min_position_patience_ms: u64,
}

impl Config {
    /// The address to listen on, if it is safe to.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn address(&self) -> Result<SocketAddr, String> {
        let address = self
            .bind
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(|| format!("BIND={} is not HOST:PORT", self.bind))?;
        if !address.ip().is_loopback() && !self.trust_user_header {
            return Err(format!(
                "BIND={} is reachable from other machines, and X-User-ID is believed without proof; \
                 bind to 127.0.0.1, or give --trust-user-header if a gateway in front sets that header",
                self.bind
            ));
        }
        Ok(address)
    }

    /// See `--min-position-patience-ms`.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.min_position_patience_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Config {
        let required = ["api", "--database-url", "postgres://x", "--amqp-url", "amqp://x"];
        Config::parse_from(required.iter().chain(arguments))
    }

    #[test]
    fn the_development_login_stays_on_this_machine() {
        assert!(config(&[]).address().is_ok());
        assert!(config(&["--bind", "[::1]:8003"]).address().is_ok());
        assert!(config(&["--bind", "0.0.0.0:8003"]).address().is_err());
        assert!(config(&["--bind", "0.0.0.0:8003", "--trust-user-header"]).address().is_ok());
    }
}

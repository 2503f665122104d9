//! What can be set, by flag or environment.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::Parser;
use clap::builder::{NonEmptyStringValueParser, RangedU64ValueParser};
use events::store::SWAP_STANDSTILL_MAX_MS;

use crate::authentication::{Authentication, Key, Tokens, WatcherClaim};
use crate::own_hosts::{Host, OwnHosts};
use crate::secret::Secret;

/// A reader's patience outlasts a swap of generations, twice over.
const PATIENCE_MIN_MS: u64 = 2 * SWAP_STANDSTILL_MAX_MS;

/// Less would be of use to nobody but those who want to see many ranges soon.
const RANGE_EVENTS_MIN: i64 = 16;

/// Rookery's HTTP service and outbox relay.
///
/// Applies the log's migrations at start, or waits for who may. Both parts run in one process unless
/// a flag leaves one out.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "api",
    version,
    after_help = "Examples:\n  \
        api                                   both parts, on http://127.0.0.1:8003\n  \
        api --no-relay --bind 127.0.0.1:8004  one more HTTP server beside it\n  \
        api --no-http                         one more relay, ready to take over\n  \
        api --migrate-only                    as the database's owner: see scripts/roles\n\n\
        Exit codes: 0 stopped in order, 1 failed, 2 bad usage.\n\
        Logs go to standard error: for people on a terminal, JSON elsewhere; RUST_LOG filters them.\n\
        OTEL_EXPORTER_OTLP_ENDPOINT, if set, is where traces go; see docs/tracing.md."
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Config {
    /// PostgreSQL with the log: events, outbox cursor, decision state.
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub database_url: Secret,

    /// PostgreSQL with the read model [default: the same as --database-url].
    #[arg(long, env, hide_env_values = true, value_name = "URL")]
    pub feed_database_url: Option<Secret>,

    /// Replicas of the read model (streaming replication), with commas between them: home feeds are read there. A reader stays
    /// with one; one that is away or behind is left out [default: none].
    #[arg(long, env, hide_env_values = true, value_name = "URL", value_delimiter = ',')]
    pub feed_replica_urls: Vec<Secret>,

    /// RabbitMQ, for the relay. May be away: commands are accepted all the same. Of a cluster several nodes, with commas
    /// between them.
    #[arg(
        long,
        env,
        hide_env_values = true,
        value_name = "URL",
        required_unless_present_any = ["no_relay", "migrate_only"]
    )]
    pub amqp_url: Option<Secret>,

    /// Where to listen. Beyond loopback only with a JWT key or with --trust-user-header.
    #[arg(long, env, default_value = "127.0.0.1:8003", value_name = "HOST:PORT")]
    pub bind: String,

    /// Serve Prometheus metrics here, and no longer at /metrics of --bind [default: there].
    #[arg(long, env = "API_METRICS_BIND", value_name = "HOST:PORT")]
    pub metrics_bind: Option<SocketAddr>,

    /// Callers send bearer tokens: JWTs with `sub` and `exp`, signed with HS256 and this secret.
    ///
    /// Its bytes are the key as they are, 32 at least. X-User-ID is not believed any more. Better
    /// given as a variable: everyone on a machine can see the arguments of a process.
    #[arg(long, env, hide_env_values = true, value_name = "SECRET", group = "jwt_key")]
    pub jwt_secret: Option<Secret>,

    /// The same, signed for this public key: RS256 for RSA, ES256 for P-256, EdDSA for Ed25519.
    ///
    /// The path of a PEM file, or the PEM text itself (-----BEGIN PUBLIC KEY-----). The key alone
    /// decides on the algorithm; what a token says about itself does not matter.
    #[arg(long, env, hide_env_values = true, value_name = "PEM", group = "jwt_key")]
    pub jwt_public_key: Option<Secret>,

    /// What this service is called in the `aud` of tokens [default: only tokens without one are accepted].
    #[arg(long, env, value_name = "NAME", requires = "jwt_key", value_parser = NonEmptyStringValueParser::new())]
    pub jwt_audience: Option<String>,

    /// The claim of those who may watch the pipeline: NAME, which has to be true, or NAME=VALUE [default: nobody may].
    #[arg(long, env, value_name = "CLAIM", requires = "jwt_key")]
    pub pipeline_claim: Option<WatcherClaim>,

    /// Names by which browsers may reach this service, beside localhost, where X-User-ID is believed.
    ///
    /// Any other `Host` is refused: a page of somebody else's, whose name leads here (DNS rebinding), could
    /// act as any user. A gateway that passes its own name on needs it here.
    #[arg(long, env, value_name = "NAME", value_delimiter = ',')]
    pub allowed_hosts: Vec<Host>,

    /// Believe X-User-ID on any address, because a gateway in front sets it and strips what clients send.
    #[arg(long, env)]
    pub trust_user_header: bool,

    /// Apply the log's migrations, as a role that may, and exit.
    #[arg(long, conflicts_with_all = ["no_http", "no_relay"])]
    pub migrate_only: bool,

    /// Serve no HTTP: only relay.
    #[arg(long, conflicts_with = "no_relay")]
    pub no_http: bool,

    /// Do not relay: only serve HTTP. Some other process has to.
    #[arg(long)]
    pub no_relay: bool,

    /// How many positions each new range of the log has: what is archived at once. Every statement that may look at all of the
    /// log touches each range, so let there be some dozens, not hundreds.
    #[arg(long, env, default_value_t = 10_000_000, value_name = "N", value_parser = clap::value_parser!(i64).range(RANGE_EVENTS_MIN..=1_000_000_000))]
    pub log_range_events: i64,

    /// Connections to the read model, and to each of its replicas. A read needs one for about half a millisecond.
    #[arg(long, env, default_value_t = 8, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub feed_connections: usize,

    /// How long a read with X-Min-Log-Position waits for the read model before it answers 503.
    #[arg(long, env, default_value_t = 2_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(PATIENCE_MIN_MS..=60_000))]
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
        let proven = self.jwt_secret.is_some() || self.jwt_public_key.is_some();
        if !address.ip().is_loopback() && !proven && !self.trust_user_header {
            return Err(format!(
                "BIND={} is reachable from other machines, and X-User-ID is believed without proof; \
                 bind to 127.0.0.1, or have callers send tokens (--jwt-secret, --jwt-public-key), or \
                 give --trust-user-header if a gateway in front sets that header",
                self.bind
            ));
        }
        Ok(address)
    }

    /// How callers say who they are.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn authentication(&self) -> Result<Authentication, String> {
        let key = match (&self.jwt_secret, &self.jwt_public_key) {
            (Some(secret), _) => Key::from_secret(secret),
            (None, Some(key)) => Key::from_pem_or_path(key.expose()),
            (None, None) => return Ok(Authentication::UserHeader),
        };
        let key = key.map_err(|error| error.to_string())?;
        if self.trust_user_header {
            let detail = "--trust-user-header and a JWT key exclude each other: either a gateway says \
                          who is calling, or a token does";
            return Err(detail.to_owned());
        }
        let watcher = self.pipeline_claim.clone();
        let tokens = Tokens::new(key, self.jwt_audience.as_deref(), watcher);
        Ok(Authentication::Tokens(Box::new(tokens)))
    }

    /// The hosts that requests may be for, where it matters.
    #[must_use]
    pub fn own_hosts(&self) -> Option<OwnHosts> {
        let believed = self.jwt_secret.is_none() && self.jwt_public_key.is_none();
        believed.then(|| OwnHosts::new(&self.allowed_hosts))
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

    const SECRET: &str = "a secret of thirty-two bytes, or more";

    fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
        let required = ["api", "--database-url", "postgres://x", "--amqp-url", "amqp://x"];
        Config::try_parse_from(required.iter().chain(arguments))
    }

    fn config(arguments: &[&str]) -> Config {
        parse(arguments).unwrap()
    }

    #[test]
    fn the_development_login_stays_on_this_machine() {
        assert!(config(&[]).address().is_ok());
        assert!(config(&["--bind", "[::1]:8003"]).address().is_ok());
        assert!(config(&["--bind", "0.0.0.0:8003"]).address().is_err());
        assert!(config(&["--bind", "0.0.0.0:8003", "--trust-user-header"]).address().is_ok());
        assert!(config(&["--bind", "0.0.0.0:8003", "--jwt-secret", SECRET]).address().is_ok());
    }

    #[test]
    fn a_caller_is_believed_in_one_way_only() {
        assert!(matches!(config(&[]).authentication(), Ok(Authentication::UserHeader)));
        let with_secret = config(&["--jwt-secret", SECRET, "--jwt-audience", "rookery"]);
        assert!(matches!(with_secret.authentication(), Ok(Authentication::Tokens(_))));
        let both = config(&["--jwt-secret", SECRET, "--trust-user-header"]).authentication();
        assert!(both.unwrap_err().contains("--trust-user-header"));
        assert!(parse(&["--jwt-secret", SECRET, "--jwt-public-key", "key.pem"]).is_err());
        assert!(parse(&["--jwt-audience", "rookery"]).is_err(), "nobody would look at it");
    }

    #[test]
    fn no_secret_is_shown() {
        let config = config(&["--jwt-secret", SECRET]);
        let shown = format!("{config:?} {:?}", config.authentication());
        for secret in [SECRET, "postgres://x", "amqp://x"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let bytes = format!("{:?}", SECRET.as_bytes());
        assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
    }
}

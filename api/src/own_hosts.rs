//! Which hosts a request may be for, where `X-User-ID` is believed.
//!
//! A browser sends what any web page asks it to. Where a header names the caller, two things keep such a page
//! from acting as any user: it may not read or send such headers across origins, and it may not pretend to be of
//! this origin, which it could by a name of its own that leads here (DNS rebinding). So a `Host` that is not
//! ours is refused, and an `Origin` that is not that host.

use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::problem::Problem;

/// The names of this machine.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The name of a host, without a port, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(String);

impl FromStr for Host {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(without_port(text.trim()).to_ascii_lowercase()))
    }
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OwnHosts {
    /// What a gateway calls us.
    given: Arc<[Host]>,
}

impl OwnHosts {
    /// Those of this machine, and the `given` ones.
    #[must_use]
    pub fn new(given: &[Host]) -> Self {
        Self { given: given.into() }
    }

    /// Refuses a request that is for somebody else or comes from somebody else's page. Without a `Host` it comes
    /// from no browser.
    fn ensure(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
        let named =
            || headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
        let hosts = || named().chain(uri.authority().map(Authority::as_str));
        if let Some(host) = hosts().find(|host| !self.is_ours(host)) {
            let detail = format!(
                "this service is not called {:?} here: it is reached as localhost, or as --allowed-hosts says",
                without_port(host)
            );
            return Err(Problem::foreign(detail));
        }
        for origin in headers.get_all(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let of = origin.split_once("://").map_or("", |(_, authority)| authority);
            let is_same = hosts().any(|host| host.eq_ignore_ascii_case(of));
            if of.is_empty() || !(is_same || self.is_given(of)) {
                return Err(Problem::foreign(format!("a page of {origin:?} may not act here")));
            }
        }
        Ok(())
    }

    fn is_ours(&self, host: &str) -> bool {
        LOOPBACK.iter().any(|name| name.eq_ignore_ascii_case(without_port(host)))
            || self.is_given(host)
    }

    fn is_given(&self, host: &str) -> bool {
        self.given.iter().any(|Host(name)| name.eq_ignore_ascii_case(without_port(host)))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The layer; nothing is refused where callers prove who they are.
pub async fn only_own_hosts(
    State(hosts): State<Option<OwnHosts>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(hosts) = hosts {
        hosts.ensure(request.headers(), request.uri())?;
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn is_refused(given: &[&str], host: &str, origin: Option<&str>) -> bool {
        let given: Vec<Host> = given.iter().map(|host| host.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        OwnHosts::new(&given).ensure(&headers, &Uri::from_static("/api/users")).is_err()
    }

    #[test]
    fn only_this_machine_and_what_was_given_are_our_names() {
        for ours in ["localhost", "LOCALHOST:8003", "127.0.0.1:8003", "[::1]:8003", "[::1]"] {
            assert!(!is_refused(&[], ours, None), "{ours}");
        }
        for foreign in
            ["evil.example", "localhost.evil.example:8003", "127.0.0.1.nip.io", "", "::1"]
        {
            assert!(is_refused(&[], foreign, None), "{foreign}");
        }
        assert!(!is_refused(&["Feed.example"], "feed.example:443", None));
        assert!(is_refused(&["feed.example"], "evil.example", None));
    }

    #[test]
    fn only_our_own_page_may_act() {
        assert!(!is_refused(&[], "localhost:8003", Some("http://localhost:8003")));
        for foreign in ["http://evil.example", "http://localhost:3000", "null", "http://"] {
            assert!(is_refused(&[], "localhost:8003", Some(foreign)), "{foreign}");
        }
        let given = ["feed.example"];
        assert!(!is_refused(&given, "feed.example", Some("https://feed.example")));
        assert!(!is_refused(&given, "127.0.0.1:8003", Some("https://feed.example")));
    }
}

//! The page's files, as `build.rs` made them ready: in the binary, each also compressed.

use std::fmt::Write;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::authentication::Authentication;

/// A hash of all files: their address changes with any of them, so that a browser may keep them for good.
pub const VERSION: &str = env!("ROOKERY_WEB_VERSION");

/// Nothing but this service's own files runs, is shown or is asked, and nobody puts the page into another.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
);

const PERMISSIONS_POLICY: HeaderValue =
    HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()");

const FOR_GOOD: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// Asked for each time, and sent only when it changed.
const ASK_EACH_TIME: HeaderValue = HeaderValue::from_static("no-cache");

const HTML: &str = "text/html; charset=utf-8";

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/web"]
struct Files;

/// The page as this service serves it.
#[derive(Debug, Clone, Copy)]
pub struct Web {
    /// The page itself differs by how callers say who they are.
    index: &'static str,
}

impl Web {
    /// The page for those who log in by `authentication`.
    #[must_use]
    pub const fn for_login(authentication: &Authentication) -> Self {
        let index = match authentication {
            Authentication::UserHeader => "user-header.html",
            Authentication::Tokens(_) => "token.html",
        };
        Self { index }
    }

    /// The page itself.
    #[must_use]
    pub fn index(self, request: &HeaderMap) -> Option<Response> {
        answer(self.index, request, ASK_EACH_TIME)
    }
}

/// One of the page's files. The page itself is none, and the compressed twins are reached by `Accept-Encoding`.
#[must_use]
pub fn asset(name: &str, request: &HeaderMap) -> Option<Response> {
    let is_asset = content_type(name).is_some_and(|content_type| content_type != HTML);
    is_asset.then(|| answer(name, request, FOR_GOOD)).flatten()
}

fn answer(name: &str, request: &HeaderMap, caching: HeaderValue) -> Option<Response> {
    let content_type = content_type(name)?;
    let compressed = takes_gzip(request).then(|| Files::get(&format!("{name}.gz"))).flatten();
    let is_compressed = compressed.is_some();
    let EmbeddedFile { data, metadata } = compressed.or_else(|| Files::get(name))?;
    let etag = metadata.sha256_hash().iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string does not fail.
        write!(digits, "{byte:02x}").unwrap_or_default();
        digits
    });
    let etag = HeaderValue::try_from(format!("\"{etag}\"")).ok()?;
    let is_known = request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim().trim_start_matches("W/").as_bytes() == etag.as_bytes());

    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Body::from(data).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if is_compressed && !is_known {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::ETAG, etag);
    headers.insert(header::CACHE_CONTROL, caching);
    headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert("permissions-policy", PERMISSIONS_POLICY);
    Some(response)
}

fn content_type(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "html" => Some(HTML),
        "js" => Some("text/javascript; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

/// Whether `Accept-Encoding` has gzip, and not with a weight of nothing.
fn takes_gzip(request: &HeaderMap) -> bool {
    let values = request.get_all(header::ACCEPT_ENCODING).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
        |coding| {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            let is_refused = weight
                .trim()
                .strip_prefix("q=")
                .is_some_and(|weight| weight.parse::<f64>().is_ok_and(|weight| weight <= 0.0));
            matches!(name.trim(), "gzip" | "*") && !is_refused
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let takes = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            takes_gzip(&headers)
        };
        assert!(takes("gzip, deflate, br"));
        assert!(takes("br;q=1.0, gzip;q=0.5"));
        assert!(takes("*"));
        assert!(!takes("identity"));
        assert!(!takes("gzip;q=0"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn the_page_names_files_that_are_there_and_nothing_from_elsewhere() {
        for login in ["user-header.html", "token.html"] {
            let page = Files::get(login).unwrap();
            let page = std::str::from_utf8(&page.data).unwrap();
            let linked: Vec<&str> =
                page.split('"').filter_map(|text| text.strip_prefix("/assets/")).collect();
            assert!(!linked.is_empty());
            for path in linked {
                let (version, name) = path.split_once('/').unwrap();
                assert_eq!(version, VERSION);
                assert!(Files::get(name).is_some(), "{name}");
            }
            assert!(!page.contains("{assets}") && !page.contains("{login}"));
        }
        for name in Files::iter().filter(|name| name.ends_with(".js")) {
            let script = Files::get(&name).unwrap();
            let script = String::from_utf8(script.data.into_owned()).unwrap();
            for import in script.lines().filter(|line| line.contains(" from \"")) {
                let path = import.rsplit('"').nth(1).unwrap();
                let file = path.strip_prefix("./").unwrap_or_else(|| panic!("{name}: {import}"));
                assert!(Files::get(file).is_some(), "{name}: {import}");
            }
        }
    }
}

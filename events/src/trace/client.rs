//! How spans are sent: a blocking HTTP client, for a thread that does nothing else.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use rustls::crypto::ring;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The most that sending a batch may take, as OpenTelemetry's specification has it where nothing else is said.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// As much of an answer is read; it says at most that some spans were refused.
const ANSWER_MAX_BYTES: u64 = 64 * 1024;

/// See the module.
pub(super) struct BlockingClient(Agent);

impl BlockingClient {
    /// A client that trusts the authorities which this machine trusts, or those of `SSL_CERT_FILE`.
    pub(super) fn new() -> Self {
        let found = rustls_native_certs::load_native_certs().certs;
        let roots: Vec<_> =
            found.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(SEND_TIMEOUT))
            .http_status_as_error(false)
            .build();
        Self(config.into())
    }
}

#[async_trait]
impl HttpClient for BlockingClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = self.0.run(request.map(|body| body.to_vec()))?.into_parts();
        let mut answer = Vec::new();
        body.into_reader().take(ANSWER_MAX_BYTES).read_to_end(&mut answer)?;
        Ok(Response::from_parts(head, answer.into()))
    }
}

impl fmt::Debug for BlockingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockingClient")
    }
}

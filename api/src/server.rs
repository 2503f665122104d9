//! Accepting connections: bounded in number, cut off when slow, finished in order at the end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use metrics::{counter, gauge};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::normalize_path::NormalizePath;

use crate::lingering::{Linger, Lingering};
use crate::metrics::{HTTP_CONNECTION_ERRORS, HTTP_CONNECTIONS};

/// The most open connections: [`STREAMS_MAX`](crate::live::STREAMS_MAX) and a quarter more. Each idle one
/// costs a few KiB; beyond this the next waits in the kernel until another closes.
const CONNECTIONS_MAX: usize = 12_500;

/// A connection that sends no whole request head for this long is closed, whether it is slow on
/// purpose or only idle.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that takes nothing of its answer for this long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// File descriptors for databases, broker, logs.
const DESCRIPTORS_RESERVED: usize = 128;

/// hyper's limit on a request's head; a head has a few hundred bytes.
const HEAD_MAX_BYTES: usize = 16 * 1024;

/// The wait after the system could not accept, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long requests in flight may take to finish once the service stops. With the relay's part it
/// stays below [`events::runtime::SHUTDOWN_DEADLINE`].
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves up to `connections_max` connections until `shutdown` is cancelled, then finishes the requests that are in flight.
pub async fn serve(
    listener: TcpListener,
    connections_max: usize,
    service: NormalizePath<Router>,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(connections_max));
    let connections = GracefulShutdown::new();
    gauge!(HTTP_CONNECTIONS.name).set(0.0);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ_TIMEOUT)
            .max_buf_size(HEAD_MAX_BYTES);
        let service = service.clone();
        let linger = Linger::default();
        let lingers = linger.clone();
        let service = tower::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(lingers.clone());
            service.clone().oneshot(request.map(axum::body::Body::new))
        });
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let stream = Lingering::new(Box::pin(stream), linger);
        let connection =
            http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            gauge!(HTTP_CONNECTIONS.name).increment(1);
            // The client went away or sent no HTTP: its loss alone.
            if let Err(error) = connection.await {
                counter!(HTTP_CONNECTION_ERRORS.name).increment(1);
                tracing::debug!(%error, "a connection ended early");
            }
            gauge!(HTTP_CONNECTIONS.name).decrement(1);
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.shutdown()).await.is_err() {
        tracing::warn!("some connections were still busy and are cut");
    }
}

/// How many connections there can be: as many as there are file descriptors for, beside those that the rest of the process needs.
pub fn connections_max() -> usize {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            CONNECTIONS_MAX.min(limit.saturating_sub(DESCRIPTORS_RESERVED).max(1))
        }
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            CONNECTIONS_MAX
        }
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

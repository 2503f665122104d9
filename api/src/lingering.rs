//! Closing a connection so that its client can read the last answer.
//!
//! A socket that is closed while bytes of the client are unread, or on their way, is reset, and a
//! reset takes the answer with it. So the end is said first, and what still comes is thrown away until
//! the client has ended too, or [`LINGER_TIMEOUT`] has passed (RFC 9112, section 9.6). A connection on
//! which nothing more is expected is closed at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may go on sending what nobody reads: ten megabytes at ten megabits a second.
const LINGER_TIMEOUT: Duration = Duration::from_secs(10);

/// Says that the client was answered before it had sent everything. A request has it among its
/// extensions.
#[derive(Debug, Clone, Default)]
pub struct Linger(Arc<AtomicBool>);

impl Linger {
    /// More is expected on this connection, which nobody will read.
    pub fn expect_more(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A stream whose shutdown waits for the other side's, where more is expected of it.
#[derive(Debug)]
pub struct Lingering<S> {
    stream: S,
    linger: Linger,
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub fn new(stream: S, linger: Linger) -> Self {
        Self { stream, linger, end: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.end.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        }
        let this = &mut *self;
        let end = this.end.get_or_insert_with(|| Box::pin(sleep(LINGER_TIMEOUT)));
        let mut thrown_away = [0; 4096];
        loop {
            if end.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut thrown_away);
            match Pin::new(&mut this.stream).poll_read(context, &mut buffer)? {
                Poll::Ready(()) if buffer.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(()) => this.linger.expect_more(),
                Poll::Pending if this.linger.0.load(Ordering::Relaxed) => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}

//! Trying again. The one module that knows the `backoff` crate (see ADR 0007).

use std::fmt;
use std::time::{Duration, Instant};

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use tokio_util::sync::CancellationToken;

/// The first wait; short, because most faults are a connection that was cut once.
const FIRST_WAIT_MS: u64 = 100;

/// The longest wait, give or take half of it: how late we may notice that the other side is back.
const LONGEST_WAIT_MS: u64 = 2_000;

/// A session that ran this long was healthy: the next fault starts again from the first wait.
const HEALTHY_AFTER_MS: u64 = 10_000;

/// How a session ended, other than by being asked to stop.
#[derive(Debug)]
pub enum Failure<E> {
    /// Another try can succeed: a connection was cut, a server is away.
    Retry(E),
    /// No further try can: an operator has to act.
    Stop(E),
}

/// The waits between the sessions of one loop: longer each time, never beyond three seconds, for
/// ever.
///
/// ```text
/// let mut retry = Retry::new("the relay");
/// while let Err(failure) = self.session(&shutdown).await {
///     retry.after(failure, &shutdown).await?;
/// }
/// ```
#[derive(Debug)]
pub struct Retry {
    name: &'static str,
    waits: ExponentialBackoff,
    session_began: Instant,
}

impl Retry {
    /// For the sessions of `name`, as the log calls it.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, waits: waits(), session_began: Instant::now() }
    }

    /// Says what happened and waits until it is time for the next session, or until `shutdown` is
    /// cancelled; the next session then finds that out by itself.
    ///
    /// # Errors
    /// What came as [`Failure::Stop`].
    pub async fn after<E: fmt::Display>(
        &mut self,
        failure: Failure<E>,
        shutdown: &CancellationToken,
    ) -> Result<(), E> {
        let error = match failure {
            Failure::Stop(error) => return Err(error),
            Failure::Retry(error) => error,
        };
        if self.session_began.elapsed() > Duration::from_millis(HEALTHY_AFTER_MS) {
            self.waits.reset();
        }
        let wait = next_wait(&mut self.waits);
        tracing::warn!(
            %error,
            retry.after_s = wait.as_secs_f64(),
            "{} was interrupted and will try again",
            self.name
        );
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => {}
        }
        self.session_began = Instant::now();
        Ok(())
    }
}

fn waits() -> ExponentialBackoff {
    ExponentialBackoff {
        initial_interval: Duration::from_millis(FIRST_WAIT_MS),
        current_interval: Duration::from_millis(FIRST_WAIT_MS),
        max_interval: Duration::from_millis(LONGEST_WAIT_MS),
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    }
}

fn next_wait(waits: &mut ExponentialBackoff) -> Duration {
    waits.next_backoff().unwrap_or(Duration::from_millis(LONGEST_WAIT_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_never_end() {
        let mut waits = waits();
        let longest = Duration::from_millis(LONGEST_WAIT_MS).mul_f64(1.5);
        for _ in 0..1_000 {
            assert!(next_wait(&mut waits) <= longest);
        }
        assert!(waits.current_interval >= Duration::from_millis(LONGEST_WAIT_MS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_can_pass_is_waited_for() {
        let mut retry = Retry::new("test");
        let shutdown = CancellationToken::new();
        for _ in 0..50 {
            assert_eq!(retry.after(Failure::Retry("cut"), &shutdown).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn a_fault_that_no_try_can_mend_stops_at_once() {
        let mut retry = Retry::new("test");
        let shutdown = CancellationToken::new();
        let end = retry.after(Failure::Stop("unknown event"), &shutdown).await;
        assert_eq!(end, Err("unknown event"));
    }

    #[tokio::test]
    async fn shutdown_ends_the_waiting() {
        let mut retry = Retry::new("test");
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        for _ in 0..1_000 {
            assert_eq!(retry.after(Failure::Retry("cut"), &shutdown).await, Ok(()));
        }
    }
}

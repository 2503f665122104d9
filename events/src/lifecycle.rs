//! The long-running parts of a process: started, watched, and stopped in the order in which work flows.
//!
//! **Invariant**: a part that fails or crashes takes its process down, in order: half a service that
//! looks alive is worse than one that is restarted.

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::runtime::SHUTDOWN_DEADLINE;

/// How a process ended that was not asked to, or did not end in time.
#[derive(Debug, thiserror::Error)]
pub enum Ended<E> {
    #[error(transparent)]
    Failed(E),
    #[error("{0} crashed")]
    Crashed(&'static str),
    #[error("not everything stopped within {} s", SHUTDOWN_DEADLINE.as_secs())]
    Unfinished,
}

/// The running parts, in stages. Those of a stage are asked to stop when all of the stage before have
/// ended, the first when the process is asked to.
#[derive(Debug)]
pub struct Lifecycle<E> {
    shutdown: CancellationToken,
    stages: Vec<Stage>,
    ended: mpsc::Receiver<Ended<E>>,
    end: mpsc::Sender<Ended<E>>,
}

#[derive(Debug, Default)]
struct Stage {
    parts: TaskTracker,
    stop: CancellationToken,
}

impl<E: Send + 'static> Lifecycle<E> {
    /// No parts yet, and so many `stages`. Cancelling `shutdown` asks the process to stop.
    #[must_use]
    pub fn new(shutdown: CancellationToken, stages: usize) -> Self {
        // Only the first failure counts: it stops the others.
        let (end, ended) = mpsc::channel(1);
        let stages = (0..stages).map(|_| Stage::default()).collect();
        Self { shutdown, stages, ended, end }
    }

    /// Cancelled when the parts of `stage` have to stop.
    #[must_use]
    pub fn stop(&self, stage: usize) -> CancellationToken {
        self.stages[stage].stop.clone()
    }

    /// Starts `part` in `stage`, as `name` in messages. It ends by itself once its stage has to stop.
    pub fn start(
        &self,
        stage: usize,
        name: &'static str,
        part: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let task = tokio::spawn(part);
        let end = self.end.clone();
        self.stages[stage].parts.spawn(async move {
            let ended = match task.await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => Ended::Failed(error),
                Err(_) => Ended::Crashed(name),
            };
            // Full only when another has failed before.
            drop(end.try_send(ended));
        });
    }

    /// Waits until the process is asked to stop or a part fails, and stops stage after stage, within
    /// [`SHUTDOWN_DEADLINE`].
    ///
    /// # Errors
    /// What a part failed with, or that not everything stopped.
    pub async fn until_stopped(mut self) -> Result<(), Ended<E>> {
        let failure = tokio::select! {
            () = self.shutdown.cancelled() => None,
            failure = self.ended.recv() => failure,
        };
        self.shutdown.cancel();
        let stopping = async {
            for Stage { parts, stop } in &self.stages {
                stop.cancel();
                parts.close();
                parts.wait().await;
            }
        };
        let stopped = timeout(SHUTDOWN_DEADLINE, stopping).await;
        match failure.or_else(|| self.ended.try_recv().ok()) {
            Some(failure) => Err(failure),
            None => stopped.map_err(|_| Ended::Unfinished),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part that says so when it ends, once it is asked to stop.
    fn part(
        lifecycle: &Lifecycle<&'static str>,
        stage: usize,
        ends: &mpsc::UnboundedSender<usize>,
    ) -> impl Future<Output = Result<(), &'static str>> + Send + 'static {
        let (stop, ends) = (lifecycle.stop(stage), ends.clone());
        async move {
            stop.cancelled().await;
            ends.send(stage).map_err(|_| "nobody listens")
        }
    }

    #[tokio::test]
    async fn stages_stop_one_after_the_other() {
        let shutdown = CancellationToken::new();
        let lifecycle = Lifecycle::new(shutdown.clone(), 3);
        let (ends, mut ended) = mpsc::unbounded_channel();
        for stage in [2, 0, 1] {
            lifecycle.start(stage, "a part", part(&lifecycle, stage, &ends));
        }
        shutdown.cancel();
        lifecycle.until_stopped().await.unwrap();
        drop(ends);
        let mut order = Vec::new();
        while let Some(stage) = ended.recv().await {
            order.push(stage);
        }
        assert_eq!(order, [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_part_that_fails_or_crashes_stops_the_others_and_is_named() {
        for crashes in [false, true] {
            let lifecycle = Lifecycle::new(CancellationToken::new(), 2);
            let (ends, mut ended) = mpsc::unbounded_channel();
            lifecycle.start(1, "another part", part(&lifecycle, 1, &ends));
            lifecycle.start(0, "the part", async move {
                assert!(!crashes, "it crashes");
                Err("it failed")
            });
            let end = lifecycle.until_stopped().await.unwrap_err();
            assert_eq!(end.to_string(), if crashes { "the part crashed" } else { "it failed" });
            assert_eq!(ended.try_recv(), Ok(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_end_is_not_waited_for_without_end() {
        let shutdown = CancellationToken::new();
        let lifecycle = Lifecycle::<&str>::new(shutdown.clone(), 1);
        lifecycle.start(0, "a part", std::future::pending());
        shutdown.cancel();
        assert!(matches!(lifecycle.until_stopped().await, Err(Ended::Unfinished)));
    }
}

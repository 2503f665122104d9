//! A broker that refuses: when the relay asks it again, and with how much.

use std::time::Duration;

use tokio::time::Instant;

use super::publisher::Published;

/// The wait after the broker refused a slice, for instance because a queue is full. It doubles with each refusal.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// The longest such wait: how late we may notice that there is room again. Feeds follow the log meanwhile.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(8);

/// What the broker refused of late. Whoever else listens gets what is published again, so that is one slice, and less
/// often each time.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    in_a_row: u32,
    wait_until: Option<Instant>,
}

impl Refusals {
    /// Takes note of what became of a round; whether it is the first refusal.
    pub(super) fn count(&mut self, published: Published) -> bool {
        match published {
            Published::All(0) => false,
            Published::All(_) => {
                *self = Self::default();
                false
            }
            Published::Refused(_) => {
                let pause = REFUSED_PAUSE * 2_u32.saturating_pow(self.in_a_row.min(16));
                self.wait_until = Some(Instant::now() + pause.min(REFUSED_PAUSE_MAX));
                self.in_a_row += 1;
                self.in_a_row == 1
            }
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.wait_until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) const fn is_probing(&self) -> bool {
        self.in_a_row > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_is_refused_probes_and_less_often_each_time() {
        let mut refusals = Refusals::default();
        assert!(!refusals.is_probing() && !refusals.is_waiting());
        for (number, pause_ms) in [500, 1_000, 2_000, 4_000, 8_000, 8_000].into_iter().enumerate() {
            assert_eq!(refusals.count(Published::Refused(0)), number == 0, "it is said once");
            assert!(refusals.is_probing() && refusals.is_waiting());
            tokio::time::advance(Duration::from_millis(pause_ms - 1)).await;
            assert!(refusals.is_waiting());
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(!refusals.is_waiting());
        }
        refusals.count(Published::All(0));
        assert!(refusals.is_probing(), "nothing was published");
        refusals.count(Published::All(1));
        assert!(!refusals.is_probing() && !refusals.is_waiting());
    }
}

//! How followers are spread over authors: a power law that was published of Twitter.
//!
//! Source: H. Kwak, C. Lee, H. Park, S. Moon, "What is Twitter, a social network or a news media?", WWW 2010
//! (<https://doi.org/10.1145/1772690.1772751>): 41.7 million users with 1.47 billion follows in 2009, whose density follows a
//! power law with exponent 2.276 up to 100,000 followers. Above there are more than that says; these are pulled here.

/// Of the density: the share of authors with x followers falls like x to the power of minus this.
const EXPONENT: f64 = 2.276;

/// Follows ÷ users.
pub const FOLLOWS_EACH: f64 = 35.0;

/// Authors with so many readers have no rows: `--pull-from`.
pub const PULL_FROM: f64 = 50_000.0;

/// The fewest followers, so that the mean is [`FOLLOWS_EACH`].
fn fewest() -> f64 {
    FOLLOWS_EACH * (EXPONENT - 2.0) / (EXPONENT - 1.0)
}

/// Of all follows so many are of authors who are pulled.
pub fn share_of_pulled() -> f64 {
    (PULL_FROM / fewest()).powf(2.0 - EXPONENT)
}

/// How many readers with rows a tweet would have if all were awake and every author wrote as much: the mean over authors, those who
/// are pulled with none.
pub fn followers_of_an_author() -> f64 {
    FOLLOWS_EACH * (1.0 - share_of_pulled())
}

/// The same if authors wrote in proportion to their followers: the mean of the squares ÷ the mean.
pub fn followers_of_a_tweet_by_fame() -> f64 {
    let (least, rises) = (fewest(), 3.0 - EXPONENT);
    let squares = (EXPONENT - 1.0) * least.powf(EXPONENT - 1.0) / rises
        * (PULL_FROM.powf(rises) - least.powf(rises));
    squares / FOLLOWS_EACH
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of `of` over the distribution, in small steps of equal ratios, up to `to`.
    fn summed(to: f64, of: fn(f64) -> f64) -> f64 {
        let (least, steps) = (fewest(), 200_000);
        let ratio = (to / least).powf(1.0 / f64::from(steps));
        (0..steps)
            .map(|step| {
                let (from, to) = (least * ratio.powi(step), least * ratio.powi(step + 1));
                let share = (from / least).powf(1.0 - EXPONENT) - (to / least).powf(1.0 - EXPONENT);
                share * of(f64::midpoint(from, to))
            })
            .sum()
    }

    fn are_close(one: f64, other: f64) {
        assert!((one / other - 1.0).abs() < 0.01, "{one} and {other}");
    }

    #[test]
    fn what_is_worked_out_is_what_the_distribution_sums_up_to() {
        are_close(summed(1e30, |followers| followers), FOLLOWS_EACH);
        are_close(summed(PULL_FROM, |followers| followers), followers_of_an_author());
        let squares = summed(PULL_FROM, |followers| followers * followers);
        are_close(squares / FOLLOWS_EACH, followers_of_a_tweet_by_fame());
    }
}

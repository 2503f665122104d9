//! What is in the log before it is measured: users, whom they follow, what they have written.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index;

use crate::load::Call;

/// Users who follow others and have written something. Whom they follow is drawn from the seed.
#[derive(Debug, Clone, Copy)]
pub struct DataSet {
    pub users: u32,
    /// Whom each follows.
    pub followees: u32,
    /// What each has written.
    pub tweets: u32,
    pub seed: u64,
}

impl DataSet {
    /// The registrations. Users get the ids 1, 2, 3, …, whatever order these come in.
    pub fn registrations(self) -> impl Iterator<Item = Call> {
        (1..=self.users).map(Call::register)
    }

    /// Who follows whom, the same for the same seed.
    pub fn follows(self) -> impl Iterator<Item = Call> {
        let Self { users, followees, seed, .. } = self;
        (1..=users).flat_map(move |follower| {
            let mut random = StdRng::seed_from_u64(seed ^ u64::from(follower));
            // Out of all others: what is drawn from the follower on stands for the next user.
            let drawn = index::sample(&mut random, users as usize - 1, followees as usize);
            let others = drawn.into_iter().map(|other| u32::try_from(other).unwrap_or(0) + 1);
            others.map(move |other| Call::follow(follower, other + u32::from(other >= follower)))
        })
    }

    /// What they have written, in turns.
    pub fn tweets(self) -> impl Iterator<Item = Call> {
        let Self { users, tweets, .. } = self;
        (0..tweets)
            .flat_map(move |number| (1..=users).map(move |user| Call::tweet(user, number.into())))
    }

    /// All of it, in an order in which each is accepted.
    pub fn all(self) -> [Box<dyn Iterator<Item = Call>>; 3] {
        [Box::new(self.registrations()), Box::new(self.follows()), Box::new(self.tweets())]
    }
}

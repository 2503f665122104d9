//! 2,000 users and a celebrity, and how long they wait for each other.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Client;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::say;
use super::state::State;
use crate::load::{Call, Connection, Latencies, send_all};

/// They register in whatever order their requests arrive, so a name says nothing about the id.
const LOOKS: [&str; 50] = [
    "amber", "ashen", "auburn", "azure", "black", "blue", "brisk", "bronze", "brown", "calm",
    "canny", "cinder", "copper", "coral", "crested", "curious", "dapper", "dusky", "early",
    "ebony", "fleet", "frosty", "gentle", "gilded", "golden", "grey", "hardy", "hazel", "humble",
    "ivory", "jaunty", "late", "little", "lofty", "merry", "misty", "nimble", "noble", "olive",
    "pale", "patient", "plucky", "quiet", "russet", "sandy", "scarlet", "silver", "snowy",
    "stormy", "tawny",
];
const BIRDS: [&str; 40] = [
    "avocet",
    "bittern",
    "bunting",
    "chough",
    "cormorant",
    "crane",
    "crow",
    "curlew",
    "dipper",
    "dove",
    "dunlin",
    "eider",
    "falcon",
    "finch",
    "gannet",
    "goshawk",
    "grebe",
    "heron",
    "hobby",
    "jackdaw",
    "jay",
    "kestrel",
    "kite",
    "lapwing",
    "lark",
    "linnet",
    "magpie",
    "martin",
    "osprey",
    "owl",
    "petrel",
    "pipit",
    "plover",
    "puffin",
    "raven",
    "rook",
    "swift",
    "teal",
    "tern",
    "wren",
];

const SAYINGS: [&str; 6] = [
    "Up before the sun, and so is everyone else.",
    "Has anybody seen my twig?",
    "The wind turns west. Good.",
    "Forty of us on one branch. It holds.",
    "New nest, same tree.",
    "There is always room at the top.",
];

const USERS: u32 = 2_000;
const CELEBRITY: u32 = USERS + 1;
/// All users but one follow the celebrity.
const FOLLOWERS: u32 = USERS - 1;
/// That one is whom to compare her with.
const ORDINARY: u32 = USERS;
const ORDINARY_FOLLOWERS: u32 = 5;
const SAMPLE_TWEETS: u32 = 60;

/// On a small machine more would only wait for each other.
const CONNECTIONS: usize = 32;

/// With a hundred of each the p99 is more than a name for the slowest.
const TIMED_POSTS: u64 = 100;

/// Far more than any delivery takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two looks at a feed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The users of a demo.
#[derive(Debug)]
pub struct Crowd {
    address: SocketAddr,
    client: Client,
}

impl Crowd {
    /// Those of `demo`.
    pub fn of(demo: &State) -> anyhow::Result<Self> {
        let client = Client::builder().no_proxy().timeout(PATIENCE).build()?;
        Ok(Self { address: demo.address()?, client })
    }

    /// Makes them, who follows whom, and some tweets.
    pub async fn populate(&self) -> anyhow::Result<()> {
        let names =
            LOOKS.iter().flat_map(|look| BIRDS.iter().map(move |bird| format!("{look}_{bird}")));
        self.send(names.map(|name| Call::register_as(&name))).await?;
        // She comes last, so her id says that all the others are there.
        let position = self.send([Call::register_as("celebrity")].into_iter()).await?;
        self.exact_at(position).await?;
        let celebrity = self.get(&format!("users/{CELEBRITY}"), CELEBRITY).await?;
        ensure!(celebrity["username"] == "celebrity", "user {CELEBRITY} is {celebrity}");
        say(&format!("{USERS} users, and the celebrity is user {CELEBRITY}"));
        let hers = (1..=FOLLOWERS).map(|follower| Call::follow(follower, CELEBRITY));
        let ordinary = (1..=ORDINARY_FOLLOWERS).map(|follower| Call::follow(follower, ORDINARY));
        let others = (1..FOLLOWERS).step_by(2).map(|follower| Call::follow(follower, follower + 1));
        self.send(hers.chain(ordinary).chain(others)).await?;
        let sayings = SAYINGS.iter().cycle();
        let tweets = (1..=SAMPLE_TWEETS).zip(sayings);
        self.send(tweets.map(|(number, saying)| Call::tweet_of(number * 31, saying))).await?;
        let position =
            self.send([Call::tweet_of(CELEBRITY, "Good morning, all of you.")].into_iter()).await?;
        self.exact_at(position).await?;
        for (user, followers) in [(CELEBRITY, FOLLOWERS), (ORDINARY, ORDINARY_FOLLOWERS)] {
            self.has_followers(user, followers).await?;
            say(&format!("user {user} has {followers} followers"));
        }
        say(&format!("{SAMPLE_TWEETS} tweets, and hers is in every follower's feed"));
        Ok(())
    }

    /// The two take turns, so that whatever else the machine does meets both; and each comes as often
    /// after the other as after itself, because hers are still on their way when the next is posted.
    pub async fn posts(&self) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.address).await?;
        connection.send(&Call::tweet_of(ORDINARY, "A first one, not counted.")).await?;
        let (mut ordinary, mut celebrity) = (Latencies::new()?, Latencies::new()?);
        for number in 0..TIMED_POSTS {
            let mut post = async |author, took: &mut Latencies| {
                let began = Instant::now();
                let position = connection.send(&Call::tweet(author, number)).await?;
                took.record(began.elapsed());
                anyhow::Ok(position)
            };
            if number % 2 == 0 {
                post(ORDINARY, &mut ordinary).await?;
                post(CELEBRITY, &mut celebrity).await?;
            } else {
                post(CELEBRITY, &mut celebrity).await?;
                post(ORDINARY, &mut ordinary).await?;
            }
        }
        say(&format!(
            "{TIMED_POSTS} tweets each, by turns, on one connection; ms until the answer"
        ));
        say(&row("", ["p50", "p99", "longest"]));
        let named = |user, followers| format!("user {user}, {followers} followers");
        say(&times(&named(ORDINARY, ORDINARY_FOLLOWERS), &ordinary));
        say(&times(&named(CELEBRITY, FOLLOWERS), &celebrity));
        let ratio = celebrity.milliseconds(0.5) / ordinary.milliseconds(0.5);
        say(&row("celebrity / ordinary", [&format!("{ratio:.2}"), "", ""]));
        Ok(())
    }

    /// One tweet after the other, and the feed of the last follower as of that tweet.
    pub async fn deliveries(&self, tweets: u64) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.address).await?;
        let mut took = Latencies::new()?;
        // Whatever was posted before is delivered first.
        let mut newest =
            connection.send(&Call::tweet_of(CELEBRITY, "And now by the clock.")).await?;
        self.readable(&mut connection, newest).await?;
        for number in 0..tweets {
            newest = connection.send(&Call::tweet(CELEBRITY, number)).await?;
            let answered = Instant::now();
            self.readable(&mut connection, newest).await?;
            took.record(answered.elapsed());
            self.has_newest(FOLLOWERS, newest).await?;
        }
        say(&format!("{tweets} tweets, one after the other; ms from the answer to the POST"));
        say(&row("", ["p50", "p99", "longest"]));
        say(&times(&format!("in {FOLLOWERS} feeds, read by user {FOLLOWERS}"), &took));
        for reader in [1, FOLLOWERS / 2] {
            self.has_newest(reader, newest).await?;
        }
        ensure!(
            self.newest(ORDINARY).await? != Some(newest),
            "tweet {newest} is in the feed of user {ORDINARY}, who does not follow its author"
        );
        say(&format!(
            "the last is the newest in the feeds of users 1, {} and {FOLLOWERS}, and not in that of user {ORDINARY}",
            FOLLOWERS / 2
        ));
        Ok(())
    }

    async fn send(&self, calls: impl Iterator<Item = Call>) -> anyhow::Result<u64> {
        Ok(send_all(self.address, CONNECTIONS, calls).await?.highest)
    }

    /// Waits until everything that is read is exact at `position`.
    async fn exact_at(&self, position: u64) -> anyhow::Result<()> {
        self.readable(&mut Connection::open(self.address).await?, position).await
    }

    /// Waits until the last follower's feed is exact at `position`. The api itself waits for a while.
    async fn readable(&self, connection: &mut Connection, position: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let read = Call::feed(FOLLOWERS).at_least(position);
        while let Err(error) = connection.send(&read).await {
            if Instant::now() > deadline {
                return Err(error).with_context(|| {
                    format!("position {position} was not readable in {PATIENCE:?}")
                });
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn has_newest(&self, reader: u32, tweet: u64) -> anyhow::Result<()> {
        let newest = self.newest(reader).await?;
        ensure!(
            newest == Some(tweet),
            "the newest in the feed of user {reader} is {newest:?} instead of {tweet}"
        );
        Ok(())
    }

    /// The newest tweet in a feed. Its id is its position in the log.
    async fn newest(&self, reader: u32) -> anyhow::Result<Option<u64>> {
        let page = self.get("feed?limit=1", reader).await?;
        Ok(page[0]["tweet_id"].as_u64())
    }

    /// After all but one of them exactly one is left.
    async fn has_followers(&self, user: u32, followers: u32) -> anyhow::Result<()> {
        let path = format!("subscriptions/{user}/followers?limit=2&skip={}", followers - 1);
        let last = self.get(&path, user).await?;
        let count = last.as_array().map_or(0, Vec::len);
        ensure!(count == 1, "user {user} does not have {followers} followers: {last}");
        Ok(())
    }

    async fn get(&self, path: &str, caller: u32) -> anyhow::Result<Value> {
        let request = self.client.get(format!("http://{}/api/{path}", self.address));
        let answer = request.header("x-user-id", caller).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }
}

fn times(of: &str, took: &Latencies) -> String {
    let quantiles = [0.5, 0.99, 1.0].map(|quantile| format!("{:.2}", took.milliseconds(quantile)));
    row(of, quantiles.each_ref().map(String::as_str))
}

fn row(of: &str, [p50, p99, longest]: [&str; 3]) -> String {
    format!("{of:<36} {p50:>8} {p99:>8} {longest:>8}").trim_end().to_owned()
}

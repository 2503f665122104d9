//! T10: a tweet of an author whom very many follow costs what anybody's does, and so does a page with it.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use super::{Plan, memory};
use crate::build::{AUTHOR, Build};
use crate::load::{Call, Connection, Outcome, Pace, load};
use crate::measure::{Bound, Measure, Spread};
use crate::usage::Meter;

/// One whom so many follow.
const ORDINARY: u32 = AUTHOR + 1;
const ORDINARY_FOLLOWERS: u32 = 10;

/// Authors whom each of those follows whose pages are read, and tweets of each.
const AUTHORS: u32 = 20;
const TWEETS_EACH: u64 = 5;

/// Tweets of either author in a round.
const TWEETS: u64 = 20;

const CONNECTIONS: usize = 4;

/// Those of the heavy author's followers who follow the others too.
fn readers() -> impl Iterator<Item = u32> {
    ORDINARY + 1..=ORDINARY + ORDINARY_FOLLOWERS
}

/// Those others.
fn authors() -> impl Iterator<Item = u32> + Clone {
    let first = ORDINARY + 1 + ORDINARY_FOLLOWERS;
    std::iter::once(ORDINARY).chain(first..first + AUTHORS - 1)
}

/// Who is who: the followers of the heavy author come first.
struct Cast {
    followers: u32,
}

impl Cast {
    /// As many who follow the others alone.
    fn strangers(&self) -> impl Iterator<Item = u32> + use<> {
        let last = AUTHOR + self.followers;
        last + 1..=last + ORDINARY_FOLLOWERS
    }

    async fn enter(&self, build: &mut Build) -> anyhow::Result<()> {
        let last = AUTHOR + self.followers + ORDINARY_FOLLOWERS;
        build.fill((1..=last).map(Call::register)).await?;
        let followers = AUTHOR + 1..=AUTHOR + self.followers;
        build.fill(followers.map(|reader| Call::follow(reader, AUTHOR))).await?;
        let all = readers().chain(self.strangers());
        build
            .fill(all.flat_map(|reader| authors().map(move |of| Call::follow(reader, of))))
            .await?;
        let tweets =
            (0..TWEETS_EACH).flat_map(|number| authors().map(move |of| Call::tweet(of, number)));
        build.fill(tweets).await
    }
}

/// What a tweet takes.
#[derive(Default)]
struct Costs {
    readable_ms: Vec<f64>,
    wal: Vec<f64>,
    processor_ms: Vec<f64>,
}

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let cast = Cast { followers: plan.settings.followers };
    let pull_from = cast.followers.to_string();
    let mut build = Build::start_with(&plan.folder, &[("PULL_FROM", &pull_from)]).await?;
    cast.enter(&mut build).await?;

    let (mut heavy, mut ordinary) = (Costs::default(), Costs::default());
    let mut pages = [vec![], vec![]];
    for round in plan.rounds("a tweet that very many could read beside another") {
        for (author, costs) in [(ORDINARY, &mut ordinary), (AUTHOR, &mut heavy)] {
            of_tweets(&mut build, author, round, costs).await?;
        }
        let (readers, strangers) = (readers().collect(), cast.strangers().collect());
        for (readers, p50s) in [strangers, readers].into_iter().zip(&mut pages) {
            p50s.push(of_pages(plan, &build, readers).await?.latencies.milliseconds(0.5));
        }
    }
    let pulled: u64 = build.count("tweets where pulled").await?;
    let expected = TWEETS * u64::from(plan.settings.rounds);
    ensure!(pulled == expected, "{pulled} tweets are pulled, not {expected}");
    let memory = memory(&build, "a heavy author's tweets");
    build.prove_and_stop().await?;

    let beside = format!("a tweet of an author with {ORDINARY_FOLLOWERS} followers");
    let of = |what: &str| format!("a tweet of an author with {} followers, {what}", cast.followers);
    let [without, with] = pages;
    let cost = |what: &str, unit: &str, heavy, ordinary| {
        Measure::cost("T10", of(what), unit, heavy)
            .beside(&beside, ordinary)
            .bound(Bound::AtMost(2.0))
    };
    let mut measures = vec![
        cost("until a follower has read it, p50", "ms", heavy.readable_ms, ordinary.readable_ms),
        cost("WAL", "bytes", heavy.wal, ordinary.wal),
        cost("processor time of everything", "ms", heavy.processor_ms, ordinary.processor_ms),
        Measure::cost("T10", "first page with tweets of such an author, p50", "ms", with)
            .beside("first page of one who follows the others alone", without)
            .bound(Bound::AtMost(1.3)),
    ];
    measures.extend(memory);
    Ok(measures)
}

/// Tweets of `author`, one after the other, each until the last of who follows the ordinary author, and so one who follows
/// either, has read it and nothing of it is left to do.
async fn of_tweets(
    build: &mut Build,
    author: u32,
    round: u32,
    costs: &mut Costs,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(build.address).await?;
    let mut reader = Connection::open(build.address).await?;
    build.checkpoint().await?;
    let wal_before = build.wal().await?;
    let meter = Meter::start(build);
    let began = Instant::now();
    let mut readable = vec![];
    for number in 0..TWEETS {
        let tweet = Call::tweet(author, u64::from(round) * TWEETS + number);
        let sent = Instant::now();
        let position = connection.send(&tweet).await?;
        reader.send(&Call::feed(ORDINARY + ORDINARY_FOLLOWERS).at_least(position)).await?;
        readable.push(milliseconds(sent.elapsed()));
        build.acknowledge(1);
        build.delivered(position).await?;
    }
    let took = began.elapsed();
    let processors = meter.stop().of_the_product();
    costs.readable_ms.push(Spread::of(readable).median);
    costs.processor_ms.push(processors * milliseconds(took) / TWEETS as f64);
    costs.wal.push((build.wal().await? - wal_before) / TWEETS as f64);
    Ok(())
}

async fn of_pages(plan: &Plan, build: &Build, readers: Vec<u32>) -> anyhow::Result<Outcome> {
    let page = |number: u64| {
        let reader = usize::try_from(number).unwrap_or(0) % readers.len();
        Call::feed(readers[reader])
    };
    load(build.address, CONNECTIONS, Pace::Closed, plan.turn(), page).await
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

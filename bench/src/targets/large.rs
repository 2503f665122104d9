//! A size that people believe, all of it through HTTP: users of whom a few are read by very many, one
//! whom everybody reads, and one who reads a tenth of all. `--users 1000000` takes an hour.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::{MIB, PROJECTOR_MEMORY_MAX_MIB, Plan, keeping, memory};
use crate::build::{AUTHOR, Build};
use crate::load::{Call, Connection, Latencies};
use crate::measure::{Bound, Measure};

/// Whom each user follows beside the author whom everybody reads.
const FOLLOWEES: usize = 9;

/// Who follows a tenth of all.
const READER: u32 = 2;

const CONNECTIONS: usize = 64;

/// Looks at a page.
const LOOKS: u32 = 100;

/// Tweets of the author whom everybody reads, one after the other.
const TWEETS_TO_ALL: u64 = 5;

/// Between two words about how far it is.
const COMMANDS_PER_WORD: u64 = 500_000;

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let users = plan.settings.users;
    let mut build = Build::start(&plan.folder).await?;
    let mut measures = Vec::new();
    let registrations = (1..=users).map(Call::register);
    measures.push(phase(&mut build, "registrations", registrations).await?);
    let to_author = (1..=users).filter(|user| *user != AUTHOR).map(|user| (user, AUTHOR));
    let by_reader = (READER + 1..=READER + users / 10).map(|followed| (READER, followed));
    let to_others = (1..=users).flat_map(|user| drawn(user, users, plan.settings.seed));
    let follows = to_author.chain(by_reader).chain(to_others);
    let follows = follows.map(|(follower, followed)| Call::follow(follower, followed));
    measures.push(phase(&mut build, "follows", follows).await?);
    let tweets = (1..=users).filter(|user| *user != AUTHOR).map(|user| Call::tweet(user, 0));
    measures.push(phase(&mut build, "tweets, one of each user", tweets).await?);
    let (events, rows) = (build.count("events").await?, build.feed_rows().await?);
    let follows = build.count("follows").await?;
    eprintln!("bench: {events} events, {follows} follows, {rows} feed rows");

    let keeping::Costs { page, post, delivery } =
        keeping::costs(&mut build, users, plan.settings.looks).await?;
    measures.extend([
        cost("a first page, p50", "ms", page),
        cost("a POST, p50", "ms", post),
        cost("from its answer until it is readable, p50", "ms", delivery),
    ]);
    let first = page_of(&build, &Call::feed(READER)).await?;
    // Whom they follow wrote the first tenth of the tweets; this is in the middle of that.
    let middle = events - u64::from(users) * 19 / 20;
    let deep = page_of(&build, &Call::feed(READER).before(middle)).await?;
    let whose = format!("a reader of {} authors", users / 10);
    measures.extend([
        cost(&format!("a first page of {whose}, p50"), "ms", first),
        cost(&format!("a page below the floor of {whose}, p50"), "ms", deep),
    ]);
    let (post, last) = to_all(&mut build).await?;
    measures.push(cost("a POST by who is read by all, median", "ms", post));
    measures.push(cost("from its answer until the last has a row of it, median", "s", last));

    for (table, of) in [("events", events), ("follows", follows), ("feed_items", rows)] {
        let disk = build.disk(table).await? / of as f64;
        measures.push(cost(&format!("disk per row of {table}, indexes and all"), "bytes", disk));
    }
    measures.extend(memory(&build, "at the large size"));
    eprintln!("bench: rebuilding");
    let began = Instant::now();
    let highest = build.projector("rebuild feed").await? as f64 / MIB;
    measures.push(cost("a rebuild", "s", began.elapsed().as_secs_f64()));
    let most = Bound::AtMost(PROJECTOR_MEMORY_MAX_MIB);
    measures.push(
        Measure::cost("T8", "highest resident memory of the rebuild", "MiB", vec![highest])
            .bound(most),
    );
    eprintln!("bench: verifying");
    build.prove_and_stop().await?;
    Ok(measures)
}

fn cost(what: &str, unit: &str, value: f64) -> Measure {
    Measure::cost("", format!("large: {what}"), unit, vec![value])
}

/// Sends all of `commands` and waits until they are applied.
async fn phase(
    build: &mut Build,
    what: &str,
    commands: impl Iterator<Item = Call>,
) -> anyhow::Result<Measure> {
    let began = Instant::now();
    let mut sent = 0_u64;
    let told = commands.inspect(|_| {
        sent += 1;
        if sent.is_multiple_of(COMMANDS_PER_WORD) {
            let per_second = sent as f64 / began.elapsed().as_secs_f64();
            eprintln!("bench: {what}: {sent}, {per_second:.0} per second");
        }
    });
    build.send_all(CONNECTIONS, told).await?;
    build.caught_up().await?;
    let per_second = sent as f64 / began.elapsed().as_secs_f64();
    build.execute("vacuum (analyze)").await?;
    let what = format!("large: {what}, until all are applied");
    Ok(Measure::rate("", what, "per second", vec![per_second]))
}

/// Whom `user` follows: fame falls with the two thirds' power of the id, which puts some hundredth of all
/// follows on the first of a million.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the users")]
fn drawn(user: u32, users: u32, seed: u64) -> impl Iterator<Item = (u32, u32)> {
    let mut random = StdRng::seed_from_u64(seed ^ u64::from(user));
    let mut followed = BTreeSet::new();
    while user != READER && followed.len() < FOLLOWEES {
        let fame = random.random::<f64>().powi(3);
        // Behind the two whom this does not concern.
        let other = READER + 1 + (fame * f64::from(users - READER)) as u32;
        if other != user && other <= users {
            followed.insert(other);
        }
    }
    followed.into_iter().map(move |other| (user, other))
}

/// The median of some looks at a page.
async fn page_of(build: &Build, call: &Call) -> anyhow::Result<f64> {
    let mut connection = Connection::open(build.address).await?;
    let mut took = Latencies::new()?;
    for _ in 0..LOOKS {
        let began = Instant::now();
        connection.send(call).await?;
        took.record(began.elapsed());
    }
    Ok(took.milliseconds(0.5))
}

/// Tweets of the author whom everybody reads: what a POST takes, in milliseconds, and how many seconds
/// later the last reader has a row of it.
async fn to_all(build: &mut Build) -> anyhow::Result<(f64, f64)> {
    let mut connection = Connection::open(build.address).await?;
    let (mut post, mut last) = (Latencies::new()?, Latencies::new()?);
    for number in 1..=TWEETS_TO_ALL {
        let began = Instant::now();
        let position = connection.send(&Call::tweet(AUTHOR, number)).await?;
        post.record(began.elapsed());
        build.acknowledge(1);
        let answered = Instant::now();
        build.delivered(position).await?;
        last.record(answered.elapsed());
    }
    Ok((post.milliseconds(0.5), last.milliseconds(0.5) / 1e3))
}

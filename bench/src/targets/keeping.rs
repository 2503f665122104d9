//! What it costs to keep going: a page, a POST and a delivery before and after very many commands of
//! all kinds, and what an event and a feed row take on disk then.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;
use futures_util::future::try_join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::Plan;
use crate::build::Build;
use crate::load::{Call, Connection, Latencies};
use crate::measure::{Bound, Measure, Settings};

/// Whom each user can follow: the next ones, round the circle. At the beginning everyone follows all
/// of these.
const FOLLOWEES: u32 = 20;

/// Connections, each of which writes for users of its own, so that it knows what they can take back.
const CONNECTIONS: u32 = 64;

/// Of a hundred commands so many take a tweet back, or follow whom they did not or the reverse. The
/// others are tweets.
const DELETIONS: u32 = 8;
const TURNS: u32 = 12;

/// What must not grow by more than that.
const GROWTH_MAX: f64 = 1.5;

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let Settings { users, commands, looks, .. } = plan.settings;
    let mut build = Build::start(&plan.folder).await?;
    build.fill((1..=users).map(Call::register)).await?;
    let everyone = (1..=users).flat_map(|user| {
        (1..=FOLLOWEES).map(move |step| Call::follow(user, followee(user, step, users)))
    });
    build.fill(everyone).await?;
    // Enough for full pages, with tables that are still small.
    write(&mut build, plan, u64::from(users) * 10).await?;
    let young = costs(&mut build, users, looks).await?;

    let began = Instant::now();
    write(&mut build, plan, commands).await?;
    let took = began.elapsed();
    let old = costs(&mut build, users, looks).await?;

    let beside = format!("before {commands} more commands");
    let grown = |what: &str, of: fn(&Costs) -> f64| {
        Measure::cost("", what, "ms", vec![of(&old)])
            .beside(&beside, vec![of(&young)])
            .bound(Bound::AtMost(GROWTH_MAX))
    };
    let events = build.count("events").await? as f64;
    let rows = build.feed_rows().await? as f64;
    let bytes = |what: &str, bytes: f64| Measure::cost("", what, "bytes", vec![bytes]);
    let log = build.disk("events").await? / events;
    let feed = build.disk("feed_items").await? / rows;
    build.execute("vacuum (full) feed_items").await?;
    let tight = build.disk("feed_items").await? / rows;
    let per_second = commands as f64 / took.as_secs_f64();
    let measures = vec![
        Measure::rate("", "mixed commands, until all are applied", "per second", vec![per_second]),
        grown("a first page, p50", |costs| costs.page),
        grown("a POST to 20 followers, p50", |costs| costs.post),
        grown("from its answer until it is readable, p50", |costs| costs.delivery),
        bytes("disk per event, indexes and all", log),
        bytes("disk per feed row, index and all", feed)
            .beside("the same packed by VACUUM FULL", vec![tight]),
    ];
    build.prove_and_stop().await?;
    Ok(measures)
}

/// Medians in milliseconds.
pub struct Costs {
    pub page: f64,
    pub post: f64,
    pub delivery: f64,
}

/// Of a reader, an author and their followers, taken by turns.
pub async fn costs(build: &mut Build, users: u32, looks: u32) -> anyhow::Result<Costs> {
    let mut connection = Connection::open(build.address).await?;
    let (mut page, mut post, mut delivery) =
        (Latencies::new()?, Latencies::new()?, Latencies::new()?);
    for look in 0..looks {
        let user = 1 + look * 7 % users;
        let began = Instant::now();
        connection.send(&Call::feed(user)).await?;
        page.record(began.elapsed());
        let began = Instant::now();
        let position = connection.send(&Call::tweet(user, look.into())).await?;
        post.record(began.elapsed());
        build.acknowledge(1);
        let answered = Instant::now();
        connection.send(&Call::feed(user).at_least(position)).await?;
        delivery.record(answered.elapsed());
    }
    let [page, post, delivery] = [page, post, delivery].map(|took| took.milliseconds(0.5));
    Ok(Costs { page, post, delivery })
}

/// So many commands of all kinds, and what they bring about.
async fn write(build: &mut Build, plan: &Plan, commands: u64) -> anyhow::Result<()> {
    let (users, address) = (plan.settings.users, build.address);
    ensure!(users >= CONNECTIONS, "each of {CONNECTIONS} connections needs a user of its own");
    let begun = AtomicU64::new(0);
    let worker = async |first: u32| {
        let mut connection = Connection::open(address).await?;
        let mut random = StdRng::seed_from_u64(plan.settings.seed ^ u64::from(first));
        let mut tweets: Vec<(u32, u64)> = Vec::new();
        let mut unfollowed: Vec<(u32, u32)> = Vec::new();
        loop {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            if number >= commands {
                break;
            }
            if number % 100_000 == 99_999 {
                eprintln!("bench: {} of {commands} commands", number + 1);
            }
            let user = first + CONNECTIONS * random.random_range(0..=(users - first) / CONNECTIONS);
            let kind = random.random_range(0..100);
            if kind < DELETIONS && !tweets.is_empty() {
                let (author, tweet) = tweets.swap_remove(random.random_range(0..tweets.len()));
                connection.send(&Call::delete_tweet(author, tweet)).await?;
            } else if kind < DELETIONS + TURNS {
                let turn = (user, followee(user, random.random_range(1..=FOLLOWEES), users));
                let before = unfollowed.iter().position(|other| *other == turn);
                if let Some(before) = before {
                    unfollowed.swap_remove(before);
                    connection.send(&Call::follow(turn.0, turn.1)).await?;
                } else {
                    unfollowed.push(turn);
                    connection.send(&Call::unfollow(turn.0, turn.1)).await?;
                }
            } else {
                let tweet = connection.send(&Call::tweet(user, number)).await?;
                tweets.push((user, tweet));
            }
        }
        // As it was, for whoever writes next.
        let mut more = 0;
        for (follower, followed) in unfollowed {
            connection.send(&Call::follow(follower, followed)).await?;
            more += 1;
        }
        anyhow::Ok(more)
    };
    let more = try_join_all((1..=CONNECTIONS).map(worker)).await?;
    build.acknowledge(commands + more.into_iter().sum::<u64>());
    build.caught_up().await
}

fn followee(user: u32, step: u32, users: u32) -> u32 {
    1 + (user - 1 + step) % users
}

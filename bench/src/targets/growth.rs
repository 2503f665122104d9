//! How cost grows: the same at 1, 4 and 16 times the users, and with them the tweets, the log and the
//! followers of the author whom all read.

use tokio::time::Instant;

use super::{Plan, keeping};
use crate::build::{AUTHOR, Build};
use crate::data_set::DataSet;
use crate::load::{Call, Pace};
use crate::measure::{Along, Measure};

const TIMES: [u32; 3] = [1, 4, 16];

/// Whom each user follows beside the author, and what each has written.
const FOLLOWEES: u32 = 20;
const TWEETS: u32 = 20;

const CONNECTIONS: usize = 64;

/// Tweets of the author in one go.
const TWEETS_TO_ALL: u64 = 50;

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    // A quarter of them: sixteen times that is what other targets have four times.
    let base = (plan.settings.users / 4).max(2 * FOLLOWEES);
    let mut curves = [
        ("a first page, p50", "ms", vec![]),
        ("a POST to 21 readers, p50", "ms", vec![]),
        ("from its answer until it is readable, p50", "ms", vec![]),
        ("a tweet, 64 connections at once", "µs", vec![]),
        ("a delivered row, tweets to everyone", "µs", vec![]),
        ("a rebuilt row", "µs", vec![]),
        ("disk per feed row", "bytes", vec![]),
    ];
    for times in TIMES {
        let users = base * times;
        eprintln!("bench: growth: {users} users");
        for ((.., values), cost) in curves.iter_mut().zip(costs(plan, users).await?) {
            values.push(cost);
        }
    }
    let along = Along { what: format!("times {base} users"), at: TIMES.map(f64::from).to_vec() };
    let measure = |(what, unit, values)| {
        Measure::cost("", format!("growth: {what}"), unit, values).along(along.clone())
    };
    Ok(curves.into_iter().map(measure).collect())
}

/// In the order of the curves.
async fn costs(plan: &Plan, users: u32) -> anyhow::Result<[f64; 7]> {
    let seed = plan.settings.seed;
    let mut build = Build::start(&plan.folder).await?;
    for part in (DataSet { users, followees: FOLLOWEES, tweets: TWEETS, seed }).all() {
        build.fill(part).await?;
    }
    let keeping::Costs { page, post, delivery } =
        keeping::costs(&mut build, users, plan.settings.looks).await?;
    let author = |number: u64| 1 + u32::try_from(number % u64::from(users)).unwrap_or(0);
    let tweet = |number| Call::tweet(author(number), number);
    let tweets = build.load(CONNECTIONS, Pace::Closed, plan.turn(), tweet).await?;
    build.caught_up().await?;

    // A user of its own, whom all others read; nobody of the others is touched by it.
    build.fill([Call::register(users + 1)].into_iter()).await?;
    let everyones = users + 1;
    build.fill((AUTHOR..=users).map(|reader| Call::follow(reader, everyones))).await?;
    let began = Instant::now();
    let to_all = (0..TWEETS_TO_ALL).map(|number| Call::tweet(everyones, number));
    let last = build.send_all(CONNECTIONS, to_all).await?;
    build.delivered(last).await?;
    let took = began.elapsed().as_secs_f64();
    // The author reads them too. What full feeds lose in turn is part of it.
    let delivered = TWEETS_TO_ALL as f64 * f64::from(users + 1);

    let rows = build.feed_rows().await? as f64;
    let began = Instant::now();
    build.projector("rebuild feed").await?;
    let rebuild = began.elapsed().as_secs_f64();
    let disk = build.disk("feed_items").await? / rows;
    build.prove_and_stop().await?;
    let each = |seconds: f64, count: f64| seconds * 1e6 / count;
    let tweet = 1e6 / tweets.per_second;
    Ok([page, post, delivery, tweet, each(took, delivered), each(rebuild, rows), disk])
}

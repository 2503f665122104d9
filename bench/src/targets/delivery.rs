//! T4: from the POST's answer until the last follower can read it, with nothing else to do.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use super::{Plan, memory};
use crate::build::{AUTHOR, Build};
use crate::floors::broker::RoundTrips;
use crate::floors::fan_out;
use crate::load::{Call, Connection, Latencies};
use crate::measure::{Bound, Measure, Spread};

/// Tweets in a round, each alone.
const TWEETS: u64 = 20;

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let readers = plan.settings.readers;
    let mut build = Build::with_readers(&plan.folder, readers).await?;
    fan_out::prepare(&mut build).await?;
    let mut floor_connection = build.connect().await?;
    let mut round_trips = RoundTrips::open(&build).await?;
    let mut author = Connection::open(build.address).await?;
    let mut reader = Connection::open(build.address).await?;

    let milliseconds = |took: Duration| took.as_secs_f64() * 1e3;
    let (mut delivery, mut floor) = (vec![], vec![]);
    for round in plan.rounds("one tweet at a time to many readers") {
        let (mut of_product, mut of_floor) = (vec![], vec![]);
        for number in 0..TWEETS {
            let tweet = Call::tweet(AUTHOR, u64::from(round) * TWEETS + number);
            let position = author.send(&tweet).await?;
            let answered = Instant::now();
            reader.send(&Call::feed(readers).at_least(position)).await?;
            of_product.push(milliseconds(answered.elapsed()));
            build.acknowledge(1);
            build.delivered(position).await?;

            let message = round_trips.one().await?;
            let (_, rows) =
                fan_out::deliver(&mut floor_connection, AUTHOR, position, position).await?;
            of_floor.push(milliseconds(message + rows));
        }
        delivery.push(Spread::of(of_product).median);
        floor.push(Spread::of(of_floor).median);
    }
    let memory = memory(&build, "one tweet at a time");
    build.prove_and_stop().await?;
    let what = format!("from the answer until the last of {readers} can read it, p50");
    let mut measures = vec![
        Measure::cost("T4", what, "ms", delivery)
            .beside("a message through a quorum queue and then as many rows", floor)
            .bound(Bound::AtMost(1.2)),
    ];
    measures.extend(memory);
    Ok(measures)
}

/// Tweets of [`AUTHOR`] with these `numbers`, one after the other: how long it takes from the answer until `last`, who reads it last,
/// has it from the api at `from`. The median, in milliseconds.
pub async fn until_readable(
    build: &mut Build,
    from: SocketAddr,
    numbers: Range<u64>,
    last: u32,
) -> anyhow::Result<f64> {
    let mut author = Connection::open(build.address).await?;
    let mut reader = Connection::open(from).await?;
    let mut took = Latencies::new()?;
    for number in numbers {
        let position = author.send(&Call::tweet(AUTHOR, number)).await?;
        let answered = Instant::now();
        reader.send(&Call::feed(last).at_least(position)).await?;
        took.record(answered.elapsed());
        build.acknowledge(1);
        build.delivered(position).await?;
    }
    Ok(took.milliseconds(0.5))
}

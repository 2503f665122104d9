//! T3 and T11: rows delivered per second, and what one costs in WAL and on disk.

use anyhow::ensure;
use tokio::time::Instant;

use super::{Plan, memory};
use crate::build::{AUTHOR, Build};
use crate::floors::fan_out;
use crate::load::Call;
use crate::measure::{Bound, Measure};
use crate::usage::Meter;

/// Tweets in a round, and the connections over which they come: all are there long before the last is
/// delivered.
const TWEETS: u64 = 100;
const CONNECTIONS: usize = 16;

pub async fn measure(plan: &Plan) -> anyhow::Result<Vec<Measure>> {
    let readers = plan.settings.readers;
    let mut build = Build::with_readers(&plan.folder, readers).await?;
    fan_out::prepare(&mut build).await?;
    let mut floor_connection = build.connect().await?;

    let (mut rows, mut floor, mut processors) = (vec![], vec![], vec![]);
    let (mut wal, mut floor_wal, mut disk, mut floor_disk) = (vec![], vec![], vec![], vec![]);
    for _ in plan.rounds("tweets to many readers each") {
        // Neither of both is to pay for pages that are logged whole for the first time.
        build.checkpoint().await?;
        let (rows_before, wal_before) = (build.feed_rows().await?, build.wal().await?);
        let meter = Meter::start(&build);
        let began = Instant::now();
        let tweets = (0..TWEETS).map(|number| Call::tweet(AUTHOR, number));
        let last = build.send_all(CONNECTIONS, tweets).await?;
        let first = last + 1 - TWEETS;
        build.delivered(last).await?;
        let took = began.elapsed();
        processors.push(meter.stop());
        let delivered = build.feed_rows().await? - rows_before;
        ensure!(delivered == TWEETS * u64::from(readers), "{delivered} rows were delivered");
        rows.push(delivered as f64 / took.as_secs_f64());
        wal.push((build.wal().await? - wal_before) / delivered as f64);

        build.checkpoint().await?;
        let wal_before = build.wal().await?;
        let (inserted, took) = fan_out::deliver(&mut floor_connection, AUTHOR, first, last).await?;
        ensure!(inserted == delivered, "the floor inserted {inserted} rows");
        floor.push(inserted as f64 / took.as_secs_f64());
        floor_wal.push((build.wal().await? - wal_before) / inserted as f64);
        let total = build.feed_rows().await? as f64;
        disk.push(build.disk("feed_items").await? / total);
        floor_disk.push(build.disk("floor_feed_items").await? / total);
    }
    let memory = memory(&build, "fan-out");
    build.prove_and_stop().await?;
    let what = format!("deliveries, {TWEETS} tweets to {readers} readers each");
    let mut measures = vec![
        Measure::rate("T3", what, "rows per second", rows)
            .beside(fan_out::WHAT, floor)
            .bound(Bound::AtLeast(0.9))
            .with(&processors),
        Measure::cost("T11", "WAL per delivered row", "bytes", wal)
            .beside(fan_out::WHAT, floor_wal)
            .bound(Bound::AtMost(1.1)),
        Measure::cost("T11", "disk per delivered row", "bytes", disk)
            .beside(fan_out::WHAT, floor_disk)
            .bound(Bound::AtMost(1.1)),
    ];
    measures.extend(memory);
    Ok(measures)
}

//! What so many users would cost, worked out of what was measured of one: arithmetic, and no measurement.
//!
//! Everything that was not measured is an assumption with a name here, and `docs/scale.md` says which of them would break first.

mod followers;

use anyhow::Context;
use comfy_table::Table;

use crate::measure::{Measure, Results, Spread};
use crate::report::titled;
use followers::{PULL_FROM, followers_of_a_tweet_by_fame, followers_of_an_author};

/// Users whom the table is of.
const SIZES: [f64; 3] = [1e6, 1e7, 1e8];

/// Of all users so many come on a day, and so many within the time after which they would be dormant.
const COME_DAILY: f64 = 0.10;
const HOLD_ROWS: f64 = 0.25;

/// Of each who comes on a day.
const TWEETS_DAILY: f64 = 2.0;
const PAGES_DAILY: f64 = 50.0;

/// Other commands for each tweet: follows, unfollows, deletions.
const OTHER_COMMANDS: f64 = 0.25;

/// The busiest hour beside the average.
const PEAK: f64 = 3.0;

/// Of those who come on a day so many have a stream open in the busiest hour.
const STREAMS_OPEN: f64 = 0.10;

/// Rows of a feed, where its authors have written as many.
const FEED_KEPT: f64 = 1_000.0;

/// A follow with its indexes: docs/sizing.md.
const FOLLOW_BYTES: f64 = 257.0;

/// A rebuild needs the read model once more, and the generation before is kept.
const GENERATIONS: f64 = 3.0;

/// Of each limit no more than so much is used, so that a peak of the peak finds room.
const USED_AT_MOST: f64 = 0.5;

/// A machine: its processors, and the disk of one server.
const MACHINE_PROCESSORS: f64 = 16.0;
const MACHINE_DISK_TB: f64 = 8.0;

const SECONDS_PER_DAY: f64 = 86_400.0;
const DAYS_PER_YEAR: f64 = 365.0;
const TB: f64 = 1e12;
const GIB: f64 = 1_073_741_824.0;

/// What one of each costs.
struct Costs {
    /// With everything on the machine that was measured.
    appends_per_second: f64,
    /// Of one projector, which takes one processor.
    rows_per_second: f64,
    pages_per_second: f64,
    processors: f64,
    event_bytes: f64,
    row_bytes: f64,
    row_wal_bytes: f64,
    stream_kib: f64,
    page_by_rows_ms: f64,
    page_by_pull_ms: f64,
    readable_p99_ms: f64,
}

impl Costs {
    fn of(results: &[Results]) -> anyhow::Result<Self> {
        let find = |target: &str, what: &str| {
            let is_it =
                |measure: &&Measure| measure.target == target && measure.what.starts_with(what);
            results.iter().flat_map(|results| &results.measures).find(is_it).with_context(|| {
                format!(
                    "\"{what}\" was not measured: bench -- target appends fan-out under-load reads \
                     streams keeping dormant"
                )
            })
        };
        let median = |values: &[f64]| Spread::of(values.iter().copied()).median;
        let measured = |target: &str, what: &str| anyhow::Ok(median(&find(target, what)?.measured));
        let pages = find("", "first page of a dormant reader")?;
        let awake = pages.floor.as_ref().context("beside one who is awake")?;
        Ok(Self {
            appends_per_second: measured("", "tweets to 10 followers each, 64 connections")?,
            rows_per_second: measured("T3", "deliveries")?,
            pages_per_second: measured("T6", "first pages of feeds")?,
            processors: results.first().map_or(0, |first| first.machine.processors) as f64,
            event_bytes: measured("", "disk per event")?,
            row_bytes: measured("T11", "disk per delivered row")?,
            row_wal_bytes: measured("T11", "WAL per delivered row")?,
            stream_kib: measured("T9", "memory of")?,
            page_by_rows_ms: median(&awake.values),
            page_by_pull_ms: median(&pages.measured),
            readable_p99_ms: measured("T5", "from the answer until readable")?,
        })
    }
}

/// What so many users need in the busiest hour, and after a year.
struct Need {
    commands_per_second: f64,
    rows_per_second: f64,
    rows_per_second_by_fame: f64,
    pages_per_second: f64,
    processors: f64,
    log_tb: f64,
    read_model_tb: f64,
    streams_gib: f64,
}

impl Need {
    fn of(users: f64, costs: &Costs) -> Self {
        let daily = users * COME_DAILY;
        let at_peak = |per_day: f64| per_day / SECONDS_PER_DAY * PEAK;
        let tweets_daily = daily * TWEETS_DAILY;
        let commands_daily = tweets_daily * (1.0 + OTHER_COMMANDS);
        let rows = |followers: f64| at_peak(tweets_daily) * (1.0 + followers * HOLD_ROWS);
        let (commands, pages) = (at_peak(commands_daily), at_peak(daily * PAGES_DAILY));
        let rows_per_second = rows(followers_of_an_author());
        let written_yearly = tweets_daily / users * DAYS_PER_YEAR;
        let kept = FEED_KEPT.min(followers::FOLLOWS_EACH * written_yearly);
        let feeds = users * HOLD_ROWS * kept * costs.row_bytes;
        let follows = users * followers::FOLLOWS_EACH * FOLLOW_BYTES;
        // A tweet of the read model takes about what its event takes.
        let tweets = tweets_daily * DAYS_PER_YEAR * costs.event_bytes;
        let processors = commands * costs.processors / costs.appends_per_second
            + rows_per_second / costs.rows_per_second
            + pages * costs.processors / costs.pages_per_second;
        Self {
            commands_per_second: commands,
            rows_per_second,
            rows_per_second_by_fame: rows(followers_of_a_tweet_by_fame()),
            pages_per_second: pages,
            processors: processors / USED_AT_MOST,
            log_tb: commands_daily * DAYS_PER_YEAR * costs.event_bytes / TB,
            read_model_tb: (feeds + follows + tweets) * GENERATIONS / TB,
            streams_gib: daily * STREAMS_OPEN * costs.stream_kib * 1_024.0 / GIB,
        }
    }

    /// What is used of what one of each can do, at most 1 where one is enough.
    fn limits(&self, costs: &Costs) -> [(&'static str, f64); 4] {
        [
            ("one log", self.commands_per_second / costs.appends_per_second / USED_AT_MOST),
            ("one projector", self.rows_per_second / costs.rows_per_second / USED_AT_MOST),
            ("the disk of one log", self.log_tb / MACHINE_DISK_TB),
            ("the disk of one read model", self.read_model_tb / MACHINE_DISK_TB),
        ]
    }

    /// Machines for the work of all programs and servers, and at least one for the log and one for the read model.
    fn machines(&self) -> f64 {
        (self.processors / MACHINE_PROCESSORS).ceil().max(2.0)
    }
}

/// The unit costs of `results`, and what they come to.
pub fn report(results: &[Results]) -> anyhow::Result<String> {
    let costs = Costs::of(results)?;
    let needs = SIZES.map(|users| Need::of(users, &costs));
    Ok([unit_costs(&costs).to_string(), of_users(&needs, &costs).to_string()].join("\n\n"))
}

fn markdown(mut table: Table) -> Table {
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table
}

fn unit_costs(costs: &Costs) -> Table {
    let mut table = markdown(titled(&["one of each", "measured"]));
    let mut row = |what: &str, cost: String| {
        table.add_row([what, &cost]);
    };
    let microseconds = |per_second: f64, processors: f64| 1e6 * processors / per_second;
    row(
        "an append with its relaying and ten deliveries, processor time of everything",
        format!("{:.0} µs", microseconds(costs.appends_per_second, costs.processors)),
    );
    row(
        "a delivered row, of the projector's session",
        format!("{:.1} µs", microseconds(costs.rows_per_second, 1.0)),
    );
    row(
        "a delivered row, disk and write-ahead log",
        format!("{:.0} and {:.0} bytes", costs.row_bytes, costs.row_wal_bytes),
    );
    row("an event, disk", format!("{:.0} bytes", costs.event_bytes));
    row(
        "a page by rows, processor time of everything",
        format!("{:.0} µs", microseconds(costs.pages_per_second, costs.processors)),
    );
    row(
        "a page by rows, and by pull, one after the other",
        format!("{:.2} and {:.2} ms", costs.page_by_rows_ms, costs.page_by_pull_ms),
    );
    row("an idle stream, memory of the api", format!("{:.1} KiB", costs.stream_kib));
    row(
        "from the answer until readable, 1,000 tweets a second to 100 readers each, p99",
        format!("{:.0} ms", costs.readable_p99_ms),
    );
    table
}

fn of_users(needs: &[Need; 3], costs: &Costs) -> Table {
    let mut table = markdown(titled(&["users", "1M", "10M", "100M"]));
    let mut row = |what: String, of: &dyn Fn(&Need) -> String| {
        table.add_row([what, of(&needs[0]), of(&needs[1]), of(&needs[2])]);
    };
    row("commands a second".to_owned(), &|need| rounded(need.commands_per_second));
    row("rows a second".to_owned(), &|need| rounded(need.rows_per_second));
    row("the same if authors wrote as much more as they have followers".to_owned(), &|need| {
        rounded(need.rows_per_second_by_fame)
    });
    row("pages a second".to_owned(), &|need| rounded(need.pages_per_second));
    row("processors".to_owned(), &|need| rounded(need.processors));
    row(format!("machines of {MACHINE_PROCESSORS} processors"), &|need| rounded(need.machines()));
    row("log after a year, TB".to_owned(), &|need| rounded(need.log_tb));
    row("read model after a year, three generations, TB".to_owned(), &|need| {
        rounded(need.read_model_tb)
    });
    row("memory of open streams, GiB".to_owned(), &|need| rounded(need.streams_gib));
    for limit in 0..4 {
        let (name, _) = needs[0].limits(costs)[limit];
        row(format!("needed of {name}"), &|need| rounded(need.limits(costs)[limit].1));
    }
    row("needed of one projector if authors wrote so".to_owned(), &|need| {
        rounded(need.rows_per_second_by_fame / costs.rows_per_second / USED_AT_MOST)
    });
    row("breaks first".to_owned(), &|need| {
        let limits = need.limits(costs);
        let (name, used) =
            limits.into_iter().max_by(|one, other| one.1.total_cmp(&other.1)).unwrap_or(("", 0.0));
        if used > 1.0 { name.to_owned() } else { format!("nothing; {name} next") }
    });
    row(format!("share of follows whose author is pulled ({PULL_FROM} readers)"), &|_| {
        rounded(followers::share_of_pulled())
    });
    table
}

/// Two digits of a small number, none of a large one.
fn rounded(number: f64) -> String {
    let digits = if number < 10.0 { 2 } else { usize::from(number < 100.0) };
    format!("{number:.digits$}")
}

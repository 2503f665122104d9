//! What `docs/sizing.md` says: its commands, and that no process opens more connections than its table has.

use std::collections::BTreeMap;

use e2e::pages;
use e2e::system::System;
use events::{Position, UserId};
use futures_util::future::join_all;
use sqlx::{Connection, PgConnection};

/// What a process calls its sessions, and in which row and column of the table their number is.
const NAMES: [(&str, &str, usize); 4] = [
    ("rookery api: log", "`api`", 2),
    ("rookery api: feed", "`api`", 3),
    ("rookery projector: log", "`projector run`", 2),
    ("rookery projector: feed", "`projector run`", 3),
];

/// The number in `column` of the row that begins with `first`.
fn written(page: &str, first: &str, column: usize) -> i64 {
    let (_, table) = page.split_once("## Connections to PostgreSQL").unwrap();
    let row = table.lines().find(|line| line.starts_with(&format!("| {first} |")));
    let cell = row.unwrap_or_else(|| panic!("no row of {first}")).split('|').nth(column).unwrap();
    cell.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_opens_more_connections_than_the_page_says_and_its_commands_run() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    let mut most: BTreeMap<String, i64> = BTreeMap::new();
    let mut looking = PgConnection::connect(&system.database.url).await.unwrap();
    for round in 0..20 {
        busy(&system, ada, round).await;
        let sessions = "select application_name, count(*) from pg_stat_activity
            where datname = current_database() and application_name like 'rookery %' group by 1";
        let found: Vec<(String, i64)> =
            sqlx::query_as(sessions).fetch_all(&mut looking).await.unwrap();
        for (name, count) in found {
            let most = most.entry(name).or_default();
            *most = (*most).max(count);
        }
    }
    let page = pages::text("sizing.md");
    println!("{most:?}");
    let (mut all_found, mut all_written) = (0, 0);
    for (name, row, column) in NAMES {
        let (found, written) = (most.get(name).copied().unwrap_or(0), written(&page, row, column));
        assert!(found <= written, "{name}: {found} sessions, {written} on the page");
        (all_found, all_written) = (all_found + found, all_written + written);
    }
    // Figures that are far too high would be of no use. How many a process opens at once is partly chance.
    assert!(2 * all_found >= all_written, "{all_found} sessions, {all_written} on the page");
    let variables = [("DATABASE_URL", system.database.url.as_str())];
    for lines in pages::commands("sizing.md") {
        let printed = pages::succeed(&lines, &variables).await;
        assert!(printed.contains("feed_items"), "{printed}");
    }
    system.stop().await;
}

/// Everything that a client can ask for, all at once.
async fn busy(system: &System, ada: UserId, round: usize) {
    let client = &system.client;
    let tweet = client.tweet(ada, &format!("round {round}")).await;
    let paths = [
        "/api/feed".to_owned(),
        "/api/feed/unread".to_owned(),
        "/api/feed/changes?from=1".to_owned(),
        format!("/api/users/{ada}/counts"),
        format!("/api/feed/explain?tweet={tweet}"),
        "/api/pipeline".to_owned(),
        "/health/ready".to_owned(),
        "/api/users".to_owned(),
    ];
    let reading = (0..8).flat_map(|_| paths.iter().map(|path| client.get(path, Some(ada))));
    join_all(reading).await;
    client.feed(ada, Position(tweet.0)).await;
}

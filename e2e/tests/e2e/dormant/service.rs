//! The whole service: who falls dormant, and is back when they read.

use e2e::live::LiveFeed;
use e2e::process::run;
use e2e::system::System;
use e2e::until;
use events::{Position, UserId};
use reqwest::StatusCode;

/// As if `reader` had last read so many days ago.
async fn last_read(system: &System, reader: UserId, days: i32) {
    let write =
        "insert into last_readings (reader_id, read_at) values ($1, now() - $2 * interval '1 day')
        on conflict (reader_id) do update set read_at = excluded.read_at";
    sqlx::query(write).bind(reader.0).bind(days).execute(&system.log).await.unwrap();
}

async fn is_dormant(system: &System, reader: UserId) -> bool {
    let floor =
        "select exists (select from floors where user_id = $1 and floor = 9223372036854775807)";
    sqlx::query_scalar(floor).bind(reader.0).fetch_one(&system.log).await.unwrap()
}

async fn becomes(system: &System, reader: UserId, dormant: bool) {
    let what = if dormant { "falls dormant" } else { "is brought back" };
    until(&format!("reader {reader} {what}"), async || {
        (is_dormant(system, reader).await == dormant).then_some(())
    })
    .await;
}

/// A star, and three who read her.
async fn a_star_and_readers(system: &System) -> (UserId, [UserId; 3]) {
    let star = system.client.register("star").await;
    let mut readers = Vec::new();
    for name in ["ada", "bob", "cyd"] {
        let reader = system.client.register(name).await;
        system.client.follow(reader, star).await;
        readers.push(reader);
    }
    for _ in 0..3 {
        system.client.tweet(star, "hello").await;
    }
    system.caught_up().await;
    (star, readers.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_read_for_long_loses_their_rows_until_they_read_again() {
    let mut system = System::start().await;
    let (star, [ada, bob, cyd]) = a_star_and_readers(&system).await;
    for (reader, days) in [(ada, 31), (bob, 29), (cyd, 31)] {
        last_read(&system, reader, days).await;
    }
    // A round begins with the projector.
    system.projector.kill().await;
    system.restart(false).await;
    becomes(&system, ada, true).await;
    becomes(&system, cyd, true).await;
    assert!(!is_dormant(&system, bob).await, "a day is left");
    assert!(!is_dormant(&system, star).await, "she has never read, and registered today");
    for (reader, rows) in [(ada, 0), (bob, 3), (cyd, 0)] {
        has_rows(&system, reader, rows).await;
    }

    let newest = system.client.tweet(star, "while they were away").await;
    assert_eq!(system.client.feed(ada, Position(newest.0)).await.len(), 4);
    becomes(&system, ada, false).await;
    has_rows(&system, ada, 4).await;
    // A stream is a reading too.
    let mut stream = LiveFeed::open(&system.client, cyd, Some(Position(newest.0))).await;
    becomes(&system, cyd, false).await;
    let next = system.client.tweet(star, "while they are back").await;
    assert_eq!(stream.next().await, Some(next));
    has_rows(&system, cyd, 5).await;
    system.every_feed_is_exact().await;
    is_verified(&system).await;
    system.stop().await;
}

async fn has_rows(system: &System, reader: UserId, rows: i64) {
    until(&format!("reader {reader} has {rows} rows"), async || {
        (system.kept_rows(reader).await == rows).then_some(())
    })
    .await;
}

async fn is_verified(system: &System) {
    let verified = run("projector", &["verify"], &[("DATABASE_URL", &system.database.url)]).await;
    assert!(verified.status.success(), "{verified:?}");
}

/// Neither reading nor projecting needs to know who reads.
#[tokio::test(flavor = "multi_thread")]
async fn feeds_go_on_where_nobody_can_tell_who_reads() {
    let mut system = System::start().await;
    let (star, [ada, ..]) = a_star_and_readers(&system).await;
    last_read(&system, ada, 31).await;
    let hide = "alter table last_readings rename to hidden";
    sqlx::query(hide).execute(&system.log).await.unwrap();
    system.projector.kill().await;
    system.restart(false).await;
    system.projector.logged("dormant readers cannot be seen to now").await;
    system.every_feed_is_exact().await;
    system.api.logged("writing down who reads was interrupted and will try again").await;
    system.client.tweet(star, "all the same").await;
    system.every_feed_is_exact().await;
    let show = "alter table hidden rename to last_readings";
    sqlx::query(show).execute(&system.log).await.unwrap();
    until("what could not be written down is", async || {
        let read = "select 1 from last_readings where reader_id = $1 and read_at > now() - interval '1 day'";
        sqlx::query(read).bind(ada.0).fetch_optional(&system.log).await.unwrap().map(|_| ())
    })
    .await;
    system.stop().await;
}

/// Somebody wrote rows by hand for a reader who is dormant.
#[tokio::test(flavor = "multi_thread")]
async fn feeds_go_on_where_somebody_cannot_be_brought_back() {
    let mut system = System::start().await;
    let (star, [ada, bob, _]) = a_star_and_readers(&system).await;
    last_read(&system, ada, 31).await;
    system.projector.kill().await;
    system.restart(false).await;
    becomes(&system, ada, true).await;
    let by_hand = "insert into feed_items select $1, max(tweet_id) from tweets";
    sqlx::query(by_hand).bind(ada.0).execute(&system.log).await.unwrap();
    let head = system.head().await;
    assert_eq!(system.client.feed(ada, head).await.len(), 3);
    system.projector.logged("dormant readers cannot be seen to now").await;
    let newest = system.client.tweet(star, "all the same").await;
    for reader in [ada, bob] {
        assert_eq!(system.client.feed(reader, Position(newest.0)).await.len(), 4);
    }
    let undone = "delete from feed_items where user_id = $1";
    sqlx::query(undone).bind(ada.0).execute(&system.log).await.unwrap();
    // The next round, which a projector begins with.
    system.projector.kill().await;
    system.restart(false).await;
    becomes(&system, ada, false).await;
    has_rows(&system, ada, 4).await;
    is_verified(&system).await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_is_written_down_once_a_day() {
    let system = System::start().await;
    let (_, [ada, bob, _]) = a_star_and_readers(&system).await;
    let written = async |reader: UserId| {
        let read = "select extract(epoch from read_at)::bigint, xmin::text from last_readings where reader_id = $1";
        let row = sqlx::query_as::<_, (i64, String)>(read).bind(reader.0);
        row.fetch_optional(&system.log).await.unwrap()
    };
    assert_eq!(written(ada).await, None);
    let mut first = None;
    for path in [
        "/api/feed/",
        "/api/feed/?at=3",
        "/api/feed/?after=1",
        "/api/feed/changes?from=3",
        "/api/feed/unread",
    ] {
        assert_eq!(system.client.get(path, Some(ada)).await.status, StatusCode::OK, "{path}");
        let now = until("a reading is written", async || written(ada).await).await;
        assert_eq!(&now, first.get_or_insert(now.clone()), "{path}");
    }
    // Nobody else's is, nor of somebody who is not there.
    assert_eq!(written(bob).await, None);
    let nobody = system.client.get("/api/feed/", Some(UserId(4_711))).await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
    assert_eq!(written(UserId(4_711)).await, None);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_gives_no_rows_to_who_is_dormant_by_then() {
    let system = System::start().await;
    let (star, [ada, bob, cyd]) = a_star_and_readers(&system).await;
    last_read(&system, ada, 100).await;
    last_read(&system, cyd, 1).await;
    let rebuild = ["rebuild", "feed", "--dormant-after-days", "90"];
    let rebuilt = run("projector", &rebuild, &[("DATABASE_URL", &system.database.url)]).await;
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    for (reader, dormant, rows) in [(ada, true, 0), (bob, false, 3), (cyd, false, 3)] {
        assert_eq!(is_dormant(&system, reader).await, dormant, "reader {reader}");
        assert_eq!(system.kept_rows(reader).await, rows, "reader {reader}");
    }
    let newest = system.client.tweet(star, "after the rebuild").await;
    assert_eq!(system.client.feed(ada, Position(newest.0)).await.len(), 4);
    becomes(&system, ada, false).await;
    has_rows(&system, ada, 4).await;
    is_verified(&system).await;
    system.stop().await;
}

//! The commands of `docs/rebuilding.md`, one after the other, while tweets come in.

use e2e::pages;
use e2e::system::System;
use events::Position;

#[tokio::test(flavor = "multi_thread")]
async fn each_command_does_what_the_page_says_and_nobody_notices() {
    let system = System::start().await;
    let (url, amqp_url) = (system.database.url.as_str(), system.amqp_url());
    let variables = [("DATABASE_URL", url), ("AMQP_URL", &*amqp_url)];
    let ada = system.client.register("ada").await;
    let mut generation = Vec::new();
    let mut tweets = Vec::new();
    for lines in pages::commands("rebuilding.md") {
        tweets.insert(0, system.client.tweet(ada, "meanwhile").await);
        system.caught_up().await;
        let printed = pages::succeed(&lines, &variables).await;
        let feed = system.client.feed(ada, Position(tweets[0].0)).await;
        assert_eq!(feed, tweets, "after {lines}");
        let live = projector::checkpoint::load(&system.log).await.unwrap().generation;
        generation.push(live);
        for line in lines.lines().filter(|line| line.starts_with("projector verify")) {
            assert!(printed.contains("no differences"), "{line}: {printed}");
        }
    }
    // rebuild, rebuild counts, rollback feed, verify and status, rebuild feed under other rules.
    assert_eq!(generation, [2, 2, 1, 1, 3]);
    system.every_feed_is_exact().await;
    system.stop().await;
}

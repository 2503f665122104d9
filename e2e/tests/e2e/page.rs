//! The page, in a real browser, as people use it.
//!
//! Each test leaves pictures in `target/page`, to be looked at.

mod access;
mod place;
mod trouble;

use std::collections::BTreeSet;

use api::domain::Content;
use e2e::browser::{Browser, NARROW, WIDE, said};
use e2e::database::TestDatabase;
use e2e::system::{System, start_api, start_projector};
use e2e::token::Issuer;
use e2e::until;
use e2e::vhost::Vhost;
use events::UserId;
use serde_json::json;
use thirtyfour::prelude::*;

const NOTHING: [String; 0] = [];

/// Two users of whom the second follows the first.
async fn ada_and_bob(system: &System) -> (UserId, UserId) {
    let (ada, bob) = (system.client.register("ada").await, system.client.register("bob").await);
    system.client.follow(bob, ada).await;
    (ada, bob)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_posts_appears_in_the_open_page_of_a_follower() {
    let system = System::start().await;
    let (base, client) = (&system.client.base, &system.client);
    let bob = client.register("bob").await;
    for number in 0..30 {
        client.tweet(bob, &format!("what bob wrote before, {number}")).await;
    }

    let ada = Browser::start().await;
    ada.open(base, None, "").await;
    ada.sees("h1", "A home timeline").await;
    ada.picture("welcome").await;
    ada.press("Choose who you are").await;
    ada.writes("new-name", "ada").await;
    ada.writes("new-mail", "ada@example.org").await;
    ada.picture("who").await;
    ada.press("Register and act").await;
    ada.sees("#me", "ada").await;
    ada.sees(".empty", "Nothing here yet").await;
    ada.picture("empty").await;

    let theirs = Browser::start().await;
    theirs.open(base, Some(bob), "people").await;
    let follow = theirs.sees(".follow", "Follow").await;
    follow.click().await.unwrap();
    theirs.sees(".follow[aria-pressed=true]", "Following").await;
    theirs.picture("people").await;
    theirs.open(base, Some(bob), "").await;
    theirs.sees(".tweet", "what bob wrote before, 29").await;

    ada.writes("compose", "  hello from ada  ").await;
    ada.sees(".left", "266").await;
    ada.press("Post").await;
    ada.sees(".tweet .content", "hello from ada").await;
    ada.sees(".delivered", "in 1 of 1 follower’s feed, the last after").await;
    until("every hop has its time", async || {
        (ada.count(".journey .hops .done").await == 6).then_some(())
    })
    .await;
    ada.picture("posted").await;
    theirs.sees(".tweet .content", "hello from ada").await;

    // Whoever reads further down is told, and stays where they are.
    theirs.run("scrollTo(0, 900)").await;
    theirs.run("window.reading = document.elementFromPoint(300, 500).closest('article')").await;
    let place = "return Math.round(window.reading.getBoundingClientRect().top)";
    let before = theirs.run(place).await;
    for number in 1..=3 {
        ada.writes("compose", &format!("and more, {number}")).await;
        ada.press("Post").await;
        ada.sees(".tweet .content", &format!("and more, {number}")).await;
    }
    theirs.sees(".news", "3 new").await;
    assert_eq!(theirs.run(place).await, before, "nothing jumped");
    theirs.picture("news").await;
    theirs.press("3 new").await;
    theirs.sees(".tweet .content", "and more, 3").await;
    assert_eq!(theirs.run("return scrollY").await, 0);

    // What is taken back goes from both pages.
    let tweet = "//li[.//p[.='and more, 2']]//button[.='Delete']";
    let delete = ada.driver.find(By::XPath(tweet)).await.unwrap();
    delete.click().await.unwrap();
    ada.press("Delete for good?").await;
    for browser in [&ada, &theirs] {
        browser.sees_no_more(".tweet", "and more, 2").await;
        assert_eq!(browser.complaints().await, NOTHING);
    }
    system.stop().await;
}

/// The page reads how many characters are left by a rule of its own: it has to be the service's.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_counts_characters_as_the_service_does() {
    let system = System::start().await;
    let browser = Browser::start().await;
    browser.open(&system.client.base, None, "").await;
    let blanks: String =
        (0..=0x3100).filter_map(char::from_u32).filter(|c| c.is_whitespace()).collect();
    let odd = "\u{feff}\u{200b}\u{180e}\u{2060}\u{ad}";
    let texts = [
        "plain".to_owned(),
        format!("{blanks}between{blanks}blanks{blanks}"),
        format!("{odd}not blank{odd}"),
        "👩‍👩‍👧‍👦 and 🏴‍☠️".to_owned(),
        "e\u{301}\u{302}\u{303}".to_owned(),
        format!(" {}\n", "🐦".repeat(280)),
        "🐦".repeat(281),
        blanks,
    ];
    let script = "const [texts, done] = arguments;
        const main = document.querySelector('script[src]').src;
        import(main.replace('main.js', 'composer.js'))
            .then(({ length, trimmed }) => done(texts.map((text) => [length(text), trimmed(text)])));";
    let counted = browser.run_async(script, vec![json!(texts)]).await;
    for (text, counted) in texts.iter().zip(counted.as_array().unwrap()) {
        let trimmed = text.trim();
        assert_eq!(counted[0], trimmed.chars().count(), "{text:?}");
        assert_eq!(counted[1], trimmed, "{text:?}");
        let taken = Content::parse(text).is_ok();
        let offered = (1..=280).contains(&counted[0].as_u64().unwrap());
        assert_eq!(offered, taken, "{text:?}");
    }
    assert_eq!(browser.complaints().await, NOTHING);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scrolling_goes_on_past_the_floor_to_the_first_tweet() {
    let system = System::start_with(&["--feed-kept", "20"]).await;
    let (ada, bob) = (system.client.register("ada").await, system.client.register("bob").await);
    for number in 1..=70 {
        system.client.tweet(ada, &format!("tweet number {number}")).await;
    }
    system.client.follow(bob, ada).await;
    system.caught_up().await;
    assert_eq!(system.kept_rows(bob).await, 20);
    let browser = Browser::start().await;
    browser.open(&system.client.base, Some(bob), "").await;
    browser.sees(".tweet", "tweet number 70").await;
    until("the end is reached", async || {
        browser.run("scrollTo(0, document.body.scrollHeight)").await;
        (browser.count(".foot .end").await == 1).then_some(())
    })
    .await;
    assert_eq!(browser.count(".tweet").await, 70);
    browser.sees(".tweet", "tweet number 1").await;
    browser.picture("end").await;
    assert_eq!(browser.complaints().await, NOTHING);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_travels_in_time() {
    let system = System::start().await;
    let (ada, bob) = ada_and_bob(&system).await;
    let first = system.client.tweet(ada, "the first").await;
    system.client.tweet(ada, "the second").await;
    let path = format!("/api/subscriptions/unfollow/{ada}");
    system.client.delete(&path, Some(bob)).await;
    let head = system.caught_up().await;
    let browser = Browser::start().await;
    browser.open(&system.client.base, Some(bob), "past").await;
    browser.sees(".as-of", &format!("at position {head} of {head}")).await;
    browser.sees(".empty", "Your feed was empty then").await;

    let slider = browser.driver.find(By::Id("position")).await.unwrap();
    slider.focus().await.unwrap();
    browser.types(Key::Left).await;
    browser.sees(".tweet", "the second").await;
    browser.sees(".as-of", &format!("at position {} of {head}", head.0 - 1)).await;
    browser.picture("past").await;
    browser.press("Why is this here?").await;
    browser.sees(".verdict", &format!("At position {}", head.0 - 1)).await;
    browser.sees(".steps", "followed").await;
    browser.picture("why").await;
    browser.types(Key::Escape).await;
    browser.types(Key::Home).await;
    let number = browser.driver.find(By::Id("position-number")).await.unwrap();
    number.clear().await.unwrap();
    number.send_keys(format!("{first}")).await.unwrap();
    browser.press("Go").await;
    browser.sees(".as-of", &format!("at position {first} of {head}")).await;
    browser.sees(".tweet", "the first").await;
    browser.sees_no_more(".tweet", "the second").await;

    browser.open(&system.client.base, Some(bob), "").await;
    browser.press("Why is a tweet not here?").await;
    browser.writes("explain-tweet", &first.to_string()).await;
    browser.press("Ask").await;
    browser.sees(".verdict", "unfollowed").await;
    browser.picture("why-not").await;
    assert_eq!(browser.complaints().await, NOTHING);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tokens_the_page_asks_for_one() {
    const SECRET: &str = "a secret of thirty-two bytes, or more";
    let system = System::start().await;
    let (ada, bob) = ada_and_bob(&system).await;
    system.client.tweet(ada, "hello").await;
    system.caught_up().await;
    let variables = [("JWT_SECRET", SECRET), ("PIPELINE_CLAIM", "operator")];
    let (mut api, client) =
        start_api(&system.database.url, &system.amqp_url(), &variables, &["--no-relay"]).await;
    let issuer = Issuer::with_secret(SECRET.as_bytes());
    let browser = Browser::start().await;
    browser.open(&client.base, None, "").await;
    browser.press("Log in with a token").await;
    browser.picture("token").await;
    browser.writes("token", "not a token").await;
    browser.press("Log in").await;
    browser.sees("dialog .problem", "Not a token").await;
    assert_eq!(browser.complaints().await, NOTHING);
    let field = browser.driver.find(By::Id("token")).await.unwrap();
    field.clear().await.unwrap();
    field.send_keys(issuer.token_for(bob)).await.unwrap();
    browser.press("Log in").await;
    browser.sees(".tweet", "hello").await;
    browser.sees("#me", "bob").await;
    browser.sees(".summary", "--pipeline-claim").await;
    browser.writes("compose", "with a token").await;
    browser.press("Post").await;
    browser.sees(".delivered", "nobody follows you yet").await;
    browser.sees(".tweet", "with a token").await;
    // The only complaint: Chromium takes the refusal of the pipeline for a failure.
    let complaints = browser.complaints().await;
    assert!(
        complaints.iter().all(|one| one.contains("/api/pipeline") && one.contains("403")),
        "{complaints:?}"
    );
    api.kill().await;
    system.stop().await;
}

/// What README opens with.
#[tokio::test(flavor = "multi_thread")]
async fn the_picture_for_the_readme() {
    let system = System::start().await;
    let mut readers = Vec::new();
    let ada = system.client.register("ada").await;
    for name in ["grace", "barbara", "edsger", "leslie", "tony"] {
        let reader = system.client.register(name).await;
        system.client.follow(reader, ada).await;
        system.client.follow(ada, reader).await;
        readers.push(reader);
    }
    let lines = [
        "Rooks build high in the elms and argue about it all day.",
        "A log never forgets. That is the good news and the bad news.",
        "Counted forty nests this morning, two more than last year.",
        "If it is not in the log it did not happen. If it is, it will have happened for ever.",
        "The first one back to the tree tells all the others where the field is.",
    ];
    let browser = Browser::start().await;
    browser.look_like((1_280, 800), &[]).await;
    browser.open(&system.client.base, Some(ada), "").await;
    browser.look_like((1_280, 800), &[]).await;
    // As long as somebody looks there is a line of the pace.
    let points =
        "return document.querySelector('.pace').getAttribute('points')?.split(' ').length ?? 0";
    for (number, (reader, line)) in readers.iter().zip(lines).enumerate() {
        system.client.tweet(*reader, line).await;
        browser.sees(".tweet", line).await;
        until("a few looks later", async || {
            let looks = usize::try_from(browser.run(points).await.as_i64()?).ok()?;
            (looks >= 2 * (number + 1)).then_some(())
        })
        .await;
    }
    browser
        .writes("compose", "Everyone who follows me can read this now. Watch it on its way →")
        .await;
    browser.press("Post").await;
    browser.sees(".delivered", "in 5 of 5 followers’ feeds").await;
    browser.sees(".way [data-flows=true]", "Log").await;
    browser.keep("readme").await;
    assert_eq!(browser.complaints().await, NOTHING);
    system.stop().await;
}

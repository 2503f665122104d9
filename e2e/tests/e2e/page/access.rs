//! The page for everyone: by keyboard, by name, in any size, whatever somebody writes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_done_by_keyboard_alone() {
    let system = System::start().await;
    let (ada, bob) = ada_and_bob(&system).await;
    system.client.tweet(ada, "hello").await;
    system.caught_up().await;
    let browser = Browser::start().await;
    browser.open(&system.client.base, Some(bob), "").await;
    browser.sees(".tweet", "hello").await;
    browser.sees("#me", "bob").await;
    let tab = Key::Tab;
    let enter = Key::Enter;
    let to = async |role: &str, name: &str| {
        for _ in 0..40 {
            browser.types(tab.clone()).await;
            let (has_role, has_name) = browser.focused().await;
            if has_role == role && has_name.contains(name) {
                return;
            }
        }
        panic!("no {role} {name:?} is reached by Tab");
    };
    browser.types(tab.clone()).await;
    assert_eq!(browser.focused().await, ("link".to_owned(), "Skip to the main part".to_owned()));
    to("textbox", "Write a tweet").await;
    browser.types("by keyboard").await;
    to("button", "Post").await;
    browser.types(enter.clone()).await;
    browser.sees(".tweet", "by keyboard").await;
    to("button", "Why is this here?").await;
    browser.types(enter.clone()).await;
    browser.sees("dialog .verdict", "wrote it").await;
    browser.types(Key::Escape).await;
    until("the dialog is closed", async || (browser.count("dialog").await == 0).then_some(()))
        .await;
    let (role, name) = browser.focused().await;
    assert_eq!(
        (role.as_str(), name.as_str()),
        ("button", "Why is this here?"),
        "the focus came back"
    );

    // From the skip link on nothing but Tab and Enter: to a profile, and no longer followed.
    browser.open(&system.client.base, Some(bob), "").await;
    browser.sees(".tweet", "hello").await;
    to("link", "ada").await;
    browser.types(enter.clone()).await;
    browser.sees("h1", "ada").await;
    browser.sees(".follow", "Following").await;
    browser.sees(".counts", "1 tweet · 1 follower · 0 following").await;
    to("button", "Following ada").await;
    browser.types(enter.clone()).await;
    browser.sees(".follow[aria-pressed=false]", "Follow").await;
    browser.sees(".counts", "1 tweet · 0 followers · 0 following").await;
    to("tab", "Tweets").await;
    browser.types(Key::Right).await;
    browser.sees("[role=tabpanel]", "Nobody follows them yet").await;
    browser.picture("profile").await;
    assert_eq!(browser.complaints().await, NOTHING);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_control_has_a_name_and_nothing_overflows() {
    let system = System::start().await;
    let (ada, bob) = ada_and_bob(&system).await;
    system.client.tweet(bob, "mine").await;
    system.client.tweet(ada, "hers").await;
    system.caught_up().await;
    let browser = Browser::start().await;
    let controls = BTreeSet::from([
        "button",
        "link",
        "textbox",
        "slider",
        "tab",
        "dialog",
        "list",
        "article",
        "progressbar",
        "navigation",
        "complementary",
        "tabpanel",
        "Date",
        "DateTime",
        "InputTime",
    ]);
    for view in ["", "people", "past", &format!("user/{ada}"), "pipeline", "nonsense"] {
        browser.open(&system.client.base, Some(bob), view).await;
        browser.sees(".summary", "Everything flows").await;
        browser.sees("#me", "bob").await;
        until("it is all there", async || (browser.count(".loading").await == 0).then_some(()))
            .await;
        for node in browser.accessible().await {
            let role = said(&node, "role");
            if controls.contains(role.as_str()) {
                assert_ne!(said(&node, "name"), "", "{view}: {role} {node}");
            }
        }
        for size in [WIDE, NARROW, (320, 600)] {
            browser.look_like(size, &[]).await;
            let overflow = "return document.documentElement.scrollWidth - innerWidth";
            let overflow = browser.run(overflow).await;
            assert!(overflow.as_i64().unwrap() <= 0, "{view} at {size:?}: {overflow}");
        }
        browser.look_like(WIDE, &[]).await;
    }
    assert_eq!(browser.complaints().await, NOTHING);

    browser.open(&system.client.base, Some(bob), "").await;
    browser.look_like(WIDE, &[("prefers-reduced-motion", "reduce")]).await;
    let moving = "return document.getAnimations().length";
    system.client.tweet(ada, "something flows").await;
    browser.sees(".way [data-flows=true]", "Log").await;
    assert_eq!(browser.run(moving).await, 0, "nothing moves where that is not wanted");
    browser.look_like(WIDE, &[]).await;
    until("dots run where it is", async || (browser.run(moving).await.as_i64()? > 0).then_some(()))
        .await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_somebody_writes_is_text_within_its_box() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    let texts = [
        "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>".to_owned(),
        "\u{202e}right to left\u{202d} and \u{2067}back".to_owned(),
        format!("a{}", "\u{301}\u{327}\u{489}".repeat(93)),
        "👩‍👩‍👧‍👦🏴‍☠️🐦".repeat(12),
        "w".repeat(280),
        format!("a{}b", "\n".repeat(278)),
        "שלום עולם مرحبا".to_owned(),
    ];
    for text in &texts {
        system.client.tweet(ada, text).await;
    }
    system.caught_up().await;
    let browser = Browser::start().await;
    browser.open(&system.client.base, Some(ada), "").await;
    browser.sees(".tweet", "<script>").await;
    let shown = "return [...document.querySelectorAll('.content')].map((node) => node.textContent)";
    let mut shown: Vec<String> = serde_json::from_value(browser.run(shown).await).unwrap();
    shown.reverse();
    assert_eq!(shown, texts);
    assert_eq!(browser.driver.title().await.unwrap(), "Rookery");
    assert_eq!(browser.count(".tweet img, .tweet script").await, 0);
    for size in [WIDE, NARROW] {
        browser.look_like(size, &[]).await;
        let overflow =
            browser.run("return document.documentElement.scrollWidth - innerWidth").await;
        assert!(overflow.as_i64().unwrap() <= 0, "{size:?}: {overflow}");
        let tallest = "return Math.max(...[...document.querySelectorAll('.tweet')].map((node) => node.offsetHeight))";
        assert!(browser.run(tallest).await.as_i64().unwrap() < 600);
    }
    browser.picture("odd").await;
    assert_eq!(browser.complaints().await, NOTHING);
    system.stop().await;
}

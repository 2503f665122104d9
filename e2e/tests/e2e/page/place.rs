//! Where a reader has come to.

use e2e::browser::Browser;
use e2e::system::System;
use e2e::until;
use serde_json::Value;

use super::{NOTHING, ada_and_bob};

/// In another tab, as far as the page can tell.
const HIDE: &str = "Object.defineProperty(document, 'hidden', { value: true, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'))";
const SHOW: &str = "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_below_a_line_and_what_comes_while_nobody_looks_is_counted() {
    let system = System::start().await;
    let (ada, bob) = ada_and_bob(&system).await;
    for number in 0..3 {
        system.client.tweet(ada, &format!("read before, {number}")).await;
    }
    let unread = async || {
        let answer = system.client.get("/api/feed/unread", Some(bob)).await;
        (answer.body["unread"].as_i64().unwrap(), answer.body["marker"].as_i64().unwrap())
    };
    until("all three are there", async || (unread().await.0 == 3).then_some(())).await;

    let page = Browser::start().await;
    page.open(&system.client.base, Some(bob), "").await;
    page.sees(".tweet .content", "read before, 2").await;
    assert_eq!(page.count(".read-before").await, 0, "nothing was read before");
    until("what is seen is read", async || (unread().await.0 == 0).then_some(())).await;

    page.run(HIDE).await;
    system.client.tweet(ada, "while nobody looks").await;
    page.sees(".tweet .content", "while nobody looks").await;
    let title = async || page.run("return document.title").await;
    assert_eq!(title().await, Value::from("(1) Rookery"));
    until("it is unread", async || (unread().await.0 == 1).then_some(())).await;

    // Opened again later: what is new is above the line.
    page.open(&system.client.base, Some(bob), "").await;
    page.sees(".read-before", "You have read what is below.").await;
    let above = "return document.querySelector('.read-before').closest('li').previousElementSibling.innerText";
    assert!(page.run(above).await.as_str().unwrap().contains("while nobody looks"));
    page.picture("unread").await;
    until("now it is read", async || (unread().await.0 == 0).then_some(())).await;

    page.run(HIDE).await;
    system.client.tweet(ada, "once more").await;
    page.sees(".tweet .content", "once more").await;
    page.run(SHOW).await;
    until("who looks again reads it", async || (unread().await.0 == 0).then_some(())).await;
    assert_eq!(title().await, Value::from("Rookery"));
    assert_eq!(page.complaints().await, NOTHING);
    system.stop().await;
}

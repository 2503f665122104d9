//! Home feeds as a reader sees them, from the post to the end of the last page.

use e2e::client::Answer;
use e2e::model::Model;
use e2e::system::System;
use events::{Position, TweetId, UserId};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};

/// The journey: everything that the service is for, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_tweet_reaches_its_readers_and_leaves_them_again() {
    let system = System::start().await;
    let rookery = &system.client;
    let ada = rookery.register("ada").await;
    let bob = rookery.register("bob").await;
    let cleo = rookery.register("cleo").await;

    let early = rookery.tweet(ada, "before anyone follows").await;
    let followed = rookery.follow(bob, ada).await;
    assert_eq!(rookery.feed(bob, followed).await, [early], "following brings in what was written");

    let late = rookery.tweet(ada, "after").await;
    let own = rookery.tweet(bob, "my own").await;
    let written = Position(own.0);
    assert_eq!(rookery.feed(bob, written).await, [own, late, early]);
    assert_eq!(rookery.feed(cleo, written).await, []);

    let deleted = rookery.delete(&format!("/api/tweets/{early}"), Some(ada)).await;
    assert_eq!(rookery.feed(bob, deleted.position.unwrap()).await, [own, late]);

    let path = format!("/api/subscriptions/unfollow/{ada}");
    let unfollowed = rookery.delete(&path, Some(bob)).await;
    assert_eq!(rookery.feed(bob, unfollowed.position.unwrap()).await, [own]);

    let again = rookery.follow(bob, ada).await;
    assert_eq!(rookery.feed(bob, again).await, [own, late]);
    let gone = rookery.delete(&format!("/api/users/{ada}"), Some(ada)).await;
    assert_eq!(rookery.feed(bob, gone.position.unwrap()).await, [own]);
    let at = format!("/api/feed/?at={again}");
    let past = rookery.get(&at, Some(bob)).await;
    assert_eq!(past.ids(), [own, late], "as it was before she left");
    assert_eq!(past.position, Some(again), "a page of the past holds for the past");
    let last = rookery.tweet(bob, "waited for").await;
    let request = rookery.request(Method::GET, &at, Some(bob));
    let past = Answer::of(request.header("X-Min-Log-Position", last.0)).await;
    assert_eq!(past.position, Some(again), "whatever was waited for");
    let now = rookery.get("/api/feed/?limit=1", Some(bob)).await;
    assert_eq!(now.ids(), [last], "it was waited for");
    system.every_feed_is_exact().await;
    system.stop().await;
}

async fn post_many(system: &System, author: UserId, count: usize) -> Vec<TweetId> {
    let mut tweets = Vec::new();
    let numbers: Vec<usize> = (0..count).collect();
    for numbers in numbers.chunks(100) {
        let posts = numbers.iter().map(|number| async move {
            system.client.tweet(author, &format!("tweet {number} of {author}")).await
        });
        tweets.extend(join_all(posts).await);
    }
    tweets.sort_unstable();
    tweets
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_of_3000_tweets_pages_to_its_end_while_about_1000_rows_are_kept() {
    let system = System::start().await;
    let rookery = &system.client;
    let authors = [rookery.register("ada").await, rookery.register("bob").await];
    let reader = rookery.register("reader").await;
    for author in authors {
        rookery.follow(reader, author).await;
    }
    let (of_ada, of_bob) =
        tokio::join!(post_many(&system, authors[0], 1_500), post_many(&system, authors[1], 1_500));
    let mut all = [of_ada, of_bob].concat();
    all.sort_unstable_by(|one, other| other.cmp(one));

    let head = system.caught_up().await;
    assert_eq!(rookery.feed(reader, head).await, all);
    let kept = system.kept_rows(reader).await;
    assert!((1_000..2_500).contains(&kept), "{kept} rows are kept");

    // A late follower of both gets no more than is kept, and reads the same.
    let late = rookery.register("late").await;
    rookery.follow(late, authors[0]).await;
    let head = rookery.follow(late, authors[1]).await;
    assert_eq!(rookery.feed(late, head).await, all);
    let kept = system.kept_rows(late).await;
    assert!((500..=2_000).contains(&kept), "{kept} rows are kept");

    // Removal leaves no hole below or above the floor.
    let path = format!("/api/subscriptions/unfollow/{}", authors[0]);
    let head = rookery.delete(&path, Some(reader)).await.position.unwrap();
    let model = Model::of_log(&system.log).await;
    assert_eq!(rookery.feed(reader, head).await, model.feed(reader));

    for skip in [0, 990, 1_000, 1_400, 1_499, 1_500, 9_999] {
        let path = format!("/api/feed/?skip={skip}&limit=10");
        let expected: Vec<_> = model.feed(reader).into_iter().skip(skip).take(10).collect();
        assert_eq!(rookery.get(&path, Some(reader)).await.ids(), expected, "skip {skip}");
    }
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_link_leads_to_the_end_and_not_beyond() {
    let system = System::start().await;
    let rookery = &system.client;
    let ada = rookery.register("ada").await;
    let tweets = post_many(&system, ada, 6).await;
    system.caught_up().await;

    let first = rookery.get("/api/feed/?limit=3", Some(ada)).await;
    let before = tweets[3];
    let expected = format!("/api/feed/?before={before}&limit=3");
    assert_eq!(first.next(), Some(expected.clone()));
    let last = rookery.get(&expected, Some(ada)).await;
    assert_eq!((last.ids().len(), last.next()), (3, None), "a full last page is the last");
    let past = rookery.get(&format!("/api/feed/?before={}", tweets[0]), Some(ada)).await;
    assert_eq!((past.ids().len(), past.next()), (0, None));

    let at = format!("/api/feed/?at={}&limit=2", tweets[3]);
    let next = rookery.get(&at, Some(ada)).await.next().unwrap();
    assert!(next.ends_with(&format!("&at={}", tweets[3])), "{next} stays at its position");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_waits_for_the_position_it_asks_for() {
    let system = System::start().await;
    let rookery = &system.client;
    let ada = rookery.register("ada").await;
    system.projector.signal("-STOP").await;
    let tweet = rookery.tweet(ada, "not readable yet").await;

    let read = |path: &str| {
        let request = rookery.request(Method::GET, path, Some(ada));
        Answer::of(request.header("X-Min-Log-Position", tweet.0))
    };
    for path in ["/api/feed/", "/api/users/1", "/api/users", "/api/subscriptions/1/followers"] {
        let refused = read(path).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(refused.retry_after.as_deref(), Some("1"));
        assert!(refused.position.unwrap().0 < tweet.0, "it says how far the read model is");
    }

    let waiting = read("/api/feed/");
    let waking = system.projector.signal("-CONT");
    let (found, ()) = tokio::join!(waiting, waking);
    assert_eq!(found.ids(), [tweet]);
    assert!(found.position.unwrap().0 >= tweet.0);
    system.stop().await;
}

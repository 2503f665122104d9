//! Reading feeds as the api does, and holding them against the definition.

use api::views::{Page, feed};
use events::store::Connections;
use events::{Position, TweetId, UserId};

use crate::model::Model;

/// A feed to its end, page by page, as of `at` if given.
pub async fn read_feed(feed: &Connections, reader: UserId, at: Option<Position>) -> Vec<TweetId> {
    let mut tweets: Vec<TweetId> = Vec::new();
    loop {
        let before = tweets.last().copied().unwrap_or(feed::NEWEST);
        let page = Page { skip: 0, limit: 7 };
        let found = match at {
            None => feed::page(feed, reader, before, page).await,
            Some(at) => feed::page_at(feed, reader, before, page, at).await,
        };
        let items = found.unwrap().value.expect("the reader exists");
        if items.is_empty() {
            return tweets;
        }
        tweets.extend(items.iter().map(|item| item.tweet_id));
    }
}

/// Reads every feed to its end as of `at` and holds it against `model`, the state at `at`; `now` says
/// whose feed can be read at all.
pub async fn feeds_are_exact(feed: &Connections, model: &Model, at: Option<Position>, now: &Model) {
    for reader in model.users.intersection(&now.users) {
        let read = read_feed(feed, *reader, at).await;
        assert_eq!(read, model.feed(*reader), "the feed of {reader} at {}", model.position);
        if at.is_none() {
            unread_is_exact(feed, model, *reader, &read).await;
        }
    }
}

/// Holds what is counted as unread against the feed itself, which was `read`: from its beginning, from its middle, from
/// its end, and to a bound.
async fn unread_is_exact(feed: &Connections, model: &Model, reader: UserId, read: &[TweetId]) {
    let ends = [read.first(), read.get(read.len() / 2), read.last()];
    for marker in ends.into_iter().flatten().copied().chain([TweetId(0)]) {
        for limit in [3, 1_000] {
            let found = feed::unread(feed, reader, marker, limit).await.unwrap().value;
            let others = |tweet: &&TweetId| **tweet > marker && model.tweets[*tweet] != reader;
            let expected = i64::try_from(read.iter().filter(others).count()).unwrap().min(limit);
            assert_eq!(found, Some(expected), "unread of {reader} above {marker}");
        }
    }
}

//! What changed in the newest part of a home feed between two positions: pure, from the stays of its
//! tweets.
//!
//! **Invariant**: whoever holds the newest K at the first position, takes out what is removed, puts in
//! what is added and cuts to K, holds the newest K at the second. The cause of a change is the event
//! after which it was so for good.

use std::collections::{BTreeMap, BTreeSet};

use events::{Position, TweetId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::views::FeedItem;

/// A time during which a tweet is in a feed: from the event that brought it there to the one that took
/// it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    pub item: FeedItem,
    pub entered: Cause,
    pub left: Option<Cause>,
}

/// The event that did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub struct Cause {
    pub position: Position,
    #[serde(rename = "type")]
    #[schema(example = "Followed")]
    pub kind: &'static str,
}

/// One difference between the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Change {
    Added { item: FeedItem, cause: Cause },
    Removed { tweet_id: TweetId, cause: Cause },
}

/// The changes are too many to be told: reading a page anew is cheaper.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany;

impl Stay {
    fn covers(&self, position: Position) -> bool {
        self.entered.position <= position && self.left.is_none_or(|left| left.position > position)
    }
}

impl Change {
    fn order(&self) -> (Position, TweetId) {
        match self {
            Self::Added { item, cause } => (cause.position, item.tweet_id),
            Self::Removed { tweet_id, cause } => (cause.position, *tweet_id),
        }
    }
}

/// The changes to the newest `window` items from `from` to `to`, in the order of their causes. `stays`
/// are those of the newest tweets that were in the feed at any time from `from` on; `are_all` says that
/// there are no others.
///
/// # Errors
/// [`TooMany`] when `stays` do not reach down to the ends of both windows.
pub fn changes(
    stays: &[Stay],
    are_all: bool,
    from: Position,
    to: Position,
    window: usize,
) -> Result<Vec<Change>, TooMany> {
    let newest = |at: Position| -> BTreeSet<TweetId> {
        let there = stays.iter().filter(|stay| stay.covers(at)).map(|stay| stay.item.tweet_id);
        there.take(window).collect()
    };
    let (before, after) = (newest(from), newest(to));
    if !are_all && (before.len() < window || after.len() < window) {
        return Err(TooMany);
    }
    let there_still: BTreeSet<TweetId> =
        stays.iter().filter(|stay| stay.covers(to)).map(|stay| stay.item.tweet_id).collect();

    let mut changes = Vec::new();
    for tweet_id in before.iter().filter(|tweet_id| !there_still.contains(tweet_id)) {
        let left = stays.iter().filter(|stay| stay.item.tweet_id == *tweet_id);
        let cause = left.filter_map(|stay| stay.left).filter(|left| left.position <= to).max();
        changes.extend(cause.map(|cause| Change::Removed { tweet_id: *tweet_id, cause }));
    }
    for stay in stays.iter().filter(|stay| stay.covers(to)) {
        let tweet_id = stay.item.tweet_id;
        if after.contains(&tweet_id) && !before.contains(&tweet_id) {
            let cause = made_room(stays, stay, from, to, window).unwrap_or(stay.entered);
            changes.push(Change::Added { item: stay.item.clone(), cause });
        }
    }
    changes.sort_by_key(Change::order);
    Ok(changes)
}

/// The last event, up to `to`, after which fewer than `window` newer tweets were there, where before it
/// there had been as many: what let the tweet of `stay`, which was in the feed by then, into the window.
fn made_room(
    stays: &[Stay],
    stay: &Stay,
    from: Position,
    to: Position,
    window: usize,
) -> Option<Cause> {
    let began = stay.entered.position.max(from);
    let newer = || stays.iter().take_while(|other| other.item.tweet_id > stay.item.tweet_id);
    let mut there = newer().filter(|other| other.covers(began)).count();
    // By how much each later event makes them more, and fewer.
    let mut events: BTreeMap<Cause, (usize, usize)> = BTreeMap::new();
    for other in newer() {
        if other.entered.position > began && other.entered.position <= to {
            events.entry(other.entered).or_default().0 += 1;
        }
        if let Some(left) = other.left.filter(|left| left.position > began && left.position <= to) {
            events.entry(left).or_default().1 += 1;
        }
    }
    let mut made_room = None;
    for (cause, (more, fewer)) in events {
        let before = there;
        there = there + more - fewer;
        if before >= window && there < window {
            made_room = Some(cause);
        }
    }
    made_room
}

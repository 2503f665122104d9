//! Histories that could have happened, at random, and how they get into a log.

use std::collections::HashMap;

use events::event::{
    Followed, TweetCreated, TweetDeleted, Unfollowed, UserDeleted, UserRegistered,
};
use events::recorded::Metadata;
use events::store::append::{BEGIN_LOCKED, NewEvent, append, head};
use events::store::{Connections, ranges};
use events::{Clock, Event, Position, RecordedEvent, Slice, UserId};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use sqlx::Connection;
use uuid::Uuid;

use crate::RANGE_EVENTS;
use crate::model::{Model, read_log};

/// Appends `events` as they are and returns the whole log. Versions count up within each stream.
pub async fn given(log: &Connections, events: Vec<Event>) -> Vec<RecordedEvent> {
    let mut lent = log.lend().await.unwrap();
    let mut transaction = lent.begin_with(BEGIN_LOCKED).await.unwrap();
    let old = head(&mut transaction, Position::START).await.unwrap().position;
    let new_head = Position(old.0 + i64::try_from(events.len()).unwrap());
    ranges::open(&mut *transaction, new_head, RANGE_EVENTS).await.unwrap();
    let versions = "select stream, max(version) from events group by stream";
    let versions: Vec<(String, i32)> =
        sqlx::query_as(versions).fetch_all(&mut *transaction).await.unwrap();
    let mut versions: HashMap<String, i32> = versions.into_iter().collect();
    let new: Vec<NewEvent> = (old.0 + 1..)
        .map(Position)
        .zip(events)
        .map(|(position, event)| {
            let version = versions.entry(event.stream(position)).or_default();
            *version += 1;
            let (event_id, metadata) = (Uuid::now_v7(), Metadata::default());
            NewEvent { position, event_id, version: *version, event, metadata }
        })
        .collect();
    append(&mut transaction, old, &new, Clock::system().now()).await.unwrap();
    transaction.commit().await.unwrap();
    lent.give_back();
    read_log(log).await
}

/// A history that could have happened: every event was possible when it did.
pub fn history(random: &mut StdRng, length: usize) -> Vec<Event> {
    let mut model = Model::default();
    let mut events: Vec<Event> = Vec::new();
    let mut registered = 0;
    while events.len() < length {
        let position = Position(i64::try_from(events.len()).unwrap() + 1);
        let users: Vec<UserId> = model.users.iter().copied().collect();
        let any = |random: &mut StdRng| {
            // The lower of two: fame and diligence are not evenly spread.
            users[random.random_range(0..users.len()).min(random.random_range(0..users.len()))]
        };
        let event = match random.random_range(0..100) {
            _ if users.len() < 3 => new_user(&mut registered),
            0..4 => new_user(&mut registered),
            4..5 => Event::UserDeleted(UserDeleted { user_id: any(random) }),
            5..60 => Event::TweetCreated(TweetCreated {
                author_id: any(random),
                content: format!("tweet {position}"),
            }),
            60..68 => {
                let tweets: Vec<_> =
                    model.tweets.iter().filter(|(_, author)| users.contains(author)).collect();
                let Some((tweet_id, author_id)) =
                    tweets.get(random.random_range(0..tweets.len().max(1)))
                else {
                    continue;
                };
                Event::TweetDeleted(TweetDeleted { tweet_id: **tweet_id, author_id: **author_id })
            }
            _ => {
                let (follower_id, followed_id) = (any(random), any(random));
                if follower_id == followed_id {
                    continue;
                }
                if model.follows.contains(&(follower_id, followed_id)) {
                    Event::Unfollowed(Unfollowed { follower_id, followed_id })
                } else {
                    Event::Followed(Followed { follower_id, followed_id })
                }
            }
        };
        model.apply(position, &event);
        events.push(event);
    }
    events
}

/// The next one to register.
pub fn new_user(registered: &mut i64) -> Event {
    *registered += 1;
    Event::UserRegistered(UserRegistered {
        user_id: UserId(*registered),
        username: format!("user{registered}"),
        email: format!("user{registered}@example.org"),
    })
}

/// `log` as it may be delivered: in slices of random lengths, most of them twice, some of them late.
pub fn deliveries(random: &mut StdRng, log: &[RecordedEvent]) -> Vec<Slice> {
    let mut slices = cut(random, log.to_vec());
    slices.retain(|_| random.random_ratio(4, 5));
    slices.extend(cut(random, log.to_vec()));
    for window in slices.chunks_mut(5) {
        window.shuffle(random);
    }
    slices
}

/// Cuts `events` into slices at random places.
pub fn cut(random: &mut StdRng, mut events: Vec<RecordedEvent>) -> Vec<Slice> {
    let mut slices = Vec::new();
    while !events.is_empty() {
        let rest = events.split_off(random.random_range(1..=events.len().min(40)));
        slices.push(Slice::new(std::mem::replace(&mut events, rest)).unwrap());
    }
    slices
}

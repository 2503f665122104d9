use std::collections::HashMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::event::{Followed, TweetDeleted, Unfollowed, UserDeleted, UserRegistered};
use crate::recorded::Metadata;

const ADA: i64 = 1;
const BOB: i64 = 2;

fn registered(user: i64) -> Event {
    let (username, email) = (format!("user{user}"), format!("user{user}@example.org"));
    Event::UserRegistered(UserRegistered { user_id: UserId(user), username, email })
}

fn left(user: i64) -> Event {
    Event::UserDeleted(UserDeleted { user_id: UserId(user) })
}

fn wrote(author: i64) -> Event {
    Event::TweetCreated(TweetCreated { author_id: UserId(author), content: "a secret".to_owned() })
}

fn took_back(author: i64, tweet: i64) -> Event {
    Event::TweetDeleted(TweetDeleted { tweet_id: TweetId(tweet), author_id: UserId(author) })
}

fn followed(follower: i64, followed: i64) -> Event {
    let (follower_id, followed_id) = (UserId(follower), UserId(followed));
    Event::Followed(Followed { follower_id, followed_id })
}

fn unfollowed(follower: i64, followed: i64) -> Event {
    let (follower_id, followed_id) = (UserId(follower), UserId(followed));
    Event::Unfollowed(Unfollowed { follower_id, followed_id })
}

/// A log that begins with `events`.
fn log(events: &[Event]) -> Vec<RecordedEvent> {
    let mut versions = HashMap::<String, i32>::new();
    (1..)
        .map(Position)
        .zip(events)
        .map(|(position, event)| {
            let stream = event.stream(position);
            let version = versions.entry(stream.clone()).or_default();
            *version += 1;
            RecordedEvent {
                position,
                event_id: Uuid::nil(),
                stream,
                version: *version,
                kind: event.kind().to_owned(),
                schema_version: event.schema_version(),
                payload: RawValue::from_string(event.payload()).unwrap(),
                metadata: Metadata::default(),
                recorded_at: DateTime::UNIX_EPOCH,
            }
        })
        .collect()
}

/// Why `tweet` is in Bob's feed or not at the end of `events`.
fn at_the_end(events: &[Event], tweet: i64) -> Explanation {
    at(i64::try_from(events.len()).unwrap(), events, tweet)
}

fn at(position: i64, events: &[Event], tweet: i64) -> Explanation {
    explain(UserId(BOB), TweetId(tweet), Position(position), &log(events)).unwrap()
}

/// What it says after "because".
fn because(explanation: &Explanation) -> &str {
    let is = if explanation.present { "is" } else { "is not" };
    let Explanation { user, tweet, at, .. } = explanation;
    let start = format!("At position {at} tweet {tweet} {is} in the feed of user {user}, because ");
    explanation.verdict.strip_prefix(&start).unwrap_or_else(|| panic!("{}", explanation.verdict))
}

fn positions(explanation: &Explanation) -> Vec<i64> {
    explanation.steps.iter().map(|step| step.position.0).collect()
}

/// Ada and Bob are there, and the third event is a tweet of Ada's.
fn ada_wrote(more: &[Event]) -> Vec<Event> {
    [&[registered(ADA), registered(BOB), wrote(ADA)], more].concat()
}

#[test]
fn a_tweet_of_someone_followed_is_there() {
    let events = ada_wrote(&[followed(BOB, ADA)]);
    let found = at_the_end(&events, 3);
    assert!(found.present);
    assert_eq!(because(&found), "user 2 has followed its author, user 1, since position 4.");
    assert_eq!(positions(&found), [1, 2, 3, 4]);
    assert_eq!(found.author, Some(UserId(ADA)));
}

#[test]
fn an_own_tweet_is_there() {
    let found = at_the_end(&[registered(BOB), wrote(BOB)], 2);
    assert!(found.present);
    assert_eq!(because(&found), "user 2 wrote it.");
    assert_eq!(positions(&found), [1, 2]);
}

#[test]
fn without_a_follow_it_is_not_there() {
    // Being followed is not following.
    let found = at_the_end(&ada_wrote(&[followed(ADA, BOB)]), 3);
    assert!(!found.present);
    assert_eq!(because(&found), "user 2 never followed its author, user 1.");
    assert_eq!(positions(&found), [1, 2, 3], "what bears on neither is no step");
}

#[test]
fn an_unfollow_takes_it_out_and_a_follow_brings_it_back() {
    let events = ada_wrote(&[followed(BOB, ADA), unfollowed(BOB, ADA), followed(BOB, ADA)]);
    let without = at(5, &events, 3);
    assert!(!without.present);
    assert_eq!(because(&without), "user 2 unfollowed its author, user 1, at position 5.");
    assert_eq!(positions(&without), [1, 2, 3, 4, 5], "what came later is not told");

    let with = at_the_end(&events, 3);
    assert!(with.present);
    assert_eq!(because(&with), "user 2 has followed its author, user 1, again since position 6.");
    assert_eq!(with.steps[5].sentence, "User 2 followed user 1 again.");
}

#[test]
fn a_deleted_tweet_is_not_there() {
    let found = at_the_end(&ada_wrote(&[followed(BOB, ADA), took_back(ADA, 3)]), 3);
    assert!(!found.present);
    assert_eq!(because(&found), "it was deleted at position 5.");
    assert_eq!(found.steps[4].sentence, "User 1 deleted tweet 3.");

    let own = at_the_end(&[registered(BOB), wrote(BOB), took_back(BOB, 2)], 2);
    assert_eq!(because(&own), "it was deleted at position 3.");
}

#[test]
fn a_tweet_of_a_deleted_author_is_not_there() {
    let found = at_the_end(&ada_wrote(&[followed(BOB, ADA), left(ADA)]), 3);
    assert!(!found.present);
    assert_eq!(because(&found), "its author, user 1, was deleted at position 5.");
}

#[test]
fn a_deleted_user_has_no_feed() {
    let found = at_the_end(&ada_wrote(&[followed(BOB, ADA), left(BOB)]), 3);
    assert!(!found.present);
    assert_eq!(because(&found), "user 2 was deleted at position 5.");

    let own = at_the_end(&[registered(BOB), wrote(BOB), left(BOB)], 2);
    assert!(!own.present);
    assert_eq!(because(&own), "user 2 was deleted at position 3.", "and not once more as author");
}

#[test]
fn a_user_who_is_not_registered_has_no_feed() {
    let found = at_the_end(&[registered(ADA), wrote(ADA)], 2);
    assert!(!found.present);
    assert_eq!(because(&found), "no user 2 is registered.", "and so follows nobody");
}

#[test]
fn a_position_that_the_log_does_not_have_is_no_tweet() {
    let found = at_the_end(&ada_wrote(&[]), 99);
    assert!(!found.present);
    let expected = "there is no such tweet: the log has no event at position 99.";
    assert_eq!(because(&found), expected);
    assert_eq!((found.author, positions(&found)), (None, vec![2]));
}

#[test]
fn another_event_is_no_tweet_and_is_named() {
    let events = ada_wrote(&[took_back(ADA, 3)]);
    let found = at_the_end(&events, 4);
    assert!(!found.present);
    let expected = "there is no such tweet: the event at position 4 is TweetDeleted.";
    assert_eq!(because(&found), expected);
    assert_eq!(found.steps[1].sentence, "User 1 deleted tweet 3.");

    // Though it bears on the reader, who is not there before it either.
    let early = at(1, &events, 2);
    assert_eq!(early.reasons[0], Reason::NoSuchUser);
    assert_eq!(early.reasons[1], Reason::NotATweet { kind: "UserRegistered".to_owned() });
}

#[test]
fn a_tweet_that_was_written_later_is_not_there_yet() {
    let events = [registered(ADA), registered(BOB), followed(BOB, ADA), wrote(ADA)];
    let found = at(3, &events, 4);
    assert!(!found.present);
    assert_eq!(because(&found), "it was written only later, at position 4.");
    assert_eq!(positions(&found), [1, 2, 3, 4], "the tweet's own event is named all the same");

    let own = at(1, &[registered(BOB), wrote(BOB)], 2);
    assert_eq!(because(&own), "it was written only later, at position 2.");

    let nobody = at(0, &events, 4);
    let expected = [
        Reason::NoSuchUser,
        Reason::WrittenLater { position: Position(4) },
        Reason::NoSuchAuthor { author: UserId(ADA) },
    ];
    assert_eq!(nobody.reasons, expected);
}

#[test]
fn all_causes_are_named_the_decisive_first() {
    let more = [followed(BOB, ADA), unfollowed(BOB, ADA), took_back(ADA, 3), left(ADA), left(BOB)];
    let found = at_the_end(&ada_wrote(&more), 3);
    let expected = "user 2 was deleted at position 8; \
                    besides, it was deleted at position 6; \
                    besides, its author, user 1, was deleted at position 7; \
                    besides, user 2 unfollowed its author, user 1, at position 5.";
    assert_eq!(because(&found), expected);
    assert_eq!(positions(&found), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn what_speaks_for_it_is_not_among_the_causes_against_it() {
    let found = at_the_end(&ada_wrote(&[followed(BOB, ADA), took_back(ADA, 3)]), 3);
    assert_eq!(found.reasons, [Reason::TweetDeleted { position: Position(5) }]);
}

#[test]
fn the_newest_of_many_follows_decide_and_the_rest_is_counted() {
    let many: Vec<Event> = (0..1_001)
        .map(|n| if n % 2 == 0 { followed(BOB, ADA) } else { unfollowed(BOB, ADA) })
        .collect();
    let mut events = log(&ada_wrote(&many));
    events.drain(3..1_000);
    let found = explain(UserId(BOB), TweetId(3), Position(1_004), &events).unwrap();
    assert!(found.present);
    assert_eq!(found.earlier_left_out, 997);
    assert_eq!(positions(&found), [1, 2, 3, 1_001, 1_002, 1_003, 1_004]);

    let none = at_the_end(&ada_wrote(&many[..3]), 3);
    assert_eq!(none.earlier_left_out, 0);
}

#[test]
fn nothing_of_a_tweet_or_a_person_is_in_it() {
    let events = ada_wrote(&[followed(BOB, ADA), left(ADA)]);
    let text = serde_json::to_string(&at_the_end(&events, 3)).unwrap();
    for personal in ["secret", "user1\"", "user2\"", "example.org"] {
        assert!(!text.contains(personal), "{personal} is in {text}");
    }
}

#[test]
fn a_program_reads_it_too() {
    let found = at_the_end(&[registered(BOB), wrote(ADA)], 2);
    let expected = json!({
        "user": 2,
        "tweet": 2,
        "author": 1,
        "at": 2,
        "present": false,
        "verdict": "At position 2 tweet 2 is not in the feed of user 2, because its author, \
                    user 1, is not registered.",
        "reasons": [{ "reason": "no_such_author", "author": 1 }],
        "steps": [
            {
                "position": 1,
                "recorded_at": "1970-01-01T00:00:00Z",
                "kind": "UserRegistered",
                "stream": "user-2",
                "sentence": "User 2 was registered.",
            },
            {
                "position": 2,
                "recorded_at": "1970-01-01T00:00:00Z",
                "kind": "TweetCreated",
                "stream": "tweet-2",
                "sentence": "User 1 wrote tweet 2.",
            },
        ],
        "earlier_left_out": 0,
    });
    assert_eq!(serde_json::to_value(&found).unwrap(), expected);

    let unfollowed = at_the_end(&ada_wrote(&[followed(BOB, ADA), unfollowed(BOB, ADA)]), 3);
    let reasons: Value = serde_json::to_value(&unfollowed.reasons).unwrap();
    assert_eq!(reasons, json!([{ "reason": "unfollowed", "author": 1, "position": 5 }]));
}

#[test]
fn an_event_of_a_newer_release_is_refused_and_not_passed_over() {
    let mut events = log(&ada_wrote(&[]));
    events[2].kind = "TweetPinned".to_owned();
    let error = explain(UserId(BOB), TweetId(3), Position(3), &events).unwrap_err();
    assert!(error.to_string().contains("TweetPinned"), "{error}");
}

#[test]
fn every_event_that_bears_on_it_is_in_the_streams_that_are_read() {
    let more = [followed(BOB, ADA), unfollowed(BOB, ADA), took_back(ADA, 3), left(ADA), left(BOB)];
    let events = log(&ada_wrote(&more));
    for (tweet, author) in [(3, Some(UserId(ADA))), (2, None), (99, None)] {
        let streams = streams(UserId(BOB), TweetId(tweet), author);
        let read: Vec<RecordedEvent> = events
            .iter()
            .filter(|event| event.position.0 == tweet || streams.contains(&event.stream))
            .cloned()
            .collect();
        let explained = |events: &[RecordedEvent]| {
            explain(UserId(BOB), TweetId(tweet), Position(8), events).unwrap()
        };
        assert_eq!(explained(&read), explained(&events), "tweet {tweet}");
    }
    assert_eq!(streams(UserId(BOB), TweetId(3), Some(UserId(BOB))), ["user-2", "tweet-3"]);
}

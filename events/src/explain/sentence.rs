//! The words of an explanation. They have ids and positions in them, and never a tweet's text or a
//! person's name: an explanation may be pasted where those may not.

use super::Reason;
use crate::event::{
    Event, Followed, TweetCreated, TweetDeleted, Unfollowed, UserDeleted, UserRegistered,
};
use crate::id::{Position, TweetId, UserId};
use crate::recorded::RecordedEvent;

/// All of it in one sentence. `reasons` are either all for it or all against it.
pub(super) fn verdict(user: UserId, tweet: TweetId, at: Position, reasons: &[Reason]) -> String {
    let is = if reasons.iter().all(Reason::is_for) { "is" } else { "is not" };
    let because: Vec<String> = reasons.iter().map(|reason| clause(user, tweet, reason)).collect();
    let because = because.join("; besides, ");
    format!("At position {at} tweet {tweet} {is} in the feed of user {user}, because {because}.")
}

fn clause(user: UserId, tweet: TweetId, reason: &Reason) -> String {
    match reason {
        Reason::Own => format!("user {user} wrote it"),
        Reason::Follows { author, position, again } => {
            let again = if *again { " again" } else { "" };
            format!(
                "user {user} has followed its author, user {author},{again} since position {position}"
            )
        }
        Reason::NoSuchUser => format!("no user {user} is registered"),
        Reason::UserDeleted { position } => {
            format!("user {user} was deleted at position {position}")
        }
        Reason::NoSuchEvent => {
            format!("there is no such tweet: the log has no event at position {tweet}")
        }
        Reason::NotATweet { kind } => {
            format!("there is no such tweet: the event at position {tweet} is {kind}")
        }
        Reason::WrittenLater { position } => {
            format!("it was written only later, at position {position}")
        }
        Reason::TweetDeleted { position } => format!("it was deleted at position {position}"),
        Reason::NoSuchAuthor { author } => format!("its author, user {author}, is not registered"),
        Reason::AuthorDeleted { author, position } => {
            format!("its author, user {author}, was deleted at position {position}")
        }
        Reason::NeverFollowed { author } => {
            format!("user {user} never followed its author, user {author}")
        }
        Reason::Unfollowed { author, position } => {
            format!("user {user} unfollowed its author, user {author}, at position {position}")
        }
    }
}

/// What `event` says.
pub(super) fn step(recorded: &RecordedEvent, event: &Event) -> String {
    match event {
        Event::UserRegistered(UserRegistered { user_id, .. }) => {
            format!("User {user_id} was registered.")
        }
        Event::UserDeleted(UserDeleted { user_id }) => format!("User {user_id} was deleted."),
        Event::TweetCreated(TweetCreated { author_id, .. }) => {
            format!("User {author_id} wrote tweet {}.", recorded.position)
        }
        Event::TweetDeleted(TweetDeleted { tweet_id, author_id }) => {
            format!("User {author_id} deleted tweet {tweet_id}.")
        }
        Event::Followed(Followed { follower_id, followed_id }) => {
            let again = if recorded.version > 1 { " again" } else { "" };
            format!("User {follower_id} followed user {followed_id}{again}.")
        }
        Event::Unfollowed(Unfollowed { follower_id, followed_id }) => {
            format!("User {follower_id} unfollowed user {followed_id}.")
        }
    }
}

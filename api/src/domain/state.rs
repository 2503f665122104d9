//! What a command is decided against: as much of it as one batch of commands touches.
//!
//! The batch loads it under the lock of the log's head and then evolves it event by event, so that
//! the second of two commands in one batch is decided against what the first one did.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use events::event::{
    Followed, TweetCreated, TweetDeleted, Unfollowed, UserDeleted, UserRegistered,
};
use events::name_key::name_key;
use events::store::append::{Head, Relationship};
use events::{Event, Position, TweetId, UserId};
use serde::{Deserialize, Serialize};

use super::{Email, Username};

/// A user who is registered and not deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub user_id: UserId,
    pub username: String,
    pub email: String,
    pub created_at: DateTime<Utc>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct DecisionState {
    pub head: Head,
    pub accounts: HashMap<UserId, Account>,
    pub taken_usernames: HashSet<String>,
    pub taken_emails: HashSet<String>,
    /// Tweets that exist, with their authors.
    pub tweets: HashMap<TweetId, UserId>,
    pub relationships: HashMap<(UserId, UserId), Relationship>,
}

impl DecisionState {
    /// Nothing but the head.
    #[must_use]
    pub fn at(head: Head) -> Self {
        Self {
            head,
            accounts: HashMap::new(),
            taken_usernames: HashSet::new(),
            taken_emails: HashSet::new(),
            tweets: HashMap::new(),
            relationships: HashMap::new(),
        }
    }

    /// The user, if registered and not deleted.
    #[must_use]
    pub fn account(&self, user_id: UserId) -> Option<&Account> {
        self.accounts.get(&user_id)
    }

    pub(super) fn username_is_taken(&self, username: &Username) -> bool {
        self.taken_usernames.contains(&username.key())
    }

    pub(super) fn email_is_taken(&self, email: &Email) -> bool {
        self.taken_emails.contains(&email.key())
    }

    pub(super) fn next_user_id(&self) -> UserId {
        UserId(self.head.last_user_id.0 + 1)
    }

    pub(super) fn author_of(&self, tweet_id: TweetId) -> Option<UserId> {
        self.tweets.get(&tweet_id).copied()
    }

    pub(super) fn follows(&self, follower_id: UserId, followed_id: UserId) -> bool {
        self.relationships.get(&(follower_id, followed_id)).is_some_and(|last| last.follows)
    }

    /// Gives `event` the next position, carries out what it says, and returns its position and its
    /// version in its stream.
    pub fn evolve(&mut self, event: &Event, now: DateTime<Utc>) -> (Position, i32) {
        let position = self.head.position.next();
        self.head.position = position;
        self.head.recorded_at = Some(now);
        let version = match event {
            Event::UserRegistered(UserRegistered { user_id, username, email }) => {
                self.head.last_user_id = *user_id;
                self.taken_usernames.insert(name_key(username));
                self.taken_emails.insert(name_key(email));
                let account = Account {
                    user_id: *user_id,
                    username: username.clone(),
                    email: email.clone(),
                    created_at: now,
                };
                self.accounts.insert(*user_id, account);
                1
            }
            Event::UserDeleted(UserDeleted { user_id }) => {
                if let Some(account) = self.accounts.remove(user_id) {
                    self.taken_usernames.remove(&name_key(&account.username));
                    self.taken_emails.remove(&name_key(&account.email));
                }
                2
            }
            Event::TweetCreated(TweetCreated { author_id, .. }) => {
                self.tweets.insert(TweetId::from(position), *author_id);
                1
            }
            Event::TweetDeleted(TweetDeleted { tweet_id, .. }) => {
                self.tweets.remove(tweet_id);
                2
            }
            Event::Followed(Followed { follower_id, followed_id }) => {
                self.next_version(*follower_id, *followed_id, true)
            }
            Event::Unfollowed(Unfollowed { follower_id, followed_id }) => {
                self.next_version(*follower_id, *followed_id, false)
            }
        };
        (position, version)
    }

    fn next_version(&mut self, follower_id: UserId, followed_id: UserId, follows: bool) -> i32 {
        let last = self.relationships.entry((follower_id, followed_id)).or_default();
        *last = Relationship { version: last.version + 1, follows };
        last.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Command, Content, Rejection};

    struct Story {
        state: DecisionState,
    }

    impl Story {
        fn new() -> Self {
            let head =
                Head { position: Position::START, recorded_at: None, last_user_id: UserId(0) };
            Self { state: DecisionState::at(head) }
        }

        fn try_command(&mut self, command: &Command) -> Result<(i64, i32), Rejection> {
            let event = command.decide(&self.state)?;
            let (position, version) = self.state.evolve(&event, DateTime::UNIX_EPOCH);
            Ok((position.0, version))
        }
    }

    fn register(name: &str, email: &str) -> Command {
        Command::Register {
            username: Username::parse(name).unwrap(),
            email: Email::parse(email).unwrap(),
        }
    }

    fn follow(follower: i64, followed: i64) -> Command {
        Command::Follow { follower_id: UserId(follower), followed_id: UserId(followed) }
    }

    fn unfollow(follower: i64, followed: i64) -> Command {
        Command::Unfollow { follower_id: UserId(follower), followed_id: UserId(followed) }
    }

    fn tweet(author: i64) -> Command {
        Command::Tweet { author_id: UserId(author), content: Content::parse("hello").unwrap() }
    }

    fn delete_tweet(author: i64, tweet: i64) -> Command {
        Command::DeleteTweet { author_id: UserId(author), tweet_id: TweetId(tweet) }
    }

    #[test]
    fn ids_count_registrations_and_a_tweets_id_is_its_position() {
        let mut story = Story::new();
        assert_eq!(story.try_command(&register("ada", "a@example.org")), Ok((1, 1)));
        assert_eq!(story.try_command(&tweet(1)), Ok((2, 1)));
        assert_eq!(story.try_command(&register("bob", "b@example.org")), Ok((3, 1)));
        assert_eq!(story.state.head.last_user_id, UserId(2));
        assert_eq!(story.try_command(&delete_tweet(1, 2)), Ok((4, 2)));
    }

    #[test]
    fn a_name_is_taken_until_its_user_is_deleted() {
        let mut story = Story::new();
        story.try_command(&register("ada", "a@example.org")).unwrap();
        assert_eq!(
            story.try_command(&register("ADA", "b@example.org")),
            Err(Rejection::UsernameTaken("ADA".to_owned()))
        );
        assert_eq!(
            story.try_command(&register("bob", "A@example.org")),
            Err(Rejection::EmailTaken("A@example.org".to_owned()))
        );
        story.try_command(&Command::DeleteUser { user_id: UserId(1) }).unwrap();
        assert_eq!(story.try_command(&register("ADA", "A@example.org")), Ok((3, 1)));
        assert_eq!(story.state.head.last_user_id, UserId(2), "an id is never given twice");
    }

    #[test]
    fn a_deleted_user_can_act_no_more() {
        let mut story = Story::new();
        story.try_command(&register("ada", "a@example.org")).unwrap();
        story.try_command(&register("bob", "b@example.org")).unwrap();
        story.try_command(&follow(2, 1)).unwrap();
        story.try_command(&Command::DeleteUser { user_id: UserId(1) }).unwrap();
        let unknown = Err(Rejection::CallerUnknown(UserId(1)));
        assert_eq!(story.try_command(&tweet(1)), unknown);
        assert_eq!(story.try_command(&follow(1, 2)), unknown);
        assert_eq!(story.try_command(&follow(2, 1)), Err(Rejection::UserUnknown(UserId(1))));
        assert_eq!(story.try_command(&unfollow(2, 1)), Err(Rejection::NotFollowing(UserId(1))));
    }

    #[test]
    fn a_relationship_is_one_stream() {
        let mut story = Story::new();
        story.try_command(&register("ada", "a@example.org")).unwrap();
        story.try_command(&register("bob", "b@example.org")).unwrap();
        assert_eq!(story.try_command(&unfollow(1, 2)), Err(Rejection::NotFollowing(UserId(2))));
        assert_eq!(story.try_command(&follow(1, 2)), Ok((3, 1)));
        assert_eq!(story.try_command(&follow(1, 2)), Err(Rejection::AlreadyFollowing(UserId(2))));
        assert_eq!(story.try_command(&unfollow(1, 2)), Ok((4, 2)));
        assert_eq!(story.try_command(&follow(1, 2)), Ok((5, 3)));
        assert_eq!(story.try_command(&follow(1, 1)), Err(Rejection::FollowsSelf));
    }

    #[test]
    fn only_the_author_takes_a_tweet_back_and_only_once() {
        let mut story = Story::new();
        story.try_command(&register("ada", "a@example.org")).unwrap();
        story.try_command(&register("bob", "b@example.org")).unwrap();
        story.try_command(&tweet(1)).unwrap();
        let unknown = Err(Rejection::TweetUnknown(TweetId(3)));
        assert_eq!(story.try_command(&delete_tweet(2, 3)), unknown);
        assert_eq!(story.try_command(&delete_tweet(1, 3)), Ok((4, 2)));
        assert_eq!(story.try_command(&delete_tweet(1, 3)), unknown);
    }
}

//! Holding the decision state against the log: who is registered, who follows whom, which tweets were taken back, and the
//! user id that was given last.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use events::event::{
    Followed, TweetDeleted, Unfollowed, UserDeleted, UserRegistered, relationship_stream,
};
use events::name_key::name_key;
use events::store::{Connections, read};
use events::{Event, Position, RecordedEvent, TweetId, UserId};
use futures_util::TryStreamExt;
use sqlx::{Connection, PgConnection};

use super::digest::Digest;
use super::fact::{Fact, Fingerprint};
use super::{Differences, Part, log};

/// All tables of one moment.
const SNAPSHOT: &str = "begin isolation level repeatable read read only";

/// What the decision state is, or has to be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decisions {
    digest: Digest,
    last_user: UserId,
}

/// How one event changes it.
enum Change {
    Add(Fact),
    TakeAway(Fact),
}

impl Decisions {
    /// Carries out a page of the log. What a user was called who left is read from the log again: one statement a page,
    /// and only if somebody did.
    pub(super) async fn add_page(
        &mut self,
        log: &Connections,
        page: &[(&RecordedEvent, Event)],
    ) -> Result<(), sqlx::Error> {
        for (_, event) in page {
            if let Event::UserRegistered(registered) = event {
                self.last_user = registered.user_id;
            }
        }
        for change in changes(log, page).await? {
            match change {
                Change::Add(fact) => self.digest.add(&fact),
                Change::TakeAway(fact) => self.digest.take_away(&fact),
            }
        }
        Ok(())
    }
}

/// How a page of the log changes the decision state, in an order in which nothing is taken away before it came.
async fn changes(
    log: &Connections,
    page: &[(&RecordedEvent, Event)],
) -> Result<Vec<Change>, sqlx::Error> {
    let (mut changes, mut left) = (Vec::new(), Vec::new());
    for (recorded, event) in page {
        match event {
            Event::UserRegistered(registered) => {
                changes.push(Change::Add(account(registered, recorded.recorded_at)));
            }
            Event::UserDeleted(UserDeleted { .. }) => left.push(recorded.stream.clone()),
            Event::TweetDeleted(TweetDeleted { tweet_id, .. }) => {
                changes.push(Change::Add(Fact::TakenBack { tweet_id: *tweet_id }));
            }
            Event::Followed(Followed { follower_id, followed_id })
            | Event::Unfollowed(Unfollowed { follower_id, followed_id }) => {
                let related = |version, follows| Fact::Related {
                    follower_id: *follower_id,
                    followed_id: *followed_id,
                    version,
                    follows,
                };
                let follows = matches!(event, Event::Followed(_));
                let version = recorded.version;
                if version > 1 {
                    changes.push(Change::TakeAway(related(version - 1, !follows)));
                }
                changes.push(Change::Add(related(version, follows)));
            }
            Event::TweetCreated(_) => {}
        }
    }
    if !left.is_empty() {
        for recorded in read::first_of_streams(log, &left).await? {
            if let Ok(Event::UserRegistered(registered)) = recorded.event() {
                changes.push(Change::TakeAway(account(&registered, recorded.recorded_at)));
            }
        }
    }
    Ok(changes)
}

fn account(registered: &UserRegistered, created_at: DateTime<Utc>) -> Fact {
    let UserRegistered { user_id, username, email } = registered;
    let details = Fingerprint::of(&[username, email, &name_key(username), &name_key(email)]);
    Fact::Registered { user_id: *user_id, details, created_at }
}

/// Reads all of it, and the head of the log at which it is so.
pub(super) async fn scan(log: &Connections) -> Result<(Decisions, Position), sqlx::Error> {
    let mut digest = Digest::default();
    let (head, last_user) = for_each(log, |fact| digest.add(&fact)).await?;
    Ok((Decisions { digest, last_user }, head))
}

/// Looks at everything as of one moment. Returns the head of the log and the last user id of that moment.
async fn for_each(
    log: &Connections,
    mut look: impl FnMut(Fact),
) -> Result<(Position, UserId), sqlx::Error> {
    let mut lent = log.lend().await?;
    let mut snapshot = lent.begin_with(SNAPSHOT).await?;
    let head = read::head(&mut *snapshot).await?;
    let last_user = sqlx::query_scalar!(r#"select user_id as "id: UserId" from last_user_id"#)
        .fetch_one(&mut *snapshot)
        .await?;
    for_each_account(&mut snapshot, &mut look).await?;
    for_each_relationship(&mut snapshot, &mut look).await?;
    let mut deleted =
        sqlx::query_scalar!(r#"select tweet_id as "tweet_id: TweetId" from deleted_tweets"#)
            .fetch(&mut *snapshot);
    while let Some(tweet_id) = deleted.try_next().await? {
        look(Fact::TakenBack { tweet_id });
    }
    drop(deleted);
    snapshot.rollback().await?;
    lent.give_back();
    Ok((head, last_user))
}

async fn for_each_account(
    snapshot: &mut PgConnection,
    look: &mut impl FnMut(Fact),
) -> Result<(), sqlx::Error> {
    let mut rows = sqlx::query!(
        r#"
        select user_id as "user_id: UserId", username, email, username_key, email_key, created_at
        from accounts
        "#
    )
    .fetch(snapshot);
    while let Some(row) = rows.try_next().await? {
        let details =
            Fingerprint::of(&[&row.username, &row.email, &row.username_key, &row.email_key]);
        look(Fact::Registered { user_id: row.user_id, details, created_at: row.created_at });
    }
    Ok(())
}

async fn for_each_relationship(
    snapshot: &mut PgConnection,
    look: &mut impl FnMut(Fact),
) -> Result<(), sqlx::Error> {
    let mut rows = sqlx::query!(
        r#"
        select follower_id as "follower_id: UserId", followed_id as "followed_id: UserId", version, follows
        from relationships
        "#
    )
    .fetch(snapshot);
    while let Some(row) = rows.try_next().await? {
        look(Fact::Related {
            follower_id: row.follower_id,
            followed_id: row.followed_id,
            version: row.version,
            follows: row.follows,
        });
    }
    Ok(())
}

/// Lists what differs, by a second look at the buckets that do.
pub(super) async fn list(
    log: &Connections,
    expected: &Decisions,
    found: &Decisions,
    differences: &mut Differences,
) -> Result<(), sqlx::Error> {
    if expected.last_user != found.last_user {
        let (given, kept) = (expected.last_user, found.last_user);
        let what =
            format!("by the log, the last user id given is {given}; last_user_id has {kept}");
        differences.add(Part::Decisions, what, vec![format!("user-{given}")]);
    }
    let places = expected.digest.to_look_at(&found.digest, differences);
    if places.is_empty() {
        return Ok(());
    }
    let mut there = BTreeSet::new();
    let (head, _) = for_each(log, |fact| {
        if places.contains(&fact.place()) {
            there.insert(fact);
        }
    })
    .await?;
    let mut due = BTreeSet::new();
    let mut after = Position::START;
    loop {
        let page = log::page(log, after, head).await?;
        let Some(last) = page.last() else { break };
        after = last.position;
        // What cannot be read is listed by `log::check`.
        let decoded: Vec<_> =
            page.iter().filter_map(|recorded| Some((recorded, recorded.event().ok()?))).collect();
        for change in changes(log, &decoded).await? {
            match change {
                Change::Add(fact) if places.contains(&fact.place()) => drop(due.insert(fact)),
                Change::TakeAway(fact) => drop(due.remove(&fact)),
                Change::Add(_) => {}
            }
        }
    }
    for fact in due.difference(&there) {
        let what = format!("by the log, {}; the decision state does not say so", fact.clause());
        differences.add(Part::Decisions, what, vec![stream(fact)]);
    }
    for fact in there.difference(&due) {
        let what = format!("by the decision state, {}; the log does not say so", fact.clause());
        differences.add(Part::Decisions, what, vec![stream(fact)]);
    }
    Ok(())
}

/// Where the log says it.
fn stream(fact: &Fact) -> String {
    match fact {
        Fact::Related { follower_id, followed_id, .. } => {
            relationship_stream(*follower_id, *followed_id)
        }
        fact => fact.stream(),
    }
}

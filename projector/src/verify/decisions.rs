//! Holding the decision state against the log: `accounts` has who is registered and not deleted.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use events::event::{UserDeleted, UserRegistered};
use events::name_key::name_key;
use events::store::{Connections, read};
use events::{Event, Position, RecordedEvent, UserId};
use futures_util::TryStreamExt;

use super::digest::Digest;
use super::fact::{Fact, Fingerprint};
use super::{Differences, Part, log};

/// Who has to have an account.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub accounts: Digest,
}

impl Expected {
    /// Adds who came in a page of the log and takes away who left in it. What a user was called is
    /// read from the log again: one statement a page, and only if somebody left.
    pub(super) async fn add_page(
        &mut self,
        log: &Connections,
        page: &[(&RecordedEvent, Event)],
    ) -> Result<(), sqlx::Error> {
        for (recorded, event) in page {
            if let Event::UserRegistered(registered) = event {
                self.accounts.add(&account(registered, recorded.recorded_at));
            }
        }
        let left: Vec<String> = page
            .iter()
            .filter(|(_, event)| matches!(event, Event::UserDeleted(_)))
            .map(|(recorded, _)| recorded.stream.clone())
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        for recorded in read::first_of_streams(log, &left).await? {
            if let Ok(Event::UserRegistered(registered)) = recorded.event() {
                self.accounts.take_away(&account(&registered, recorded.recorded_at));
            }
        }
        Ok(())
    }
}

fn account(registered: &UserRegistered, created_at: DateTime<Utc>) -> Fact {
    let UserRegistered { user_id, username, email } = registered;
    let details = Fingerprint::of(&[username, email, &name_key(username), &name_key(email)]);
    Fact::Registered { user_id: *user_id, details, created_at }
}

/// Reads every account, and the head of the log at which they are so.
pub(super) async fn scan(log: &Connections) -> Result<(Digest, Position), sqlx::Error> {
    let mut digest = Digest::default();
    let head = for_each_account(log, |fact| digest.add(&fact)).await?;
    Ok((digest, head))
}

/// One statement, so that all of it comes from one snapshot.
async fn for_each_account(
    log: &Connections,
    mut look: impl FnMut(Fact),
) -> Result<Position, sqlx::Error> {
    let mut lent = log.lend().await?;
    let mut rows = sqlx::query!(
        r#"
        select
            head.position as "head!: Position", accounts.user_id as "user_id?: UserId",
            accounts.username as "username?", accounts.email as "email?",
            accounts.username_key as "username_key?", accounts.email_key as "email_key?",
            accounts.created_at as "created_at?"
        from (select coalesce(max(position), 0) as position from events) as head
        left join accounts on true
        "#
    )
    .fetch(&mut *lent);
    let mut head = Position::START;
    while let Some(row) = rows.try_next().await? {
        head = row.head;
        if let (Some(user_id), Some(created_at)) = (row.user_id, row.created_at) {
            let texts = [row.username, row.email, row.username_key, row.email_key]
                .map(Option::unwrap_or_default);
            let details = Fingerprint::of(&texts.each_ref().map(String::as_str));
            look(Fact::Registered { user_id, details, created_at });
        }
    }
    drop(rows);
    lent.give_back();
    Ok(head)
}

/// Finds who it is that differs, by a second look at the buckets that do.
pub(super) async fn list(
    log: &Connections,
    expected: &Digest,
    found: &Digest,
    differences: &mut Differences,
) -> Result<(), sqlx::Error> {
    let places = expected.to_look_at(found, differences);
    if places.is_empty() {
        return Ok(());
    }
    let mut there = BTreeSet::new();
    let head = for_each_account(log, |fact| {
        if places.contains(&fact.place()) {
            there.insert(fact);
        }
    })
    .await?;
    let mut due = BTreeMap::new();
    let mut after = Position::START;
    loop {
        let page = log::page(log, after, head).await?;
        let Some(last) = page.last() else { break };
        after = last.position;
        for recorded in &page {
            match recorded.event() {
                Ok(Event::UserRegistered(registered)) => {
                    let fact = account(&registered, recorded.recorded_at);
                    if places.contains(&fact.place()) {
                        due.insert(registered.user_id, fact);
                    }
                }
                Ok(Event::UserDeleted(UserDeleted { user_id })) => drop(due.remove(&user_id)),
                // What cannot be read is listed by `log::check`.
                _ => {}
            }
        }
    }
    let due: BTreeSet<Fact> = due.into_values().collect();
    for fact in due.difference(&there) {
        let what = format!("by the log, {}; accounts do not say so", fact.clause());
        differences.add(Part::Decisions, what, vec![fact.stream()]);
    }
    for fact in there.difference(&due) {
        let what = format!("by accounts, {}; the log does not say so", fact.clause());
        differences.add(Part::Decisions, what, vec![fact.stream()]);
    }
    Ok(())
}

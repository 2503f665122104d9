//! Deciding a whole batch: pure, in the order in which the commands came.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use events::store::append::{Head, NewEvent};
use events::{Event, Position, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Refusal, Submission};
use crate::domain::{Account, Command, DecisionState, Rejection};

/// A client's name for one request, under which its first answer is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(pub String);

/// What a client is told of a command that is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The position of its event.
    pub position: Position,
    pub recorded_at: DateTime<Utc>,
    /// Who gave the command; after a registration, the new user.
    pub account: Account,
}

/// The first answer given under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptAnswer {
    pub fingerprint: Vec<u8>,
    pub answer: Result<Accepted, Rejection>,
}

/// A key, and within what it is one: two who have the same are two different keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ScopedKey {
    pub scope: String,
    pub key: String,
}

impl ScopedKey {
    /// The key under which the answer to `submission` is kept, if it has one. A caller's keys are their
    /// own; a registration has no caller yet, so there it is the name that is asked for.
    pub(super) fn of(submission: &Submission) -> Option<Self> {
        let key = submission.key.as_ref()?.0.clone();
        let scope = match &submission.command {
            Command::Register { username, .. } => format!("registration-{}", username.key()),
            command => format!("user-{}", command.caller()?),
        };
        Some(Self { scope, key })
    }
}

/// Everything that one transaction writes, and what each client is told once it has committed.
#[derive(Debug)]
pub(super) struct Plan {
    pub old_head: Head,
    pub new_head: Head,
    pub decided_at: DateTime<Utc>,
    pub events: Vec<NewEvent>,
    pub registered: Vec<Account>,
    pub deleted: Vec<UserId>,
    pub kept: Vec<(ScopedKey, KeptAnswer)>,
    pub answers: Vec<Result<Accepted, Refusal>>,
}

impl Plan {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.kept.is_empty()
    }
}

/// Decides `batch` against `state` and the answers `known` under its keys.
pub(super) fn decide(
    batch: &[Submission],
    mut state: DecisionState,
    mut known: HashMap<ScopedKey, KeptAnswer>,
    now: DateTime<Utc>,
) -> Plan {
    let mut plan = Plan {
        old_head: state.head,
        new_head: state.head,
        decided_at: now,
        events: Vec::with_capacity(batch.len()),
        registered: Vec::new(),
        deleted: Vec::new(),
        kept: Vec::new(),
        answers: Vec::with_capacity(batch.len()),
    };
    for submission in batch {
        let answer = match ScopedKey::of(submission) {
            None => decide_one(submission, &mut state, &mut plan, now).map_err(Refusal::from),
            Some(key) => {
                let fingerprint = fingerprint(&submission.command);
                match known.get(&key) {
                    Some(first) if first.fingerprint != fingerprint => Err(Refusal::KeyReused),
                    Some(first) => first.answer.clone().map_err(Refusal::from),
                    None => {
                        let answer = decide_one(submission, &mut state, &mut plan, now);
                        let first = KeptAnswer { fingerprint, answer: answer.clone() };
                        known.insert(key.clone(), first.clone());
                        plan.kept.push((key, first));
                        answer.map_err(Refusal::from)
                    }
                }
            }
        };
        plan.answers.push(answer);
    }
    plan.new_head = state.head;
    plan
}

fn decide_one(
    submission: &Submission,
    state: &mut DecisionState,
    plan: &mut Plan,
    now: DateTime<Utc>,
) -> Result<Accepted, Rejection> {
    let event = submission.command.decide(state)?;
    let caller = submission.command.caller().and_then(|caller| state.account(caller).cloned());
    let (position, version) = state.evolve(&event, now);
    let account = match &event {
        Event::UserRegistered(registered) => {
            let account = state.account(registered.user_id).cloned();
            plan.registered.extend(account.clone());
            account
        }
        Event::UserDeleted(deleted) => {
            // A user who came and went within one batch never reaches the table.
            let before = plan.registered.len();
            plan.registered.retain(|account| account.user_id != deleted.user_id);
            if plan.registered.len() == before {
                plan.deleted.push(deleted.user_id);
            }
            caller
        }
        _ => caller,
    };
    let account = account.expect("decide refuses a caller without an account");
    let event_id = Uuid::now_v7();
    let metadata = submission.metadata.clone();
    plan.events.push(NewEvent { position, event_id, version, event, metadata });
    Ok(Accepted { position, recorded_at: now, account })
}

/// SHA-256 of the command as it was understood, so that white space in a body makes no difference.
fn fingerprint(command: &Command) -> Vec<u8> {
    let text = serde_json::to_vec(command).expect("strings and numbers always have a JSON form");
    ring::digest::digest(&ring::digest::SHA256, &text).as_ref().to_vec()
}

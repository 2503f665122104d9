//! The decision state in PostgreSQL: loaded for a batch under the lock of the log's head, written
//! in the same transaction as the events.
//!
//! Each statement serves the whole batch and is left out when no command needs it: a batch of
//! tweets costs one, whatever its size.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use events::name_key::name_key;
use events::store::append::{Head, Relationship};
use events::{TweetId, UserId};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::Submission;
use super::batch::{Accepted, KeptAnswer, Plan, ScopedKey};
use crate::domain::{Account, Command, DecisionState, Rejection};

/// Loads what `batch` is decided against.
pub(super) async fn load(
    transaction: &mut PgConnection,
    head: Head,
    batch: &[Submission],
) -> Result<(DecisionState, HashMap<ScopedKey, KeptAnswer>), sqlx::Error> {
    let needs = Needs::of(batch);
    let mut state = DecisionState::at(head);
    load_accounts(transaction, &needs, &mut state).await?;
    load_taken(transaction, &needs, &mut state).await?;
    load_tweets(transaction, &needs, &mut state).await?;
    load_relationships(transaction, &needs, &mut state).await?;
    let known = load_keys(transaction, batch).await?;
    Ok((state, known))
}

/// Writes what `plan` changes of the decision state.
pub(super) async fn save(transaction: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    // Deleted first: a name that became free in this batch may be taken again in it.
    delete_accounts(transaction, &plan.deleted).await?;
    insert_accounts(transaction, &plan.registered).await?;
    keep_answers(transaction, &plan.kept, plan.decided_at).await
}

/// What a batch asks about.
#[derive(Default)]
struct Needs {
    users: BTreeSet<UserId>,
    username_keys: Vec<String>,
    email_keys: Vec<String>,
    tweets: Vec<TweetId>,
    relationships: BTreeSet<(UserId, UserId)>,
}

impl Needs {
    fn of(batch: &[Submission]) -> Self {
        let mut needs = Self::default();
        for Submission { command, .. } in batch {
            needs.users.extend(command.caller());
            match command {
                Command::Register { username, email } => {
                    needs.username_keys.push(username.key());
                    needs.email_keys.push(email.key());
                }
                Command::DeleteTweet { tweet_id, .. } => needs.tweets.push(*tweet_id),
                Command::Follow { follower_id, followed_id }
                | Command::Unfollow { follower_id, followed_id } => {
                    needs.users.insert(*followed_id);
                    needs.relationships.insert((*follower_id, *followed_id));
                }
                Command::DeleteUser { .. } | Command::Tweet { .. } => {}
            }
        }
        needs
    }
}

async fn load_accounts(
    transaction: &mut PgConnection,
    needs: &Needs,
    state: &mut DecisionState,
) -> Result<(), sqlx::Error> {
    if needs.users.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = needs.users.iter().map(|user| user.0).collect();
    let accounts = sqlx::query_as!(
        Account,
        r#"
        select user_id as "user_id: UserId", username, email, created_at
        from unnest($1::bigint[]) as asked (id)
        cross join lateral (
            select * from accounts where accounts.user_id = asked.id limit 1
        ) as account
        "#,
        &ids
    )
    .fetch_all(transaction)
    .await?;
    state.accounts.extend(accounts.into_iter().map(|account| (account.user_id, account)));
    Ok(())
}

async fn load_taken(
    transaction: &mut PgConnection,
    needs: &Needs,
    state: &mut DecisionState,
) -> Result<(), sqlx::Error> {
    if needs.username_keys.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query!(
        r#"
        select account.username_key, account.email_key
        from unnest($1::text[], $2::text[]) as asked (username_key, email_key)
        cross join lateral (
            (
                select username_key, email_key from accounts
                where accounts.username_key = asked.username_key
                limit 1
            )
            union all
            (
                select username_key, email_key from accounts
                where accounts.email_key = asked.email_key
                limit 1
            )
        ) as account
        "#,
        &needs.username_keys,
        &needs.email_keys,
    )
    .fetch_all(transaction)
    .await?;
    for row in rows {
        state.taken_usernames.extend(row.username_key);
        state.taken_emails.extend(row.email_key);
    }
    Ok(())
}

/// A tweet exists if the event that its id names created it, and nobody took it back. Of events that are archived it is kept
/// who wrote them.
async fn load_tweets(
    transaction: &mut PgConnection,
    needs: &Needs,
    state: &mut DecisionState,
) -> Result<(), sqlx::Error> {
    if needs.tweets.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = needs.tweets.iter().map(|tweet| tweet.0).collect();
    let tweets = sqlx::query!(
        r#"
        select asked.tweet_id as "tweet_id!", created.author_id as "author_id!"
        from unnest($1::bigint[]) as asked (tweet_id)
        cross join lateral (
            (
                select (payload ->> 'author_id')::bigint as author_id from events
                where position = asked.tweet_id and type = 'TweetCreated'
                limit 1
            )
            union all
            (
                select author_id from archived_tweets
                where archived_tweets.tweet_id = asked.tweet_id
                limit 1
            )
            limit 1
        ) as created
        where not exists (
            select from deleted_tweets where deleted_tweets.tweet_id = asked.tweet_id
            offset 0
        )
        "#,
        &ids
    )
    .fetch_all(transaction)
    .await?;
    state.tweets.extend(tweets.iter().map(|row| (TweetId(row.tweet_id), UserId(row.author_id))));
    Ok(())
}

async fn load_relationships(
    transaction: &mut PgConnection,
    needs: &Needs,
    state: &mut DecisionState,
) -> Result<(), sqlx::Error> {
    if needs.relationships.is_empty() {
        return Ok(());
    }
    let (followers, followed): (Vec<i64>, Vec<i64>) =
        needs.relationships.iter().map(|(follower, followed)| (follower.0, followed.0)).unzip();
    let last = sqlx::query!(
        r#"
        select last.follower_id as "follower_id!: UserId", last.followed_id as "followed_id!: UserId",
            last.version as "version!", last.follows as "follows!"
        from unnest($1::bigint[], $2::bigint[]) as asked (follower_id, followed_id)
        cross join lateral (
            select * from relationships
            where relationships.follower_id = asked.follower_id and relationships.followed_id = asked.followed_id
            limit 1
        ) as last
        "#,
        &followers,
        &followed,
    )
    .fetch_all(transaction)
    .await?;
    state.relationships.extend(last.into_iter().map(|row| {
        let last = Relationship { version: row.version, follows: row.follows };
        ((row.follower_id, row.followed_id), last)
    }));
    Ok(())
}

async fn load_keys(
    transaction: &mut PgConnection,
    batch: &[Submission],
) -> Result<HashMap<ScopedKey, KeptAnswer>, sqlx::Error> {
    let keys: Vec<ScopedKey> = batch.iter().filter_map(ScopedKey::of).collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let (scopes, keys): (Vec<String>, Vec<String>) =
        keys.into_iter().map(|ScopedKey { scope, key }| (scope, key)).unzip();
    let rows = sqlx::query!(
        r#"
        select scope, key, fingerprint,
            answer as "answer: Json<Result<Accepted, Rejection>>"
        from unnest($1::text[], $2::text[]) as asked (asked_scope, asked_key)
        cross join lateral (
            select * from idempotency_keys
            where idempotency_keys.scope = asked.asked_scope and idempotency_keys.key = asked.asked_key
            limit 1
        ) as kept
        "#,
        &scopes,
        &keys
    )
    .fetch_all(transaction)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let first = KeptAnswer { fingerprint: row.fingerprint, answer: row.answer.0 };
            (ScopedKey { scope: row.scope, key: row.key }, first)
        })
        .collect())
}

async fn delete_accounts(
    transaction: &mut PgConnection,
    deleted: &[UserId],
) -> Result<(), sqlx::Error> {
    if deleted.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = deleted.iter().map(|user| user.0).collect();
    sqlx::query!("delete from accounts where user_id = any($1)", &ids).execute(transaction).await?;
    Ok(())
}

async fn insert_accounts(
    transaction: &mut PgConnection,
    registered: &[Account],
) -> Result<(), sqlx::Error> {
    if registered.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = registered.iter().map(|account| account.user_id.0).collect();
    let usernames: Vec<String> =
        registered.iter().map(|account| account.username.clone()).collect();
    let emails: Vec<String> = registered.iter().map(|account| account.email.clone()).collect();
    let username_keys: Vec<String> = usernames.iter().map(|name| name_key(name)).collect();
    let email_keys: Vec<String> = emails.iter().map(|email| name_key(email)).collect();
    let created: Vec<DateTime<Utc>> = registered.iter().map(|account| account.created_at).collect();
    sqlx::query!(
        r#"
        insert into accounts (user_id, username, email, username_key, email_key, created_at)
        select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
        "#,
        &ids,
        &usernames,
        &emails,
        &username_keys,
        &email_keys,
        &created,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

async fn keep_answers(
    transaction: &mut PgConnection,
    kept: &[(ScopedKey, KeptAnswer)],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if kept.is_empty() {
        return Ok(());
    }
    let scopes: Vec<&str> = kept.iter().map(|(key, _)| key.scope.as_str()).collect();
    let keys: Vec<&str> = kept.iter().map(|(key, _)| key.key.as_str()).collect();
    let prints: Vec<Vec<u8>> = kept.iter().map(|(_, first)| first.fingerprint.clone()).collect();
    let answers: Vec<_> = kept.iter().map(|(_, first)| Json(&first.answer)).collect();
    sqlx::query!(
        r#"
        insert into idempotency_keys (scope, key, fingerprint, answer, recorded_at)
        select scope, key, fingerprint, answer, $5
        from unnest($1::text[], $2::text[], $3::bytea[], $4::jsonb[])
            as kept (scope, key, fingerprint, answer)
        "#,
        &scopes as _,
        &keys as _,
        &prints,
        &answers as _,
        now,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

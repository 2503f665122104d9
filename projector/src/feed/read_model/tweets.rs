//! `tweets`, and `pulled_authors`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use events::TweetId;
use sqlx::PgConnection;

use crate::changes::Changes;

/// Writes the tweets created in this run, those of `pulled` as such.
pub(crate) async fn insert(
    transaction: &mut PgConnection,
    changes: &Changes,
    pulled: &BTreeSet<TweetId>,
) -> Result<(), sqlx::Error> {
    if changes.tweets.is_empty() {
        return Ok(());
    }
    let tweets = changes.tweets.values();
    let ids: Vec<i64> = tweets.clone().map(|tweet| tweet.tweet_id.0).collect();
    let authors: Vec<i64> = tweets.clone().map(|tweet| tweet.author_id.0).collect();
    let contents: Vec<String> = tweets.clone().map(|tweet| tweet.content.clone()).collect();
    let created: Vec<DateTime<Utc>> = tweets.clone().map(|tweet| tweet.created_at).collect();
    let deleted: Vec<i64> =
        tweets.clone().map(|tweet| tweet.deleted.map_or(0, |at| at.0)).collect();
    let is_pulled: Vec<bool> =
        tweets.clone().map(|tweet| pulled.contains(&tweet.tweet_id)).collect();
    sqlx::query!(
        r#"
        insert into tweets (tweet_id, author_id, content, created_at, deleted_position, pulled)
        select * from unnest(
            $1::bigint[], $2::bigint[], $3::text[], $4::timestamptz[], $5::bigint[], $6::boolean[]
        )
        "#,
        &ids,
        &authors,
        &contents,
        &created,
        &deleted,
        &is_pulled,
    )
    .execute(&mut *transaction)
    .await?;
    let authors: BTreeSet<i64> = tweets
        .filter(|tweet| pulled.contains(&tweet.tweet_id))
        .map(|tweet| tweet.author_id.0)
        .collect();
    insert_pulled_authors(transaction, authors).await
}

async fn insert_pulled_authors(
    transaction: &mut PgConnection,
    authors: BTreeSet<i64>,
) -> Result<(), sqlx::Error> {
    if authors.is_empty() {
        return Ok(());
    }
    let authors: Vec<i64> = authors.into_iter().collect();
    sqlx::query!(
        "insert into pulled_authors (author_id) select unnest($1::bigint[]) on conflict do nothing",
        &authors
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Marks the tweets deleted in this run. They leave every feed with that: a read passes over a
/// deleted tweet, so deleting costs the same whoever follows the author.
pub(crate) async fn mark_deleted(
    transaction: &mut PgConnection,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    if changes.deleted_tweets.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = changes.deleted_tweets.keys().map(|tweet| tweet.0).collect();
    let positions: Vec<i64> = changes.deleted_tweets.values().map(|at| at.0).collect();
    sqlx::query!(
        r#"
        update tweets set deleted_position = gone.position
        from unnest($1::bigint[], $2::bigint[]) as gone (tweet_id, position)
        where tweets.tweet_id = gone.tweet_id
        "#,
        &ids,
        &positions,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

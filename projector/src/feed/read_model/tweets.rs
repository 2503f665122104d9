//! `tweets`

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::changes::Changes;

/// Writes the tweets created in this run.
pub(crate) async fn insert(
    transaction: &mut PgConnection,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    if changes.tweets.is_empty() {
        return Ok(());
    }
    let tweets = changes.tweets.values();
    let ids: Vec<i64> = tweets.clone().map(|tweet| tweet.tweet_id.0).collect();
    let authors: Vec<i64> = tweets.clone().map(|tweet| tweet.author_id.0).collect();
    let contents: Vec<String> = tweets.clone().map(|tweet| tweet.content.clone()).collect();
    let created: Vec<DateTime<Utc>> = tweets.clone().map(|tweet| tweet.created_at).collect();
    let deleted: Vec<i64> = tweets.map(|tweet| tweet.deleted.map_or(0, |at| at.0)).collect();
    sqlx::query!(
        r#"
        insert into tweets (tweet_id, author_id, content, created_at, deleted_position)
        select * from unnest($1::bigint[], $2::bigint[], $3::text[], $4::timestamptz[], $5::bigint[])
        "#,
        &ids,
        &authors,
        &contents,
        &created,
        &deleted,
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

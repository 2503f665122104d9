//! `users`

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::changes::Changes;

/// Writes the users registered in this run.
pub(crate) async fn insert(
    transaction: &mut PgConnection,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    if changes.users.is_empty() {
        return Ok(());
    }
    let users = changes.users.values();
    let ids: Vec<i64> = users.clone().map(|user| user.user_id.0).collect();
    let usernames: Vec<String> = users.clone().map(|user| user.username.clone()).collect();
    let emails: Vec<String> = users.clone().map(|user| user.email.clone()).collect();
    let created: Vec<DateTime<Utc>> = users.clone().map(|user| user.created_at).collect();
    let deleted: Vec<i64> = users.map(|user| user.deleted.map_or(0, |at| at.0)).collect();
    sqlx::query!(
        r#"
        insert into users (user_id, username, email, created_at, deleted_position)
        select * from unnest($1::bigint[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[])
        "#,
        &ids,
        &usernames,
        &emails,
        &created,
        &deleted,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Marks the users deleted in this run. What they wrote leaves every feed with that: a read passes
/// over a deleted author.
pub(crate) async fn mark_deleted(
    transaction: &mut PgConnection,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    if changes.deleted_users.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = changes.deleted_users.keys().map(|user| user.0).collect();
    let positions: Vec<i64> = changes.deleted_users.values().map(|at| at.0).collect();
    sqlx::query!(
        r#"
        update users set deleted_position = gone.position
        from unnest($1::bigint[], $2::bigint[]) as gone (user_id, position)
        where users.user_id = gone.user_id
        "#,
        &ids,
        &positions,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

//! Who follows whom, as of a position. Everyone's own row, (u, u), is no part of any list.

use events::{Position, UserId};
use sqlx::PgExecutor;

use super::users::UserRow;
use super::{Page, User};
use crate::position::AsOf;

/// Those who follow `user_id`, by id; `None` when there is no such user.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn followers(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
    page: Page,
) -> Result<AsOf<Option<Vec<User>>>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select checkpoint.position as "position: Position", owner.user_id is not null as "known!",
            page.user_id as "id?: UserId", page.username as "username?", page.email as "email?",
            page.created_at as "created_at?"
        from checkpoint
        left join users owner on owner.user_id = $1 and owner.deleted_position is null
        left join (
            select follower.*
            from follows
            join users follower on follower.user_id = follows.follower_id
            where follows.followed_id = $1 and follows.until_position is null
                and follows.follower_id <> $1 and follower.deleted_position is null
            order by follows.follower_id
            offset $2 limit $3
        ) as page on owner.user_id is not null
        order by page.user_id
        "#,
        user_id.0,
        page.skip,
        page.limit
    )
    .map(|row| {
        let (id, username, email) = (row.id, row.username, row.email);
        let created_at = row.created_at;
        (row.known, UserRow { position: row.position, id, username, email, created_at })
    })
    .fetch_all(executor)
    .await?;
    Ok(of_owner(rows))
}

/// Those whom `user_id` follows, by id; `None` when there is no such user.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn following(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
    page: Page,
) -> Result<AsOf<Option<Vec<User>>>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select checkpoint.position as "position: Position", owner.user_id is not null as "known!",
            page.user_id as "id?: UserId", page.username as "username?", page.email as "email?",
            page.created_at as "created_at?"
        from checkpoint
        left join users owner on owner.user_id = $1 and owner.deleted_position is null
        left join (
            select followed.*
            from follows
            join users followed on followed.user_id = follows.followed_id
            where follows.follower_id = $1 and follows.until_position is null
                and follows.followed_id <> $1 and followed.deleted_position is null
            order by follows.followed_id
            offset $2 limit $3
        ) as page on owner.user_id is not null
        order by page.user_id
        "#,
        user_id.0,
        page.skip,
        page.limit
    )
    .map(|row| {
        let (id, username, email) = (row.id, row.username, row.email);
        let created_at = row.created_at;
        (row.known, UserRow { position: row.position, id, username, email, created_at })
    })
    .fetch_all(executor)
    .await?;
    Ok(of_owner(rows))
}

fn of_owner(rows: Vec<(bool, UserRow)>) -> AsOf<Option<Vec<User>>> {
    let known = rows.first().is_some_and(|(known, _)| *known);
    let AsOf { position, value } = UserRow::list(rows.into_iter().map(|(_, row)| row).collect());
    AsOf { position, value: known.then_some(value) }
}

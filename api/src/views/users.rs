//! Users, as of a position.

use chrono::{DateTime, Utc};
use events::{Position, UserId};
use sqlx::PgExecutor;

use super::{OwnUser, Page, User};
use crate::position::AsOf;

/// A row of any list of users. Without a user it only brings the position.
pub(super) struct UserRow {
    pub position: Position,
    pub id: Option<UserId>,
    pub username: Option<String>,
    pub created_at: Option<DateTime<Utc>>,
}

impl UserRow {
    fn user(self) -> Option<User> {
        Some(User { id: self.id?, username: self.username?, created_at: self.created_at? })
    }

    pub(super) fn list(rows: Vec<Self>) -> AsOf<Vec<User>> {
        let position = rows.first().map_or(Position::START, |row| row.position);
        AsOf { position, value: rows.into_iter().filter_map(Self::user).collect() }
    }
}

/// The user with their address, unless there is none or no longer.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn find(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
) -> Result<AsOf<Option<OwnUser>>, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        select checkpoint.position as "position: Position", user_id as "id?: UserId",
            username as "username?", email as "email?", created_at as "created_at?"
        from (select position from checkpoint order by position desc, fence desc limit 1) as checkpoint
        left join lateral (
            select * from users where user_id = $1 and deleted_position = 0 limit 1
        ) as found on true
        "#,
        user_id.0
    )
    .fetch_one(executor)
    .await?;
    let position = row.position;
    let user = UserRow { position, id: row.id, username: row.username, created_at: row.created_at };
    let found = user.user().zip(row.email).map(|(user, email)| OwnUser { user, email });
    Ok(AsOf { position, value: found })
}

/// All users, by id.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn list(
    executor: impl PgExecutor<'_>,
    after: UserId,
    page: Page,
) -> Result<AsOf<Vec<User>>, sqlx::Error> {
    let rows = sqlx::query_as!(
        UserRow,
        r#"
        select checkpoint.position as "position: Position", page.user_id as "id?: UserId",
            username as "username?", created_at as "created_at?"
        from (select position from checkpoint order by position desc, fence desc limit 1) as checkpoint
        cross join (select 0::bigint as deleted, $1::bigint as user_id offset 0) as after
        left join lateral (
            select * from users
            where (deleted_position, users.user_id) > (after.deleted, after.user_id)
                and (deleted_position, users.user_id) < (after.deleted + 1, 0)
            order by deleted_position, users.user_id
            offset $2 limit $3
        ) as page on true
        order by page.user_id
        "#,
        after.0,
        page.skip,
        page.limit
    )
    .fetch_all(executor)
    .await?;
    Ok(UserRow::list(rows))
}

//! Who follows whom, as of a position. Everyone's own row, (u, u), is no part of any list.

use std::collections::HashMap;

use events::store::nodes::position_of_every_node;
use events::store::{Connections, Engine};
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
    feed: &Connections,
    user_id: UserId,
    after: UserId,
    page: Page,
) -> Result<AsOf<Option<Vec<User>>>, sqlx::Error> {
    let rows = match feed.engine().await? {
        Engine::Single => followers_at_once(feed, user_id, after, page).await?,
        Engine::Distributed => followers_of_every_node(feed, user_id, after, page).await?,
    };
    Ok(of_owner(rows))
}

async fn followers_at_once(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
    after: UserId,
    page: Page,
) -> Result<Vec<(bool, UserRow)>, sqlx::Error> {
    sqlx::query!(
        r#"
        select checkpoint.position as "position: Position", owner.user_id is not null as "known!",
            page.user_id as "id?: UserId", page.username as "username?",
            page.created_at as "created_at?"
        from (select position from checkpoint order by position desc, fence desc limit 1) as checkpoint
        left join lateral (
            select user_id from users where user_id = $1 and deleted_position = 0 limit 1
        ) as owner on true
        left join lateral (
            select follower.*
            from (
                (
                    select follower_id from follows
                    where (followed_id, until_position, follower_id) > (owner.user_id, 0, $2)
                        and (followed_id, until_position, follower_id) < (owner.user_id, 1, 0)
                        and follower_id <> owner.user_id and not dormant
                    order by followed_id, until_position, follower_id
                    limit $3::bigint + $4::bigint
                )
                union all
                (
                    select follower_id from follows
                    where (followed_id, until_position, follower_id) > (owner.user_id, 0, $2)
                        and (followed_id, until_position, follower_id) < (owner.user_id, 1, 0)
                        and follower_id <> owner.user_id and dormant
                    order by followed_id, until_position, follower_id
                    limit $3::bigint + $4::bigint
                )
                order by follower_id
                offset $3 limit $4
            ) as followed_by
            cross join lateral (
                select user_id, username, created_at from users
                where users.user_id = followed_by.follower_id and deleted_position = 0
                limit 1
            ) as follower
        ) as page on true
        order by page.user_id
        "#,
        user_id.0,
        after.0,
        page.skip,
        page.limit
    )
    .map(|row| {
        let (id, username, created_at) = (row.id, row.username, row.created_at);
        (row.known, UserRow { position: row.position, id, username, created_at })
    })
    .fetch_all(executor)
    .await
}

/// What they say is of the position that each node has, or of a later one.
async fn followers_of_every_node(
    feed: &Connections,
    user_id: UserId,
    after: UserId,
    page: Page,
) -> Result<Vec<(bool, UserRow)>, sqlx::Error> {
    let position = position_of_every_node(feed).await?;
    let rows = sqlx::query!(
        r#"
        select owner.user_id is not null as "known!",
            page.user_id as "id?: UserId", page.username as "username?", page.created_at as "created_at?"
        from (select 1) as one
        left join users as owner on owner.user_id = $1 and owner.deleted_position = 0
        left join (
            select users.user_id, users.username, users.created_at
            from follows
            join users on users.user_id = follows.follower_id and users.deleted_position = 0
            where followed_id = $1 and until_position = 0 and follower_id > $2 and follower_id <> $1
            order by users.user_id
            offset $3 limit $4
        ) as page on owner.user_id is not null
        order by page.user_id
        "#,
        user_id.0,
        after.0,
        page.skip,
        page.limit
    )
    .fetch_all(feed)
    .await?;
    let rows = rows.into_iter().map(|row| {
        let (id, username, created_at) = (row.id, row.username, row.created_at);
        (row.known, UserRow { position, id, username, created_at })
    });
    Ok(rows.collect())
}

/// Those whom `user_id` follows, by id; `None` when there is no such user.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn following(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
    after: UserId,
    page: Page,
) -> Result<AsOf<Option<Vec<User>>>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select checkpoint.position as "position: Position", owner.user_id is not null as "known!",
            page.user_id as "id?: UserId", page.username as "username?",
            page.created_at as "created_at?"
        from (select position from checkpoint order by position desc, fence desc limit 1) as checkpoint
        left join lateral (
            select user_id from users where user_id = $1 and deleted_position = 0 limit 1
        ) as owner on true
        left join lateral (
            select followed.*
            from follows
            cross join lateral (
                select user_id, username, created_at from users
                where users.user_id = follows.followed_id and deleted_position = 0
                limit 1
            ) as followed
            where follower_id = $1 and until_position = 0 and followed_id > $2 and followed_id <> $1
            order by followed_id
            offset $3 limit $4
        ) as page on owner.user_id is not null
        order by page.user_id
        "#,
        user_id.0,
        after.0,
        page.skip,
        page.limit
    )
    .map(|row| {
        let (id, username, created_at) = (row.id, row.username, row.created_at);
        (row.known, UserRow { position: row.position, id, username, created_at })
    })
    .fetch_all(executor)
    .await?;
    Ok(of_owner(rows))
}

/// Who of `readers` follows each of `authors`, or is the author.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn among(
    executor: impl PgExecutor<'_>,
    authors: &[UserId],
    readers: &[UserId],
) -> Result<HashMap<UserId, Vec<UserId>>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select held.followed_id as "author!: UserId", held.follower_id as "reader!: UserId"
        from unnest($1::bigint[]) as author (user_id)
        cross join unnest($2::bigint[]) as reader (user_id)
        cross join lateral (
            select follower_id, followed_id from follows
            where (follower_id, until_position, followed_id) = (reader.user_id, 0, author.user_id)
            group by follower_id, followed_id
        ) as held
        "#,
        authors as _,
        readers as _,
    )
    .fetch_all(executor)
    .await?;
    let mut followers: HashMap<UserId, Vec<UserId>> = HashMap::new();
    for row in rows {
        followers.entry(row.author).or_default().push(row.reader);
    }
    Ok(followers)
}

fn of_owner(rows: Vec<(bool, UserRow)>) -> AsOf<Option<Vec<User>>> {
    let known = rows.first().is_some_and(|(known, _)| *known);
    let AsOf { position, value } = UserRow::list(rows.into_iter().map(|(_, row)| row).collect());
    AsOf { position, value: known.then_some(value) }
}

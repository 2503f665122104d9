-- Makes readers dormant, in the order in which they are named: their rows go, and from now on none is written for them.
--
-- $1 readers, $2 about how many rows are written or taken out: one reader is always served, $3 the floor of who is dormant
--
-- Who is not there any more is passed over.
--
-- The plan comes from the shape: per reader one range of feed_items, entered at the floor, and one of follows_by_follower, both
-- counted no further than matters before any of it is touched. Rows are named by where they are, so that nothing is left to join.
with weighed as materialized (
    select reader.user_id, reader.turn, (
        select count(*) from (
            select from feed_items where feed_items.user_id = reader.user_id limit $2
        ) as kept
    ) + (
        select count(*) from (
            select from follows where follower_id = reader.user_id and until_position = 0 limit $2
        ) as followed
    ) as rows
    from unnest($1::bigint[]) with ordinality as reader (user_id, turn)
),
served as materialized (
    select user_id from (
        select user_id, sum(rows) over (order by turn) - rows as before from weighed
    ) as in_turn
    where before < $2
),
fallen as materialized (
    select served.user_id, before.floor
    from served
    cross join lateral (
        select from users where users.user_id = served.user_id and deleted_position = 0 limit 1
    ) as present
    left join lateral (
        select floor from floors where floors.user_id = served.user_id limit 1
    ) as before on true
),
raised as (
    insert into floors (user_id, floor)
    select user_id, $3::bigint from fallen order by user_id
    on conflict (user_id) do update set floor = excluded.floor
),
passed_over as (
    update follows set dormant = true where ctid = any(array(
        select followed.ctid
        from fallen
        cross join lateral (
            select ctid from follows
            where follower_id = fallen.user_id and until_position = 0 and not dormant
            offset 0
        ) as followed
    ))
),
dropped as (
    delete from feed_items where ctid = any(array(
        select item.ctid
        from fallen
        cross join lateral (
            select ctid from feed_items
            where feed_items.user_id = fallen.user_id and feed_items.tweet_id >= coalesce(fallen.floor, 0)
            offset 0
        ) as item
    ))
)
select
    (select count(*) from served) as "served!",
    (select count(*) from fallen where floor is distinct from $3) as "changed!"

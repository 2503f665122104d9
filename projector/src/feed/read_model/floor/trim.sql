-- Cuts feeds that have grown back to their newest rows, where they have more than are kept.
--
-- $1 tweets that were delivered, $2 their authors, $3 readers whose feeds are looked at in any case, $4 rows kept,
-- $5 into how many ranges readers are divided, one of which is looked at for each tweet
--
-- Ids are given one after the other, so equal ranges of them hold everybody. The tweet says which range it is; no
-- other reader is visited. Choosing among the delivered rows instead would have to return them first, which costs a
-- tenth of the fan-out.
--
-- The plan comes from the shape: per tweet one range of follows_by_followed; per reader who is looked at the newest
-- rows of the feed and, where there are more, the oldest ones from the floor.
with width as materialized (
    select coalesce((select user_id from users order by user_id desc limit 1), 0) / $5::bigint + 1 as users
), looked_at as (
    select reader.user_id
    from unnest($1::bigint[], $2::bigint[]) as tweet (tweet_id, author_id)
    cross join lateral (
        select abs(hashint8extended(tweet.tweet_id, 0) % $5) * width.users as first, width.users from width
        offset 0
    ) as range
    cross join lateral (
        select follower_id as user_id from follows
        where follows.followed_id = tweet.author_id and follows.until_position = 0 and not dormant
            and follower_id >= range.first and follower_id < range.first + range.users
        offset 0
    ) as reader
    union
    select unnest($3::bigint[])
), higher as materialized (
    select looked_at.user_id, beyond.tweet_id + 1 as floor
    from looked_at
    cross join lateral (
        select tweet_id from feed_items
        where feed_items.user_id = looked_at.user_id
        order by user_id desc, tweet_id desc
        offset $4 limit 1
    ) as beyond
), raised as (
    insert into floors (user_id, floor)
    select user_id, floor from higher
    on conflict (user_id) do update set floor = greatest(floors.floor, excluded.floor)
)
delete from feed_items where ctid = any(array(
    select item.ctid
    from higher
    left join lateral (
        select floor from floors where floors.user_id = higher.user_id limit 1
    ) as before on true
    cross join lateral (
        select ctid from feed_items
        where feed_items.user_id = higher.user_id
            and feed_items.tweet_id >= coalesce(before.floor, 0)
            and feed_items.tweet_id < higher.floor
        offset 0
    ) as item
))

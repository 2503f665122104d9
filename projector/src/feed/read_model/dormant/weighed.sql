-- Readers who are there: the floor of each, and how much it is to drop their rows or to bring them back.
--
-- $1 readers, $2 rows and follows are counted up to here
--
-- The plan comes from the shape: per reader one range of feed_items, entered at the floor, and one of follows_by_follower, both
-- counted no further than matters.
select reader.user_id as "user_id: UserId", before.floor as "floor?: TweetId",
    kept.rows as "rows!", followed.follows as "follows!"
from unnest($1::bigint[]) as named (user_id)
cross join lateral (
    select follower_id as user_id from follows
    where follower_id = named.user_id and until_position = 0 and followed_id = named.user_id
    group by follower_id
) as reader
left join lateral (
    select floor from floors where floors.user_id = reader.user_id limit 1
) as before on true
cross join lateral (
    select count(*) as rows from (
        select from feed_items
        where feed_items.user_id = reader.user_id and feed_items.tweet_id >= coalesce(before.floor, 0)
        limit $2
    ) as kept
) as kept
cross join lateral (
    select count(*) as follows from (
        select from follows where follower_id = reader.user_id and until_position = 0 limit $2
    ) as followed
) as followed

-- What is new in the feeds of many readers at once, above a position.
--
-- $1 the readers, $2 above this position, $3 and up to this one
--
-- One range of feed_items per reader, empty for most; what is pulled; and what fan-outs under way have yet to bring. A
-- reader whose floor has been raised past $2 comes without a tweet: what is new to them may no longer be
-- kept.
select
    checkpoint.position as "position: Position",
    item.user_id as "reader?: UserId",
    item.tweet_id as "tweet_id?: TweetId"
from (select position, under_way from checkpoint order by position desc, fence desc limit 1) as checkpoint
left join lateral (
    select reader.user_id, fresh.tweet_id
    from unnest($1::bigint[]) as reader (user_id)
    cross join lateral (
        select tweet_id from feed_items
        where feed_items.user_id = reader.user_id
            and feed_items.tweet_id > $2 and feed_items.tweet_id <= $3
        offset 0
    ) as fresh
    union all
    select reader.user_id, fresh.tweet_id
    from (
        select tweet_id, author_id from tweets
        where pulled and tweet_id > $2 and tweet_id <= $3 and deleted_position = 0
        offset 0
    ) as fresh
    cross join unnest($1::bigint[]) as reader (user_id)
    cross join lateral (
        select from follows
        where follower_id = reader.user_id and until_position = 0 and followed_id = fresh.author_id
        limit 1
    ) as followed
    union all
    select reader.user_id, fan_outs.tweet_id
    from fan_outs
    cross join unnest($1::bigint[]) as reader (user_id)
    cross join lateral (
        select from follows
        where follower_id = reader.user_id and until_position = 0 and followed_id = fan_outs.author_id
        limit 1
    ) as followed
    where fan_outs.tweet_id >= checkpoint.under_way
        and fan_outs.tweet_id > $2 and fan_outs.tweet_id <= $3
        and fan_outs.next_reader <= reader.user_id
    union all
    select reader.user_id, null
    from unnest($1::bigint[]) as reader (user_id)
    cross join lateral (
        select from floors
        where floors.user_id = reader.user_id and floors.floor > $2::bigint + 1
        limit 1
    ) as raised
) as item on true
order by item.tweet_id

-- As news.sql, of readers on several nodes, each of which is at $3 or beyond.
--
-- $1 the readers, $2 above this position, $3 and up to this one
select item.user_id as "reader?: UserId", item.tweet_id as "tweet_id?: TweetId"
from (
    select fresh.user_id, fresh.tweet_id
    from unnest($1::bigint[]) as reader (user_id)
    cross join lateral (
        select user_id, tweet_id from feed_items
        where feed_items.user_id = reader.user_id
            and feed_items.tweet_id > $2 and feed_items.tweet_id <= $3
        group by user_id, tweet_id
    ) as fresh
    union all
    select followed.user_id, fresh.tweet_id
    from (
        select tweet_id, author_id from tweets
        where pulled and tweet_id > $2 and tweet_id <= $3 and deleted_position = 0
        offset 0
    ) as fresh
    cross join unnest($1::bigint[]) as reader (user_id)
    cross join lateral (
        select follower_id as user_id from follows
        where follower_id = reader.user_id and until_position = 0 and followed_id = fresh.author_id
        group by follower_id
    ) as followed
    union all
    select followed.user_id, fan_outs.tweet_id
    from fan_outs
    cross join unnest($1::bigint[]) as reader (user_id)
    cross join lateral (
        select follower_id as user_id from follows
        where follower_id = reader.user_id and until_position = 0 and followed_id = fan_outs.author_id
        group by follower_id
    ) as followed
    where fan_outs.tweet_id > $2 and fan_outs.tweet_id <= $3
        and fan_outs.next_reader <= reader.user_id
    union all
    select raised.user_id, null
    from unnest($1::bigint[]) as reader (user_id)
    cross join lateral (
        select user_id from floors
        where floors.user_id = reader.user_id and floors.floor > $2::bigint + 1
        group by user_id
    ) as raised
) as item
order by item.tweet_id

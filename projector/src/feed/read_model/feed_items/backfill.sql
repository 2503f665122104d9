-- Delivers to readers what the authors whom they now follow have already written, from the floor up.
--
-- $1 readers, $2 authors, $3 a mask: rows whose hash has none of its bits name their reader for a look at
-- the size of the feed, $4 how many tweets a feed keeps: no author who is new to it has more above its floor, $5 no
-- fan-out under way is of an older tweet, null when none is under way
--
-- What a fan-out under way has yet to bring to a reader is left to it, and what is pulled to those who read.
--
-- The plan comes from the shape: per pair its entry of follows_by_follower, where the reader is, and one range of tweets_in_rows.
-- An array of one author is none to the planner, so that the order has to begin with the author, and no index of
-- tweets alone can give it.
with delivered as (
    insert into feed_items (user_id, tweet_id)
    select started.user_id, tweet.tweet_id
    from unnest($1::bigint[], $2::bigint[]) as pair (user_id, author_id)
    cross join lateral (
        select from users
        where users.user_id = pair.author_id and deleted_position = 0
        limit 1
    ) as present
    cross join lateral (
        select follower_id as user_id from follows
        where follower_id = pair.user_id and until_position = 0 and followed_id = pair.author_id
        group by follower_id
    ) as started
    left join lateral (
        select floor from floors where floors.user_id = started.user_id limit 1
    ) as floors on true
    cross join lateral (
        select tweets.tweet_id
        from tweets
        left join lateral (
            select tweet_id from fan_outs
            where (tweets.tweet_id < $5) is false
                and fan_outs.tweet_id = tweets.tweet_id and next_reader <= started.user_id
            limit 1
        ) as unserved on true
        where author_id = any(array[pair.author_id]) and not pulled and deleted_position = 0
            and tweets.tweet_id >= coalesce(floors.floor, 0)
            and unserved.tweet_id is null
        order by author_id desc, tweets.tweet_id desc
        limit $4
    ) as tweet
    order by started.user_id, tweet.tweet_id
    returning user_id, tweet_id
)
select
    count(*) as "delivered!",
    coalesce(array_agg(distinct user_id) filter (where hashint8extended(tweet_id, user_id) & $3 = 0), '{}')
        as "sampled!"
from delivered

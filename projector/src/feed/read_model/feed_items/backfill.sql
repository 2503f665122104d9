-- Delivers to readers what the authors whom they now follow have already written, from the floor up.
--
-- $1 readers, $2 authors, $3 a mask: rows whose hash has none of its bits name their reader for a look at
-- the size of the feed, $4 how many tweets a feed keeps: no author who is new to it has more above its floor, $5 no
-- fan-out under way is of an older tweet, null when none is under way
--
-- What a fan-out under way has yet to bring to a reader is left to it, and what is pulled to those who read.
--
-- The plan comes from the shape: per pair one range of tweets_in_rows. An array of one author is none to the planner, so that
-- the order has to begin with the author, and no index of tweets alone can give it.
with delivered as (
    insert into feed_items (user_id, tweet_id)
    select started.user_id, tweet.tweet_id
    from unnest($1::bigint[], $2::bigint[]) as started (user_id, author_id)
    cross join lateral (
        select from users
        where users.user_id = started.author_id and deleted_position = 0
        limit 1
    ) as present
    left join lateral (
        select floor from floors where floors.user_id = started.user_id limit 1
    ) as floors on true
    cross join lateral (
        select tweet_id from tweets
        where author_id = any(array[started.author_id]) and not pulled and deleted_position = 0
            and tweet_id >= coalesce(floors.floor, 0)
            and ((tweet_id < $5) is not false or (
                select true from fan_outs
                where fan_outs.tweet_id = tweets.tweet_id and next_reader <= started.user_id
                limit 1
            ) is null)
        order by author_id desc, tweet_id desc
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

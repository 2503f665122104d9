-- Delivers to readers what the authors whom they now follow have already written, from the floor up.
--
-- $1 readers, $2 authors, $3 a mask: rows whose hash has none of its bits name their reader for a look at
-- the size of the feed
with delivered as (
    insert into feed_items (user_id, tweet_id)
    select started.user_id, tweets.tweet_id
    from unnest($1::bigint[], $2::bigint[]) as started (user_id, author_id)
    join users author on author.user_id = started.author_id and author.deleted_position is null
    left join floors on floors.user_id = started.user_id
    join tweets on tweets.author_id = started.author_id
        and tweets.tweet_id >= coalesce(floors.floor, 0)
        and tweets.deleted_position is null
    order by started.user_id, tweets.tweet_id
    returning user_id, tweet_id
)
select
    count(*) as "delivered!",
    coalesce(array_agg(distinct user_id) filter (where hashint8extended(tweet_id, user_id) & $3 = 0), '{}')
        as "sampled!"
from delivered

-- Delivers tweets to those of their author's readers whom a step comes to.
--
-- $1 the tweets, $2 the author, $3 the first reader, $4 the last, $5 a mask: rows whose hash has none of its bits name
-- their reader for a look at the size of the feed
--
-- Whoever is a reader now and not dormant is served, whatever has changed since the tweet was written; but not where the tweet is
-- below a floor that has risen meanwhile.
--
-- The plan comes from the shape: one range of follows_by_followed, which comes sorted; for each reader, who is in it once, a
-- look-up in floors; and rows inserted in the order of the key, as in fan_out.sql.
with delivered as (
    insert into feed_items (user_id, tweet_id)
    select reader.user_id, tweet.tweet_id
    from (
        select follower_id as user_id
        from follows
        where (followed_id, until_position, follower_id) >= ($2, 0, $3)
            and (followed_id, until_position, follower_id) <= ($2, 0, $4)
            and not dormant
        group by followed_id, until_position, follower_id
    ) as reader
    left join lateral (
        select floor from floors where floors.user_id = reader.user_id limit 1
    ) as floors on true
    cross join unnest($1::bigint[]) as tweet (tweet_id)
    where tweet.tweet_id >= coalesce(floors.floor, 0)
    order by reader.user_id, tweet.tweet_id
    returning user_id, tweet_id
)
select
    count(*) as "delivered!",
    coalesce(array_agg(distinct user_id) filter (where hashint8extended(tweet_id, user_id) & $5 = 0), '{}')
        as "sampled!"
from delivered

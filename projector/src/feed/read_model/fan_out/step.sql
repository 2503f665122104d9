-- Goes one step on with the oldest fan-out under way, and with those of the same author that stand at the same reader.
--
-- $1 no fan-out is of an older tweet, $2 about how many rows, $3 a mask: rows whose hash has none of its bits name
-- their reader for a look at the size of the feed
--
-- Whoever is a reader now and not dormant is served, whatever has changed since the tweet was written; but not where the tweet is
-- below a floor that has risen meanwhile.
--
-- The plan comes from the shape: one range of follows_by_followed, as many entries as the step has readers, which come
-- sorted; for each a look-up in floors; and rows inserted in the order of the key, as in fan_out.sql.
with oldest as materialized (
    select author_id, next_reader from fan_outs where tweet_id >= $1 order by tweet_id limit 1
),
tweet as materialized (
    select fan_outs.tweet_id
    from fan_outs
    where tweet_id >= $1
        and author_id = (select author_id from oldest)
        and next_reader = (select next_reader from oldest)
    order by tweet_id
    limit $2
),
share as materialized (
    select $2::bigint / greatest(count(*), 1) as readers from tweet
),
reader as materialized (
    select follower_id as user_id
    from follows
    where (followed_id, until_position, follower_id)
            >= ((select author_id from oldest), 0, (select next_reader from oldest))
        and (followed_id, until_position, follower_id) < ((select author_id from oldest), 1, 0)
        and not dormant
    order by followed_id, until_position, follower_id
    limit (select readers from share)
),
turn as materialized (
    select count(*) < (select readers from share) as is_last, max(user_id) + 1 as next_reader from reader
),
delivered as (
    insert into feed_items (user_id, tweet_id)
    select reader.user_id, tweet.tweet_id
    from reader
    left join lateral (
        select floor from floors where floors.user_id = reader.user_id limit 1
    ) as floors on true
    cross join tweet
    where tweet.tweet_id >= coalesce(floors.floor, 0)
    order by reader.user_id, tweet.tweet_id
    returning user_id, tweet_id
),
ended as (
    delete from fan_outs
    where tweet_id = any(array(select tweet_id from tweet)) and (select is_last from turn)
),
moved as (
    update fan_outs set next_reader = (select next_reader from turn)
    where tweet_id = any(array(select tweet_id from tweet)) and not (select is_last from turn)
)
select
    (select count(*) from delivered) as "delivered!",
    (
        select coalesce(array_agg(distinct user_id), '{}')
        from delivered where hashint8extended(tweet_id, user_id) & $3 = 0
    ) as "sampled!",
    (
        select min(tweet_id) from fan_outs
        where tweet_id >= $1 and not (
            (select is_last from turn) and tweet_id = any(array(select tweet_id from tweet))
        )
    ) as "under_way: TweetId"

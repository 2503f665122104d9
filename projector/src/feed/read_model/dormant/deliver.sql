-- Delivers to readers who have no rows what they follow, from their floors up.
--
-- $1 readers, $2 no fan-out under way is of an older tweet, null when none is under way
--
-- What a fan-out under way has yet to bring to a reader is left to it, and what is pulled to those who read, as in backfill.sql.
--
-- The plan comes from the shape: per reader one range of follows_by_follower, per author one of tweets_in_rows.
insert into feed_items (user_id, tweet_id)
select reader.user_id, tweet.tweet_id
from unnest($1::bigint[]) as named (user_id)
cross join lateral (
    select follower_id as user_id from follows
    where follower_id = named.user_id and until_position = 0 and followed_id = named.user_id
    group by follower_id
) as reader
left join lateral (
    select floor from floors where floors.user_id = reader.user_id limit 1
) as floors on true
cross join lateral (
    select followed_id as author_id from follows
    where follower_id = reader.user_id and until_position = 0
    offset 0
) as followed
cross join lateral (
    select from users where users.user_id = followed.author_id and deleted_position = 0 limit 1
) as present
cross join lateral (
    select tweets.tweet_id
    from tweets
    left join lateral (
        select tweet_id from fan_outs
        where (tweets.tweet_id < $2) is false
            and fan_outs.tweet_id = tweets.tweet_id and next_reader <= reader.user_id
        limit 1
    ) as unserved on true
    where author_id = any(array[followed.author_id]) and not pulled and deleted_position = 0
        and tweets.tweet_id >= coalesce(floors.floor, 0)
        and unserved.tweet_id is null
    order by author_id, tweets.tweet_id
    offset 0
) as tweet
order by reader.user_id, tweet.tweet_id

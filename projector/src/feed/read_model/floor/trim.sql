-- Feeds that have grown and have more rows than are kept: the floor that each has, and the one at its newest rows.
--
-- $1 tweets that were delivered, $2 their authors, $3 readers whose feeds are looked at in any case, $4 rows kept,
-- $5 into how many ranges readers are divided, one of which is looked at for each tweet
--
-- Ids are given one after the other, so equal ranges of them hold everybody. The tweet says which range it is; no
-- other reader is visited. Choosing among the delivered rows instead would have to return them first, which costs a
-- tenth of the fan-out.
--
-- The plan comes from the shape: per tweet one range of follows_by_followed; per reader who is looked at one row of the feed, as
-- many entries from its end as are kept.
with width as materialized (
    select coalesce((select user_id from users order by user_id desc limit 1), 0) / $5::bigint + 1 as users
)
select looked_at.user_id as "user_id!", coalesce(before.floor, 0) as "from!: TweetId",
    beyond.tweet_id + 1 as "floor!: TweetId"
from (
    select reader.user_id
    from unnest($1::bigint[], $2::bigint[]) as tweet (tweet_id, author_id)
    cross join lateral (
        select follower_id as user_id from follows
        where follows.followed_id = tweet.author_id and follows.until_position = 0 and not dormant
            and follower_id >= abs(hashint8extended(tweet.tweet_id, 0) % $5) * (select users from width)
            and follower_id < (abs(hashint8extended(tweet.tweet_id, 0) % $5) + 1) * (select users from width)
        group by follower_id
    ) as reader
    union
    select reader.user_id
    from unnest($3::bigint[]) as grown (user_id)
    cross join lateral (
        select follower_id as user_id from follows
        where follower_id = grown.user_id and until_position = 0 and followed_id = grown.user_id
        group by follower_id
    ) as reader
) as looked_at
cross join lateral (
    select tweet_id from feed_items
    where feed_items.user_id = looked_at.user_id
    order by user_id desc, tweet_id desc
    offset $4 limit 1
) as beyond
left join lateral (
    select floor from floors where floors.user_id = looked_at.user_id limit 1
) as before on true

-- Feeds into which somebody comes who wrote more than a feed keeps: the floor that each has, and the one at what is kept of the
-- author's newest tweets.
--
-- $1 readers, $2 the authors whom they began to follow, $3 how many tweets a feed keeps
select reader.user_id as "user_id!", coalesce(before.floor, 0) as "from!: TweetId",
    higher.floor as "floor!: TweetId"
from (
    select started.user_id, max(beyond.tweet_id) + 1 as floor
    from unnest($1::bigint[], $2::bigint[]) as started (user_id, author_id)
    cross join lateral (
        select tweet_id from tweets
        where author_id = any(array[started.author_id]) and not pulled and deleted_position = 0
        order by author_id desc, tweet_id desc
        offset $3 limit 1
    ) as beyond
    group by started.user_id
) as higher
cross join lateral (
    select follower_id as user_id from follows
    where follower_id = higher.user_id and until_position = 0 and followed_id = higher.user_id
    group by follower_id
) as reader
left join lateral (
    select floor from floors where floors.user_id = reader.user_id limit 1
) as before on true
where higher.floor > coalesce(before.floor, 0)

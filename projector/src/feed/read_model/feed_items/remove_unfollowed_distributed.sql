-- As remove_unfollowed.sql, where rows cannot be named by where they are.
--
-- $1 readers, $2 authors
delete from feed_items using (
    select reader.user_id, tweet.tweet_id
    from unnest($1::bigint[], $2::bigint[]) as stopped (user_id, author_id)
    cross join lateral (
        select follower_id as user_id from follows
        where follower_id = stopped.user_id and until_position = 0 and followed_id = stopped.user_id
        group by follower_id
    ) as reader
    left join lateral (
        select floor from floors where floors.user_id = reader.user_id limit 1
    ) as floors on true
    cross join lateral (
        select tweet_id from tweets
        where author_id = any(array[stopped.author_id]) and not pulled and deleted_position = 0
            and tweet_id >= coalesce(floors.floor, 0)
        order by author_id, tweet_id
        offset 0
    ) as tweet
) as gone
where feed_items.user_id = gone.user_id and feed_items.tweet_id = gone.tweet_id

-- Takes the tweets of authors who are no longer followed out of their readers' feeds.
--
-- $1 readers, $2 authors
--
-- The plan comes from the shape, as in backfill.sql: per pair what the author wrote from the floor up and may have rows, one
-- range of tweets_in_rows, and a look-up for each.
delete from feed_items where ctid = any(array(
    select item.ctid
    from unnest($1::bigint[], $2::bigint[]) as stopped (user_id, author_id)
    left join lateral (
        select floor from floors where floors.user_id = stopped.user_id limit 1
    ) as floors on true
    cross join lateral (
        select tweet_id from tweets
        where author_id = any(array[stopped.author_id]) and not pulled and deleted_position = 0
            and tweet_id >= coalesce(floors.floor, 0)
        order by author_id, tweet_id
        offset 0
    ) as tweet
    cross join lateral (
        select ctid from feed_items
        where feed_items.user_id = stopped.user_id
            and feed_items.tweet_id = tweet.tweet_id
        limit 1
    ) as item
))

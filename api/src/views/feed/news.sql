-- What is new in the feeds of many readers at once, above a position.
--
-- $1 the readers, $2 above this position, $3 and up to this one
--
-- One range of feed_items per reader, empty for most. A reader whose floor has been raised past $2
-- comes without a tweet: what is new to them may no longer be kept.
select
    checkpoint.position as "position: Position",
    item.user_id as "reader?: UserId",
    item.tweet_id as "tweet_id?: TweetId"
from checkpoint
left join (
    select feed_items.user_id, feed_items.tweet_id
    from unnest($1::bigint[]) as reader (user_id)
    join feed_items on feed_items.user_id = reader.user_id
        and feed_items.tweet_id > $2 and feed_items.tweet_id <= $3
    union all
    select floors.user_id, null
    from unnest($1::bigint[]) as reader (user_id)
    join floors on floors.user_id = reader.user_id and floors.floor > $2::bigint + 1
) as item on true
order by item.tweet_id

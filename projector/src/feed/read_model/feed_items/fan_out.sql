-- Delivers tweets to everyone who reads their authors and is not dormant.
--
-- $1 tweet ids, $2 their authors
--
-- The plan comes from the shape: per tweet one range of follows_by_followed, which comes sorted by
-- reader, each of whom is in it once; and rows inserted in the order of the key. Sorted, a page of the index is written once;
-- unsorted it costs about twice as much.
insert into feed_items (user_id, tweet_id)
select reader.user_id, tweet.tweet_id
from unnest($1::bigint[], $2::bigint[]) as tweet (tweet_id, author_id)
cross join lateral (
    select follower_id as user_id from follows
    where follows.followed_id = tweet.author_id and follows.until_position = 0 and not dormant
    group by follower_id
) as reader
order by reader.user_id, tweet.tweet_id

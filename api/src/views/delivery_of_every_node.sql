-- In how many feeds of an author's followers a tweet is, who are on several nodes: all of them are looked at.
--
-- $1 the tweet, $2 its author
select
    count(*) as "followers!",
    count(*) filter (
        where tweets.tweet_id is not null and (
            tweets.pulled
            or feed_items.tweet_id is not null
            or floors.floor > $1
            or fan_outs.next_reader <= follows.follower_id
        )
    ) as "feeds!"
from follows
left join tweets on tweets.tweet_id = $1 and tweets.deleted_position = 0
left join feed_items on feed_items.user_id = follows.follower_id and feed_items.tweet_id = $1
left join floors on floors.user_id = follows.follower_id
left join fan_outs on fan_outs.tweet_id = $1
where follows.followed_id = $2 and follows.until_position = 0 and follows.follower_id <> $2

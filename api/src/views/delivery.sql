-- In how many of an author's followers' feeds a tweet is, and what the projector recorded of it.
--
-- $1 the tweet, $2 its author, $3 how many followers are looked at
--
-- The plan comes from the shape: the author's followers by the index that the fan-out uses, and for each of
-- them one look-up in feed_items and one in floors. What is pulled or below a floor is read from the author, and what a fan-out
-- has yet to bring from there: it is in the feed.
select
    checkpoint.position as "position: Position",
    exists (select from tweets where tweet_id = $1 and deleted_position <> 0) as "is_deleted!",
    counted.followers as "followers!",
    counted.feeds as "feeds!",
    hop.received_at as "received_at?",
    hop.applied_at as "applied_at?",
    hop.readable_at as "readable_at?"
from (select position, under_way from checkpoint order by position desc, fence desc limit 1) as checkpoint
left join lateral (
    select tweet_id, pulled from tweets where tweet_id = $1 and deleted_position = 0 limit 1
) as tweet on true
left join lateral (
    select next_reader from fan_outs
    where fan_outs.tweet_id >= checkpoint.under_way and fan_outs.tweet_id = tweet.tweet_id
    limit 1
) as fan_out on true
cross join lateral (
    select count(*) as followers, count(held.tweet_id) as feeds
    from (
        select follower_id from (
            (
                select follower_id from follows
                where (followed_id, until_position, follower_id) >= ($2, 0, 0)
                    and (followed_id, until_position, follower_id) < ($2, 1, 0)
                    and follower_id <> $2 and not dormant
                order by followed_id, until_position, follower_id
            )
            union all
            (
                select follower_id from follows
                where (followed_id, until_position, follower_id) >= ($2, 0, 0)
                    and (followed_id, until_position, follower_id) < ($2, 1, 0)
                    and follower_id <> $2 and dormant
                order by followed_id, until_position, follower_id
            )
        ) as either
        limit $3
    ) as follower
    left join lateral (
        select tweet.tweet_id
        where tweet.pulled or exists (
            select from feed_items
            where feed_items.user_id = follower.follower_id and feed_items.tweet_id = tweet.tweet_id
        ) or exists (
            select from floors where floors.user_id = follower.follower_id and floors.floor > tweet.tweet_id
        ) or follower.follower_id >= fan_out.next_reader
    ) as held on true
) as counted
left join lateral (
    select * from projector_hops
    where last_position >= $1
    order by last_position, first_position
    limit 1
) as hop on hop.first_position <= $1

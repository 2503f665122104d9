-- As floors.sql, where what is read of an author cannot depend on what was read of others.
--
-- $1 readers, $2 how many tweets a feed keeps
select reader.user_id as "user_id!: UserId", beyond.tweet_id + 1 as "floor!: TweetId"
from unnest($1::bigint[]) as named (user_id)
cross join lateral (
    select follower_id as user_id from follows
    where follower_id = named.user_id and until_position = 0 and followed_id = named.user_id
    group by follower_id
) as reader
cross join lateral (
    select tweet.tweet_id
    from (
        select followed_id as author_id from follows
        where follower_id = reader.user_id and until_position = 0
        offset 0
    ) as followed
    cross join lateral (
        select from users where users.user_id = followed.author_id and deleted_position = 0 limit 1
    ) as present
    cross join lateral (
        select tweet_id from tweets
        where author_id = any(array[followed.author_id]) and not pulled and deleted_position = 0
        order by author_id desc, tweet_id desc
        limit $2::bigint + 1
    ) as tweet
    order by tweet.tweet_id desc
    offset $2 limit 1
) as beyond

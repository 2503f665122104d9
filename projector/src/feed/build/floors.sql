-- Sets the floors of a range of readers who are not dormant and whose feeds have more tweets than a feed keeps, without what is pulled.
--
-- $1 first reader, $2 the reader after the last, $3 how many tweets a feed keeps
--
-- The plan matters: an author's newest tweets are one range of tweets_in_rows, and of no author
-- are more than $3 + 1 read. Most feeds end with the sum of what their authors wrote, which
-- tweets_per_author knows: only the long ones are read and sorted.
insert into floors (user_id, floor)
select reader.user_id, beyond.tweet_id + 1
from users reader
cross join lateral (
    select newest.tweet_id
    from follows
    join users author on author.user_id = follows.followed_id and author.deleted_position = 0
    cross join lateral (
        select tweet_id from tweets
        where tweets.author_id = follows.followed_id and not tweets.pulled and tweets.deleted_position = 0
        order by tweet_id desc
        limit $3::bigint + 1
    ) as newest
    where follows.follower_id = reader.user_id and follows.until_position = 0
    order by newest.tweet_id desc
    offset $3 limit 1
) as beyond
where reader.user_id >= $1 and reader.user_id < $2
    and reader.deleted_position = 0
    and not exists (select from floors where floors.user_id = reader.user_id)
    and $3 < (
        select sum(tweets_per_author.tweets)
        from follows
        join tweets_per_author on tweets_per_author.author_id = follows.followed_id
        where follows.follower_id = reader.user_id and follows.until_position = 0
    )

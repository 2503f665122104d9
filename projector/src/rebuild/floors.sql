-- Sets the floors of a range of readers whose feeds have more tweets than a feed keeps.
--
-- $1 first reader, $2 the reader after the last, $3 how many tweets a feed keeps
--
-- The plan matters: an author's newest tweets are one range of tweets_by_author, and of no author
-- are more than $3 + 1 read. Counting comes first because it is cheap, and most feeds end there:
-- only the long ones are sorted.
insert into floors (user_id, floor)
select reader.user_id, beyond.tweet_id + 1
from users reader
cross join lateral (
    select newest.tweet_id
    from follows
    join users author on author.user_id = follows.followed_id and author.deleted_position is null
    cross join lateral (
        select tweet_id from tweets
        where tweets.author_id = follows.followed_id and tweets.deleted_position is null
        order by tweet_id desc
        limit $3::bigint + 1
    ) as newest
    where follows.follower_id = reader.user_id and follows.until_position is null
    order by newest.tweet_id desc
    offset $3 limit 1
) as beyond
where reader.user_id >= $1 and reader.user_id < $2
    and reader.deleted_position is null
    and $3 < (
        select count(*)
        from follows
        cross join lateral (
            select from tweets
            where tweets.author_id = follows.followed_id and tweets.deleted_position is null
            limit $3::bigint + 1
        ) as newest
        where follows.follower_id = reader.user_id and follows.until_position is null
    )

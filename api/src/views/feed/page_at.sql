-- A page of a home feed as it was at a position of the log: the definition itself, by intervals.
--
-- $1 reader, $2 only tweets below this id, $3 rows to skip, $4 rows wanted, $5 the position
--
-- What has been deleted since is in it; names are today's, because a user keeps theirs for life.
select
    checkpoint.position as "position: Position",
    reader.user_id is not null as "known!",
    item.tweet_id as "tweet_id?: TweetId",
    item.content as "content?",
    item.author_id as "author_id?: UserId",
    item.username as "author_username?",
    item.created_at as "created_at?"
from checkpoint
left join users reader on reader.user_id = $1 and reader.deleted_position is null
left join (
    select older.tweet_id, older.content, older.author_id, older.created_at, author.username
    from follows
    join users author on author.user_id = follows.followed_id
        and (author.deleted_position is null or author.deleted_position > $5)
    cross join lateral (
        select * from tweets
        where tweets.author_id = follows.followed_id
            and tweets.tweet_id < $2 and tweets.tweet_id <= $5
            and (tweets.deleted_position is null or tweets.deleted_position > $5)
        order by tweets.tweet_id desc
        limit $3::bigint + $4::bigint
    ) as older
    where follows.follower_id = $1 and follows.since_position <= $5
        and (follows.until_position is null or follows.until_position > $5)
    order by older.tweet_id desc
    offset $3 limit $4
) as item on reader.user_id is not null and checkpoint.position >= $5
order by item.tweet_id desc

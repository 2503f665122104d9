-- A page of a home feed as it was at a position of the log: the definition itself, by intervals.
--
-- $1 reader, $2 only tweets below this id, $3 rows to skip, $4 rows wanted, $5 the position
--
-- What has been deleted since is in it; names are today's, because a user keeps theirs for life.
--
-- The plan comes from the shape, and what is read of each author is bounded, as in page_whole.sql.
-- What an author has deleted since the position is read whole, and nothing that was deleted before.
with author as materialized (
    select follows.followed_id as author_id
    from follows
    cross join lateral (
        select from users
        where users.user_id = follows.followed_id
            and (deleted_position = 0 or deleted_position > $5)
        limit 1
    ) as present
    where follows.follower_id = $1 and follows.since_position <= $5
        and (follows.until_position = 0 or follows.until_position > $5)
),
gap as materialized (
    select least($2::bigint, $5::bigint + 1) as before, $3::bigint + $4::bigint as wanted,
        ($3::bigint + $4::bigint + count(*) - 1) / greatest(count(*), 1) as share
    from author
),
first as materialized (
    select author.author_id, newest.tweet_id
    from author
    cross join lateral (
        select tweet_id from tweets
        where (author_id, deleted_position, tweet_id) < (author.author_id, 0, (select before from gap))
            and (author_id, deleted_position, tweet_id) > (author.author_id, 0, 0)
        order by author_id desc, deleted_position desc, tweet_id desc
        limit (select share from gap)
    ) as newest
),
deleted as materialized (
    select gone.tweet_id
    from author
    cross join lateral (
        select tweet_id from (
            select tweet_id from tweets
            where tweets.author_id = author.author_id and deleted_position > $5
            offset 0
        ) as since
        where tweet_id < (select before from gap)
        order by tweet_id desc
        limit (select wanted from gap)
    ) as gone
),
bound as materialized (
    select coalesce((
        select tweet_id from first order by tweet_id desc offset (select wanted - 1 from gap) limit 1
    ), 0) as tweet_id
),
rest as (
    select newest.tweet_id
    from (
        select author_id, min(tweet_id) as tweet_id
        from first
        group by author_id
        having count(*) = (select share from gap) and min(tweet_id) > (select tweet_id from bound)
    ) as read_to
    cross join lateral (
        select tweet_id from tweets
        where author_id = any(array[read_to.author_id]) and deleted_position = 0
            and tweet_id < read_to.tweet_id and tweet_id > (select tweet_id from bound)
        order by author_id desc, deleted_position desc, tweet_id desc
        limit (select wanted from gap)
    ) as newest
),
page as materialized (
    select tweet_id from first
    union all
    select tweet_id from deleted
    union all
    select tweet_id from rest
    order by tweet_id desc
    offset $3 limit $4
)
select
    checkpoint.position as "position: Position",
    reader.user_id is not null as "known!",
    0 as "floor!: TweetId",
    false as "is_partial!",
    item.tweet_id as "tweet_id?: TweetId",
    item.content as "content?",
    item.author_id as "author_id?: UserId",
    item.username as "author_username?",
    item.created_at as "created_at?"
from (select position from checkpoint order by position desc, fence desc limit 1) as checkpoint
left join lateral (
    select user_id from users where user_id = $1 and deleted_position = 0 limit 1
) as reader on true
left join lateral (
    select page.tweet_id, tweet.content, tweet.author_id, tweet.created_at, author.username
    from page
    cross join lateral (
        select content, author_id, created_at from tweets
        where tweets.tweet_id = page.tweet_id
        limit 1
    ) as tweet
    cross join lateral (
        select username from users where users.user_id = tweet.author_id limit 1
    ) as author
) as item on reader.user_id is not null and checkpoint.position >= $5
order by item.tweet_id desc

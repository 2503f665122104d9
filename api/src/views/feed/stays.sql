-- What was in a home feed at any time from a position on: each stay of a tweet, newest tweets first.
--
-- $1 reader, $2 the position, $3 rows wanted
--
-- A stay begins when the tweet was written or its author followed, whichever came later, and ends
-- when it was deleted, its author unfollowed or gone, whichever came first. A tweet whose author was
-- followed again may have two.
--
-- The plan comes from the shape, and what is read of each author is bounded, as in page_below.sql.
-- What an author has deleted since the position is read whole, and nothing that was deleted before.
with author as materialized (
    select follows.followed_id as author_id, follows.since_position, follows.until_position,
        account.deleted_position,
        case when follows.until_position = 0 then 9223372036854775807 else follows.until_position end
            as before
    from follows
    cross join lateral (
        select deleted_position from users
        where users.user_id = follows.followed_id
            and (deleted_position = 0 or deleted_position > $2)
        limit 1
    ) as account
    where follows.follower_id = $1
        and (follows.until_position = 0 or follows.until_position > $2)
),
equally as materialized (
    select ($3::bigint + count(*) - 1) / greatest(count(*), 1) as share from author
),
first as materialized (
    select author.*, newest.tweet_id, 0::bigint as tweet_deleted
    from author
    cross join lateral (
        select tweet_id from tweets
        where (tweets.author_id, tweets.deleted_position, tweet_id) < (author.author_id, 0, author.before)
            and (tweets.author_id, tweets.deleted_position, tweet_id) > (author.author_id, 0, 0)
        order by tweets.author_id desc, tweets.deleted_position desc, tweet_id desc
        limit (select share from equally)
    ) as newest
),
deleted as materialized (
    select author.*, gone.tweet_id, gone.tweet_deleted
    from author
    cross join lateral (
        select tweet_id, tweet_deleted from (
            select tweet_id, tweets.deleted_position as tweet_deleted from tweets
            where tweets.author_id = author.author_id and tweets.deleted_position > $2
            offset 0
        ) as since
        where tweet_id < author.before and tweet_deleted > author.since_position
        order by tweet_id desc
        limit $3::bigint
    ) as gone
),
bound as materialized (
    select coalesce((
        select tweet_id from first order by tweet_id desc offset $3::bigint - 1 limit 1
    ), 0) as tweet_id
),
rest as (
    select read_to.author_id, read_to.since_position, read_to.until_position,
        read_to.deleted_position, read_to.before, newest.tweet_id, 0::bigint as tweet_deleted
    from (
        select author_id, since_position, until_position, deleted_position, before,
            min(tweet_id) as tweet_id
        from first
        group by author_id, since_position, until_position, deleted_position, before
        having count(*) = (select share from equally)
            and min(tweet_id) > (select tweet_id from bound)
    ) as read_to
    cross join lateral (
        select tweet_id from tweets
        where (tweets.author_id, tweets.deleted_position, tweet_id)
                < (read_to.author_id, 0, read_to.tweet_id)
            and (tweets.author_id, tweets.deleted_position, tweet_id)
                > (read_to.author_id, 0, (select tweet_id from bound))
        order by tweets.author_id desc, tweets.deleted_position desc, tweet_id desc
        limit $3::bigint
    ) as newest
),
stay as materialized (
    select * from first
    union all
    select * from deleted
    union all
    select * from rest
    order by tweet_id desc
    limit $3::bigint
)
select
    checkpoint.position as "position: Position",
    reader.user_id is not null as "known!",
    item.tweet_id as "tweet_id?: TweetId",
    item.content as "content?",
    item.author_id as "author_id?: UserId",
    item.username as "author_username?",
    item.created_at as "created_at?",
    item.since_position as "since?: Position",
    item.until_position as "until?: Position",
    item.deleted_position as "author_deleted?: Position",
    item.tweet_deleted as "tweet_deleted?: Position"
from (select position from checkpoint order by position desc, fence desc limit 1) as checkpoint
left join lateral (
    select user_id from users where user_id = $1 and deleted_position = 0 limit 1
) as reader on true
left join lateral (
    select stay.*, tweet.content, tweet.created_at, author.username
    from stay
    cross join lateral (
        select content, created_at from tweets
        where tweets.tweet_id = stay.tweet_id
        limit 1
    ) as tweet
    cross join lateral (
        select username from users where users.user_id = stay.author_id limit 1
    ) as author
) as item on reader.user_id is not null
order by item.tweet_id desc

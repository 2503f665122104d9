-- A page of a home feed that rows and what is pulled do not make: the definition itself, from what the authors wrote.
--
-- $1 reader, $2 only tweets below this id, $3 rows to skip, $4 rows wanted
--
-- The plan comes from the shape, as in page.sql. How much is read of each author is bounded twice:
-- `first` takes from each as many as they would have if all had equally many, and the last of the
-- tweets that would do, if these were all, is a bound that nothing older can be on the page. Only
-- who wrote more above that bound is read again, down to it. Comparing with a whole key of
-- tweets_by_author can follow no other index, and comes in no other order; but a scan backward does not end where such a
-- comparison does, only where the author does, so that `rest` compares each column.
with author as materialized (
    select follows.followed_id as author_id
    from follows
    cross join lateral (
        select from users
        where users.user_id = follows.followed_id and deleted_position = 0
        limit 1
    ) as present
    where follows.follower_id = $1 and follows.until_position = 0
),
gap as materialized (
    -- An equal share of what is wanted for each author.
    select $3::bigint + $4::bigint as wanted,
        ($3::bigint + $4::bigint + count(*) - 1) / greatest(count(*), 1) as share
    from author
),
first as materialized (
    select author.author_id, newest.tweet_id
    from author
    cross join lateral (
        select tweet_id from tweets
        where (author_id, deleted_position, tweet_id) < (author.author_id, 0, $2)
            and (author_id, deleted_position, tweet_id) > (author.author_id, 0, 0)
        order by author_id desc, deleted_position desc, tweet_id desc
        limit (select share from gap)
    ) as newest
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
) as item on reader.user_id is not null
order by item.tweet_id desc

-- The oldest items of a home feed above a tweet: from the kept rows, and below the floor from the
-- authors.
--
-- $1 reader, $2 only tweets above this id, $3 rows wanted
--
-- The plan matters, as in page.sql: `below` hangs on `gap`, which is empty unless the floor has been
-- raised past $2.
with gap as materialized (
    select floors.floor from floors where floors.user_id = $1 and floors.floor > $2::bigint + 1
),
kept as (
    select tweets.tweet_id, tweets.content, tweets.author_id, tweets.created_at, author.username
    from feed_items
    join tweets on tweets.tweet_id = feed_items.tweet_id and tweets.deleted_position is null
    join users author on author.user_id = tweets.author_id and author.deleted_position is null
    where feed_items.user_id = $1 and feed_items.tweet_id > $2
    order by feed_items.tweet_id
    limit $3::bigint
),
below as (
    select older.tweet_id, older.content, older.author_id, older.created_at, author.username
    from follows
    join users author on author.user_id = follows.followed_id and author.deleted_position is null
    cross join lateral (
        select * from tweets
        where tweets.author_id = follows.followed_id
            and tweets.tweet_id > $2 and tweets.tweet_id < (select floor from gap)
            and tweets.deleted_position is null
        order by tweets.tweet_id
        limit $3::bigint
    ) as older
    where follows.follower_id = $1 and follows.until_position is null and exists (select from gap)
    order by older.tweet_id
    limit $3::bigint
),
oldest as (
    select * from below union all select * from kept order by tweet_id limit $3::bigint
)
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
left join oldest as item on reader.user_id is not null
order by item.tweet_id

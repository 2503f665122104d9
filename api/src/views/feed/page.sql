-- A page of a home feed as it is now: from the kept rows, and below the floor from the authors.
--
-- $1 reader, $2 only tweets below this id, $3 rows to skip, $4 rows wanted
--
-- The plan matters: `kept` walks the key of feed_items backward and stops after $3 + $4 rows that
-- are still there. Everything under `below` hangs on `gap`, which is empty unless the kept rows
-- ran out above a floor, so an ordinary page never touches follows or the authors' tweets.
with kept as materialized (
    select tweets.tweet_id, tweets.content, tweets.author_id, tweets.created_at, author.username
    from feed_items
    join tweets on tweets.tweet_id = feed_items.tweet_id and tweets.deleted_position is null
    join users author on author.user_id = tweets.author_id and author.deleted_position is null
    where feed_items.user_id = $1 and feed_items.tweet_id < $2
    order by feed_items.tweet_id desc
    offset $3 limit $4
),
gap as materialized (
    -- How many rows are missing, and how many of those to skip lie below the floor.
    select
        least(floors.floor, $2) as before,
        $4 - (select count(*) from kept) as wanted,
        case when $3 = 0 then 0 else greatest(0, $3 - (
            select count(*)
            from feed_items
            join tweets on tweets.tweet_id = feed_items.tweet_id and tweets.deleted_position is null
            join users author on author.user_id = tweets.author_id and author.deleted_position is null
            where feed_items.user_id = $1 and feed_items.tweet_id < $2
        )) end as skipped
    from floors
    where floors.user_id = $1 and floors.floor > 0 and (select count(*) from kept) < $4
),
below as (
    select older.tweet_id, older.content, older.author_id, older.created_at, author.username
    from follows
    join users author on author.user_id = follows.followed_id and author.deleted_position is null
    cross join lateral (
        select * from tweets
        where tweets.author_id = follows.followed_id
            and tweets.tweet_id < (select before from gap)
            and tweets.deleted_position is null
        order by tweets.tweet_id desc
        limit (select wanted + skipped from gap)
    ) as older
    where follows.follower_id = $1 and follows.until_position is null and exists (select from gap)
    order by older.tweet_id desc
    offset (select skipped from gap) limit (select wanted from gap)
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
left join (select * from kept union all select * from below) as item on reader.user_id is not null
order by item.tweet_id desc

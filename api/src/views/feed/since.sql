-- The oldest items of a home feed above a tweet: from the kept rows, what is pulled, from fan-outs under way that have yet to come
-- to this reader, and below the floor from the authors.
--
-- $1 reader, $2 only tweets above this id, $3 rows wanted
--
-- The plan comes from the shape, as in page.sql. `below` hangs on `gap`, which is empty unless the
-- floor has been raised past $2.
with gap as materialized (
    select floor from floors where user_id = $1 and floor > $2::bigint + 1 limit 1
),
kept as materialized (
    select kept.tweet_id
    from feed_items as kept
    cross join lateral (
        select author_id from tweets
        where tweets.tweet_id = kept.tweet_id and deleted_position = 0
        limit 1
    ) as tweet
    cross join lateral (
        select user_id from users
        where users.user_id = tweet.author_id and deleted_position = 0
        limit 1
    ) as author
    where kept.user_id = $1 and kept.tweet_id > $2
    order by kept.user_id, kept.tweet_id
    limit $3::bigint
),
unserved as (
    select fan_outs.tweet_id
    from (select under_way from checkpoint order by position desc, fence desc limit 1) as checkpoint
    cross join fan_outs
    cross join lateral (
        select from follows
        where follower_id = $1 and until_position = 0 and followed_id = fan_outs.author_id
        limit 1
    ) as followed
    where fan_outs.tweet_id >= checkpoint.under_way
        and fan_outs.tweet_id > $2 and fan_outs.next_reader <= $1
        and fan_outs.tweet_id >= coalesce((select floor from floors where user_id = $1), 0)
),
side as materialized (
    select count(*) < 64 as is_short from (select from pulled_authors limit 64) as counted
),
pulled_author as materialized (
    select author.author_id
    from (
        select pulled_authors.author_id
        from pulled_authors
        cross join lateral (
            select from follows
            where follower_id = $1 and until_position = 0 and followed_id = pulled_authors.author_id
            limit 1
        ) as followed
        where (select is_short from side)
        union all
        select followed.author_id
        from (
            select followed_id as author_id from follows
            where follower_id = $1 and until_position = 0 and not (select is_short from side)
            offset 0
        ) as followed
        cross join lateral (
            select from pulled_authors where pulled_authors.author_id = followed.author_id limit 1
        ) as pulled
    ) as author
    cross join lateral (
        select from users where users.user_id = author.author_id and deleted_position = 0 limit 1
    ) as present
),
pulled as (
    select newer.tweet_id
    from pulled_author
    cross join lateral (
        select tweet_id from tweets
        where author_id = any(array[pulled_author.author_id]) and pulled and deleted_position = 0
            and tweet_id > greatest($2, (select floor - 1 from floors where user_id = $1))
        order by author_id, tweet_id
        limit $3::bigint
    ) as newer
),
below as (
    select older.tweet_id
    from gap
    cross join lateral (
        select followed_id from follows
        where follows.follower_id = $1 and follows.until_position = 0 and gap.floor > 0
        offset 0
    ) as author
    cross join lateral (
        select from users
        where users.user_id = author.followed_id and deleted_position = 0
        limit 1
    ) as present
    cross join lateral (
        select tweet_id from tweets
        where (author_id, deleted_position, tweet_id) > (author.followed_id, 0, $2)
            and (author_id, deleted_position, tweet_id) < (author.followed_id, 0, gap.floor)
        order by author_id, deleted_position, tweet_id
        limit $3::bigint
    ) as older
),
oldest as materialized (
    select tweet_id from below
    union all
    select tweet_id from kept
    union all
    select tweet_id from pulled
    union all
    select tweet_id from unserved
    order by tweet_id
    limit $3::bigint
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
    select oldest.tweet_id, tweet.content, tweet.author_id, tweet.created_at, author.username
    from oldest
    cross join lateral (
        select content, author_id, created_at from tweets
        where tweets.tweet_id = oldest.tweet_id
        limit 1
    ) as tweet
    cross join lateral (
        select username from users where users.user_id = tweet.author_id limit 1
    ) as author
) as item on reader.user_id is not null
order by item.tweet_id

-- A page of a home feed of rows, of what is pulled from the floor up, and of what fan-outs under way have yet to bring: the page
-- itself, unless all of that runs out above a floor.
--
-- $1 reader, $2 only tweets below this id, $3 rows to skip, $4 rows wanted
--
-- The plan comes from the shape, as in page.sql. What is pulled comes from those the reader follows of `pulled_authors`, found from
-- the shorter side. How much is read of each is bounded as in page_whole.sql. An array of one author is none to the planner, so that
-- the order has to begin with the author, as in tweets_pulled. Of all that only ids are read, and sorted.
--
-- Rows are walked along their key and never sorted: the planner does not know that their limit is no limit. Both are merged no further
-- than the page goes, with the look-ups of page.sql.
with side as materialized (
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
gap as materialized (
    select greatest((select floor - 1 from floors where user_id = $1), 0) as after,
        ($3::bigint + $4::bigint + count(*) - 1) / greatest(count(*), 1) as share
    from pulled_author
),
first as materialized (
    select pulled_author.author_id, newest.tweet_id
    from pulled_author
    cross join lateral (
        select tweet_id from tweets
        where author_id = any(array[pulled_author.author_id]) and pulled and deleted_position = 0
            and tweet_id < $2 and tweet_id > (select after from gap)
        order by author_id desc, tweet_id desc
        limit (select share from gap)
    ) as newest
),
bound as materialized (
    select coalesce((
        select tweet_id from first order by tweet_id desc offset $3::bigint + $4::bigint - 1 limit 1
    ), (select after from gap)) as tweet_id
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
        where author_id = any(array[read_to.author_id]) and pulled and deleted_position = 0
            and tweet_id < read_to.tweet_id and tweet_id > (select tweet_id from bound)
        order by author_id desc, tweet_id desc
        limit $3::bigint + $4::bigint
    ) as newest
),
unserved as materialized (
    select fan_outs.tweet_id
    from (select under_way from checkpoint order by position desc, fence desc limit 1) as checkpoint
    cross join fan_outs
    cross join lateral (
        select from follows
        where follower_id = $1 and until_position = 0 and followed_id = fan_outs.author_id
        limit 1
    ) as followed
    where fan_outs.tweet_id >= checkpoint.under_way
        and fan_outs.tweet_id < $2 and fan_outs.next_reader <= $1
        and fan_outs.tweet_id > (select after from gap)
),
pulled as materialized (
    select tweet_id from first
    union all
    select tweet_id from rest
    union all
    select tweet_id from unserved
)
select
    checkpoint.position as "position: Position",
    reader.user_id is not null as "known!",
    coalesce(floors.floor, 0) as "floor!: TweetId",
    exists (select from pulled_author) or exists (select from unserved) as "is_partial!",
    item.tweet_id as "tweet_id?: TweetId",
    item.content as "content?",
    item.author_id as "author_id?: UserId",
    item.username as "author_username?",
    item.created_at as "created_at?"
from (select position from checkpoint order by position desc, fence desc limit 1) as checkpoint
left join lateral (
    select user_id from users where user_id = $1 and deleted_position = 0 limit 1
) as reader on true
left join lateral (select floor from floors where user_id = $1 limit 1) as floors on true
left join lateral (
    select merged.tweet_id, tweet.content, tweet.author_id, tweet.created_at, author.username
    from (
        (
            select tweet_id from feed_items
            where user_id = $1 and tweet_id < $2
            order by user_id desc, tweet_id desc
            limit (select 9223372036854775807)
        )
        union all
        (select tweet_id from pulled order by tweet_id desc)
    ) as merged
    cross join lateral (
        select content, author_id, created_at from tweets
        where tweets.tweet_id = merged.tweet_id and deleted_position = 0
        limit 1
    ) as tweet
    cross join lateral (
        select username from users
        where users.user_id = tweet.author_id and deleted_position = 0
        limit 1
    ) as author
    order by merged.tweet_id desc
    offset $3 limit $4
) as item on reader.user_id is not null
order by item.tweet_id desc

-- A page of a home feed as it is now, as far as there are rows: the page itself, unless they run out
-- above a floor, a fan-out under way has yet to come to this reader, or the reader follows somebody whose tweets are pulled.
--
-- $1 reader, $2 only tweets below this id, $3 rows to skip, $4 rows wanted
--
-- The plan comes from the shape. `feed_items` is walked along its key, backward, and stops after
-- $3 + $4 rows that are still there; for each of them one look-up by key, which a subquery with a
-- limit cannot be turned into anything else. There is nothing for statistics to decide. Where no fan-out is
-- under way, `checkpoint.under_way` is null and `fan_outs` is not entered at all. Whether the reader follows any of `pulled_authors`
-- is looked up from the shorter side.
with side as materialized (
    select count(*) < 64 as is_short from (select from pulled_authors limit 64) as counted
)
select
    checkpoint.position as "position: Position",
    reader.user_id is not null as "known!",
    coalesce(floors.floor, 0) as "floor!: TweetId",
    checkpoint.is_partial or (
        select true
        from pulled_authors
        cross join lateral (
            select from follows
            where follower_id = $1 and until_position = 0 and followed_id = pulled_authors.author_id
            limit 1
        ) as followed
        where (select is_short from side)
        limit 1
    ) is not null or (
        select true
        from (
            select followed_id as author_id from follows
            where follower_id = $1 and until_position = 0 and not (select is_short from side)
            offset 0
        ) as followed
        cross join lateral (
            select from pulled_authors where pulled_authors.author_id = followed.author_id limit 1
        ) as pulled
        limit 1
    ) is not null as "is_partial!",
    item.tweet_id as "tweet_id?: TweetId",
    item.content as "content?",
    item.author_id as "author_id?: UserId",
    item.username as "author_username?",
    item.created_at as "created_at?"
from (
    select position, (
        select true from fan_outs
        cross join lateral (
            select from follows
            where follower_id = $1 and until_position = 0 and followed_id = fan_outs.author_id
            limit 1
        ) as followed
        where fan_outs.tweet_id >= checkpoint.under_way
            and fan_outs.tweet_id < $2 and fan_outs.next_reader <= $1
        limit 1
    ) is not null as is_partial
    from checkpoint
    order by position desc, fence desc
    limit 1
) as checkpoint
left join lateral (
    select user_id from users where user_id = $1 and deleted_position = 0 limit 1
) as reader on true
left join lateral (select floor from floors where user_id = $1 limit 1) as floors on true
left join lateral (
    select kept.tweet_id, tweet.content, tweet.author_id, tweet.created_at, author.username
    from feed_items as kept
    cross join lateral (
        select content, author_id, created_at from tweets
        where tweets.tweet_id = kept.tweet_id and deleted_position = 0
        limit 1
    ) as tweet
    cross join lateral (
        select username from users
        where users.user_id = tweet.author_id and deleted_position = 0
        limit 1
    ) as author
    where kept.user_id = $1 and kept.tweet_id < $2
    order by kept.user_id desc, kept.tweet_id desc
    offset $3 limit $4
) as item on reader.user_id is not null
order by item.tweet_id desc

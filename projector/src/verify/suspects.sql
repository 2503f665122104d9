-- The feeds of readers held against the definition, row by row, from their floors up.
--
-- $1 readers, $2 how many differences to list, $3 the floor of who is dormant
--
-- A row of a tweet that was deleted, or whose author was, may stay: every read passes over it. But
-- below its floor a feed has no rows, nor of what is pulled; who is deleted or was never registered has no feed, and what a
-- fan-out under way has yet to bring to a reader is not there. A floor is the oldest of some tweets, or just above one, or that of
-- who is dormant, whose follows have to say the same.
with checkpoint as materialized (
    select position, under_way from checkpoint order by position desc, fence desc limit 1
),
expected as (
    select reader.user_id, tweets.tweet_id
    from users reader
    left join floors on floors.user_id = reader.user_id
    join follows on follows.follower_id = reader.user_id and follows.until_position = 0
    join users author on author.user_id = follows.followed_id and author.deleted_position = 0
    join tweets on tweets.author_id = follows.followed_id
        and not tweets.pulled
        and tweets.tweet_id >= coalesce(floors.floor, 0)
        and tweets.deleted_position = 0
    where reader.user_id = any($1) and reader.deleted_position = 0
        and ((tweets.tweet_id < (select under_way from checkpoint)) is not false or (
            select true from fan_outs
            where fan_outs.tweet_id = tweets.tweet_id and next_reader <= reader.user_id
            limit 1
        ) is null)
),
kept as (
    select user_id, tweet_id from feed_items where user_id = any($1)
),
differing as materialized (
    select
        coalesce(expected.user_id, kept.user_id) as user_id,
        coalesce(expected.tweet_id, kept.tweet_id) as tweet_id,
        kept.user_id is null as missing
    from expected
    full join kept on kept.user_id = expected.user_id and kept.tweet_id = expected.tweet_id
    where expected.user_id is null or kept.user_id is null
),
wrong as materialized (
    select differing.user_id, differing.tweet_id, differing.missing, tweets.author_id
    from differing
    left join users reader on reader.user_id = differing.user_id
    left join floors on floors.user_id = differing.user_id
    left join tweets on tweets.tweet_id = differing.tweet_id
    left join users author on author.user_id = tweets.author_id
    where differing.missing
        or tweets.tweet_id is null
        or (tweets.deleted_position = 0 and coalesce(author.deleted_position, 0) = 0)
        or tweets.pulled
        or differing.tweet_id < coalesce(floors.floor, 0)
        or reader.user_id is null
        or reader.deleted_position <> 0
),
listed as (
    select * from wrong order by user_id, tweet_id limit $2
),
stray as materialized (
    select floors.user_id
    from floors
    left join users on users.user_id = floors.user_id
    where floors.user_id = any($1)
        and (users.user_id is null or users.deleted_position <> 0)
),
beyond as materialized (
    select user_id, floor from floors
    where user_id = any($1) and (floor < 1 or floor > (select position from checkpoint) + 1 and floor <> $3)
),
unlike as materialized (
    select distinct follows.follower_id as user_id
    from follows
    left join floors on floors.user_id = follows.follower_id
    where follows.follower_id = any($1) and follows.until_position = 0
        and follows.dormant <> ((floors.floor = $3) is true)
)
select
    (select count(*) from wrong) as "count!",
    (select coalesce(array_agg(user_id), '{}') from listed) as "readers!: Vec<UserId>",
    (select coalesce(array_agg(tweet_id), '{}') from listed) as "tweets!: Vec<TweetId>",
    (select coalesce(array_agg(coalesce(author_id, 0)), '{}') from listed) as "authors!: Vec<UserId>",
    (select coalesce(array_agg(missing), '{}') from listed) as "missing!: Vec<bool>",
    (select coalesce(array_agg(user_id), '{}') from stray) as "stray!: Vec<UserId>",
    (select coalesce(array_agg(user_id order by user_id), '{}') from unlike) as "unlike!: Vec<UserId>",
    (select coalesce(array_agg(user_id order by user_id), '{}') from beyond) as "beyond!: Vec<UserId>",
    (select coalesce(array_agg(floor order by user_id), '{}') from beyond) as "floors!: Vec<TweetId>"

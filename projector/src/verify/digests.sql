-- Readers of a range whose feed does not have just the rows that the definition says, from the floor up.
--
-- $1 first reader, $2 the reader after the last, $3 the floor of who is dormant
--
-- What a fan-out under way has yet to bring to a reader must not be there, nor what is pulled.
--
-- A digest of each feed, twice: half as expensive as holding row against row. Readers with tweets in
-- their feed that were deleted are named as well; suspects.sql tells who is wrong.
with checkpoint as materialized (
    select position, under_way from checkpoint order by position desc, fence desc limit 1
),
expected as (
    select reader.user_id, count(*) as items, bit_xor(hashint8extended(tweets.tweet_id, 0)) as digest
    from users reader
    left join floors on floors.user_id = reader.user_id
    join follows on follows.follower_id = reader.user_id and follows.until_position = 0
    join users author on author.user_id = follows.followed_id and author.deleted_position = 0
    join tweets on tweets.author_id = follows.followed_id
        and not tweets.pulled
        and tweets.tweet_id >= coalesce(floors.floor, 0)
        and tweets.deleted_position = 0
    where reader.user_id >= $1 and reader.user_id < $2 and reader.deleted_position = 0
        and ((tweets.tweet_id < (select under_way from checkpoint)) is not false or (
            select true from fan_outs
            where fan_outs.tweet_id = tweets.tweet_id and next_reader <= reader.user_id
            limit 1
        ) is null)
    group by reader.user_id
),
kept as (
    select user_id, count(*) as items, bit_xor(hashint8extended(tweet_id, 0)) as digest
    from feed_items
    where user_id >= $1 and user_id < $2
    group by user_id
),
stray as (
    select floors.user_id
    from floors
    left join users on users.user_id = floors.user_id
    where floors.user_id >= $1 and floors.user_id < $2
        and (
            users.user_id is null or users.deleted_position <> 0
            or floors.floor < 1 or floors.floor > (select position from checkpoint) + 1 and floors.floor <> $3
        )
),
unlike as (
    select follows.follower_id as user_id
    from follows
    left join floors on floors.user_id = follows.follower_id
    where follows.follower_id >= $1 and follows.follower_id < $2 and follows.until_position = 0
        and follows.dormant <> ((floors.floor = $3) is true)
),
compared as materialized (
    select coalesce(expected.user_id, kept.user_id) as user_id, kept.items,
        (expected.items, expected.digest) is distinct from (kept.items, kept.digest) as differs
    from expected
    full join kept on kept.user_id = expected.user_id
)
select
    (select coalesce(sum(items), 0)::bigint from compared) as "rows!",
    (select coalesce(array_agg(user_id), '{}') from (
        select user_id from compared where differs
        union select user_id from stray
        union select user_id from unlike
    ) as suspect) as "suspects!"

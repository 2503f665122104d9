-- Moves markers forward, and says where they are.
--
-- $1 readers, each once and in ascending order, so that two of these never wait for each other; $2 the tweets up to
-- which they have read
--
-- The accounts are entered by key for each reader. A marker that is further already is not written.
with asked as materialized (
    select reader_id, tweet_id from unnest($1::bigint[], $2::bigint[]) as asked (reader_id, tweet_id)
),
known as materialized (
    select asked.reader_id, asked.tweet_id
    from asked
    cross join lateral (select from accounts where user_id = asked.reader_id limit 1) as account
),
moved as (
    insert into markers as marker (reader_id, tweet_id)
    select reader_id, tweet_id from known
    order by reader_id
    on conflict (reader_id) do update set tweet_id = excluded.tweet_id
    where marker.tweet_id < excluded.tweet_id
    returning reader_id
)
select
    known.reader_id as "reader_id!: UserId",
    greatest(known.tweet_id, marker.tweet_id) as "tweet_id!: TweetId"
from known
left join lateral (
    select tweet_id from markers where reader_id = known.reader_id limit 1
) as marker on true

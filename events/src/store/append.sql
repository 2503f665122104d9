-- Appends a batch after the position that it was decided on, or nothing; and with it what the decision state says by these
-- events alone. See append.rs.
--
-- The lock is the one that BEGIN_LOCKED waits for; here it is tried, because who waited would have seen the head before
-- the wait. Whoever has it already gets it again. No row is made before it is there: both conditions of "allowed" are
-- looked at first. Should another append come between this statement's snapshot and the lock, the unique positions
-- refuse this one.
with lock as materialized (
    select pg_try_advisory_xact_lock(107135549927012) as is_ours
), head as materialized (
    -- The ranges of the log before the expected end are not looked at.
    select coalesce((select position from events where position >= $1 order by position desc limit 1), 0) as position
), allowed as materialized (
    select from head, lock where head.position = $1 and lock.is_ours
), appended as (
    insert into events
        (position, event_id, stream, version, type, schema_version, payload, metadata, recorded_at)
    select new.position, event_id, stream, version, type, schema_version, payload::jsonb, metadata, $11
    from unnest($3::bigint[], $4::uuid[], $5::text[], $6::integer[], $7::text[],
                $8::smallint[], $9::text[], $10::jsonb[])
        as new (position, event_id, stream, version, type, schema_version, payload, metadata)
    where exists (select from allowed)
), related as (
    insert into relationships (follower_id, followed_id, version, follows)
    select follower_id, followed_id, version, follows
    from unnest($13::bigint[], $14::bigint[], $15::integer[], $16::boolean[])
        as last (follower_id, followed_id, version, follows)
    where exists (select from allowed)
    on conflict (follower_id, followed_id) do update
        set version = excluded.version, follows = excluded.follows
), taken_back as (
    insert into deleted_tweets (tweet_id)
    select tweet_id from unnest($17::bigint[]) as deleted (tweet_id)
    where exists (select from allowed)
), registered as (
    update last_user_id set user_id = $18
    where $18::bigint is not null and exists (select from allowed)
        and user_id = (select user_id from last_user_id order by user_id desc limit 1)
)
select pg_notify($12, $2::bigint::text) as "announced!: ()"
from allowed

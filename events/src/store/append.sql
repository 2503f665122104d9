-- Appends a batch after the position that it was decided on, or nothing. See append.rs.
--
-- The lock is the one that BEGIN_LOCKED waits for; here it is tried, because who waited would have seen the head before
-- the wait. Whoever has it already gets it again. No row is made before it is there: both conditions of "appended" are
-- looked at first. Should another append come between this statement's snapshot and the lock, the unique positions
-- refuse this one.
with lock as materialized (
    select pg_try_advisory_xact_lock(107135549927012) as is_ours
), head as materialized (
    select coalesce((select position from events order by position desc limit 1), 0) as position
), appended as (
    insert into events
        (position, event_id, stream, version, type, schema_version, payload, metadata, recorded_at)
    select new.position, event_id, stream, version, type, schema_version, payload::jsonb, metadata, $11
    from unnest($3::bigint[], $4::uuid[], $5::text[], $6::integer[], $7::text[],
                $8::smallint[], $9::text[], $10::jsonb[])
        as new (position, event_id, stream, version, type, schema_version, payload, metadata)
    where $1 = (select head.position from head) and (select lock.is_ours from lock)
)
select pg_notify($12, $2::bigint::text) as "announced!: ()"
from head, lock
where head.position = $1 and lock.is_ours

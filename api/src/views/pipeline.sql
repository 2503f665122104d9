-- What the read model's database knows of the projector and of itself, for those who watch.
--
-- $1 how many hops back deliveries are counted, $2 over how many seconds
--
-- The newest hops are the last of both halves' indexes, so the count ends after $1 of them.
select
    checkpoint.generation,
    checkpoint.position as "position: Position",
    checkpoint.moved_at,
    lead.leased_until >= now() as "led!",
    lead.follows as "follows!",
    (
        select coalesce(sum(newest.deliveries), 0)::bigint
        from (
            select deliveries, readable_at from projector_hops order by last_position desc limit $1
        ) as newest
        where newest.readable_at > now() - make_interval(secs => $2)
    ) as "deliveries!",
    (
        select quote_ident(nspname)
        from pg_class
        join pg_namespace on pg_namespace.oid = relnamespace
        where nspname ~ '^feed_next_[0-9]+$' and relname = 'rebuild' and has_schema_privilege(pg_namespace.oid, 'usage')
        limit 1
    ) as rebuilt_in
from (select * from checkpoint order by position desc, fence desc limit 1) as checkpoint
cross join (select * from projector_lead order by revision desc limit 1) as lead

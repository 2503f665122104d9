-- When each reader last read their home feed, as far as that is written down: at most once a day. State of the reader, like
-- their marker: nothing could make it again. The projector keeps no rows for those who have not read for long.
create table last_readings (
    reader_id bigint primary key references accounts on delete cascade,
    read_at   timestamptz not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- The api writes them. See 0004_privileges.sql.
do $$
declare
    appender text;
begin
    for appender in
        select grantee::regrole::text
        from pg_class, aclexplode(relacl)
        where oid = 'events'::regclass and privilege_type = 'INSERT' and grantee <> 0 and grantee <> relowner
    loop
        execute format('grant update on last_readings to %s', appender);
    end loop;
end
$$;

-- How far each reader has read their home feed: state of the reader, no event. It is beside the accounts and not in the
-- read model, because nothing could make it again.
create table markers (
    reader_id bigint primary key references accounts on delete cascade,
    -- Everything up to this tweet is read. It only moves forward.
    tweet_id  bigint not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- The api moves them. See 0004_privileges.sql.
do $$
declare
    appender text;
begin
    for appender in
        select grantee::regrole::text
        from pg_class, aclexplode(relacl)
        where oid = 'events'::regclass and privilege_type = 'INSERT' and grantee <> 0 and grantee <> relowner
    loop
        execute format('grant update on markers to %s', appender);
    end loop;
end
$$;

-- When the relay published what, for those who watch: see store/hops.rs. Nothing depends on it.
create table relay_hops (
    -- Which half of the table: positions fill one after the other, and the older is emptied whole.
    half           smallint    not null,
    first_position bigint      not null,
    last_position  bigint      not null,
    published_at   timestamptz not null,
    confirmed_at   timestamptz not null
) partition by list (half);

create table relay_hops_0 partition of relay_hops for values in (0);
create table relay_hops_1 partition of relay_hops for values in (1);

create index relay_hops_by_position on relay_hops (last_position);

-- The relay, which is in the api, empties halves. See 0004_privileges.sql.
do $$
declare
    appender text;
begin
    for appender in
        select grantee::regrole::text
        from pg_class, aclexplode(relacl)
        where oid = 'events'::regclass and privilege_type = 'INSERT' and grantee <> 0 and grantee <> relowner
    loop
        execute format('grant truncate on relay_hops_0, relay_hops_1 to %s', appender);
    end loop;
end
$$;

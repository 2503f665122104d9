-- The database of the read model, FEED_DATABASE_URL. See 1_roles.sql.

revoke create on schema public from public;
grant usage on schema public to rookery_api, rookery_projector;

-- A rebuild makes the next generation in a schema of its own and moves its tables to where the live ones were.
grant create on schema public to rookery_projector;
do $$
begin
    execute format('grant create on database %I to rookery_projector', current_database());
end
$$;

-- In whatever schema a table of the read model is made, the api may read it. The right moves with the table.
alter default privileges for role rookery_projector grant select on tables to rookery_api;
-- And look at how far a rebuild has come, which is stored in the schema that it builds.
alter default privileges for role rookery_projector grant usage on schemas to rookery_api;

-- Tables that are there already become the projector's, and so do generations that nobody reads.
do $$
declare
    found text;
begin
    for found in
        select oid::regnamespace::text from pg_namespace
        where nspname ~ '^(feed|counts)_(next_[0-9]+|previous)$' or nspname = 'counts'
    loop
        execute format('alter schema %s owner to rookery_projector', found);
        execute format('grant usage on schema %s to rookery_api', found);
    end loop;
    for found in
        select pg_class.oid::regclass::text
        from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where relkind in ('r', 'p') and (
            nspname ~ '^(feed|counts)_(next_[0-9]+|previous)$'
            or nspname = 'counts'
            or nspname = 'public' and relname in
                (
                    'checkpoint', 'users', 'tweets', 'follows', 'feed_items', 'floors', 'fan_outs', 'pulled_authors', 'reader_counts',
                    'rules', 'feed_migrations', 'compatibility',
                    'projector_hops', 'projector_hops_0', 'projector_hops_1', 'projector_lead'
                )
        )
    loop
        execute format('alter table %s owner to rookery_projector', found);
        execute format('grant select on %s to rookery_api', found);
    end loop;
end
$$;

-- The database of the log, DATABASE_URL. See 1_roles.sql.

-- Until PostgreSQL 15 everyone could make tables and functions in this schema.
revoke create on schema public from public;
grant usage on schema public to rookery_api, rookery_projector;

-- Tables that the owner's migrations are still to make. Migration 0004 adds what cannot be said here.
do $$
declare
    owner constant regrole := (select datdba from pg_database where datname = current_database());
    defaults constant text := format('alter default privileges for role %s in schema public', owner);
begin
    execute defaults || ' grant select on tables to rookery_api, rookery_projector';
    execute defaults || ' grant insert on tables to rookery_api';
end
$$;

-- Tables that are there: the same, one by one.
do $$
begin
    if to_regclass('public.log_migrations') is not null then
        grant select
            on public.events, public.outbox, public.accounts, public.idempotency_keys, public.log_migrations,
                public.log_compatibility
            to rookery_api, rookery_projector;
        grant insert on public.events to rookery_api;
        grant update on public.outbox to rookery_api;
        grant insert, delete on public.accounts, public.idempotency_keys to rookery_api;
    end if;
    if to_regclass('public.markers') is not null then
        grant select on public.markers to rookery_api, rookery_projector;
        grant insert, update on public.markers to rookery_api;
    end if;
    if to_regclass('public.last_readings') is not null then
        grant select on public.last_readings to rookery_api, rookery_projector;
        grant insert, update on public.last_readings to rookery_api;
    end if;
    if to_regclass('public.relationships') is not null then
        grant select
            on public.log_ranges, public.archived_ranges, public.archived_tweets, public.relationships,
                public.deleted_tweets, public.last_user_id
            to rookery_api, rookery_projector;
        grant insert, update on public.relationships to rookery_api;
        grant insert on public.deleted_tweets to rookery_api;
        grant update on public.last_user_id to rookery_api;
        grant execute on function public.open_log_ranges to rookery_api;
    end if;
    if to_regclass('public.relay_hops') is not null then
        grant select on public.relay_hops to rookery_api, rookery_projector;
        grant insert on public.relay_hops to rookery_api;
        grant select, truncate on public.relay_hops_0, public.relay_hops_1 to rookery_api;
    end if;
end
$$;

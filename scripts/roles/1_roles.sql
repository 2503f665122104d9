-- Two roles, one for each program, neither of which can change or remove an event:
--
--   rookery_api        appends to the log and moves the outbox's cursor; of the read model it may only read
--   rookery_projector  owns the read model and makes its generations; of the log it may only read
--
-- The log's tables belong to the owner of the database, in whose name `api --migrate-only` applies the migrations.
-- With three URLs of the same database:
--
--   psql "$OWNER_URL" -f scripts/roles/1_roles.sql -f scripts/roles/2_log.sql -f scripts/roles/3_feed.sql
--   psql "$OWNER_URL" -c '\password rookery_api' -c '\password rookery_projector'
--   DATABASE_URL=$OWNER_URL     api --migrate-only
--   DATABASE_URL=$API_URL       api
--   DATABASE_URL=$PROJECTOR_URL projector run
--
-- In any order, and all of it again for each new release. The files may be applied before the first migration or
-- later, and more than once. Where the read model has a database of its own (FEED_DATABASE_URL), 2_log.sql is for
-- DATABASE_URL and 3_feed.sql for FEED_DATABASE_URL.
--
-- They are for the database's owner, if that role may create roles, or for a superuser. docker-compose.yml applies them
-- when it makes its database.

do $$
begin
    if not exists (select from pg_roles where rolname = 'rookery_api') then
        create role rookery_api login;
    end if;
    if not exists (select from pg_roles where rolname = 'rookery_projector') then
        create role rookery_projector login;
    end if;
end
$$;

-- Only a member of a role can give it tables, and say who may read those that it makes.
grant rookery_projector to current_user;

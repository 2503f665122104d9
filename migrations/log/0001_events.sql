-- The log: every accepted command is one or more rows here, for ever.
create table events (
    -- Dense and equal to commit order: assigned under the appenders' lock. The last one is the head.
    position       bigint      primary key check (position > 0),
    event_id       uuid        not null unique,
    -- 'user-7', 'tweet-42', 'relationship-7-9'
    stream         text        not null,
    -- 1, 2, 3, … within the stream
    version        integer     not null check (version > 0),
    type           text        not null,
    schema_version smallint    not null check (schema_version > 0),
    payload        jsonb       not null,
    metadata       jsonb       not null,
    recorded_at    timestamptz not null,
    unique (stream, version)
);

create function refuse_change_of_events() returns trigger language plpgsql as $$
begin
    raise exception 'events is append-only: % is refused', lower(tg_op)
        using errcode = 'restrict_violation',
              hint = 'Append a new event that says what changed.';
end
$$;

create trigger events_append_only
    before update or delete or truncate on events
    for each statement execute function refuse_change_of_events();

-- "Always" holds for sessions with session_replication_role = replica as well.
alter table events enable always trigger events_append_only;

-- User ids are 1, 2, 3, … in order of registration; the last one given is the last of this index.
create index events_user_ids on events (((payload ->> 'user_id')::bigint)) where type = 'UserRegistered';

-- Which releases can work on this database: those that know the migration `writable_since`. A migration under which the statements of
-- an older release fail or do harm sets it to its own number; after any other, older releases go on.
create table log_compatibility (writable_since bigint not null);
insert into log_compatibility values (1);

-- What is only inserted is frozen by parts of a twentieth, and not all of it at once when the numbers of transactions run
-- out.
alter table events set (autovacuum_vacuum_insert_scale_factor = 0.05);

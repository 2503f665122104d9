-- The log: every accepted command is one or more rows here, for ever.
create table events (
    -- Dense and equal to commit order: assigned under the lock of the row in log_head.
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

-- The head of the log. Its one row is the lock that serialises appends across instances.
create table log_head (
    only_row     boolean primary key default true check (only_row),
    position     bigint  not null,
    last_user_id bigint  not null
) with (fillfactor = 50);

insert into log_head (position, last_user_id) values (0, 0);

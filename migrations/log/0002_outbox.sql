-- The outbox is the log itself plus this cursor: everything above `position` is not published yet.
--
-- One row. Its key moves with each change, so that the newest version is the last of the key and is
-- found in one step, however many older ones an old snapshot keeps.
create table outbox (
    revision     bigint      primary key default 0,
    -- Confirmed by the broker up to and including this position.
    position     bigint      not null default 0,
    -- The event there, by which the history is known that was published.
    event_id     uuid        not null default '00000000-0000-0000-0000-000000000000',
    -- Grows by one with each new leader; a statement that carries an older fence changes nothing.
    fence        bigint      not null default 0,
    leader       text,
    leased_until timestamptz not null default '-infinity',
    -- Signs each slice, so that a message that did not come from the relay is told apart.
    slice_key    bytea       not null
);

-- 244 random bits from the server's strong generator, without an extension.
insert into outbox (slice_key)
values (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

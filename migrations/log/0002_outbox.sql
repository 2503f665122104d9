-- The outbox is the log itself plus this cursor: everything above `position` is not published yet.
create table outbox (
    only_row     boolean     primary key default true check (only_row),
    -- Confirmed by the broker up to and including this position.
    position     bigint      not null default 0,
    -- Grows by one with each new leader; a statement that carries an older fence changes nothing.
    fence        bigint      not null default 0,
    leader       text,
    leased_until timestamptz not null default '-infinity',
    -- Signs each slice, so that a message that did not come from the relay is told apart.
    slice_key    bytea       not null
) with (fillfactor = 50);

-- 244 random bits from the server's strong generator, without an extension.
insert into outbox (slice_key)
values (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

-- What a command is decided against, beside the log itself. Written in the transaction of the events.

-- Who exists: one row per user who is registered and not deleted.
create table accounts (
    user_id      bigint      primary key,
    username     text        not null,
    email        text        not null,
    -- What "taken" compares: the name and the address, folded by the application.
    username_key text        not null,
    email_key    text        not null,
    created_at   timestamptz not null,
    constraint accounts_username_taken unique (username_key),
    constraint accounts_email_taken unique (email_key)
);

-- The first answer to each Idempotency-Key, given again to every repetition.
create table idempotency_keys (
    -- Within what a key is one: a caller, or the name that a registration asks for.
    scope       text        not null,
    key         text        not null,
    -- SHA-256 of the command: the same key with another command is refused.
    fingerprint bytea       not null,
    answer      jsonb       not null,
    recorded_at timestamptz not null,
    primary key (scope, key)
);

-- All of them go after a day.
alter table idempotency_keys set (autovacuum_vacuum_scale_factor = 0.05);

create index idempotency_keys_by_age on idempotency_keys (recorded_at);

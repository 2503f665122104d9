-- The log in ranges of positions, so that old ones can be archived; and what was decided against the log itself becomes
-- decision state, because a log that goes on for ever cannot be asked at each command. See ADR 0028.

-- Who follows whom, and the version of the last event between the two.
create table relationships (
    follower_id bigint  not null,
    followed_id bigint  not null,
    version     integer not null,
    follows     boolean not null,
    primary key (follower_id, followed_id)
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);

-- Tweets that were taken back. Who wrote a tweet is in the event that its id names.
create table deleted_tweets (tweet_id bigint primary key);

-- The user id that was given last. One row, whose key moves with it, so that its newest version is found in one step: see
-- the outbox.
create table last_user_id (user_id bigint primary key);

insert into relationships
select distinct on (stream)
    (payload ->> 'follower_id')::bigint, (payload ->> 'followed_id')::bigint, version, type = 'Followed'
from events
where type in ('Followed', 'Unfollowed')
order by stream, version desc;

insert into deleted_tweets
select (payload ->> 'tweet_id')::bigint from events where type = 'TweetDeleted';

insert into last_user_id
select coalesce(max((payload ->> 'user_id')::bigint), 0) from events where type = 'UserRegistered';

-- What there is becomes the first range as it stands, with the keys that it has.
drop index events_user_ids;
alter table events rename to events_1;
alter index events_pkey rename to events_1_pkey;

create table events (like events_1 including constraints) partition by range (position);
alter table events add primary key (position);
create trigger events_append_only
    before update or delete or truncate on events
    for each statement execute function refuse_change_of_events();
alter table events enable always trigger events_append_only;

do $$
declare
    head constant bigint := (select max(position) from events_1);
begin
    if head is null then
        drop table events_1;
    else
        execute format('alter table events attach partition events_1 for values from (1) to (%s)', head + 1);
    end if;
end
$$;

-- Ranges that are in files and no longer here: always the beginning of the log.
create table archived_ranges (
    first_position   bigint      primary key,
    last_position    bigint      not null,
    -- When its last event was recorded.
    last_recorded_at timestamptz not null,
    -- The last user who registered in it or before.
    last_user_id     bigint      not null,
    -- Of the file.
    sha256           bytea       not null,
    archived_at      timestamptz not null default now()
);

-- Who wrote the tweets in those: they may be taken back for ever.
create table archived_tweets (
    tweet_id  bigint primary key,
    author_id bigint not null
);

create view log_ranges as
select
    class.oid::regclass as range_table,
    (regexp_match(bound, $re$FROM \('(\d+)'\)$re$))[1]::bigint as first_position,
    (regexp_match(bound, $re$TO \('(\d+)'\)$re$))[1]::bigint - 1 as last_position,
    null::timestamptz as archived_at,
    null::text as sha256
from pg_inherits
join pg_class class on class.oid = inhrelid
cross join lateral pg_get_expr(relpartbound, class.oid) as bound
where inhparent = 'events'::regclass
union all
select null, first_position, last_position, archived_at, encode(sha256, 'hex') from archived_ranges;

-- Makes the table of the range that begins at `first`, not yet in the log. Each holds by itself what a key of the whole
-- cannot: PostgreSQL wants the position in that.
create function make_log_range(first bigint) returns regclass language plpgsql as $$
declare
    range_table constant text := format('events_%s', first);
begin
    execute format(
        'create table %I (like events including constraints) with (autovacuum_vacuum_insert_scale_factor = 0.05)', range_table);
    execute format(
        'create trigger events_append_only before update or delete or truncate on %I
         for each statement execute function refuse_change_of_events()', range_table);
    execute format('alter table %I enable always trigger events_append_only', range_table);
    execute format('alter table %I add primary key (position), add unique (event_id)', range_table);
    -- The stream of a tweet's creation is its position, which is unique already.
    execute format('create unique index on %I (stream, version) where type <> ''TweetCreated''', range_table);
    return range_table::regclass;
end
$$;

-- Opens ranges of `size` positions after the last one until there is room for `through`, and returns how far there is room.
-- With the rights of its owner, because who appends may not make tables.
--
-- A range is made beside the log and attached, which no append and no reader waits for.
create function open_log_ranges(through bigint, size bigint) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    room bigint;
begin
    -- "ranges" as a number: of several who want one, one makes it.
    perform pg_advisory_xact_lock(126879434437235);
    select coalesce(max(last_position), 0) into room from log_ranges;
    while room < through loop
        execute format(
            'alter table events attach partition %s for values from (%s) to (%s)',
            make_log_range(room + 1), room + 1, room + 1 + size);
        room := room + size;
    end loop;
    return room;
end
$$;

revoke execute on function make_log_range, open_log_ranges from public;

-- An older release would append without it.
update log_compatibility set writable_since = 8;

-- Who might read and append may go on, and keeps what is new. See 0004_privileges.sql.
do $$
declare
    reader text;
    appender text;
begin
    if to_regclass('events_1') is not null then
        for reader in
            select distinct grantee::regrole::text
            from pg_class, aclexplode(relacl)
            where oid = 'events_1'::regclass and privilege_type = 'SELECT' and grantee <> 0 and grantee <> relowner
        loop
            execute format('grant select on events, log_ranges, archived_ranges, archived_tweets, relationships, deleted_tweets, last_user_id to %s', reader);
        end loop;
    end if;
    for appender in
        select distinct grantee::regrole::text
        from pg_class, aclexplode(relacl)
        where oid in (to_regclass('events_1'), 'events'::regclass) and privilege_type = 'INSERT' and grantee <> 0
            and grantee <> relowner
    loop
        execute format('grant insert on events to %s', appender);
        execute format('revoke insert on last_user_id, log_ranges, archived_ranges, archived_tweets from %s', appender);
        execute format('grant insert, update on relationships to %s', appender);
        execute format('grant insert on deleted_tweets to %s', appender);
        execute format('grant update on last_user_id to %s', appender);
        execute format('grant execute on function open_log_ranges to %s', appender);
    end loop;
end
$$;

-- How many tweets, followers and authors followed each user has: a projection of its own, in a schema of its own. All of it can be
-- made again from the log.

-- How far the log has been applied: as for the feeds (migrations/feed/0001_read_model.sql), whose statements this table has as well.
create table checkpoint (
    generation integer     not null default 1,
    position   bigint      not null default 0,
    event_id   uuid        not null default '00000000-0000-0000-0000-000000000000',
    fence      bigint      not null default 0,
    moved_at   timestamptz not null default now(),
    -- Counts have nothing that goes on from one transaction to the next.
    under_way  bigint check (under_way is null),
    primary key (position, fence)
);

insert into checkpoint default values;

-- A row for everyone who is there.
create table user_counts (
    user_id   bigint primary key,
    -- Tweets that are not deleted.
    tweets    bigint not null default 0,
    -- Users who follow them and are there.
    followers bigint not null default 0
) with (fillfactor = 70);

-- Whom a user follows, who may be gone by now: how many of them there are is counted when somebody asks. So the end of an account
-- costs what that account followed, however many followed it.
create table counted_follows (
    follower_id bigint not null,
    followed_id bigint not null,
    primary key (follower_id, followed_id)
);

alter table counted_follows alter column follower_id set (n_distinct = -0.01);

create table compatibility (readable_since bigint not null, writable_since bigint not null);
insert into compatibility values (1, 1);

-- Which projector is active: see migrations/feed/0001_read_model.sql.
create table projector_lead (
    revision     bigint      primary key default 0,
    holder       text,
    leased_until timestamptz not null default '-infinity',
    follows      text        not null default 'messages' check (follows in ('messages', 'log'))
);

insert into projector_lead default values;

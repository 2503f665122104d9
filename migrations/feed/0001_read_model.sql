-- The read model. All of it can be made again from the log.
--
-- Every key of `follows`, `feed_items` and `floors` begins with the reader, so that they can be
-- distributed by reader; no key, sequence or foreign key spans two readers.

-- How far the log has been applied: one row, which each transaction of the projector moves.
--
-- Its key moves with it. While somebody holds an old snapshot, every version that the row ever had
-- stays; the newest is the last of the key, so that whoever reads it from that end passes over none
-- of the others.
create table checkpoint (
    generation integer     not null default 1,
    position   bigint      not null default 0,
    -- The event there, by which the history is known to which all of this belongs.
    event_id   uuid        not null default '00000000-0000-0000-0000-000000000000',
    -- Grows by one with each projector that takes over; an older one can no longer write.
    fence      bigint      not null default 0,
    moved_at   timestamptz not null default now(),
    -- No fan-out under way is of an older tweet than this; null when there is none under way. Who looks for one
    -- begins here, and so passes over nothing that an old snapshot keeps of those that have ended.
    under_way  bigint,
    primary key (position, fence)
);

insert into checkpoint default values;

create table users (
    user_id          bigint      primary key,
    username         text        not null,
    email            text        not null,
    created_at       timestamptz not null,
    -- Position of UserDeleted, 0 while there is none. The row stays, for feeds as they were before.
    deleted_position bigint      not null default 0
);

-- Who is there, in order of registration, so that a list passes over nobody who is not.
create index users_by_presence on users (deleted_position, user_id);

create table tweets (
    -- Position of TweetCreated.
    tweet_id         bigint      primary key,
    author_id        bigint      not null,
    content          text        not null,
    created_at       timestamptz not null,
    -- Position of TweetDeleted, 0 while there is none. The row stays, for feeds as they were before.
    deleted_position bigint      not null default 0,
    -- Whether no feed keeps a row of it and a page takes it from here, because the author had so many readers when it was
    -- written. That never changes, whatever becomes of the author.
    pulled           boolean     not null
);

-- What an author says now, in order, and apart from it what they deleted, in the order of that: so
-- that passing over deleted tweets costs nothing, and a feed as it was finds those it had.
create index tweets_by_author on tweets (author_id, deleted_position, tweet_id);

-- What an author says now, apart by how it comes to readers: a page finds what is pulled, and whoever writes rows what is
-- not, however much there is of the other.
create index tweets_pulled on tweets (author_id, tweet_id) where pulled and deleted_position = 0;
create index tweets_in_rows on tweets (author_id, tweet_id) where not pulled and deleted_position = 0;

-- Authors of whom there is a tweet that is pulled, or was.
create table pulled_authors (author_id bigint primary key);

-- How many readers an author has: Followed less Unfollowed in the log. Who has left counts on.
--
-- The key moves with each change, as that of `checkpoint` does: whoever reads it from its end passes over no version that an
-- old snapshot keeps, and a celebrity's has many.
create table reader_counts (
    author_id bigint not null,
    -- Of the last event that changed it, or of one after it.
    position  bigint not null,
    readers   bigint not null,
    primary key (author_id, position)
);

-- What was laid down when this generation was begun and holds as long as it is read: one row.
create table rules (
    only_row  boolean primary key default true check (only_row),
    -- A tweet is pulled if its author had so many readers or more when it was written.
    pull_from bigint  not null
);

-- Who reads whom, and from which position until which. Each user reads their own tweets: the row
-- (u, u) is written at registration and ends with the account.
create table follows (
    follower_id    bigint not null,
    followed_id    bigint not null,
    since_position bigint not null,
    -- 0 while it holds.
    until_position bigint not null default 0,
    -- Whether the reader is dormant. That is what `floors` says of them, told here too, so that a fan-out passes over who is
    -- without looking anybody up. Of what no longer holds it says nothing.
    dormant        boolean not null default false,
    primary key (follower_id, followed_id, since_position)
);

-- Whom a reader follows now, at most once each; and apart from it whom no longer, in the order of that.
create unique index follows_by_follower on follows (follower_id, until_position, followed_id);

-- Fan-out: the readers of an author, already in the order in which feed_items is written; and apart from them those who are
-- dormant.
create index follows_by_followed on follows (followed_id, until_position, follower_id) where not dormant;
create index follows_by_followed_dormant on follows (followed_id, until_position, follower_id) where dormant;

-- The kept part of each feed: complete from the floor up, nothing below it.
create table feed_items (
    user_id  bigint not null,
    tweet_id bigint not null,
    primary key (user_id, tweet_id)
);

-- The oldest tweet id a feed keeps. No row means 0: the kept part is the whole feed. A dormant reader's is above everything, at
-- the end of its type: nothing is kept.
create table floors (
    user_id bigint primary key,
    floor   bigint not null
);

-- Tweets of authors with so many readers that they enter the feeds step by step. Those from `next_reader` on have
-- no row of it yet and read it from here; those before it have theirs.
create table fan_outs (
    tweet_id    bigint primary key,
    author_id   bigint not null,
    next_reader bigint not null
);

-- What the planner takes for granted about how rows are spread, in place of what a look at a young
-- table says: an author who was the only one when it was looked at would count as all there will be.
alter table tweets alter column author_id set (n_distinct = -0.01);
alter table follows alter column follower_id set (n_distinct = -0.01);
alter table follows alter column followed_id set (n_distinct = -0.01);
alter table feed_items alter column user_id set (n_distinct = -0.001);

-- Vacuum comes when a twentieth of a large table is dead or new, and not a fifth: until then the room of removed rows is
-- not used again, and each time it has less to do. Small tables have their turn in every round of it anyway.
alter table feed_items set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
alter table follows set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
alter table tweets set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);

-- Which releases can read this: those that know the migration `readable_since`. A migration that they
-- would misread sets it to its own number; after any other, older releases go on reading.
--
-- And which can write it: those that know `writable_since`. A migration after which their rows would be wrong sets it, and adds one to
-- the checkpoint's fence: a projector that is at work is fenced off with that, and looks here when it takes over again.
create table compatibility (readable_since bigint not null, writable_since bigint not null);
insert into compatibility values (1, 1);

-- When the projector applied what, for those who watch: see events/src/store/hops.rs. Nothing depends on it.
create table projector_hops (
    -- Which half of the table: positions fill one after the other, and the older is emptied whole.
    half           smallint    not null,
    first_position bigint      not null,
    last_position  bigint      not null,
    received_at    timestamptz not null,
    applied_at     timestamptz not null,
    readable_at    timestamptz not null,
    -- Rows of feed_items that these events brought.
    deliveries     bigint      not null
) partition by list (half);

create table projector_hops_0 partition of projector_hops for values in (0);
create table projector_hops_1 partition of projector_hops for values in (1);

-- Of one transaction that applied a position there is one row, which comes first: rows of steps that only went on with
-- fan-outs at that position begin after it.
create index projector_hops_by_position on projector_hops (last_position, first_position);

-- Which projector is active: one row, whose key moves with each change, as in outbox. It belongs to the read model and
-- to no generation of it, so a swap leaves it where it is.
create table projector_lead (
    revision     bigint      primary key default 0,
    holder       text,
    leased_until timestamptz not null default '-infinity',
    -- What the active one goes by: what RabbitMQ brings, or the log itself because that brings nothing.
    follows      text        not null default 'messages' check (follows in ('messages', 'log'))
);

insert into projector_lead default values;

-- On Citus the rows of each reader are on one node, and what belongs to everybody is on every node, so that a page reads rows
-- and checkpoint of one node. What nobody reads with the rows stays on the coordinator.
do $$ begin
    if exists (select from pg_extension where extname = 'citus') then
        perform set_config('citus.multi_shard_modify_mode', 'sequential', true);
        perform create_distributed_table('follows', 'follower_id', colocate_with => 'none');
        perform create_distributed_table('feed_items', 'user_id', colocate_with => 'follows');
        perform create_distributed_table('floors', 'user_id', colocate_with => 'follows');
        perform create_reference_table(everybodys)
        from unnest(array[
            'checkpoint', 'users', 'tweets', 'pulled_authors', 'reader_counts', 'rules', 'fan_outs'
        ]::regclass[]) as everybodys;
    end if;
end $$;

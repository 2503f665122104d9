-- The read model. All of it can be made again from the log.
--
-- Every key of `follows`, `feed_items` and `floors` begins with the reader, so that they can be
-- distributed by reader; no key, sequence or foreign key spans two readers.

-- How far the log has been applied. Each transaction of the projector moves it.
create table checkpoint (
    only_row   boolean     primary key default true check (only_row),
    generation integer     not null default 1,
    position   bigint      not null default 0,
    -- Grows by one with each projector that takes over; an older one can no longer write.
    fence      bigint      not null default 0,
    moved_at   timestamptz not null default now()
) with (fillfactor = 50);

insert into checkpoint default values;

create table users (
    user_id          bigint      primary key,
    username         text        not null,
    email            text        not null,
    created_at       timestamptz not null,
    -- Position of UserDeleted. The row stays, for feeds as they were before.
    deleted_position bigint
);

create table tweets (
    -- Position of TweetCreated.
    tweet_id         bigint      primary key,
    author_id        bigint      not null,
    content          text        not null,
    created_at       timestamptz not null,
    -- Position of TweetDeleted. The row stays, for feeds as they were before.
    deleted_position bigint
);

-- What an author says now. Deleted tweets are not in it, so that passing over them costs nothing.
create index tweets_by_author on tweets (author_id, tweet_id) where deleted_position is null;

-- What an author ever said, for feeds as they were.
create index tweets_ever_by_author on tweets (author_id, tweet_id);

-- Who reads whom, and from which position until which. Each user reads their own tweets: the row
-- (u, u) is written at registration and ends with the account.
create table follows (
    follower_id    bigint not null,
    followed_id    bigint not null,
    since_position bigint not null,
    -- Null while it holds.
    until_position bigint,
    primary key (follower_id, followed_id, since_position)
);

-- Whom a reader follows now; at most once each.
create unique index follows_by_follower on follows (follower_id, followed_id) where until_position is null;

-- Fan-out: the readers of an author, already in the order in which feed_items is written.
create index follows_by_followed on follows (followed_id, follower_id) where until_position is null;

-- The kept part of each feed: complete from the floor up, nothing below it.
create table feed_items (
    user_id  bigint not null,
    tweet_id bigint not null,
    primary key (user_id, tweet_id)
);

-- The oldest tweet id a feed keeps. No row means 0: the kept part is the whole feed.
create table floors (
    user_id bigint primary key,
    floor   bigint not null
);

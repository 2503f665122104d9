-- Brings the rows of dormant readers back, in the order in which they are named: their newest tweets, and a floor at the oldest of
-- those where there are more.
--
-- $1 readers, $2 about how many rows are written: one reader is always served, $3 the floor of who is dormant, $4 how many tweets
-- a feed keeps, $5 no fan-out under way is of an older tweet, null when none is under way
--
-- Who is not dormant is passed over. What a fan-out under way has yet to bring to a reader is left to it, and what is pulled to those
-- who read, as in backfill.sql.
--
-- The plan comes from the shape. How much is read of each author is bounded as in page_whole.sql of the api: an equal share of what is
-- wanted, and more only of those who wrote more above the last that would do. An array of one author is none to the planner, so that
-- the order has to begin with the author, as in tweets_in_rows.
with weighed as materialized (
    select reader.user_id, reader.turn, $4::bigint + (
        select count(*) from (
            select from follows where follower_id = reader.user_id and until_position = 0 limit $2
        ) as followed
    ) as rows
    from unnest($1::bigint[]) with ordinality as reader (user_id, turn)
),
served as materialized (
    select user_id from (
        select user_id, sum(rows) over (order by turn) - rows as before from weighed
    ) as in_turn
    where before < $2
),
returned as materialized (
    select served.user_id
    from served
    cross join lateral (
        select from floors where floors.user_id = served.user_id and floor = $3 limit 1
    ) as dormant
),
newest as materialized (
    select returned.user_id, found.tweet_id,
        row_number() over (partition by returned.user_id order by found.tweet_id desc) as place
    from returned
    cross join lateral (
        with author as materialized (
            select followed.author_id
            from (
                select followed_id as author_id from follows
                where follower_id = returned.user_id and until_position = 0
                offset 0
            ) as followed
            cross join lateral (
                select from users where users.user_id = followed.author_id and deleted_position = 0 limit 1
            ) as present
        ),
        gap as materialized (
            select ($4::bigint + count(*)) / greatest(count(*), 1) as share from author
        ),
        first as materialized (
            select author.author_id, newest.tweet_id
            from author
            cross join lateral (
                select tweet_id from tweets
                where author_id = any(array[author.author_id]) and not pulled and deleted_position = 0
                order by author_id desc, tweet_id desc
                limit (select share from gap)
            ) as newest
        ),
        bound as materialized (
            select coalesce((
                select tweet_id from first order by tweet_id desc offset $4 limit 1
            ), 0) as tweet_id
        ),
        rest as (
            select newest.tweet_id
            from (
                select author_id, min(tweet_id) as tweet_id
                from first
                group by author_id
                having count(*) = (select share from gap) and min(tweet_id) > (select tweet_id from bound)
            ) as read_to
            cross join lateral (
                select tweet_id from tweets
                where author_id = any(array[read_to.author_id]) and not pulled and deleted_position = 0
                    and tweet_id < read_to.tweet_id and tweet_id > (select tweet_id from bound)
                order by author_id desc, tweet_id desc
                limit $4::bigint + 1
            ) as newest
        )
        select tweet_id from first
        union all
        select tweet_id from rest
        order by tweet_id desc
        limit $4::bigint + 1
    ) as found
),
lowered as (
    update floors set floor = beyond.tweet_id + 1
    from newest as beyond
    where beyond.place = $4::bigint + 1 and floors.user_id = beyond.user_id
),
whole as (
    delete from floors where user_id = any(array(
        select user_id from returned
        where not exists (
            select from newest where newest.user_id = returned.user_id and place = $4::bigint + 1
        )
    ))
),
served_again as (
    update follows set dormant = false where ctid = any(array(
        select followed.ctid
        from returned
        cross join lateral (
            select ctid from follows
            where follower_id = returned.user_id and until_position = 0 and dormant
            offset 0
        ) as followed
    ))
),
delivered as (
    insert into feed_items (user_id, tweet_id)
    select newest.user_id, newest.tweet_id
    from newest
    where place <= $4
        and ((newest.tweet_id < $5) is not false or (
            select true from fan_outs
            where fan_outs.tweet_id = newest.tweet_id and next_reader <= newest.user_id
            limit 1
        ) is null)
    order by newest.user_id, newest.tweet_id
    returning user_id
)
select
    (select count(*) from served) as "served!",
    (select count(*) from returned) as "changed!",
    (select count(*) from delivered) as "delivered!"

-- Where the floors of readers are to be who have none: at the oldest of the tweets that a feed keeps. Who has no more than
-- that has none.
--
-- $1 readers, $2 how many tweets a feed keeps
--
-- The plan comes from the shape. How much is read of each author is bounded as in page_whole.sql of the api: an equal share of what is
-- wanted, and more only of those who wrote more above the last that would do. An array of one author is none to the planner, so that
-- the order has to begin with the author, as in tweets_in_rows.
select reader.user_id as "user_id!: UserId", beyond.tweet_id + 1 as "floor!: TweetId"
from unnest($1::bigint[]) as reader (user_id)
cross join lateral (
    with author as materialized (
        select followed.author_id
        from (
            select followed_id as author_id from follows
            where follower_id = reader.user_id and until_position = 0
            offset 0
        ) as followed
        cross join lateral (
            select from users where users.user_id = followed.author_id and deleted_position = 0 limit 1
        ) as present
    ),
    gap as materialized (
        select ($2::bigint + count(*)) / greatest(count(*), 1) as share from author
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
            select tweet_id from first order by tweet_id desc offset $2 limit 1
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
            limit $2::bigint + 1
        ) as newest
    )
    select tweet_id from first
    union all
    select tweet_id from rest
    order by tweet_id desc
    offset $2 limit 1
) as beyond

-- What the counts are: of everyone who was there at position $1 of the log, in the order of their ids. It reads the log alone, and
-- all of it; the projection is held against this.
with people as (
    select (payload ->> 'user_id')::bigint as user_id
    from events
    where position <= $1 and type in ('UserRegistered', 'UserDeleted')
    group by 1
    having count(*) filter (where type = 'UserDeleted') = 0
),
follows as (
    select (payload ->> 'follower_id')::bigint as follower_id, (payload ->> 'followed_id')::bigint as followed_id
    from events
    where position <= $1 and type in ('Followed', 'Unfollowed')
    group by 1, 2
    having sum(case type when 'Followed' then 1 else -1 end) > 0
),
held as (
    select follower_id, followed_id
    from follows
    join people as follower on follower.user_id = follower_id
    join people as followed on followed.user_id = followed_id
),
written as (
    select (payload ->> 'author_id')::bigint as user_id, sum(case type when 'TweetCreated' then 1 else -1 end) as tweets
    from events
    where position <= $1 and type in ('TweetCreated', 'TweetDeleted')
    group by 1
)
select
    people.user_id as "user_id!: UserId",
    coalesce(written.tweets, 0)::bigint as "tweets!",
    coalesce(followers.number, 0)::bigint as "followers!",
    coalesce(following.number, 0)::bigint as "following!"
from people
left join written on written.user_id = people.user_id
left join (select followed_id, count(*) as number from held group by 1) as followers on followers.followed_id = people.user_id
left join (select follower_id, count(*) as number from held group by 1) as following on following.follower_id = people.user_id
order by people.user_id

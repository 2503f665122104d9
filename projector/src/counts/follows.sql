-- Changes who follows whom, and says who has more followers by that, or fewer: by the rows that really came or went, since a pair
-- may have held before the run already.
with begun as (
    insert into counted_follows (follower_id, followed_id)
    select * from unnest($1::bigint[], $2::bigint[])
    on conflict do nothing
    returning followed_id
),
ended as (
    delete from counted_follows
    using unnest($3::bigint[], $4::bigint[]) as pair (follower_id, followed_id)
    where counted_follows.follower_id = pair.follower_id and counted_follows.followed_id = pair.followed_id
    returning counted_follows.followed_id
),
-- Whom those followed who are gone.
left_behind as (
    delete from counted_follows where follower_id = any ($5::bigint[])
    returning followed_id
)
select user_id as "user_id!: UserId", sum(change)::bigint as "followers!"
from (
    select followed_id as user_id, 1 as change from begun
    union all
    select followed_id, -1 from ended
    union all
    select followed_id, -1 from left_behind
) as each
group by user_id

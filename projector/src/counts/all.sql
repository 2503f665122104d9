-- Everyone's counts, in the order of their ids.
select
    user_id as "user_id!: UserId",
    tweets,
    followers,
    (
        select count(*)
        from counted_follows
        join user_counts as followed on followed.user_id = followed_id
        where follower_id = everyone.user_id
    ) as "following!"
from user_counts as everyone
order by user_id

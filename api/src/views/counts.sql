-- A user's counts, as of the checkpoint of the counts. Whom they follow is counted here: as many probes of user_counts as they
-- follow users, since some of those may be gone.
select
    checkpoint.position as "position: Position",
    found.tweets as "tweets?",
    found.followers as "followers?",
    found.following as "following?"
from (select position from checkpoint order by position desc, fence desc limit 1) as checkpoint
left join lateral (
    select
        tweets,
        followers,
        (
            select count(*)
            from (select followed_id from counted_follows where follower_id = $1 offset 0) as held
            where exists (select from user_counts where user_id = followed_id)
        ) as following
    from user_counts
    where user_id = $1
) as found on true

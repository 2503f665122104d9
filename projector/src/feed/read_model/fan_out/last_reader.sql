-- The last reader of a step: the so-manyth who is not dormant, from one on. None when there are fewer.
--
-- $1 the author, $2 the first reader, $3 how many come before the last
select follower_id
from follows
where (followed_id, until_position, follower_id) >= ($1, 0, $2)
    and (followed_id, until_position, follower_id) < ($1, 1, 0)
    and not dormant
order by followed_id, until_position, follower_id
offset $3 limit 1

-- The oldest fan-out under way, and those of the same author that stand at the same reader.
--
-- $1 no fan-out is of an older tweet, $2 so many at most
with oldest as materialized (
    select author_id, next_reader from fan_outs where tweet_id >= $1 order by tweet_id limit 1
)
select tweet_id, author_id, next_reader
from fan_outs
where tweet_id >= $1
    and author_id = (select author_id from oldest)
    and next_reader = (select next_reader from oldest)
order by tweet_id
limit $2

-- Adds to the counts of authors what they gained, and moves the keys to a position.
--
-- $1 authors, $2 what they gained or lost, $3 the position
--
-- The plan comes from the shape: per author the last entry of the key, and by it the row.
with gained as materialized (
    select counted.author_id, counted.readers, newest.position
    from unnest($1::bigint[], $2::bigint[]) as counted (author_id, readers)
    left join lateral (
        select position from reader_counts
        where reader_counts.author_id = counted.author_id
        order by author_id desc, position desc
        limit 1
    ) as newest on true
),
begun as (
    insert into reader_counts (author_id, position, readers)
    select author_id, $3, readers from gained where position is null
)
update reader_counts set position = $3, readers = reader_counts.readers + gained.readers
from gained
where reader_counts.author_id = gained.author_id and reader_counts.position = gained.position

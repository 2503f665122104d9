-- Writes down that readers read just now, and announces those who had not for long: they may be dormant.
--
-- $1 readers, each once and in ascending order, so that two of these never wait for each other; $2 now; $3 who has read since then is
-- as good as written down; $4 who has not read since then is announced, $5 on this channel
--
-- The accounts are entered by key for each reader. Who has none is passed over.
with known as materialized (
    select asked.reader_id, before.read_at
    from unnest($1::bigint[]) as asked (reader_id)
    cross join lateral (select from accounts where user_id = asked.reader_id limit 1) as account
    left join lateral (
        select read_at from last_readings where last_readings.reader_id = asked.reader_id limit 1
    ) as before on true
),
noted as (
    insert into last_readings as reading (reader_id, read_at)
    select reader_id, $2 from known
    where (read_at < $3) is not false
    order by reader_id
    on conflict (reader_id) do update set read_at = excluded.read_at
    where reading.read_at < $3
)
select count(pg_notify($5, reader_id::text)) as "announced!"
from known
where (read_at < $4) is not false

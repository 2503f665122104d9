-- The feeds of a range of readers who are not dormant, each from its floor up: the definition, word for word, without what is pulled.
--
-- $1 first reader, $2 the reader after the last, $3 the floor of who is dormant
--
-- In the order of the key, so that the index which is made afterwards finds its input sorted, and a
-- page of a feed lies together. Of an author it reads a range of tweets_in_rows.
select
    reader.user_id,
    array(
        select tweets.tweet_id
        from follows
        join users author on author.user_id = follows.followed_id and author.deleted_position = 0
        join tweets on tweets.author_id = follows.followed_id
            and not tweets.pulled
            and tweets.tweet_id >= coalesce(floors.floor, 0)
            and tweets.deleted_position = 0
        where follows.follower_id = reader.user_id and follows.until_position = 0
        order by tweets.tweet_id
    ) as "tweets!"
from users reader
left join floors on floors.user_id = reader.user_id
where reader.user_id >= $1 and reader.user_id < $2 and reader.deleted_position = 0
    and floors.floor is distinct from $3
order by reader.user_id

-- How much each author has to say now that is not pulled. No part of a generation: it goes with the schema in which the
-- generation was built.
create unlogged table tweets_per_author (author_id bigint primary key, tweets bigint not null);
insert into tweets_per_author
select author_id, count(*) from tweets where deleted_position = 0 and not pulled group by author_id;
-- So that the planner reads readers in their order and sorts each feed for itself.
analyze users;

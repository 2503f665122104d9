#!/bin/sh
# For the postgres image, which applies this directory to a new database: gives the two roles the passwords that
# docker-compose.yml has in the environment. Elsewhere psql's \password is better: the server then sees no password.
set -eu

psql --set ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set api="$ROOKERY_API_PASSWORD" --set projector="$ROOKERY_PROJECTOR_PASSWORD" <<'SQL'
alter role rookery_api password :'api';
alter role rookery_projector password :'projector';
SQL

#!/usr/bin/env bash
# Makes .sqlx anew: the committed description of every SQL statement, checked against the schema.
# With --check it changes nothing and fails when .sqlx is out of date.
# Needs a PostgreSQL at DATABASE_URL whose user may create databases.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${DATABASE_URL:?is not set; try: eval \"\$(scripts/services.sh env)\"}"
name="rookery_prepare_$$"
psql --quiet "$DATABASE_URL" -c "create database $name"
described=$(mktemp -d)
trap 'rm -rf "$described"; psql --quiet "$DATABASE_URL" -c "drop database $name"' EXIT

url=$(sed -E "s#/[^/?]*(\?|\$)#/$name\1#" <<<"$DATABASE_URL")
for migration in migrations/log/*.sql migrations/feed/*.sql; do
    psql --quiet --set ON_ERROR_STOP=1 "$url" -f "$migration"
done

# The counts are in a schema of their own, in which their sessions look first. What both have is the same.
psql --quiet "$url" -c "create schema counts" -c "alter database $name set search_path = public, counts"
for migration in migrations/counts/*.sql; do
    PGOPTIONS="--search_path=counts" psql --quiet --set ON_ERROR_STOP=1 "$url" -f "$migration"
done

# Each statement is described when its crate is compiled, which it is not while it has not changed.
for crate in api bench e2e events projector; do
    for root in "$crate"/src/{lib,main}.rs; do
        if [[ -e $root ]]; then touch "$root"; fi
    done
done
DATABASE_URL="$url" SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$described" \
    cargo check --workspace --all-targets --locked --quiet

if [[ ${1:-} == --check ]]; then
    if ! diff -rq .sqlx "$described"; then
        echo ".sqlx is out of date; run scripts/prepare_sql.sh" >&2
        exit 1
    fi
else
    rm -rf .sqlx
    cp -r "$described" .sqlx
fi

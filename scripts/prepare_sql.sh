#!/usr/bin/env bash
# Makes .sqlx anew: the committed description of every SQL statement, checked against the schema.
# With --check it changes nothing and fails when .sqlx is out of date.
# Needs cargo-sqlx (cargo install sqlx-cli) and a PostgreSQL at DATABASE_URL whose user may create databases.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${DATABASE_URL:?is not set; try: eval \"\$(scripts/services.sh env)\"}"
name="rookery_prepare_$$"
psql --quiet "$DATABASE_URL" -c "create database $name"
trap 'psql --quiet "$DATABASE_URL" -c "drop database $name"' EXIT

url=$(sed -E "s#/[^/?]*(\?|\$)#/$name\1#" <<<"$DATABASE_URL")
for migration in migrations/log/*.sql migrations/feed/*.sql; do
    psql --quiet --set ON_ERROR_STOP=1 "$url" -f "$migration"
done

# The counts are in a schema of their own, in which their sessions look first. What both have is the same.
psql --quiet "$url" -c "create schema counts" -c "alter database $name set search_path = public, counts"
for migration in migrations/counts/*.sql; do
    PGOPTIONS="--search_path=counts" psql --quiet --set ON_ERROR_STOP=1 "$url" -f "$migration"
done

DATABASE_URL="$url" SQLX_OFFLINE=false cargo sqlx prepare --workspace "$@" -- --all-targets

#!/usr/bin/env bash
# A private Citus to try the read model on: a coordinator and two workers. `citus.sh --help` says how to use it.
set -euo pipefail
export LC_ALL=C

usage() {
  cat <<'TEXT'
A Citus for Rookery's read model: a coordinator and two workers on this machine.

usage: scripts/citus.sh COMMAND

  up               start it and wait until it answers; does nothing where it already does
  down             stop it, keep its data
  down --remove    stop it, delete its data
  add-worker       one more worker; what is there moves to it when you say so: see docs/citus.md
  env              print the read model's address: eval "$(scripts/citus.sh env)"

It is run from the installed programs of PostgreSQL, with the extension citus among them, on free ports of 127.0.0.1, with
its data and logs in .local/citus/. The log and RabbitMQ are elsewhere: scripts/services.sh.
TEXT
}

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
BASE=${ROOKERY_LOCAL:-$ROOT/.local}/citus
# Where the first node looks for a free port.
DEFAULT_POSTGRES_PORT=25442

# Whatever is told of one node is told of it by its own directory; see within().
LOCAL_DIR=$BASE HASH=
# shellcheck source-path=SCRIPTDIR/services
. "$ROOT/scripts/services/words.sh"
. "$ROOT/scripts/services/local_dir.sh"
. "$ROOT/scripts/services/answers.sh"
. "$ROOT/scripts/services/processes.sh"
. "$ROOT/scripts/services/programs.sh"
. "$ROOT/scripts/services/postgres.sh"

say() { printf 'citus: %s\n' "$*" >&2; }

START_TIMEOUT_S=90
STOP_TIMEOUT_S=60

# The certificate that Citus makes for itself is signed by nobody; all of this stays on one machine, also what Citus would tell its
# makers.
POSTGRES_SETTINGS=(
  shared_preload_libraries=citus
  wal_level=logical
  max_prepared_transactions=200
  ssl=off
  citus.node_conninfo=sslmode=disable
  citus.enable_statistics_collection=off
)

# within NODE COMMAND…: with the node's own directory, ports, secrets and processes.
within() (
  LOCAL_DIR=$BASE/$1
  HASH=$(printf '%08x' "$(printf '%s' "$LOCAL_DIR" | cksum | cut -d ' ' -f 1)")
  POSTGRES_MARK=rookery-citus-$HASH
  shift
  "$@"
)

nodes() { (cd "$BASE" 2>/dev/null && ls -d coordinator worker* 2>/dev/null) || true; }

require_citus() {
  local bin share
  bin=$(postgres_bin) || die "PostgreSQL is not installed"
  share=/usr/share/postgresql/$(basename "$(dirname "$bin")")
  if [ ! -d "$share" ]; then share=$("$bin/pg_config" --sharedir); fi
  if [ ! -e "$share/extension/citus.control" ]; then
    say "the extension citus is not installed for the PostgreSQL in $bin."
    say "Citus has packages of its own: https://docs.citusdata.com/en/stable/installation/multi_node.html"
    exit 1
  fi
}

# The nodes know each other's roles by the same passwords.
start_node() {
  local name=$1 first
  mkdir -p "$BASE/$name"
  first=$(nodes | head -n 1)
  if [ "$first" != "$name" ] && [ ! -e "$BASE/$name/postgres.rookery.password" ]; then
    cp -p "$BASE/$first"/postgres.*.password "$BASE/$name/"
  fi
  within "$name" start_database
  within "$name" make_known "$name"
}

make_known() {
  if [ -n "$(query postgres rookery "select 1 from pg_extension where extname = 'citus'")" ]; then return 0; fi
  query postgres rookery "create extension citus"
  query postgres rookery "insert into pg_dist_authinfo (nodeid, rolename, authinfo) values
    (0, 'postgres', 'password=$(secret postgres.postgres.password)'),
    (0, 'rookery', 'password=$(secret postgres.rookery.password)')"
  if [ "$1" = coordinator ]; then
    query postgres rookery "select citus_set_coordinator_host('127.0.0.1', $(port_of POSTGRES))" >/dev/null
  fi
}

add_node() {
  local port
  port=$(within "$1" port_of POSTGRES)
  within coordinator query postgres rookery "select citus_add_node('127.0.0.1', $port)" >/dev/null
}

up() {
  local name
  require_citus
  mkdir -p "$BASE"
  for name in coordinator worker1 worker2 $(nodes | grep -vx 'coordinator\|worker[12]'); do
    start_node "$name"
    if [ "$name" != coordinator ]; then add_node "$name"; fi
  done
}

add_worker() {
  local count
  count=$(nodes | grep -c '^worker') || die "nothing is up; run: scripts/citus.sh up"
  start_node "worker$((count + 1))"
  add_node "worker$((count + 1))"
}

# down REMOVE: yes or no.
down() {
  local name
  for name in $(nodes); do
    within "$name" stop_database
    if [ "$1" = yes ]; then within "$name" remove_server_dir postgres; fi
  done
  if [ "$1" = yes ]; then rm -rf "$BASE"; fi
}

print_env() {
  [ -n "$(nodes)" ] || die "nothing is up; run: scripts/citus.sh up"
  # shellcheck disable=SC2016  # The inner shell expands this.
  printf 'export FEED_DATABASE_URL=%s\n' "$(within coordinator feed_url)"
}

feed_url() { quoted "postgres://rookery:$(secret postgres.rookery.password)@127.0.0.1:$(port_of POSTGRES)/rookery"; }

case $* in
  up) up ;;
  down) down no ;;
  'down --remove') down yes ;;
  add-worker) add_worker ;;
  env) print_env ;;
  --help | -h | help) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac

#!/usr/bin/env bash
# PostgreSQL and RabbitMQ for development, tests and the demo. `services.sh --help` says how to use it.
#
# Of the three ways to get them only the private servers need Linux; the other two keep to what bash 3.2
# understands, because that is the bash of macOS.

set -euo pipefail
export LC_ALL=C

usage() {
  cat <<'TEXT'
PostgreSQL and RabbitMQ for Rookery.

usage: scripts/services.sh COMMAND

  up               start both and wait until they answer; does nothing where they already do
  down             stop both, keep their data
  down --remove    stop both, delete their data
  status           a table; the exit code is 0 when both answer, 1 otherwise
  env              print the addresses: eval "$(scripts/services.sh env)"

  stop-broker      start-broker      kill-broker        RabbitMQ alone, to try what happens without it
  stop-database    start-database    kill-database      PostgreSQL alone; kill is kill -9 of the whole server

Where they come from, the first that applies:

  1. DATABASE_URL and AMQP_URL, if both are set: these servers are used and nothing is started.
  2. The services of docker-compose.yml, if a Docker engine answers and has their images or can pull them.
  3. Private servers, run from the installed programs on free ports of 127.0.0.1, with their data and logs
     in .local/. They share nothing with any other PostgreSQL or RabbitMQ on the machine. As root on a
     Debian system the packages postgresql and rabbitmq-server are installed first if they are missing.

The choice holds until `down`. The commands for one server alone need the private servers.

  ROOKERY_LOCAL=DIR    keep everything in DIR instead of .local/; another DIR is another pair of servers
  ROOKERY_BROKER_DISK_FREE=SIZE  the private RabbitMQ takes no messages below so much free disk [default: 256MB]
TEXT
}

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

absolute() {
  case $1 in
    /*) ;;
    *) set -- "$PWD/$1" ;;
  esac
  if [ -d "$1" ]; then
    (cd "$1" && pwd -P)
  elif [ -d "$(dirname "$1")" ]; then
    printf '%s/%s\n' "$(cd "$(dirname "$1")" && pwd -P)" "$(basename "$1")"
  else
    printf '%s\n' "$1"
  fi
}

LOCAL_DIR=$(absolute "${ROOKERY_LOCAL:-$ROOT/.local}")

# Names this pair of servers wherever a name must be unique on the machine: the Erlang node, the Compose
# project, the process titles, the directories under /var/tmp.
HASH=$(printf '%08x' "$(printf '%s' "$LOCAL_DIR" | cksum | cut -d ' ' -f 1)")

# The caller's directory may be closed to the users that the servers run as.
cd /

# A server that takes longer than this to start has a problem that waiting does not solve.
START_TIMEOUT_S=90
STOP_TIMEOUT_S=60
PROBE_TIMEOUT_S=5

# The addresses people expect, where RabbitMQ is concerned: 15672 is where everyone looks for its UI.
# PostgreSQL's 5432 is left alone: many machines run one there, or start one later. Nobody looks for this one
# by its port, so an uncommon number costs nothing. All are below 32768, where Linux begins to hand out ports to
# outgoing connections, any of which would be in the way of a restart.
DEFAULT_POSTGRES_PORT=25432
DEFAULT_AMQP_PORT=5672
DEFAULT_UI_PORT=15672
# Erlang's own: traffic between nodes, and the daemon that maps node names to ports.
DEFAULT_DIST_PORT=25690
DEFAULT_EPMD_PORT=24369

# shellcheck source-path=SCRIPTDIR/services
. "$ROOT/scripts/services/words.sh"
. "$ROOT/scripts/services/local_dir.sh"
. "$ROOT/scripts/services/answers.sh"
. "$ROOT/scripts/services/docker.sh"
. "$ROOT/scripts/services/processes.sh"
. "$ROOT/scripts/services/programs.sh"
. "$ROOT/scripts/services/postgres.sh"
. "$ROOT/scripts/services/rabbitmq.sh"

# ---------------------------------------------------------------------------------------------------------
# Which of the three ways
# ---------------------------------------------------------------------------------------------------------

# What `env` prints carries this mark of the two servers, so that a shell which evaluated it is not mistaken for one
# whose owner chose servers: `down` in that shell still means ours. Another database on our server is ours too.
mark_of() { printf '%s %s' "$(server_in "$1")" "$(server_in "$2")" | cksum | tr ' ' '-'; }

# server_in URL: user, password, host and port.
server_in() {
  local rest=${1#*://}
  printf '%s' "${rest%%[/?]*}"
}

urls_are_given() {
  [ -n "${DATABASE_URL:-}" ] && [ -n "${AMQP_URL:-}" ] &&
    [ "${ROOKERY_SERVICES_MARK:-}" != "$(mark_of "$DATABASE_URL" "$AMQP_URL")" ]
}

docker_answers() {
  command -v docker >/dev/null || return 1
  bounded "$PROBE_TIMEOUT_S" docker info >/dev/null 2>&1 </dev/null || return 1
  compose_plugin_exists || command -v docker-compose >/dev/null
}

compose_plugin_exists() { docker compose version >/dev/null 2>&1 </dev/null; }

recorded_way() {
  if [ -r "$LOCAL_DIR/way" ]; then cat "$LOCAL_DIR/way"; fi
}

# The way chosen by `up` holds until `down`, whatever becomes of the Docker engine in between.
way() {
  local recorded
  recorded=$(recorded_way)
  if urls_are_given; then
    echo given
  elif [ "$recorded" = private ] || ! is_gone postgres || ! is_gone rabbitmq; then
    echo private
  elif docker_answers; then
    echo docker
  elif [ "$recorded" = docker ]; then
    die "the services are in Docker, but no Docker engine answers; start it, or forget them: rm '$LOCAL_DIR/way'"
  else
    echo private
  fi
}

# ---------------------------------------------------------------------------------------------------------
# Commands
# ---------------------------------------------------------------------------------------------------------

up() {
  local began chosen
  began=$(now_ms)
  if urls_are_given; then
    say "using DATABASE_URL and AMQP_URL of the environment; nothing to start"
    return 0
  fi
  if [ -n "${DATABASE_URL:-}" ] && [ -z "${AMQP_URL:-}" ]; then
    say "DATABASE_URL alone is not used: without AMQP_URL both servers are started here"
  elif [ -z "${DATABASE_URL:-}" ] && [ -n "${AMQP_URL:-}" ]; then
    say "AMQP_URL alone is not used: without DATABASE_URL both servers are started here"
  fi
  lock
  if [ "$(recorded_way)" = docker ] && ! docker_answers; then rm "$LOCAL_DIR/way"; fi
  chosen=$(way)
  if [ "$chosen" = docker ] && ! docker_has_images; then
    say "a Docker engine answers but cannot get $(docker_images | paste -sd ' '); going on with private servers"
    chosen=private
  fi
  if [ "$chosen" = docker ]; then
    docker_up
  else
    require_programs
    start_database
    start_broker
  fi
  echo "$chosen" >"$LOCAL_DIR/way"
  say "ready in $(seconds_since "$began")"
}

# down REMOVE: yes or no.
down() {
  local chosen
  if urls_are_given; then
    say "DATABASE_URL and AMQP_URL are set in the environment; their servers are not ours to stop"
    return 0
  fi
  lock
  chosen=$(way)
  if [ "$chosen" = docker ]; then
    if [ "$1" = yes ]; then compose down -v; else compose down; fi
  else
    stop_broker
    kill_all epmd
    stop_database
    if [ "$1" = yes ]; then
      remove_server_dir rabbitmq
      remove_server_dir postgres
      rm -f "$LOCAL_DIR"/*.password "$LOCAL_DIR"/rabbitmq.cookie "$LOCAL_DIR"/{apt,epmd}.log* "$LOCAL_DIR/ports"
    fi
  fi
  rm -f "$LOCAL_DIR/way"
}

status() {
  local chosen database broker
  chosen=$(way)
  case $chosen in
    given)
      database=$(state given_database_answers)
      broker=$(state given_broker_answers)
      row PostgreSQL "$database" "$(without_password "$DATABASE_URL")" 'DATABASE_URL of the environment'
      row RabbitMQ "$broker" "$(without_password "$AMQP_URL")" 'AMQP_URL of the environment'
      ;;
    docker)
      database=$(state docker_database_answers)
      broker=$(state docker_broker_answers)
      row PostgreSQL "$database" "$(address_of POSTGRES)" "Docker project rookery-$HASH"
      row RabbitMQ "$broker" "$(address_of AMQP)" "UI at http://$(address_of UI), guest/guest"
      ;;
    private)
      database=$(state database_answers)
      broker=$(state broker_answers)
      row PostgreSQL "$database" "$(address_of POSTGRES)" "log $LOCAL_DIR/postgres.log"
      row RabbitMQ "$broker" "$(address_of AMQP)" "log $LOCAL_DIR/rabbitmq.log"
      row '' '' '' "UI at http://$(address_of UI), guest/guest"
      ;;
  esac
  [ "$database" = up ] && [ "$broker" = up ]
}

state() { if "$@"; then echo up; else echo down; fi; }

# row NAME STATE ADDRESS MORE
row() { printf '%-11s %-5s %-22s %s\n' "$@"; }

address_of() {
  local port
  port=$(port_of "$1")
  echo "127.0.0.1:${port:--}"
}

without_password() {
  local rest=${1#*://}
  printf '%s\n' "${1%%://*}://${rest##*@}"
}

print_env() {
  local database amqp ui=${RABBITMQ_UI:-} ui_user=${RABBITMQ_UI_USER:-} ui_password=${RABBITMQ_UI_PASSWORD:-} mark=
  if urls_are_given; then
    database=$DATABASE_URL
    amqp=$AMQP_URL
  else
    case $(recorded_way) in
      private) database=$(secret postgres.rookery.password) ;;
      docker) database=rookery ;;
      *) die "nothing is up; run: scripts/services.sh up" ;;
    esac
    database=postgres://rookery:$database@$(address_of POSTGRES)/rookery
    amqp=amqp://guest:guest@$(address_of AMQP)/%2f
    ui=http://$(address_of UI)
    ui_user=guest
    ui_password=guest
    mark=$(mark_of "$database" "$amqp")
  fi
  printf 'export DATABASE_URL=%s\n' "$(quoted "$database")"
  printf 'export AMQP_URL=%s\n' "$(quoted "$amqp")"
  printf 'export RABBITMQ_UI=%s\n' "$(quoted "$ui")"
  printf 'export RABBITMQ_UI_USER=%s\n' "$(quoted "$ui_user")"
  printf 'export RABBITMQ_UI_PASSWORD=%s\n' "$(quoted "$ui_password")"
  printf 'export ROOKERY_SERVICES_MARK=%s\n' "$(quoted "$mark")"
}

# one_server COMMAND: stop, start or kill one of the private servers.
one_server() {
  local chosen
  chosen=$(way)
  case $chosen in
    given) die "$1 is for the private servers; DATABASE_URL and AMQP_URL of the environment name others" ;;
    docker) die "$1 is for the private servers; these are in Docker: docker compose -p rookery-$HASH stop|start|kill" ;;
  esac
  lock
  case $1 in
    stop-broker) stop_broker ;;
    stop-database) stop_database ;;
    start-broker) require_programs && start_broker ;;
    start-database) require_programs && start_database ;;
    # A quorum queue that was declared up to a second before may come back without a leader (seen with RabbitMQ 3.10
    # and 4.0) and answers nothing then, until it is deleted and declared again.
    kill-broker) kill_all rabbitmq && say "RabbitMQ was killed" ;;
    kill-database) kill_all postgres && say "PostgreSQL was killed" ;;
  esac
}

main() {
  case $* in
    up) up ;;
    down) down no ;;
    'down --remove') down yes ;;
    status) status ;;
    env) print_env ;;
    stop-broker | start-broker | kill-broker | stop-database | start-database | kill-database) one_server "$1" ;;
    --help | -h | help) usage ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
}

main "$@"

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
# Long enough for another `up` to finish both servers.
LOCK_TIMEOUT_S=240
PROBE_TIMEOUT_S=5
# For one image of a few hundred megabytes.
PULL_TIMEOUT_S=300

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
PORTS_TO_TRY=200

# ---------------------------------------------------------------------------------------------------------
# Words and time
# ---------------------------------------------------------------------------------------------------------

say() { printf 'services: %s\n' "$*" >&2; }

die() {
  say "$*"
  exit 1
}

now_ms() {
  if [ -n "${EPOCHREALTIME:-}" ]; then
    printf '%s\n' "$((${EPOCHREALTIME/./} / 1000))"
  else
    printf '%s000\n' "$(date +%s)"
  fi
}

# seconds_since MS: as "1.4 s".
seconds_since() {
  local tenths=$((($(now_ms) - $1) / 100))
  printf '%d.%d s' $((tenths / 10)) $((tenths % 10))
}

# poll SECONDS CONDITION…: until the condition holds; fails when the time is up.
poll() {
  local deadline=$(($(now_ms) + $1 * 1000))
  shift
  until "$@"; do
    if [ "$(now_ms)" -ge "$deadline" ]; then return 1; fi
    sleep 0.1
  done
}

# bounded SECONDS COMMAND…: macOS has no timeout(1), and there the command is trusted to end.
bounded() {
  if command -v timeout >/dev/null; then
    timeout "$@"
  else
    shift
    "$@"
  fi
}

quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

# ---------------------------------------------------------------------------------------------------------
# Which way
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
# The directory .local/
# ---------------------------------------------------------------------------------------------------------

prepare_local_dir() {
  mkdir -p "$LOCAL_DIR" 2>/dev/null || true
  if [ ! -d "$LOCAL_DIR" ] || [ ! -w "$LOCAL_DIR" ]; then
    die "cannot write to $LOCAL_DIR (perhaps another user made it); set ROOKERY_LOCAL to a directory of yours"
  fi
  # Keeps the directory out of version control even where it is not .local/ of the checkout.
  if [ ! -e "$LOCAL_DIR/.gitignore" ]; then echo '*' >"$LOCAL_DIR/.gitignore"; fi
}

# One command at a time may change anything. No server inherits the lock: see detached().
lock() {
  prepare_local_dir
  command -v flock >/dev/null || return 0
  exec 9>"$LOCAL_DIR/lock"
  if ! flock -n 9; then
    say "another services.sh is at work here, waiting for it"
    flock -w "$LOCK_TIMEOUT_S" 9 || die "it did not finish in $LOCK_TIMEOUT_S s; who it is: fuser '$LOCAL_DIR/lock'"
  fi
}

# secret NAME: made once, readable by its owner only.
secret() {
  local file=$LOCAL_DIR/$1
  if [ ! -s "$file" ]; then
    (umask 077 && od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$file.new" && mv "$file.new" "$file")
  fi
  cat "$file"
}

# ---------------------------------------------------------------------------------------------------------
# Ports: chosen once and kept, so that a restart keeps the addresses
# ---------------------------------------------------------------------------------------------------------

port_is_free() { ! tcp_answers 127.0.0.1 "$1"; }

port_of() {
  if [ -r "$LOCAL_DIR/ports" ]; then sed -n "s/^$1=//p" "$LOCAL_DIR/ports"; fi
}

# choose_port NAME DEFAULT: for a server that does not run now.
choose_port() {
  local port taken tries=0
  port=$(port_of "$1")
  if [ -n "$port" ] && port_is_free "$port"; then return 0; fi
  if [ -n "$port" ]; then say "another program has taken port $port, choosing another"; fi
  taken=$(cat "$LOCAL_DIR/ports" 2>/dev/null || true)
  port=$2
  until port_is_free "$port" && ! grep -q "=$port\$" <<<"$taken"; do
    port=$((port + 1))
    tries=$((tries + 1))
    if [ "$tries" -ge "$PORTS_TO_TRY" ]; then die "no free port between $2 and $port"; fi
  done
  set_port "$1" "$port"
}

# set_port NAME PORT
set_port() {
  {
    grep -sv "^$1=" "$LOCAL_DIR/ports" || true
    echo "$1=$2"
  } >"$LOCAL_DIR/ports.new"
  mv "$LOCAL_DIR/ports.new" "$LOCAL_DIR/ports"
}

# ---------------------------------------------------------------------------------------------------------
# Whether a server answers. An inner bash does the talking, because a connection attempt can only be bounded
# as a process.
# ---------------------------------------------------------------------------------------------------------

# shellcheck disable=SC2016  # The inner bash expands these.
tcp_answers() { bounded 3 bash -c 'exec 3<>"/dev/tcp/$1/$2"' - "$1" "$2" 2>/dev/null </dev/null; }

# An AMQP server answers the protocol header with a method frame, whose first byte is 1.
amqp_answers() {
  # shellcheck disable=SC2016
  bounded 3 bash -c 'exec 3<>"/dev/tcp/$1/$2" && printf "AMQP\0\0\11\1" >&3 &&
    [ "$(head -c 1 <&3 | od -An -tu1 | tr -d " ")" = 1 ]' - "$1" "$2" 2>/dev/null </dev/null
}

# management_answers UI_PORT AMQP_PORT: the management API lets guest in and says that the node listens for AMQP.
#
# rabbitmqctl would take seconds to say the same, and half an AMQP connection would leave a warning in the log.
management_answers() {
  case $(management_get "$1" "health/checks/port-listener/$2") in 'HTTP/1.'?' 200 '*) ;; *) return 1 ;; esac
}

# management_get UI_PORT PATH: the whole response, as guest.
management_get() {
  # shellcheck disable=SC2016
  bounded 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" &&
    printf "GET /api/%s HTTP/1.0\r\nAuthorization: Basic %s\r\n\r\n" "$2" "$3" >&3 && cat <&3' \
    - "$1" "$2" "$(printf guest:guest | base64)" 2>/dev/null </dev/null || true
}

# host_and_port URL DEFAULT_PORT
host_and_port() {
  local host port=$2
  host=$(server_in "$1")
  host=${host##*@}
  case $host in
    *:*[!0-9]*) ;;
    *:*)
      port=${host##*:}
      host=${host%:*}
      ;;
  esac
  host=${host#[}
  printf '%s %s\n' "${host%]}" "$port"
}

given_database_answers() {
  local host port
  if command -v psql >/dev/null; then
    PGCONNECT_TIMEOUT=3 bounded "$PROBE_TIMEOUT_S" psql -XAtq -c 'select 1' "$DATABASE_URL" >/dev/null 2>&1 </dev/null
  else
    read -r host port <<<"$(host_and_port "$DATABASE_URL" 5432)"
    tcp_answers "$host" "$port"
  fi
}

given_broker_answers() {
  local host port
  case $AMQP_URL in
    amqps:*)
      read -r host port <<<"$(host_and_port "$AMQP_URL" 5671)"
      tcp_answers "$host" "$port"
      ;;
    *)
      read -r host port <<<"$(host_and_port "$AMQP_URL" 5672)"
      amqp_answers "$host" "$port"
      ;;
  esac
}

# ---------------------------------------------------------------------------------------------------------
# Docker
# ---------------------------------------------------------------------------------------------------------

# The project is named after this checkout: another checkout's containers, and those of a plain
# `docker compose up` with the data that someone keeps in them, are not touched by what tests do here.
compose() {
  local command=(docker-compose)
  if compose_plugin_exists; then command=(docker compose); fi
  ROOKERY_POSTGRES_PASSWORD=rookery ROOKERY_POSTGRES_PORT=$(port_of POSTGRES) ROOKERY_AMQP_PORT=$(port_of AMQP) ROOKERY_UI_PORT=$(port_of UI) \
    "${command[@]}" -p "rookery-$HASH" -f "$ROOT/docker-compose.yml" "$@" </dev/null >&2
}

docker_database_answers() {
  compose exec -T postgres pg_isready -q -h 127.0.0.1 -U rookery -d rookery 2>/dev/null &&
    tcp_answers 127.0.0.1 "$(port_of POSTGRES)"
}

docker_broker_answers() { management_answers "$(port_of UI)" 5672 && tcp_answers 127.0.0.1 "$(port_of AMQP)"; }

# The images that the two services need.
docker_images() { sed -n 's/^ *image: *\(postgres:.*\|rabbitmq:.*\)$/\1/p' "$ROOT/docker-compose.yml"; }

# An engine that answers may still be offline, behind a proxy or out of its quota.
docker_has_images() {
  local image
  for image in $(docker_images); do
    docker image inspect "$image" >/dev/null 2>&1 </dev/null ||
      bounded "$PULL_TIMEOUT_S" docker pull --quiet "$image" >/dev/null 2>&1 </dev/null || return 1
  done
}

docker_up() {
  local began
  began=$(now_ms)
  if docker_database_answers && docker_broker_answers; then
    say "PostgreSQL and RabbitMQ are already up in Docker"
    return 0
  fi
  docker_port POSTGRES "$DEFAULT_POSTGRES_PORT" postgres 5432
  docker_port AMQP "$DEFAULT_AMQP_PORT" rabbitmq 5672
  docker_port UI "$DEFAULT_UI_PORT" rabbitmq 15672
  say "starting PostgreSQL and RabbitMQ in Docker"
  # docker-compose 1 has no --wait; the polls below wait either way, for what a client sees from outside.
  if compose up --help 2>&1 | grep -- '--wait ' >/dev/null; then
    compose up -d --wait postgres rabbitmq || docker_failed
  else
    compose up -d postgres rabbitmq || docker_failed
  fi
  poll "$START_TIMEOUT_S" docker_database_answers || docker_failed
  poll "$START_TIMEOUT_S" docker_broker_answers || docker_failed
  say "PostgreSQL and RabbitMQ are up in Docker ($(seconds_since "$began"))"
}

# docker_port NAME DEFAULT SERVICE INNER_PORT: a container that runs holds its port itself, and keeps it.
docker_port() {
  local port
  port=$({ compose port "$3" "$4" 2>&1 || true; } | sed -n 's/^127\.0\.0\.1:\([1-9][0-9]*\)$/\1/p')
  if [ -n "$port" ]; then set_port "$1" "$port"; else choose_port "$1" "$2"; fi
}

docker_failed() {
  say "the services did not start in Docker; their last lines:"
  compose logs --tail 30 postgres rabbitmq || true
  exit 1
}

# ---------------------------------------------------------------------------------------------------------
# Private servers: users, directories, processes
# ---------------------------------------------------------------------------------------------------------

is_root() { [ "$(id -u)" = 0 ]; }

# as USER COMMAND…
as() { (as_exec "$@"); }

as_exec() {
  local user=$1
  shift
  if is_root && [ "$user" != root ]; then
    exec setpriv --reuid "$(id -u "$user")" --regid "$(id -g "$user")" --init-groups -- "$@"
  else
    exec "$@"
  fi
}

# write_as USER FILE: from standard input. Root itself writes nothing in a directory where another user could put a
# link in its way.
write_as() {
  # shellcheck disable=SC2016  # The inner shell expands this.
  as "$1" sh -c 'umask 077 && cat >"$1"' - "$2"
}

# The programs see none of the caller's variables: a PGPORT or RABBITMQ_NODENAME is meant for other servers.
clean_env() { env -i "PATH=$SERVER_PATH" LANG=C.UTF-8 "$@"; }

SERVER_PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# PostgreSQL refuses to run as root, and RabbitMQ has no need to.
default_user() {
  if ! is_root; then
    id -un
  elif id -u "$1" >/dev/null 2>&1; then
    echo "$1"
  elif [ "$1" = postgres ]; then
    die "PostgreSQL does not run as root, and there is no user postgres for it: useradd --system postgres"
  else
    echo root
  fi
}

# server_dir NAME: where the server (postgres or rabbitmq, which are also the names of the users that Debian has for
# them) keeps everything but its log. Fails if there is no such place yet.
#
# It is in .local/ where the server's user can work there. Where it cannot (root's checkout in a closed directory; a
# file system without modes, on which PostgreSQL refuses to start) it is in /var/tmp, which unlike /tmp survives a
# reboot, and .local/NAME.is-in says so.
server_dir() {
  local dir=$LOCAL_DIR/$1
  if [ -r "$dir.is-in" ]; then dir=$(cat "$dir.is-in"); fi
  [ -d "$dir" ] && is_usable "$dir" "$1" && echo "$dir"
}

# is_usable DIR NAME: its owner is whom the server runs as, which where others can write too must be the right one.
is_usable() {
  local owner mode
  read -r owner mode <<<"$(stat -c '%U %a' "$1")"
  case $1 in
    /var/tmp/*) [ "$owner" = "$(default_user "$2")" ] || return 1 ;;
  esac
  [ "$mode" = 700 ] && { is_root || [ "$owner" = "$(id -un)" ]; } && as "$owner" test -w "$1"
}

make_server_dir() {
  local user dir elsewhere=/var/tmp/rookery-$HASH-$1
  if server_dir "$1" >/dev/null; then return 0; fi
  if [ -d "$LOCAL_DIR/$1" ]; then
    die "$LOCAL_DIR/$1 is there, but the server's user cannot use it any more; delete it with: $0 down --remove"
  fi
  # Whoever deletes .local/ deletes the data; what is left of the servers goes the same way.
  kill_all "$1"
  if [ "$1" = rabbitmq ]; then kill_all epmd; fi
  rm -f "$LOCAL_DIR/$1.is-in"
  user=$(default_user "$1")
  if [ -d "$elsewhere" ] && is_usable "$elsewhere" "$1"; then rm -rf "$elsewhere"; fi
  for dir in "$LOCAL_DIR/$1" "$elsewhere"; do
    mkdir -m 700 "$dir" || die "$dir is in the way"
    if is_root; then chown "$user:" "$dir"; fi
    if is_usable "$dir" "$1"; then
      if [ "$dir" = "$elsewhere" ]; then echo "$dir" >"$LOCAL_DIR/$1.is-in"; fi
      return 0
    fi
    rmdir "$dir"
  done
  die "the user $user can use neither $LOCAL_DIR nor /var/tmp"
}

remove_server_dir() {
  local dir=$LOCAL_DIR/$1
  if [ -r "$dir.is-in" ]; then dir=$(cat "$dir.is-in"); fi
  rm -rf "$dir" "$LOCAL_DIR/$1.is-in" "$LOCAL_DIR/$1.log" "$LOCAL_DIR/$1.log.1"
  say "deleted $dir"
}

# processes_of NAME: the ids of our processes of that kind, recognised by a mark on their command lines.
#
# Unlike an id in a file the mark is never stale: after a reboot, a kill -9, even after .local/ itself was deleted, it
# names our processes and no others.
processes_of() {
  case $1 in
    # cluster_name, which is in the title of every process of a PostgreSQL server.
    postgres) marked_processes postgres "$POSTGRES_MARK" ;;
    rabbitmq) marked_processes beam.smp "$BROKER_MARK" ;;
    epmd) marked_processes epmd "$EPMD_MARK" ;;
  esac
}

POSTGRES_MARK=rookery-services-$HASH
BROKER_MARK=-rookery_services_$HASH
EPMD_MARK=rookery-epmd-$HASH

# marked_processes PROGRAM MARK
marked_processes() {
  local file program
  # shellcheck disable=SC2013  # These paths have no blanks.
  for file in $(grep -lsaF -e "$2" /proc/[0-9]*/cmdline); do
    { read -r program <"${file%/cmdline}/comm"; } 2>/dev/null || continue
    if [ "$program" = "$1" ]; then
      file=${file#/proc/}
      echo "${file%/cmdline}"
    fi
  done
}

is_gone() { [ -z "$(processes_of "$1")" ]; }

# signal SIGNAL PID…: a process may end by itself before it is told to.
signal() {
  local name=$1
  shift
  if [ $# -gt 0 ]; then kill -s "$name" "$@" 2>/dev/null || true; fi
}

kill_all() { poll "$STOP_TIMEOUT_S" killed "$1" || die "these processes survive a kill -9:" "$(processes_of "$1")"; }

killed() {
  local pids
  pids=$(processes_of "$1")
  # shellcheck disable=SC2086
  signal KILL $pids
  [ -z "$pids" ]
}

# detached LOG USER DIR COMMAND…: starts a server that outlives this script and holds nothing of it.
#
# It gets a session of its own, so that Ctrl-C in a terminal does not reach it, and none of the caller's open files:
# with a pipe among them `x=$(scripts/services.sh up)` would wait until the server ends, and with the lock among
# them so would the next services.sh.
detached() {
  local log=$1 user=$2 dir=$3 fd limit
  shift 3
  (
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi
    done
    # For each program it runs Erlang closes every descriptor there could be: minutes, where that is a billion.
    limit=$(ulimit -Hn)
    if [ "$limit" = unlimited ] || [ "$limit" -gt 65536 ]; then limit=65536; fi
    ulimit -n "$limit"
    exec </dev/null >>"$log" 2>&1
    cd "$dir"
    as_exec "$user" setsid "$@"
  ) &
}

# holds_or_ended PID CONDITION…: a server that has ended is not waited for.
holds_or_ended() {
  local pid=$1
  shift
  "$@" || ! kill -0 "$pid" 2>/dev/null
}

new_log() {
  if [ -e "$LOCAL_DIR/$1.log" ]; then mv "$LOCAL_DIR/$1.log" "$LOCAL_DIR/$1.log.1"; fi
  : >"$LOCAL_DIR/$1.log"
}

# failed NAME WHAT
failed() {
  say "$2; the last lines of $LOCAL_DIR/$1.log:"
  tail -n 25 "$LOCAL_DIR/$1.log" | cut -c 1-300 | sed 's/^/  | /' >&2
  exit 1
}

# ---------------------------------------------------------------------------------------------------------
# Private servers: the programs
# ---------------------------------------------------------------------------------------------------------

# postgres_bin [MAJOR]: the directory of the newest PostgreSQL programs, or of those of one major version.
postgres_bin() {
  local dir found=
  for dir in "$(dirname "$(command -v postgres || echo /nowhere/postgres)")" \
    $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort -V); do
    if [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] && [ -x "$dir/psql" ] &&
      { [ -z "${1:-}" ] || "$dir/postgres" -V | grep -q "^[^0-9]*$1[.a-z]"; }; then
      found=$dir
    fi
  done
  [ -n "$found" ] && echo "$found"
}

# Debian's /usr/sbin/rabbitmq-server runs as the user rabbitmq only, and for one node per machine; behind it is
# RabbitMQ's own script, which has no such opinion.
rabbitmq_server() {
  local file found=
  for file in "$(command -v rabbitmq-server || true)" /usr/lib/rabbitmq/bin/rabbitmq-server; do
    if [ -x "$file" ] && [ "$file" != /usr/sbin/rabbitmq-server ]; then found=$file; fi
  done
  [ -n "$found" ] && echo "$found"
}

epmd_program() {
  local file
  for file in "$(command -v epmd || true)" /usr/lib/erlang/erts-*/bin/epmd /usr/lib64/erlang/erts-*/bin/epmd; do
    if [ -x "$file" ]; then
      echo "$file"
      return 0
    fi
  done
  return 1
}

missing_packages() {
  if ! postgres_bin >/dev/null; then echo postgresql; fi
  if ! rabbitmq_server >/dev/null || ! epmd_program >/dev/null; then echo rabbitmq-server; fi
}

require_programs() {
  local missing
  if [ "$(uname -s)" != Linux ]; then
    die "start Docker, or set DATABASE_URL and AMQP_URL: private servers are for Linux only"
  fi
  missing=$(missing_packages | xargs)
  if [ -z "$missing" ]; then return 0; fi
  if ! command -v apt-get >/dev/null; then
    die "install $missing, or start Docker, or set DATABASE_URL and AMQP_URL; then run this again"
  fi
  if ! is_root; then
    say "missing: $missing. Install with"
    say "    sudo apt-get update && sudo apt-get install -y $missing"
    say "and run this again (or start Docker, or set DATABASE_URL and AMQP_URL)."
    say "Debian starts its own servers with these packages; they are not used here and may be disabled."
    exit 1
  fi
  # shellcheck disable=SC2086
  install_packages $missing
}

# ---------------------------------------------------------------------------------------------------------
# Installing Debian's packages without starting what comes with them
# ---------------------------------------------------------------------------------------------------------

POLICY=/usr/sbin/policy-rc.d
POLICY_SAVED=$POLICY.before-rookery
POLICY_SIGNATURE="Temporary, by Rookery's scripts/services.sh."
# Debian makes a cluster and starts it along with PostgreSQL's programs, unless a file in here says otherwise.
CREATECLUSTER_DIR=/etc/postgresql-common/createcluster.d
CREATECLUSTER_FILE=$CREATECLUSTER_DIR/rookery-temporary.conf

install_packages() {
  local began
  began=$(now_ms)
  say "installing $* (the services that come with it are not started)"
  new_log apt
  trap remove_install_guards EXIT
  # Without set +e, bash sometimes leaves out the EXIT trap when the signal comes while it writes.
  trap 'set +e; exit 130' INT TERM HUP
  set_install_guards
  # A machine whose package lists are good needs no update, which takes longer than the rest.
  apt_install "$@" || { apt_get update && apt_install "$@"; } || failed apt "apt-get failed"
  disable_at_boot "$@"
  remove_install_guards
  trap - EXIT INT TERM HUP
  if [ -n "$(missing_packages)" ]; then die "$* is installed, but its programs are not found: $LOCAL_DIR/apt.log"; fi
  say "installed $* ($(seconds_since "$began"))"
}

apt_install() { apt_get install -y --no-install-recommends --no-remove "$@"; }

apt_get() {
  DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -o DPkg::Lock::Timeout=120 "$@" \
    >>"$LOCAL_DIR/apt.log" 2>&1 </dev/null 9>&-
}

# policy-rc.d is whom Debian asks whether a package may start its service. Ours refuses every start, since a
# dependency may bring a service too (logrotate brings cron), and all that these three ask. Other questions, such as
# whether a service that runs may be restarted, it passes on to the one that was there before.
set_install_guards() {
  # An installation that was killed half-way has left its own.
  remove_install_guards
  mkdir -p "$CREATECLUSTER_DIR"
  echo 'create_main_cluster = false' >"$CREATECLUSTER_FILE"
  if [ -e "$POLICY" ]; then mv "$POLICY" "$POLICY_SAVED"; fi
  cat >"$POLICY.new" <<SCRIPT
#!/bin/sh
# $POLICY_SIGNATURE What was here before is $POLICY_SAVED.
for word in "\$@"; do
  case \$word in start | '(start)' | postgresql* | rabbitmq-server* | epmd*) exit 101 ;; esac
done
if [ -x $POLICY_SAVED ]; then exec $POLICY_SAVED "\$@"; fi
SCRIPT
  chmod 755 "$POLICY.new"
  mv "$POLICY.new" "$POLICY"
}

remove_install_guards() {
  rm -f "$CREATECLUSTER_FILE" "$POLICY.new"
  # The package does not own this directory, and neither does anyone if it is empty.
  rmdir "$CREATECLUSTER_DIR" 2>/dev/null || true
  if [ -e "$POLICY" ] && grep -qF "$POLICY_SIGNATURE" "$POLICY"; then rm "$POLICY"; fi
  if [ -e "$POLICY_SAVED" ]; then mv "$POLICY_SAVED" "$POLICY"; fi
}

# A server that nobody asked for should not come up at the next boot either, on the ports that ours have now.
# Without a cluster Debian's PostgreSQL has nothing to start.
disable_at_boot() {
  case " $* " in *" rabbitmq-server "*) ;; *) return 0 ;; esac
  if command -v systemctl >/dev/null; then
    systemctl disable rabbitmq-server.service epmd.service epmd.socket >>"$LOCAL_DIR/apt.log" 2>&1 </dev/null || true
  fi
  update-rc.d rabbitmq-server disable >>"$LOCAL_DIR/apt.log" 2>&1 </dev/null || true
}

# ---------------------------------------------------------------------------------------------------------
# Private PostgreSQL
# ---------------------------------------------------------------------------------------------------------

# The id of the server's first process. PostgreSQL's own record of it counts only if that process is ours.
postmaster() {
  local dir pid
  dir=$(server_dir postgres) || return 1
  pid=$(as "$(stat -c %U "$dir")" head -n 1 "$dir/data/postmaster.pid" 2>/dev/null) || return 1
  processes_of postgres | grep -x "$pid"
}

# query ROLE DATABASE SQL
query() {
  clean_env PGPASSWORD="$(secret "postgres.$1.password")" PGCONNECT_TIMEOUT=3 \
    "$(postgres_bin)/psql" -XAtq -v ON_ERROR_STOP=1 \
    -h 127.0.0.1 -p "$(port_of POSTGRES)" -U "$1" -d "$2" <<<"$3"
}

postgres_accepts() { [ "$(query postgres postgres 'select 1' 2>/dev/null)" = 1 ]; }

# As the role that create_role_and_database makes, with all that it is given there: an older cluster gets the rest.
database_answers() {
  local select='select rolcreaterole::int from pg_roles where rolname = current_user'
  postmaster >/dev/null && [ "$(query rookery rookery "$select" 2>/dev/null)" = 1 ]
}

start_database() {
  local began dir attempt
  began=$(now_ms)
  if database_answers; then
    say "PostgreSQL is already up at 127.0.0.1:$(port_of POSTGRES)"
    return 0
  fi
  make_server_dir postgres
  dir=$(server_dir postgres)
  if postmaster >/dev/null; then
    poll "$START_TIMEOUT_S" postgres_accepts || failed postgres "PostgreSQL runs but does not answer"
  else
    # Without their first process the others end by themselves, and must before there can be a new one.
    kill_all postgres
    create_cluster "$dir"
    # After a kill -9 the id in this file may be that of a zombie, and after a reboot of any program. PostgreSQL
    # would take either for another server on this data; that there is none was just seen to.
    rm -f "$dir/data/postmaster.pid"
    for attempt in 1 2 3; do
      choose_port POSTGRES "$DEFAULT_POSTGRES_PORT"
      if launch_postgres "$dir"; then break; fi
      # Between the choice and the start another program may have taken the port.
      if [ "$attempt" = 3 ] || port_is_free "$(port_of POSTGRES)"; then failed postgres "PostgreSQL did not start"; fi
    done
  fi
  create_role_and_database
  say "PostgreSQL is up at 127.0.0.1:$(port_of POSTGRES) ($(seconds_since "$began"))"
}

# initdb works in a directory that gets its name at the end: what has that name is whole.
create_cluster() {
  local dir=$1 user began
  user=$(stat -c %U "$dir")
  if as "$user" test -d "$dir/data"; then return 0; fi
  began=$(now_ms)
  rm -rf "$dir"/data.new.*
  secret postgres.postgres.password | write_as "$user" "$dir/password"
  new_log postgres
  # C.UTF-8 sorts by code point but knows the letters of all languages, and is the same on every machine.
  as "$user" env -i "PATH=$SERVER_PATH" LANG=C.UTF-8 "$(postgres_bin)/initdb" -D "$dir/data.new.$$" -U postgres \
    --auth=scram-sha-256 --pwfile="$dir/password" --encoding=UTF8 --locale=C.UTF-8 \
    >>"$LOCAL_DIR/postgres.log" 2>&1 </dev/null 9>&- || failed postgres "initdb failed"
  rm "$dir/password"
  mv "$dir/data.new.$$" "$dir/data"
  say "created a PostgreSQL cluster in $dir/data ($(seconds_since "$began"))"
}

launch_postgres() {
  local dir=$1 version bin settings
  version=$(cat "$dir/data/PG_VERSION")
  bin=$(postgres_bin "$version") ||
    die "the data in $dir is of PostgreSQL $version, whose programs are gone; delete it with: $0 down --remove"
  settings=(
    "cluster_name=$POSTGRES_MARK"
    "port=$(port_of POSTGRES)"
    listen_addresses=127.0.0.1
    # The path of a socket may be 107 bytes long, and a checkout can be deeper than that.
    unix_socket_directories=
    # What was acknowledged is durable, in development too; it is also what the benchmarks measure.
    fsync=on
    full_page_writes=on
    synchronous_commit=on
    max_connections=200
    shared_buffers=256MB
    # With PostgreSQL's own 1 GB a bulk load is cut up by checkpoints.
    max_wal_size=2GB
    # A feed that is full loses a row for each that comes; their room is used again after the next vacuum.
    autovacuum_naptime=10s
    track_io_timing=on
    timezone=UTC
    log_timezone=UTC
    log_lock_waits=on
    "log_line_prefix=%m [%p] %q%u@%d %a "
  )
  new_log postgres
  detached "$LOCAL_DIR/postgres.log" "$(stat -c %U "$dir")" "$dir" \
    env -i "PATH=$SERVER_PATH" LANG=C.UTF-8 "$bin/postgres" -D "$dir/data" "${settings[@]/#/--}"
  poll "$START_TIMEOUT_S" holds_or_ended "$!" postgres_accepts || true
  postmaster >/dev/null && postgres_accepts
}

# The role is an ordinary one, as in production, but may create databases and roles, so that each test can have its own,
# and do what tests and benchmarks do to a server: look at it, end its sessions, have it write a checkpoint.
create_role_and_database() {
  local roles
  if database_answers; then return 0; fi
  if [ -z "$(query postgres postgres "select 1 from pg_roles where rolname = 'rookery'")" ]; then
    roles=$(query postgres postgres "select string_agg(rolname, ', ') from pg_roles
      where rolname in ('pg_monitor', 'pg_signal_backend', 'pg_checkpoint')")
    query postgres postgres "create role rookery login in role $roles"
  fi
  query postgres postgres "alter role rookery createdb createrole password '$(secret postgres.rookery.password)'"
  if [ -z "$(query postgres postgres "select 1 from pg_database where datname = 'rookery'")" ]; then
    query postgres postgres "create database rookery owner rookery"
  fi
}

stop_database() {
  local began pid
  began=$(now_ms)
  if is_gone postgres; then return 0; fi
  # SIGINT is PostgreSQL's "fast" shutdown: it ends the sessions, writes a checkpoint and exits.
  if pid=$(postmaster); then signal INT "$pid"; fi
  if [ -n "$pid" ] && poll "$STOP_TIMEOUT_S" is_gone postgres; then
    say "PostgreSQL is stopped ($(seconds_since "$began"))"
  else
    kill_all postgres
    say "PostgreSQL did not stop and was killed; it recovers when it starts ($(seconds_since "$began"))"
  fi
}

# ---------------------------------------------------------------------------------------------------------
# Private RabbitMQ
# ---------------------------------------------------------------------------------------------------------

NODE=rookery-$HASH@localhost

# Every RabbitMQ lets guest in. That the one on our port is ours, and not of a checkout that took the port a moment
# before, only its node name says.
broker_answers() {
  ! is_gone rabbitmq && management_answers "$(port_of UI)" "$(port_of AMQP)" &&
    case $(management_get "$(port_of UI)" overview) in *"\"node\":\"$NODE\""*) ;; *) false ;; esac
}

start_broker() {
  local began dir attempt
  began=$(now_ms)
  if broker_answers; then
    say "RabbitMQ is already up at 127.0.0.1:$(port_of AMQP)"
    return 0
  fi
  make_server_dir rabbitmq
  dir=$(server_dir rabbitmq)
  if ! is_gone rabbitmq && ! poll "$START_TIMEOUT_S" broker_answers; then
    say "RabbitMQ runs but does not answer, starting it anew"
    stop_broker
  fi
  if is_gone rabbitmq; then
    for attempt in 1 2 3; do
      start_epmd "$dir"
      choose_port AMQP "$DEFAULT_AMQP_PORT"
      choose_port UI "$DEFAULT_UI_PORT"
      choose_port DIST "$DEFAULT_DIST_PORT"
      if launch_broker "$dir"; then break; fi
      kill_all rabbitmq
      # Between the choice and the start another program may have taken a port.
      if [ "$attempt" = 3 ] || broker_ports_are_free; then failed rabbitmq "RabbitMQ did not start"; fi
    done
  fi
  say "RabbitMQ is up at 127.0.0.1:$(port_of AMQP), UI http://127.0.0.1:$(port_of UI) ($(seconds_since "$began"))"
}

broker_ports_are_free() {
  port_is_free "$(port_of AMQP)" && port_is_free "$(port_of UI)" && port_is_free "$(port_of DIST)"
}

# epmd tells Erlang nodes each other's ports. With one of its own the node neither sees nor needs those of others.
start_epmd() {
  local dir=$1
  if ! is_gone epmd; then return 0; fi
  choose_port EPMD "$DEFAULT_EPMD_PORT"
  new_log epmd
  # shellcheck disable=SC2016  # The inner bash expands these. It gives the process a name that we find again.
  detached "$LOCAL_DIR/epmd.log" "$(stat -c %U "$dir")" "$dir" env -i "PATH=$SERVER_PATH" \
    bash -c 'exec -a "$1" "$2" -port "$3" -address 127.0.0.1' - "$EPMD_MARK" "$(epmd_program)" "$(port_of EPMD)"
  poll 10 tcp_answers 127.0.0.1 "$(port_of EPMD)" || failed epmd "Erlang's epmd did not start"
}

write_broker_config() {
  local dir=$1 user=$2
  write_as "$user" "$dir/rabbitmq.conf" <<CONF
listeners.tcp.local = 127.0.0.1:$(port_of AMQP)
management.tcp.ip = 127.0.0.1
management.tcp.port = $(port_of UI)
# RabbitMQ stops its publishers below this much free disk and above this much memory. Its own limits follow the size
# of the machine, which is not all RabbitMQ's here; quorum queues alone may use some 500 MB before they write to disk.
disk_free_limit.absolute = 256MB
vm_memory_high_watermark.absolute = 1500MB
CONF
  write_as "$user" "$dir/enabled_plugins" <<<'[rabbitmq_management].'
  write_as "$user" "$dir/rabbitmq-env.conf" </dev/null
  # Erlang would make one up that is easier to guess.
  if ! as "$user" test -s "$dir/.erlang.cookie"; then
    secret rabbitmq.cookie | write_as "$user" "$dir/.erlang.cookie"
  fi
}

launch_broker() {
  local dir=$1 user schedulers erlang settings
  user=$(stat -c %U "$dir")
  write_broker_config "$dir" "$user"
  # No more threads than a development machine can spare. That they do not spin while idle is RabbitMQ's default.
  schedulers=$(nproc)
  if [ "$schedulers" -gt 4 ]; then schedulers=4; fi
  erlang="+S $schedulers:$schedulers"
  # Erlang's own port is not for other machines.
  erlang+=" -kernel inet_dist_use_interface {127,0,0,1}"
  settings=(
    # Where Erlang looks for its cookie.
    "HOME=$dir"
    "RABBITMQ_NODENAME=$NODE"
    "RABBITMQ_MNESIA_BASE=$dir/mnesia"
    "RABBITMQ_LOG_BASE=$dir"
    # To standard output: what goes wrong before its logger runs is in the same file as the rest.
    RABBITMQ_LOGS=-
    "RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf"
    # These need not exist. RabbitMQ would look for them in /etc/rabbitmq, where another node's may be.
    "RABBITMQ_CONFIG_FILES=$dir/conf.d"
    "RABBITMQ_ADVANCED_CONFIG_FILE=$dir/advanced.config"
    "RABBITMQ_CONF_ENV_FILE=$dir/rabbitmq-env.conf"
    "RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins"
    "RABBITMQ_DIST_PORT=$(port_of DIST)"
    "ERL_EPMD_PORT=$(port_of EPMD)"
    ERL_EPMD_ADDRESS=127.0.0.1
    "ERL_CRASH_DUMP=$dir/erl_crash.dump"
    # RabbitMQ ties its schedulers to cores, which is right for a machine of its own: here everyone else would
    # have to share exactly these.
    RABBITMQ_SCHEDULER_BIND_TYPE=u
    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=$erlang $BROKER_MARK"
  )
  new_log rabbitmq
  detached "$LOCAL_DIR/rabbitmq.log" "$user" "$dir" \
    env -i "PATH=$SERVER_PATH" LANG=C.UTF-8 "${settings[@]}" "$(rabbitmq_server)"
  poll "$START_TIMEOUT_S" holds_or_ended "$!" broker_answers || true
  broker_answers
}

stop_broker() {
  local began pids
  began=$(now_ms)
  pids=$(processes_of rabbitmq)
  if [ -z "$pids" ]; then return 0; fi
  # SIGTERM is RabbitMQ's orderly shutdown.
  # shellcheck disable=SC2086
  signal TERM $pids
  if poll "$STOP_TIMEOUT_S" is_gone rabbitmq; then
    say "RabbitMQ is stopped ($(seconds_since "$began"))"
  else
    kill_all rabbitmq
    say "RabbitMQ did not stop and was killed ($(seconds_since "$began"))"
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

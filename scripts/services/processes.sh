# shellcheck shell=bash
# Private servers: the users that they run as, the directories that they keep their data in, and their processes.

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

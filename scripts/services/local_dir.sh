# shellcheck shell=bash
# The directory .local/: one command at a time, secrets, and the ports, which are chosen once and kept so that a
# restart keeps the addresses.

prepare_local_dir() {
  mkdir -p "$LOCAL_DIR" 2>/dev/null || true
  if [ ! -d "$LOCAL_DIR" ] || [ ! -w "$LOCAL_DIR" ]; then
    die "cannot write to $LOCAL_DIR (perhaps another user made it); set ROOKERY_LOCAL to a directory of yours"
  fi
  # Keeps the directory out of version control even where it is not .local/ of the checkout.
  if [ ! -e "$LOCAL_DIR/.gitignore" ]; then echo '*' >"$LOCAL_DIR/.gitignore"; fi
}

# Long enough for another `up` to finish both servers.
LOCK_TIMEOUT_S=240

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

PORTS_TO_TRY=200

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

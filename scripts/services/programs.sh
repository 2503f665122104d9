# shellcheck shell=bash
# Private servers: the programs that are installed, and installing Debian's packages without starting what comes with
# them.

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

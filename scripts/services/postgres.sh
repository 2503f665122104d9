# shellcheck shell=bash
# The private PostgreSQL.

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
    ${POSTGRES_SETTINGS[@]+"${POSTGRES_SETTINGS[@]}"}
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

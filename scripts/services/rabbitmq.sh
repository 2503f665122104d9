# shellcheck shell=bash
# The private RabbitMQ.

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
disk_free_limit.absolute = ${ROOKERY_BROKER_DISK_FREE:-256MB}
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

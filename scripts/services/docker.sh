# shellcheck shell=bash
# The services of docker-compose.yml.

# For one image of a few hundred megabytes.
PULL_TIMEOUT_S=300

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

# shellcheck shell=bash
# Whether a server answers. An inner bash does the talking, because a connection attempt can only be bounded as a
# process.

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

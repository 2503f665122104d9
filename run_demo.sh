#!/usr/bin/env bash
# Rookery in one command, from nothing to a celebrity's tweet in 1,999 feeds. `run_demo.sh --help` says more.
#
# The machine's servers are scripts/services.sh's business; users, clocks and cleaning up are that of `bench demo`.
# This keeps to bash 3.2, which is that of macOS.

set -euo pipefail
case ${ROOKERY_LOCAL:-} in '' | /*) ;; *) export ROOKERY_LOCAL=$PWD/$ROOKERY_LOCAL ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
  cat <<'TEXT'
Shows Rookery at work: 2,000 users, one celebrity, and how soon everyone reads her tweets.

usage: ./run_demo.sh [--keep] [--with-outage]
       ./run_demo.sh --stop

  --keep          leave everything running, and print commands to try
  --stop          end what --keep left running, and delete its data
  --with-outage   also stop RabbitMQ for a while, and show that feeds go on; only where this run
                  started it as a private server

PostgreSQL and RabbitMQ come from scripts/services.sh, and are stopped at the end if they did not run before.
The demo has a database and a virtual host of its own there, which are deleted at the end, so that it touches
nobody's data. It needs Rust (cargo) and curl. Once built, it takes less than half a minute.

  ROOKERY_LOCAL=DIR   keep the servers and the logs in DIR instead of .local/
TEXT
}

keep=no outage=no stop=no
for argument in "$@"; do
  case $argument in
    --keep) keep=yes ;;
    --with-outage) outage=yes ;;
    --stop) stop=yes ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done

# The user's other services are not meant.
unset FEED_DATABASE_URL FEED_KEPT FAN_OUT_ROWS PULL_FROM DORMANT_AFTER_DAYS REBUILD_METRICS_BIND

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; fi

step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }

indented() { sed 's/^/   /'; }

# show COMMAND: what one would type, and what comes of it.
show() {
  printf '   %s$ %s%s\n' "$bold" "$1" "$plain"
  # On a terminal a bar goes to standard error; elsewhere that is the log.
  if [ -t 2 ]; then eval "$1" | indented; else eval "$1" 2>>"$local/demo/commands.log" | indented; fi
}

# As it is typed, but an answer that is an error ends the demo. A stream is left (28) when its time is up.
curl() {
  local answer code=0
  answer=$(command curl -q -s --noproxy '*' -w '\n%{http_code}' --max-time 10 "$@") || code=$?
  case $code in 0 | 28) ;; *) echo "curl: exit code $code" >&2 ;; esac
  printf '%s\n' "${answer%$'\n'*}"
  case $answer in *$'\n2'??) ;; *) return 1 ;; esac
}

on_exit() {
  local code=$?
  # What was begun is cleaned up: it takes seconds, and half of it would leave more to do.
  trap '' INT TERM HUP
  if [ "$code" != 0 ]; then
    printf '\nrun_demo.sh: failed or interrupted\n' >&2
    if [ "$staged" = yes ]; then tail -n 5 "$local/demo"/*.log | cut -c 1-300 | indented >&2; fi
  elif [ "$keep" = yes ]; then
    exit
  fi
  step 'Cleaning up'
  "$bench" demo down --own || code=1
  if [ "$staged" = no ] && [ -n "$stop_servers" ]; then scripts/services.sh down 2>&1 | indented; fi
  printf '\n%s after %s s\n' "$(if [ "$code" = 0 ]; then echo Done; else echo Ended; fi)" "$SECONDS"
  exit "$code"
}

command -v cargo >/dev/null || PATH=$PATH:${HOME:-}/.cargo/bin # where rustup puts it
command -v cargo >/dev/null || { echo 'cargo is missing; install Rust from https://rustup.rs' >&2 && exit 1; }
command -v make >/dev/null || { echo 'make is missing; on Debian: apt-get install build-essential' >&2 && exit 1; }
command -v curl >/dev/null || { echo 'curl is missing; on Debian: apt-get install curl' >&2 && exit 1; }
local=${ROOKERY_LOCAL:-$PWD/.local}

step 'Build (minutes the first time)'
# cargo says where the programs are. The addresses are not for it: it checks SQL against a file.
built=$(env -u DATABASE_URL -u AMQP_URL cargo build --release --locked -p api -p projector -p bench \
  --message-format json-render-diagnostics)
bench=$(sed -n 's/.*"executable":"\([^"]*\/bench\)".*/\1/p' <<<"$built" | tail -n 1)
bench=${bench#"$PWD/"}
projector=${bench%bench}projector

if [ "$stop" = yes ]; then
  step 'Stopping what --keep left running'
  "$bench" demo down
  exit
fi

step 'PostgreSQL and RabbitMQ'
stop_servers='' staged=no
before=$(scripts/services.sh status 2>&1 || true)
if ! grep -Eq '^(PostgreSQL|RabbitMQ) +up ' <<<"$before"; then stop_servers=--stop-servers; fi
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
scripts/services.sh up 2>&1 | indented
eval "$(scripts/services.sh env)"

step 'api and projector, with a database and a virtual host of their own'
"$bench" demo up $stop_servers
staged=yes
: >"$local/demo/commands.log"
eval "$("$bench" demo env)"
api=$ROOKERY/api json='Content-Type: application/json'

step '2,000 users, and a celebrity whom all but one follow'
"$bench" demo populate

step 'By hand: Robin registers, follows her, and has at once what she wrote before'
show "curl $api/users/ -H '$json' -d '{\"username\": \"robin\", \"email\": \"robin@example.org\"}'"
show "curl '$api/users/?after=2000'"
show "curl $api/subscriptions/follow -H 'X-User-ID: 2002' -H '$json' -d '{\"followed_id\": 2001}'"
position=$(curl "$ROOKERY/health/ready" | sed 's/.*"log_position":\([0-9]*\).*/\1/')
show "curl '$api/feed/?limit=1' -H 'X-User-ID: 2002' -H 'X-Min-Log-Position: $position'"

step 'She writes; it is in the feed as soon as it is asked for at that position of the log'
show "curl $api/tweets/ -H 'X-User-ID: 2001' -H '$json' -H 'Idempotency-Key: one' -d '{\"content\": \"Hello, Robin\"}'"
tweet=$(curl "$api/feed/?limit=1" -H 'X-User-ID: 2001' | sed 's/.*"tweet_id":\([0-9]*\).*/\1/')
show "curl '$api/feed/?limit=1' -H 'X-User-ID: 2002' -H 'X-Min-Log-Position: $tweet'"
show "curl '$api/feed/changes?from=$((tweet - 1))&limit=1' -H 'X-User-ID: 2002'"
show "curl --max-time 1 $api/feed/stream -H 'X-User-ID: 2002' -H 'Last-Event-ID: $((tweet - 1))'"
show "curl $api/tweets/$tweet/delivery -H 'X-User-ID: 2001'"

step 'Robin has enough: the feed is empty, why it is, and as it was before'
show "curl -X DELETE $api/subscriptions/unfollow/2001 -H 'X-User-ID: 2002'"
show "curl $api/feed/ -H 'X-User-ID: 2002' -H 'X-Min-Log-Position: $((tweet + 1))'"
show "curl '$api/feed/explain?tweet=$tweet' -H 'X-User-ID: 2002'"
show "curl '$api/feed/?limit=1&at=$tweet' -H 'X-User-ID: 2002'"
show "curl '$api/subscriptions/2001/followers?limit=1&skip=1998'"
show "curl -X DELETE $api/tweets/$tweet -H 'X-User-ID: 2001'"
show "curl $ROOKERY/health/ready"

step 'POST /api/tweets: an ordinary user and the celebrity'
"$bench" demo posts

step 'From the POST until her last follower can read it'
"$bench" demo deliveries

if [ "$outage" = yes ]; then
  step 'RabbitMQ stops, and tweets go on: feeds follow the log itself'
  if [ -z "$stop_servers" ]; then
    echo '   left out: RabbitMQ was not started by this run, and others may need it'
  elif env -u DATABASE_URL -u AMQP_URL scripts/services.sh stop-broker 2>&1 | indented; then
    "$bench" demo deliveries --tweets 3
    env -u DATABASE_URL -u AMQP_URL scripts/services.sh start-broker 2>&1 | indented
  fi
fi

step 'The read model is made again from the log, while it serves'
show "$projector rebuild"

step 'verify: everything is held against the log'
show "$projector verify"

step 'status: how far everything is'
show "$projector status"
if [ -n "$RABBITMQ_UI" ]; then
  password=in\ RABBITMQ_UI_PASSWORD
  if [ -n "$ROOKERY_SERVICES_MARK" ]; then password=$RABBITMQ_UI_PASSWORD; fi
  echo "   RabbitMQ's UI: $RABBITMQ_UI, user $RABBITMQ_UI_USER, password $password"
  echo "     what the relay publishes  $RABBITMQ_UI/#/exchanges/$ROOKERY_VHOST/rookery.events"
  echo "     what the projector reads  $RABBITMQ_UI/#/queues/$ROOKERY_VHOST/rookery.feed"
fi

if [ "$keep" = yes ]; then
  "$bench" demo keep
  step 'Left running'
  cat <<TEXT
   The page, on which all of it can be seen at work: act as user 2001 and post
     $ROOKERY/
   What arrives in the feed of user 1999, and what is in it
     curl '$api/feed/?limit=3' -H 'X-User-ID: 1999'
   The celebrity tweets
     curl $api/tweets/ -H 'X-User-ID: 2001' -H '$json' -d '{"content": "Hello from the command line"}'
   Robin follows her again, and has at once what she wrote
     curl $api/subscriptions/follow -H 'X-User-ID: 2002' -H '$json' -d '{"followed_id": 2001}'
     curl '$api/feed/?limit=3' -H 'X-User-ID: 2002'
   The commands of projector above need to know the database and RabbitMQ
     eval "\$($bench demo env)"
   The generation before the rebuild comes back with
     $projector rollback
   To stop it and delete its data
     ./run_demo.sh --stop
TEXT
fi

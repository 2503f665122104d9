#!/usr/bin/env bash
# Rookery in one command, from nothing to a celebrity's tweet in 1,999 feeds. `run_demo.sh --help` says more.
#
# What differs between machines is scripts/services.sh's business; this script keeps to what bash 3.2 and curl 7.67
# understand, because those are what older systems and macOS have.

set -euo pipefail
export LC_ALL=C

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

USERS=2000
FOLLOWERS=1999
# The ordinary user to compare with; registered last of all but the celebrity, and followed by five.
ORDINARY=2000
ORDINARY_FOLLOWERS=5
SAMPLE_TWEETS=60
# On a small machine more would only wait for each other.
CONNECTIONS=32
# With a hundred of each the p99 is more than a name for the slowest.
TIMED_POSTS=100
TIMED_DELIVERIES=20

DEFAULT_PORT=8003
PORTS_TO_TRY=20
READY_TIMEOUT_S=30
# The service promises to end within 10 s of a SIGTERM.
STOP_TIMEOUT_S=15
CATCH_UP_TIMEOUT_S=30

# ---------------------------------------------------------------------------------------------------------
# Words and time
# ---------------------------------------------------------------------------------------------------------

BOLD='' DIM='' PLAIN=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
  BOLD=$'\033[1m' DIM=$'\033[2m' PLAIN=$'\033[0m'
fi

STEP='' STEP_BEGAN=0 BEGAN=0

step() {
  STEP=$1
  STEP_BEGAN=$(now_ms)
  printf '\n%s== %s%s\n' "$BOLD" "$STEP" "$PLAIN"
}

step_done() {
  printf '   %s%s%s\n' "$DIM" "$(seconds_since "$STEP_BEGAN")" "$PLAIN"
  STEP=''
}

say() { printf '   %s\n' "$*"; }

# For what comes from other programs. services.sh names itself in each line, which says nothing new here.
indented() { sed -e 's/^services: //' -e 's/^/   /'; }

fail() {
  printf 'run_demo.sh: %s\n' "$*" >&2
  exit 1
}

now_ms() {
  if [ -n "${EPOCHREALTIME:-}" ]; then
    printf '%s\n' "$((${EPOCHREALTIME/./} / 1000))"
  else
    printf '%s000\n' "$(date +%s)"
  fi
}

seconds_since() {
  local tenths=$((($(now_ms) - $1 + 50) / 100))
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

# ---------------------------------------------------------------------------------------------------------
# One demo
#
# Each has a name, which is that of its database, of its virtual host and of its directory in .local/demo/. As
# long as it has anything to clean up it has a file `state` there, from which another run can do that.
# ---------------------------------------------------------------------------------------------------------

CALLED_IN=$(pwd -P)
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
case ${ROOKERY_LOCAL:-} in
  '') LOCAL_DIR=$ROOT/.local ;;
  /*) LOCAL_DIR=$ROOKERY_LOCAL ;;
  *) LOCAL_DIR=$PWD/$ROOKERY_LOCAL ;;
esac
export ROOKERY_LOCAL=$LOCAL_DIR
# A proxy has no way to this machine.
export NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}" no_proxy="127.0.0.1,localhost${no_proxy:+,$no_proxy}"
DEMO_DIR=$LOCAL_DIR/demo
cd "$ROOT"

NAME=rookery_demo_$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')
RUN_DIR=$DEMO_DIR/$NAME
SCRIPT_PID=$$ SCRIPT_BORN=''
KEEP=no KEPT=no
SERVICES_STARTED=no HAVE_DATABASE=no HAVE_VHOST=no
API_PID='' API_BORN='' PROJECTOR_PID='' PROJECTOR_BORN=''

save_state() {
  local variable
  (
    umask 077
    for variable in NAME RUN_DIR SCRIPT_PID SCRIPT_BORN KEPT SERVICES_STARTED HAVE_DATABASE HAVE_VHOST \
      API_PID API_BORN PROJECTOR_PID PROJECTOR_BORN \
      DATABASE_URL AMQP_URL RABBITMQ_UI RABBITMQ_UI_USER RABBITMQ_UI_PASSWORD ROOKERY_SERVICES_MARK; do
      printf '%s=%q\n' "$variable" "${!variable:-}"
    done >"$RUN_DIR/state.new"
  )
  mv "$RUN_DIR/state.new" "$RUN_DIR/state"
}

# states: the state files of all demos that were not cleaned up.
states() {
  local file
  for file in "$DEMO_DIR"/*/state; do
    if [ -O "$file" ]; then printf '%s\n' "$file"; fi
  done
}

# born PID: when the process was started, which tells it from a later one with the same number. Nothing if it has ended
# and only waits for someone to ask how.
born() {
  if [ -d /proc/self ]; then
    # The name, in brackets, is the only part that can have blanks.
    { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null || true; } | awk '$1 != "Z" { print $20 }'
  else
    ps -o lstart= -p "$1" 2>/dev/null || true
  fi
}

# runs PID BORN
runs() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null && [ "$(born "$1")" = "$2" ]; }

has_ended() { ! runs "$@"; }

# One at a time: two would measure each other, and the one that ends first would stop the servers of the other. A
# demo that --keep left running does not count. macOS has no flock(1), and there it is left to the user.
lock() {
  mkdir -p "$DEMO_DIR" 2>/dev/null || true
  if [ ! -w "$DEMO_DIR" ]; then
    fail "cannot write to $DEMO_DIR (perhaps another user made it); set ROOKERY_LOCAL to a directory of yours"
  fi
  command -v flock >/dev/null || return 0
  exec 8<>"$DEMO_DIR/lock"
  # After a kill -9 the last requests still hold it for a moment.
  if ! flock -w 3 8; then
    fail "another run_demo.sh is at work here (process $(cat "$DEMO_DIR/lock")); two at once would measure each other"
  fi
  echo $$ >"$DEMO_DIR/lock"
}

# Of demos that were cleaned up. Those of the last one are there until the next begins.
remove_old_logs() {
  local dir
  for dir in "$DEMO_DIR"/rookery_demo_*; do
    if [ -O "$dir" ] && [ ! -e "$dir/state" ]; then rm -rf "$dir"; fi
  done
}

# ---------------------------------------------------------------------------------------------------------
# The servers
# ---------------------------------------------------------------------------------------------------------

start_services() {
  local before
  step 'PostgreSQL and RabbitMQ'
  before=$(scripts/services.sh status 2>&1 8>&- || true)
  if ! grep -Eq '^(PostgreSQL|RabbitMQ) +up ' <<<"$before"; then SERVICES_STARTED=yes; fi
  mkdir "$RUN_DIR"
  SCRIPT_BORN=$(born $$)
  save_state
  scripts/services.sh up 2>&1 8>&- | indented
  use_services
  if are_given; then SERVICES_STARTED=no; fi
  end_others cut-off
  save_state
  step_done
}

use_services() {
  local addresses
  addresses=$(scripts/services.sh env 8>&-) || return 1
  eval "$addresses"
}

# Whether the user chose the servers by DATABASE_URL and AMQP_URL: services.sh marks only its own.
are_given() { [ -z "${ROOKERY_SERVICES_MARK:-}" ]; }

stop_services() {
  local others=0
  # Tests, benchmarks and other demos use the same servers. When these do not answer, nobody does.
  if use_services 2>/dev/null; then
    others=$(sql "select count(*) from pg_stat_activity
      where backend_type = 'client backend' and pid <> pg_backend_pid()" 2>/dev/null || echo 0)
  fi
  if [ "$others" != 0 ]; then
    say "PostgreSQL and RabbitMQ stay up, because another program uses them; to stop them: scripts/services.sh down"
  else
    scripts/services.sh down 2>&1 8>&- | indented
  fi
}

# with_path URL NAME: the same server and parameters, another database or virtual host.
with_path() {
  local url=$1 query='' server
  case $url in
    *\?*)
      query="?${url#*\?}"
      url=${url%%\?*}
      ;;
  esac
  server=${url#*://}
  printf '%s://%s/%s%s' "${url%%://*}" "${server%%/*}" "$2" "$query"
}

# exec_clean COMMAND…: without the settings that the user's shell has for other servers and other services.
exec_clean() {
  local variable kept=("PATH=$PATH" "HOME=${HOME:-/}")
  for variable in $(compgen -e); do
    case $variable in
      TERM | NO_COLOR | RUST_LOG | RUST_BACKTRACE | SSL_CERT_FILE | SSL_CERT_DIR) kept+=("$variable=${!variable}") ;;
      # What is missing in a URL of the user's own.
      PG*) if are_given; then kept+=("$variable=${!variable}"); fi ;;
    esac
  done
  exec env -i "${kept[@]}" "$@"
}

# sql STATEMENT: on the server, not in the demo's database.
sql() {
  local psql port arguments=(-XAtq -v ON_ERROR_STOP=1 -c "$1")
  psql=$(command -v psql || printf '%s\n' /usr/lib/postgresql/*/bin/psql | tail -n 1)
  if [ -x "$psql" ]; then
    (exec_clean PGCONNECT_TIMEOUT=5 "$psql" "${arguments[@]}" "$DATABASE_URL") </dev/null
  elif ! are_given && command -v docker >/dev/null; then
    # A machine with Docker need not have PostgreSQL's programs, but the container has them. In there the port is
    # PostgreSQL's own.
    port=${DATABASE_URL##*:}
    port=${port%%/*}
    docker exec "$(docker ps -q --filter "publish=$port")" psql "${arguments[@]}" "${DATABASE_URL/:$port/:5432}"
  else
    echo "psql is missing; on Debian: apt-get install postgresql-client" >&2
    return 1
  fi
}

# management METHOD PATH [BODY]: RabbitMQ's HTTP API. Prints the status. The password is not for the process list.
management() {
  printf 'user = "%s"\n' "$(printf '%s' "$RABBITMQ_UI_USER:$RABBITMQ_UI_PASSWORD" | sed 's/["\\]/\\&/g')" |
    curl -q -s -K - -o /dev/null -w '%{http_code}' --max-time 10 -X "$1" "$RABBITMQ_UI/api/$2" \
      -H 'Content-Type: application/json' ${3:+-d "$3"} || true
}

amqp_user() {
  local server=${AMQP_URL#*://} user=guest
  server=${server%%/*}
  case $server in
    *@*) user=${server%%[:@]*} ;;
  esac
  printf '%s' "$user"
}

make_database_and_vhost() {
  step 'A database and a virtual host of its own'
  # What may be there is noted before it is made, because Ctrl-C can come between the two.
  HAVE_DATABASE=yes
  save_state
  # In a process of its own: on Ctrl-C this one has something to say, which is not for that file.
  if ! (sql "create database $NAME") >"$RUN_DIR/psql.log" 2>&1; then
    HAVE_DATABASE=no
    fail "cannot make the database $NAME: $(cat "$RUN_DIR/psql.log")"
  fi
  DEMO_DATABASE_URL=$(with_path "$DATABASE_URL" "$NAME")
  if [ -n "${RABBITMQ_UI:-}" ]; then
    HAVE_VHOST=yes
    save_state
    make_vhost || HAVE_VHOST=no
  fi
  if [ "$HAVE_VHOST" = yes ]; then
    DEMO_AMQP_URL=$(with_path "$AMQP_URL" "$NAME")
    say "both are called $NAME"
  elif are_given; then
    DEMO_AMQP_URL=$AMQP_URL
    say "the database is $NAME"
    say "RABBITMQ_UI, RABBITMQ_UI_USER and RABBITMQ_UI_PASSWORD do not lead to RabbitMQ's management API:"
    say "no virtual host is made, and the demo uses that of AMQP_URL. If another Rookery uses it too, stop here:"
    say "the two would share one queue. The exchanges and queues rookery.* stay there afterwards."
  else
    fail "cannot make the virtual host $NAME at $RABBITMQ_UI"
  fi
  # For commands that the user types while the demo is kept.
  (
    umask 077
    printf 'export DATABASE_URL=%q AMQP_URL=%q\n' "$DEMO_DATABASE_URL" "$DEMO_AMQP_URL" >"$RUN_DIR/env"
  )
  step_done
}

# For whom the api and the projector connect as, and for whom the user looks at the UI as.
make_vhost() {
  local user
  [[ $(management PUT "vhosts/$NAME") = 20[14] ]] || return 1
  for user in "$(amqp_user)" "$RABBITMQ_UI_USER"; do
    [[ $(management PUT "permissions/$NAME/$user" '{"configure":".*","write":".*","read":".*"}') = 20[14] ]] || return 1
  done
}

# ---------------------------------------------------------------------------------------------------------
# The two programs
# ---------------------------------------------------------------------------------------------------------

require_programs() {
  if ! command -v curl >/dev/null; then fail "curl is missing; on Debian: apt-get install curl"; fi
  if ! curl -q --parallel --no-progress-meter --version >/dev/null 2>&1; then
    fail "this curl is too old; 7.67 or later is needed"
  fi
  # Where rustup puts it, also in a shell that was open before.
  if ! command -v cargo >/dev/null; then PATH=$PATH:${HOME:-}/.cargo/bin; fi
  if ! command -v cargo >/dev/null; then fail "cargo is missing; install Rust from https://rustup.rs"; fi
}

build() {
  local built
  step 'Build of api and projector (minutes the first time)'
  # cargo itself says where the programs are: there are many ways to configure that. The addresses are not for the
  # build, which checks its SQL against a file.
  built=$(env -u DATABASE_URL -u AMQP_URL cargo build --release --locked -p api -p projector \
    --message-format json-render-diagnostics 8>&-)
  API=$(executable api "$built")
  PROJECTOR=$(executable projector "$built")
  if [ ! -x "$API" ] || [ ! -x "$PROJECTOR" ]; then fail "cargo did not say where it put api and projector"; fi
  step_done
}

# executable NAME MESSAGES
executable() { sed -n 's/.*"executable":"\([^"]*\/'"$1"'\)".*/\1/p' <<<"$2" | tail -n 1; }

start() {
  local port=$DEFAULT_PORT last=$((DEFAULT_PORT + PORTS_TO_TRY))
  step 'api and projector'
  # First, because the api is ready only when the projector has made the read model.
  start_process PROJECTOR_PID "$RUN_DIR/projector.log" "$PROJECTOR" run
  PROJECTOR_BORN=$(born "$PROJECTOR_PID")
  save_state
  until { ! port_answers "$port" || taken "$port"; } && start_api "$port"; do
    port=$((port + 1))
    if [ "$port" = "$last" ]; then fail "no free port between $DEFAULT_PORT and $last"; fi
  done
  say "api is ready at $API_URL, log $(short "$RUN_DIR/api.log")"
  say "projector runs, log $(short "$RUN_DIR/projector.log")"
  step_done
}

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

taken() {
  say "port $1 is taken by another program, trying the next"
  return 1
}

# start_api PORT: fails if another program has taken the port meanwhile.
start_api() {
  API_URL=http://127.0.0.1:$1
  start_process API_PID "$RUN_DIR/api.log" "$API" --bind "127.0.0.1:$1"
  API_BORN=$(born "$API_PID")
  save_state
  poll "$READY_TIMEOUT_S" is_ready_or_ended || fail "api was not ready within $READY_TIMEOUT_S s"
  if runs "$API_PID" "$API_BORN"; then return 0; fi
  API_PID=''
  if grep -q 'cannot listen' "$RUN_DIR/api.log"; then taken "$1"; else fail "api ended as soon as it was started"; fi
}

is_ready_or_ended() { has_ended "$API_PID" "$API_BORN" || [ "$(status_of "$API_URL/health/ready")" = 200 ]; }

# start_process VARIABLE LOG COMMAND…: with its process id in the variable.
#
# It has a process group of its own, which Ctrl-C in the terminal does not reach, and ignores that the terminal is
# closed: when it ends is for this script to say.
start_process() {
  local variable=$1 log=$2
  shift 2
  set -m
  (
    exec 8>&- </dev/null >>"$log" 2>&1
    trap '' HUP
    exec_clean DATABASE_URL="$DEMO_DATABASE_URL" AMQP_URL="$DEMO_AMQP_URL" "$@"
  ) &
  set +m
  printf -v "$variable" '%s' $!
}

# ---------------------------------------------------------------------------------------------------------
# Requests
# ---------------------------------------------------------------------------------------------------------

# One curl makes many requests, on connections that it keeps. It reads them from a file that these functions print.
#
# request METHOD PATH CALLER ANSWER LABEL: the answer's body goes to the file ANSWER in the demo's directory; label,
# status and seconds are printed when it is there.
request() {
  printf 'next\nrequest = %s\nurl = "%s%s"\noutput = "%s"\n' "$1" "$API_URL" "$2" "$4"
  printf 'write-out = "%s %%{http_code} %%{time_total}\\n"\n' "$5"
  if [ -n "$3" ]; then printf 'header = "X-User-ID: %s"\n' "$3"; fi
}

# body JSON: of the request before. Quotes in it are written \".
body() { printf 'header = "Content-Type: application/json"\ndata = "%s"\n' "$1"; }

register() {
  request POST /api/users/ '' "${2:-/dev/null}" register
  body "{\\\"username\\\":\\\"$1\\\",\\\"email\\\":\\\"$1@example.org\\\"}"
}

# follow FOLLOWER FOLLOWED
follow() {
  request POST /api/subscriptions/follow "$1" /dev/null follow
  body "{\\\"followed_id\\\":$2}"
}

# tweet AUTHOR TEXT [LABEL] [ANSWER]
tweet() {
  request POST /api/tweets/ "$1" "${4:-/dev/null}" "${3:-tweet}"
  body "{\\\"content\\\":\\\"$2\\\"}"
}

# read_feed READER POSITION ANSWER LABEL: the newest item, as soon as the read model has reached the position.
read_feed() {
  request GET '/api/feed/?limit=1' "$1" "$3" "$4"
  printf 'header = "X-Min-Log-Position: %s"\n' "$2"
}

# send STATUS OPTION… <REQUESTS: makes them all, and fails unless each is answered with the status. What curl printed
# is in the file `answers`.
send() {
  local expected=$1 asked others
  shift
  sed 1d >"$RUN_DIR/requests"
  (cd "$RUN_DIR" && curl -q --no-progress-meter "$@" -K requests >answers 2>curl.log) || true
  asked=$(grep -c '^url = ' "$RUN_DIR/requests")
  others=$(awk -v expected="$expected" -v asked="$asked" '
    $2 !~ "^" expected "$" { others[$2]++ }
    END {
      for (status in others) printf " %d with %s;", others[status], status
      if (NR != asked) printf " %d not at all;", asked - NR
    }' "$RUN_DIR/answers")
  if [ -n "$others" ]; then
    fail "of $asked requests, each of which should be answered with $expected, these were not:$others" \
      "$(tail -n 1 "$RUN_DIR/curl.log")"
  fi
}

at_once() { send "$1" --parallel --parallel-max "$CONNECTIONS"; }

in_turn() { send "$1"; }

# status_of URL [OPTION…]: 000 if there is no answer.
status_of() { curl -q -s -o /dev/null -w '%{http_code}' --max-time 5 "$@" || true; }

# number NAME FILE: the first number of that name in a JSON text.
number() { { grep -o "\"$1\":[0-9]*" "$RUN_DIR/$2" || true; } | sed -n '1s/.*://p'; }

# number_of NAME FILE: how often the JSON text has a number of that name.
number_of() { { grep -o "\"$1\":[0-9]" "$RUN_DIR/$2" || true; } | wc -l | tr -d ' '; }

# is_readable READER POSITION: the api itself waits for about two seconds.
is_readable() {
  [ "$(status_of "$API_URL/api/feed/?limit=1" -H "X-User-ID: $1" -H "X-Min-Log-Position: $2")" = 200 ]
}

# ms LABEL PERCENT: so many of the requests with that label were answered in this time. 100 is the longest.
ms() {
  awk -v label="$1" '$1 == label { print $3 * 1000 }' "$RUN_DIR/answers" | sort -n |
    awk -v percent="$2" '{ times[NR] = $1 } END { printf "%.2f", times[int((NR * percent + 99) / 100)] }'
}

row() { printf '   %-36s %8s %8s %8s\n' "$1" "${2:-}" "${3:-}" "${4:-}" | sed 's/ *$//'; }

# ---------------------------------------------------------------------------------------------------------
# What it shows
# ---------------------------------------------------------------------------------------------------------

LOOKS='amber ashen auburn azure black blue brisk bronze brown calm canny cinder copper coral crested curious dapper
dusky early ebony fleet frosty gentle gilded golden grey hardy hazel humble ivory jaunty late little lofty merry misty
nimble noble olive pale patient plucky quiet russet sandy scarlet silver snowy stormy tawny'
BIRDS='avocet bittern bunting chough cormorant crane crow curlew dipper dove dunlin eider falcon finch gannet goshawk
grebe heron hobby jackdaw jay kestrel kite lapwing lark linnet magpie martin osprey owl petrel pipit plover puffin
raven rook swift teal tern wren'

SAYINGS=(
  'Up before the sun, and so is everyone else.'
  'Has anybody seen my twig?'
  'The wind turns west. Good.'
  'Forty of us on one branch. It holds.'
  'New nest, same tree.'
  'There is always room at the top.'
)

populate() {
  local look bird i
  step "$USERS users and a celebrity"
  # Names come in the order in which the requests happen to arrive, so they do not try to look like ids.
  for look in $LOOKS; do
    for bird in $BIRDS; do register "${look}_$bird"; done
  done | at_once 201
  # She comes last, so her id says that all the others are there.
  register celebrity celebrity.json | in_turn 201
  CELEBRITY=$(number id celebrity.json)
  if [ "$CELEBRITY" != $((USERS + 1)) ]; then fail "the celebrity is user $CELEBRITY instead of $((USERS + 1))"; fi
  say "the celebrity is user $CELEBRITY"
  step_done

  step "$FOLLOWERS followers for her, $ORDINARY_FOLLOWERS for user $ORDINARY, some for others, and some tweets"
  {
    for ((i = 1; i <= FOLLOWERS; i++)); do follow "$i" "$CELEBRITY"; done
    for ((i = 1; i <= ORDINARY_FOLLOWERS; i++)); do follow "$i" "$ORDINARY"; done
    for ((i = 1; i < FOLLOWERS; i += 2)); do follow "$i" $((i + 1)); done
  } | at_once 200
  for ((i = 1; i <= SAMPLE_TWEETS; i++)); do
    tweet $((i * 31)) "${SAYINGS[i % ${#SAYINGS[@]}]}"
  done | at_once 201
  tweet_and_wait 'Good morning, all of you.'
  check_followers "$CELEBRITY" "$FOLLOWERS"
  check_followers "$ORDINARY" "$ORDINARY_FOLLOWERS"
  say "all of it can be read"
  step_done
}

# tweet_and_wait TEXT: the celebrity's, until her last follower can read it. A tweet's id is its position in the log.
tweet_and_wait() {
  tweet "$CELEBRITY" "$1" tweet tweet.json | in_turn 201
  TWEET=$(number id tweet.json)
  poll "$CATCH_UP_TIMEOUT_S" is_readable "$FOLLOWERS" "$TWEET" ||
    fail "tweet $TWEET could not be read within $CATCH_UP_TIMEOUT_S s"
}

# check_followers USER COUNT: after all but one in their list exactly one is left.
check_followers() {
  request GET "/api/subscriptions/$1/followers?limit=2&skip=$(($2 - 1))" '' followers.json followers | in_turn 200
  if [ "$(number_of id followers.json)" != 1 ]; then fail "user $1 does not have $2 followers"; fi
}

# The two take turns, so that whatever else the machine does meets both; and each comes as often after the other as
# after itself, because the celebrity's tweets are still being delivered while the next one is posted.
time_posts() {
  local i
  step "POST /api/tweets/: an ordinary user and the celebrity"
  {
    tweet "$ORDINARY" 'A first one, not counted.' warm-up
    for ((i = 0; i < TIMED_POSTS; i += 2)); do
      tweet "$ORDINARY" "To my $ORDINARY_FOLLOWERS followers." ordinary
      tweet "$CELEBRITY" "To my $FOLLOWERS followers." celebrity
      tweet "$CELEBRITY" "To my $FOLLOWERS followers, again." celebrity
      tweet "$ORDINARY" "To my $ORDINARY_FOLLOWERS followers, again." ordinary
    done
  } | in_turn 201
  say "$TIMED_POSTS tweets each, in turn, on one connection; milliseconds until the answer"
  row '' p50 p99 longest
  row "user $ORDINARY, $ORDINARY_FOLLOWERS followers" "$(ms ordinary 50)" "$(ms ordinary 99)" "$(ms ordinary 100)"
  row "user $CELEBRITY, $FOLLOWERS followers" "$(ms celebrity 50)" "$(ms celebrity 99)" "$(ms celebrity 100)"
  row 'celebrity / ordinary' "$(awk "BEGIN { printf \"%.2f\", $(ms celebrity 50) / $(ms ordinary 50) }")"
  step_done
}

# The log has no holes and nobody else writes to it, so the position of each tweet is known before it is posted. That
# lets one curl post and read on one connection, where starting a second one would take longer than the delivery.
time_deliveries() {
  local i
  step "From the celebrity's POST until her last follower can read it"
  tweet_and_wait 'And now by the clock.'
  for ((i = 1; i <= TIMED_DELIVERIES; i++)); do
    tweet "$CELEBRITY" "By the clock, number $i." post
    read_feed "$FOLLOWERS" $((TWEET + i)) "feed-$i.json" delivery
  done | in_turn '20[01]'
  for ((i = 1; i <= TIMED_DELIVERIES; i++)); do
    if [ "$(number tweet_id "feed-$i.json")" != $((TWEET + i)) ]; then
      fail "tweet $((TWEET + i)) is not the newest in the feed of user $FOLLOWERS"
    fi
  done
  rm "$RUN_DIR"/feed-*.json
  TWEET=$((TWEET + TIMED_DELIVERIES))
  say "$TIMED_DELIVERIES tweets, one after the other; milliseconds from the answer to the POST"
  row '' p50 '' longest
  row "in $FOLLOWERS feeds, read by user $FOLLOWERS" "$(ms delivery 50)" '' "$(ms delivery 100)"
  check_feeds
  step_done
}

# check_feeds: the celebrity's last tweet is the newest in the feeds of her followers, and not in those of others.
check_feeds() {
  local reader newest
  for reader in 1 $((FOLLOWERS / 2)) "$FOLLOWERS" "$ORDINARY"; do
    read_feed "$reader" "$TWEET" feed.json read | in_turn 200
    newest=$(number tweet_id feed.json)
    case $reader/$newest in
      "$ORDINARY/$TWEET") fail "tweet $TWEET is in the feed of user $reader, who does not follow user $CELEBRITY" ;;
      "$ORDINARY"/* | */"$TWEET") ;;
      *) fail "the newest in the feed of user $reader is tweet $newest instead of $TWEET" ;;
    esac
  done
  say "it is the newest in the feeds of users 1, $((FOLLOWERS / 2)) and $FOLLOWERS, and not in that of user $ORDINARY"
}

outage() {
  local began
  step 'RabbitMQ stops, and tweets go on'
  if [ "$SERVICES_STARTED" = no ]; then
    say "left out: RabbitMQ was not started by this run, and others may need it"
  elif scripts/services.sh stop-broker 2>&1 8>&- | indented; then
    tweet "$CELEBRITY" 'Is anybody there?' post tweet.json | in_turn 201
    TWEET=$(number id tweet.json)
    began=$(now_ms)
    say "POST /api/tweets/ answered 201 meanwhile, in $(ms post 100) ms"
    poll "$CATCH_UP_TIMEOUT_S" is_readable "$FOLLOWERS" "$TWEET" ||
      fail "tweet $TWEET could not be read within $CATCH_UP_TIMEOUT_S s without RabbitMQ"
    say "user $FOLLOWERS could read it after $(seconds_since "$began"), by the log itself"
    scripts/services.sh start-broker 2>&1 8>&- | indented
    check_feeds
  else
    say "left out: it needs the private servers of scripts/services.sh"
  fi
  step_done
}

# operate COMMAND…: what an operator would run. Its bar, if there is a terminal, goes there on standard error.
operate() { (exec_clean DATABASE_URL="$DEMO_DATABASE_URL" AMQP_URL="$DEMO_AMQP_URL" "$PROJECTOR" "$@"); }

rebuild() {
  step 'The read model is made again from the log, while it serves'
  if [ -t 2 ]; then
    operate rebuild | indented
  else
    operate rebuild 2>"$RUN_DIR/rebuild.log" | indented
  fi
  check_feeds
  step_done
}

verify() {
  step 'Everything is held against the log'
  if [ -t 2 ]; then
    operate verify | indented
  else
    operate verify 2>"$RUN_DIR/verify.log" | indented
  fi
  step_done
}

look() {
  local vhost password='in RABBITMQ_UI_PASSWORD'
  step 'How far everything is'
  operate status | indented
  if [ -n "${RABBITMQ_UI:-}" ]; then
    if ! are_given; then password=$RABBITMQ_UI_PASSWORD; fi
    vhost=${DEMO_AMQP_URL%%\?*}
    vhost=${vhost##*/}
    say "RabbitMQ's UI: $RABBITMQ_UI, user $RABBITMQ_UI_USER, password $password"
    say "  what the relay publishes  $RABBITMQ_UI/#/exchanges/$vhost/rookery.events"
    say "  what the projector reads  $RABBITMQ_UI/#/queues/$vhost/rookery.feed"
    if [ "$KEEP" = no ]; then say "With --keep it stays there to look at."; fi
  fi
  step_done
}

# ---------------------------------------------------------------------------------------------------------
# The end
# ---------------------------------------------------------------------------------------------------------

# Whatever becomes of the demo, this is called.
on_exit() {
  local code=$?
  set +e
  trap - EXIT
  # What was begun here is finished: it takes seconds, and half of it would leave more to do for the user.
  trap '' INT TERM HUP PIPE
  case $code in
    0) ;;
    141) exec >/dev/null ;;
    129 | 130 | 143) printf '\nrun_demo.sh: interrupted\n' >&2 ;;
    *)
      if [ -n "$STEP" ]; then printf 'run_demo.sh: failed in "%s"\n' "$STEP" >&2; fi
      show_log "$RUN_DIR/api.log"
      show_log "$RUN_DIR/projector.log"
      show_log "$RUN_DIR/rebuild.log"
      show_log "$RUN_DIR/verify.log"
      ;;
  esac
  if [ "$code" != 0 ] || [ "$KEEP" = no ]; then
    step 'Cleaning up'
    if ! end_demo && [ "$code" = 0 ]; then code=1; fi
    if [ "$SERVICES_STARTED" = yes ]; then stop_services; fi
    step_done
  fi
  printf '\n%s in %s\n' "$(if [ "$code" = 0 ]; then echo Done; else echo Ended; fi)" "$(seconds_since "$BEGAN")"
  exit "$code"
}

show_log() {
  if [ ! -s "$1" ]; then return 0; fi
  printf 'The last lines of %s:\n' "$(short "$1")" >&2
  tail -n 5 "$1" | cut -c 1-300 | sed 's/^/  | /' >&2
}

# end_demo: stops its programs and deletes its data. Fails if anything could not be done, or if a program did not end
# as it should.
end_demo() {
  local failed=0
  if runs "$API_PID" "$API_BORN"; then kill "$API_PID"; fi
  if runs "$PROJECTOR_PID" "$PROJECTOR_BORN"; then kill "$PROJECTOR_PID"; fi
  end_process api "$API_PID" "$API_BORN" || failed=1
  end_process projector "$PROJECTOR_PID" "$PROJECTOR_BORN" || failed=1
  if [ "$HAVE_DATABASE" = yes ]; then
    if drop_database || drop_database; then
      say "deleted the database $NAME"
      HAVE_DATABASE=no
    else
      say "cannot delete the database $NAME: $(sed -n 1p "$RUN_DIR/psql.log")"
    fi
  fi
  if [ "$HAVE_VHOST" = yes ]; then
    case $(management DELETE "vhosts/$NAME") in
      204 | 404)
        say "deleted the virtual host $NAME"
        HAVE_VHOST=no
        ;;
      *) say "cannot delete the virtual host $NAME at $RABBITMQ_UI" ;;
    esac
  fi
  if [ "$HAVE_DATABASE$HAVE_VHOST" = nono ]; then
    rm -f "$RUN_DIR/state" "$RUN_DIR/env"
  else
    say "to try again when the servers answer: $(own_command) --stop; to forget it: rm -r $(short "$RUN_DIR")"
    failed=1
  fi
  return "$failed"
}

# psql does not ignore Ctrl-C, even where everything else was told to: hence a second time.
drop_database() { sql "drop database if exists $NAME with (force)" >"$RUN_DIR/psql.log" 2>&1; }

# end_process NAME PID BORN: which was told to.
end_process() {
  local code=0
  if [ -z "$2" ]; then return 0; fi
  if ! poll "$STOP_TIMEOUT_S" has_ended "$2" "$3"; then
    kill -9 "$2"
    say "$1 did not stop within $STOP_TIMEOUT_S s and was killed"
    return 1
  fi
  # Only its parent hears how a process ended.
  if [ "$SCRIPT_PID" = $$ ]; then wait "$2" || code=$?; fi
  if [ "$code" != 0 ]; then
    say "$1 ended with exit code $code instead of 0"
    return 1
  fi
  say "$1 stopped"
}

# end_others WHICH: the demos that were cut off, whose script is gone without having cleaned up, or `all`, with
# those that --keep left running. Their servers are then ours to stop.
end_others() {
  local file code started
  while read -r file; do
    # shellcheck disable=SC1090
    started=$(. "$file" && echo "$SERVICES_STARTED")
    code=0
    (end_other "$1" "$file") || code=$?
    if [ "$code" = "$LEFT_ALONE" ]; then continue; fi
    if [ "$code" != 0 ]; then OTHERS_ENDED=no; fi
    if [ "$started" = yes ]; then SERVICES_STARTED=yes; fi
  done < <(states)
}

OTHERS_ENDED=yes
LEFT_ALONE=3

# end_other WHICH STATE_FILE
end_other() {
  local addresses
  # shellcheck disable=SC1090
  . "$2"
  if runs "$SCRIPT_PID" "$SCRIPT_BORN"; then return "$LEFT_ALONE"; fi
  if [ "$1 $KEPT" = 'cut-off yes' ] && { runs "$API_PID" "$API_BORN" || runs "$PROJECTOR_PID" "$PROJECTOR_BORN"; }; then
    return "$LEFT_ALONE"
  fi
  # Servers of ours may have been started anew, on other ports. Where they are down, the old addresses will tell.
  if ! are_given; then
    addresses=$(unset DATABASE_URL AMQP_URL && scripts/services.sh env 2>/dev/null 8>&-) || addresses=''
    eval "$addresses"
  fi
  say "the demo $NAME:"
  end_demo
}

stop_all() {
  step 'Stopping what --keep left running'
  SERVICES_STARTED=no
  if [ -z "$(states)" ]; then say "there is nothing"; fi
  end_others all
  if [ "$SERVICES_STARTED$OTHERS_ENDED" = yesyes ]; then stop_services; fi
  step_done
  [ "$OTHERS_ENDED" = yes ]
}

# Each line can be pasted by itself, into any shell.
keep() {
  local json="-H 'Content-Type: application/json'" curl="curl -w '\\n'" log
  KEPT=yes
  save_state
  step 'Left running'
  cat <<TEXT
   The page, on which all of it can be seen at work: act as user $CELEBRITY and post
     $API_URL/
   What arrives in the feed of user $FOLLOWERS, and what is in it
     $curl '$API_URL/api/feed/?limit=3' -H 'X-User-ID: $FOLLOWERS'
   The celebrity tweets
     $curl $API_URL/api/tweets/ -H 'X-User-ID: $CELEBRITY' $json -d '{"content": "Hello from the command line"}'
   User $ORDINARY follows her, and has at once what she wrote before
     $curl $API_URL/api/subscriptions/follow -H 'X-User-ID: $ORDINARY' $json -d '{"followed_id": $CELEBRITY}'
     $curl '$API_URL/api/feed/?limit=3' -H 'X-User-ID: $ORDINARY'
   The same feed as it was before, at position $TWEET of the log
     $curl '$API_URL/api/feed/?limit=3&at=$TWEET' -H 'X-User-ID: $ORDINARY'
   And no more
     $curl -X DELETE $API_URL/api/subscriptions/unfollow/$CELEBRITY -H 'X-User-ID: $ORDINARY'
   Who follows her
     $curl '$API_URL/api/subscriptions/$CELEBRITY/followers?limit=3'
   Whether the service is ready, and how far everything is
     $curl $API_URL/health/ready
     sh -c '. $(short "$RUN_DIR/env") && $(short "$PROJECTOR") status'
   The read model made again while it serves, held against the log, and the generation before back again
     sh -c '. $(short "$RUN_DIR/env") && $(short "$PROJECTOR") rebuild'
     sh -c '. $(short "$RUN_DIR/env") && $(short "$PROJECTOR") verify'
     sh -c '. $(short "$RUN_DIR/env") && $(short "$PROJECTOR") rollback'
   Logs
TEXT
  for log in api projector; do printf '     tail -n 20 %s\n' "$(short "$RUN_DIR/$log.log")"; done
  printf '   %sTo stop it and delete its data%s\n     %s --stop\n' "$BOLD" "$PLAIN" "$(own_command)"
  step_done
}

# short PATH: as one would type it in the directory where this script was called, which may be quoted.
short() {
  local path=${1#"$CALLED_IN"/}
  case $path in
    *[!A-Za-z0-9_./-]*) printf '%q' "$path" ;;
    *) printf '%s' "$path" ;;
  esac
}

own_command() {
  local command
  command=$(short "$ROOT/run_demo.sh")
  case $command in
    */*) ;;
    *) command=./$command ;;
  esac
  if [ "$LOCAL_DIR" != "$ROOT/.local" ]; then command="ROOKERY_LOCAL=$(short "$LOCAL_DIR") $command"; fi
  printf '%s' "$command"
}

main() {
  local argument outage=no stop=no
  for argument in "$@"; do
    case $argument in
      --keep) KEEP=yes ;;
      --with-outage) outage=yes ;;
      --stop) stop=yes ;;
      --help | -h)
        usage
        return 0
        ;;
      *)
        usage >&2
        return 2
        ;;
    esac
  done
  BEGAN=$(now_ms)
  lock
  if [ "$stop" = yes ]; then
    stop_all
    return
  fi
  require_programs
  remove_old_logs
  trap on_exit EXIT
  # A signal can come while bash itself is writing. With -e it would then end here, without on_exit.
  trap 'set +e; exit 130' INT
  trap 'set +e; exit 143' TERM
  trap 'set +e; exit 129' HUP
  trap 'set +e; exit 141' PIPE
  start_services
  build
  make_database_and_vhost
  start
  populate
  time_posts
  time_deliveries
  if [ "$outage" = yes ]; then outage; fi
  rebuild
  verify
  look
  if [ "$KEEP" = yes ]; then keep; fi
}

main "$@"

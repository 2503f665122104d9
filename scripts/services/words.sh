# shellcheck shell=bash
# What services.sh says, and waiting: until something holds, and for no longer than something may take.

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

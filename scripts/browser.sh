#!/usr/bin/env bash
# Makes sure that there is a Chromium with its driver, for the tests of the page. Installs Debian's packages where it
# may, else prints the command.
set -euo pipefail

packages=(chromium chromium-driver)

if command -v chromedriver >/dev/null && command -v chromium >/dev/null; then
    exit 0
fi
say() { printf 'browser: %s\n' "$*" >&2; }
if ! command -v apt-get >/dev/null; then
    say "the tests of the page need Chromium and chromedriver in PATH; install them, then run this again"
    exit 1
fi
if [[ $(id -u) != 0 ]]; then
    say "the tests of the page need a browser; install it, then run this again:"
    say "    sudo apt-get update && sudo apt-get install -y ${packages[*]}"
    exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -o DPkg::Lock::Timeout=120 \
        install -y --no-install-recommends --no-remove "${packages[@]}" >>"$log" 2>&1
}
say "installing ${packages[*]}"
if ! install && ! { apt-get -q update >>"$log" 2>&1 && install; }; then
    cat "$log" >&2
    say "apt-get failed"
    exit 1
fi

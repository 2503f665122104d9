#!/usr/bin/env bash
# Makes sure that there are the programs that some tests put beside the service, in target/tools/debian of the checkout: Prometheus with
# its node exporter, and pgbouncer. Unpacked from Debian's packages, not installed, so that no server of the system starts.
set -euo pipefail
cd "$(dirname "$0")/.."

DIR=target/tools/debian
# pgbouncer with the libraries that need not be there already.
packages=(prometheus prometheus-node-exporter pgbouncer libc-ares2 libevent-2.1-7)

say() { printf 'unpacked: %s\n' "$*" >&2; }

if [[ -r $DIR/packages && $(cat "$DIR/packages") == "${packages[*]}" ]]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    say "the tests need prometheus, prometheus-node-exporter and pgbouncer, as Debian's packages have them, in $DIR; put them there,"
    say "and into $DIR/packages the line: ${packages[*]}"
    exit 1
fi
say "unpacking ${packages[*]}"
mkdir -p "$DIR"
download() { (cd "$DIR" && rm -f ./*.deb && apt-get -q download "${packages[@]}" >log 2>&1); }
if ! download; then
    if [[ $(id -u) != 0 ]]; then
        cat "$DIR/log" >&2
        say "Debian's lists may be old; update them, then run this again: sudo apt-get update"
        exit 1
    fi
    { apt-get -q update && download; } >>"$DIR/log" 2>&1 || { cat "$DIR/log" >&2; exit 1; }
fi
for package in "$DIR"/*.deb; do
    dpkg-deb -x "$package" "$DIR"
done
rm -f "$DIR"/*.deb
echo "${packages[*]}" >"$DIR/packages"

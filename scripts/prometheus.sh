#!/usr/bin/env bash
# Makes sure that there is a Prometheus with its node exporter, for the tests of the alarms, in target/tools of the
# checkout: unpacked from Debian's packages, not installed, so that no server of the system starts.
set -euo pipefail
cd "$(dirname "$0")/.."

DIR=target/tools/prometheus
packages=(prometheus prometheus-node-exporter)

say() { printf 'prometheus: %s\n' "$*" >&2; }

if [[ -x $DIR/usr/bin/prometheus && -x $DIR/usr/bin/prometheus-node-exporter ]]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    say "the tests of the alarms need prometheus and prometheus-node-exporter in $DIR/usr/bin; put them there"
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

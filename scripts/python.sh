#!/usr/bin/env bash
# Makes sure that there is what the tests need from PyPI, in target/tools/python of the checkout: schemathesis, which holds the
# service against its own description, what the consumer in docs/consumers.md is written with, and typos, which .ci/run runs. Needs Python's venv: installs
# Debian's package where it may, else prints the command.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(schemathesis==4.32.5 pika==1.4.4 'psycopg[binary]==3.3.9' typos==1.52.0)
DIR=target/tools/python

say() { printf 'python: %s\n' "$*" >&2; }

if [[ -r $DIR/packages && $(cat "$DIR/packages") == "${packages[*]}" ]]; then
    exit 0
fi
make_venv() { rm -rf "$DIR" && python3 -m venv "$DIR" >/dev/null 2>&1; }
mkdir -p "$(dirname "$DIR")"
if ! make_venv; then
    if ! command -v apt-get >/dev/null || [[ $(id -u) != 0 ]]; then
        say "the tests need Python's venv; on Debian, install it and run this again:"
        say "    sudo apt-get update && sudo apt-get install -y python3-venv"
        exit 1
    fi
    say "installing python3-venv"
    install() {
        DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -o DPkg::Lock::Timeout=120 \
            install -y --no-install-recommends --no-remove python3-venv >/dev/null
    }
    install || { apt-get -q update >/dev/null && install; }
    make_venv
fi
say "installing ${packages[*]}"
"$DIR/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
echo "${packages[*]}" >"$DIR/packages"

#!/usr/bin/env bash
# Makes sure that there is a schemathesis (PyPI), which holds the service against its own description in the tests, in
# target/tools of the checkout. Needs Python's venv: installs Debian's package where it may, else prints the command.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=4.32.5
DIR=target/tools/schemathesis

say() { printf 'schemathesis: %s\n' "$*" >&2; }

if [[ -x $DIR/bin/schemathesis && $("$DIR/bin/schemathesis" --version) == *"$VERSION"* ]]; then
    exit 0
fi
make_venv() { rm -rf "$DIR" && python3 -m venv "$DIR" >/dev/null 2>&1; }
mkdir -p "$(dirname "$DIR")"
if ! make_venv; then
    if ! command -v apt-get >/dev/null || [[ $(id -u) != 0 ]]; then
        say "the test of the description needs Python's venv; on Debian, install it and run this again:"
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
say "installing schemathesis $VERSION"
"$DIR/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$VERSION"

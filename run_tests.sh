#!/usr/bin/env bash
# Runs every test, on a real PostgreSQL, a real RabbitMQ and a real browser, which it brings up if they are not there.
# Arguments go to the test runner: ./run_tests.sh forged
set -euo pipefail
cd "$(dirname "$0")"

if [[ "${1:-}" == "--help" || "${1:-}" == "-h" ]]; then
    sed -n '2,3s/^# //p' "$0"
    exit 0
fi

if ! command -v make >/dev/null; then
    echo "make is missing; on Debian: apt-get install build-essential" >&2
    exit 1
fi
scripts/browser.sh
scripts/python.sh
scripts/unpacked.sh
scripts/services.sh up
eval "$(scripts/services.sh env)"
export DATABASE_URL AMQP_URL RABBITMQ_UI

# The end-to-end tests run the two programs as an operator does.
cargo build --workspace --locked
cargo build --package projector --examples --locked
# Most of their time the end-to-end tests wait for servers, so that twice as many as there are cores fit beside each other.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((2 * $(nproc)))}"
cargo test --workspace --locked -- "$@"

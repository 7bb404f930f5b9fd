#!/bin/sh
# Sets up what is missing and runs every test on this machine's adapter.
#
# usage: scripts/test.sh [--yes] [-- CARGO TEST ARGUMENTS...]
#   --yes   install missing packages without asking (a run without a terminal never asks)
#   --      everything after it goes to `cargo test`
#
# GANYMEDE_TEST_GPU: `require` (default here) fails where there is no adapter, `auto` skips GPU tests loudly, `off` skips them.
# GANYMEDE_DATA: folder of real data sets (fashion-mnist/...) for the tests that use them.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=scripts/lib/setup.sh
. "$root/scripts/lib/setup.sh"

while [ $# -gt 0 ]; do
    case $1 in
        -y | --yes) assume_yes=yes ;;
        -h | --help)
            sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"
            exit 0
            ;;
        --)
            shift
            break
            ;;
        *) die 2 "unknown argument '$1'; usage: scripts/test.sh [--yes] [-- CARGO TEST ARGUMENTS...]" ;;
    esac
    shift
done

set_up
cd "$root"
GANYMEDE_TEST_GPU=${GANYMEDE_TEST_GPU:-require}
export GANYMEDE_TEST_GPU
# Mesa's device-select layer asks Wayland which GPU shows the screen, and complains on machines without one.
NODEVICE_SELECT=${NODEVICE_SELECT:-1}
export NODEVICE_SELECT

started=$(date +%s)
if [ "$GANYMEDE_TEST_GPU" = require ]; then
    as_owner cargo build --locked
    ensure_adapter --locked
fi
# The dev profile is optimised (Cargo.toml). Every failure is wanted, not the first alone.
as_owner cargo test --locked --no-fail-fast "$@"
say "All tests passed in $(($(date +%s) - started)) s (build included)."

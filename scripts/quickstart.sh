#!/bin/sh
# From a fresh clone to pictures: sets up what is missing, builds, trains the default (dcgan-28-small on builtin:digits), says where the
# pictures are.
#
# usage: scripts/quickstart.sh [--yes] [-- TRAIN FLAGS...]
#   --yes   install missing packages without asking (a run without a terminal never asks)
#   --      everything after it goes to `ganymede train`
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
        *) die 2 "unknown argument '$1'; usage: scripts/quickstart.sh [--yes] [-- TRAIN FLAGS...]" ;;
    esac
    shift
done

set_up
cd "$root"

say "Building (the first build compiles wgpu and takes a few minutes)"
as_owner cargo build --release --locked

ensure_adapter --release --locked

as_owner cargo run --release --locked --quiet -- train --outdir "$root/runs" "$@"

# Run folders are numbered with leading zeros, so the last one in the glob's order is the one just written.
run=
for folder in "$root"/runs/[0-9]*/; do
    [ ! -d "$folder" ] || run=${folder%/}
done
[ -n "$run" ] || exit 0 # --dry-run, or --outdir elsewhere
picture=
for file in "$run"/fakes-*.png; do
    [ ! -f "$file" ] || picture=$file
done
say ""
say "Pictures:"
say "  generated     ${picture:-$run}"
say "  before        $run/fakes_init.png"
say "  real          $run/reals.png"
say "More samples:   cargo run --release -- sample --model '$run'"
say "All the tests:  scripts/test.sh"

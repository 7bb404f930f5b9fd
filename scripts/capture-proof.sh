#!/bin/sh
# Proves that a training step can be captured without a display: captures one with RenderDoc, converts the capture to XML, and looks in it for
# the label of every dispatch of the plan, in order, and for the names of buffers, textures and pipelines.
#
# usage: scripts/capture-proof.sh [--yes] [FOLDER]
#   --yes   install RenderDoc without asking if it is missing (Debian and Ubuntu)
#   FOLDER  where step_capture.rdc and step.xml go (default: target/capture-proof)
#
# GANYMEDE: the command to capture, if it is built already; otherwise it is built here.
# Exit codes: 0 proven, 1 something is not in the capture, 3 the machine lacks something.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=scripts/lib/setup.sh
. "$root/scripts/lib/setup.sh"

folder=$root/target/capture-proof
for argument in "$@"; do
    case $argument in
        -y | --yes) assume_yes=yes ;;
        -h | --help)
            sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"
            exit 0
            ;;
        -*) die 2 "unknown argument '$argument'; usage: scripts/capture-proof.sh [--yes] [FOLDER]" ;;
        *) folder=$argument ;;
    esac
done

if ! have renderdoccmd; then
    [ "$(package_manager)" = apt-get ] || die 3 "renderdoccmd is missing; install RenderDoc (https://renderdoc.org) and run this again"
    install_packages "RenderDoc (renderdoccmd)" renderdoccmd
fi
if [ -z "${GANYMEDE:-}" ]; then
    set_up
    (cd "$root" && as_owner cargo build --locked --quiet)
    GANYMEDE=$root/target/debug/ganymede
fi
NODEVICE_SELECT=${NODEVICE_SELECT:-1}
export NODEVICE_SELECT
mkdir -p "$folder"
# RenderDoc takes a relative path as one beside the program.
folder=$(CDPATH='' cd -- "$folder" && pwd)
cd "$folder"
rm -f step_capture.rdc step.xml

settings="--batch 2 --data builtin:digits?n=64"
# shellcheck disable=SC2086
"$GANYMEDE" plan $settings | awk '$1 ~ /^[0-9]+$/ && $2 ~ /^step\// { print $2 }' >planned.txt
# shellcheck disable=SC2086
renderdoccmd capture -w -c "$folder/step" "$GANYMEDE" profile $settings --capture-step 2 >capture.txt 2>&1 || {
    cat capture.txt >&2
    die 1 "the step was not captured"
}
grep "Captured step 2" capture.txt || {
    cat capture.txt >&2
    die 1 "the command does not say where the capture went"
}
[ -s step_capture.rdc ] || die 1 "$folder/step_capture.rdc is not there"
renderdoccmd convert -f step_capture.rdc -o step.xml -c xml >/dev/null

# Debug groups begin with a chunk of their own; a dispatch follows inside it.
sed -n 's/.*name="pLabelName"[^>]*>\(step\/[^<]*\)<.*/\1/p' step.xml >captured.txt
if ! cmp -s planned.txt captured.txt; then
    diff planned.txt captured.txt >&2 || true
    die 1 "the capture's labels (>) are not the plan's (<)"
fi
dispatches=$(grep -c 'name="vkCmdDispatch"' step.xml || true)
[ "$dispatches" = "$(wc -l <planned.txt)" ] || die 1 "the capture has $dispatches dispatches, the plan $(wc -l <planned.txt)"
for name in 'G\.values' 'D\.grads' 'step/G/fake/[^<]*' 'pass from step/data/z\.noise' 'adam/'; do
    grep -q ">${name}[^<]*<" step.xml || die 1 "nothing in the capture is named '$name'"
done
say "Proven: $dispatches dispatches in the capture, each under its label; $folder/step_capture.rdc opens in qrenderdoc"

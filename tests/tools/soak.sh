#!/usr/bin/env bash
#
# soak.sh SUITE... - runs tests again and again while all cores are busy, and
# stops at the first run in which one fails.
#
# A test that fails once in a hundred runs has a fault, or found one: on a busy
# machine things happen late and in another order. SUITE is as for run.sh; TIMES
# says how often (100 by default). The exit status is 0 when nothing failed.

set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
log=$top/build/soak.log
times=${TIMES:-100}
busy=() # what keeps the cores busy
trap '[ ${#busy[@]} = 0 ] || kill "${busy[@]}" 2>/dev/null' EXIT
trap 'exit 130' INT TERM HUP

# Linux shares the processor out between sessions first: in a session of its own
# such a loop counts as much as a test does. It ends when this script has.
alone=$(command -v setsid)
for ((i = $(getconf _NPROCESSORS_ONLN); i > 0; i--)); do
    # shellcheck disable=SC2016 # the inner shell's $0
    ${alone:+"$alone"} sh -c 'while kill -0 "$0"; do :; done' "$$" 2>/dev/null &
    busy+=($!)
done

for ((run = 1; run <= times; run++)); do
    begin=$SECONDS
    if ! "$top/tests/tools/run.sh" "$@" >"$log" 2>&1; then
        cat "$log"
        echo "run $run of $times failed; its report is in $log"
        exit 1
    fi
    echo "run $run of $times, $((SECONDS - begin)) s: $(tail -n 1 "$log")"
done

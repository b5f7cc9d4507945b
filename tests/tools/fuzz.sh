#!/usr/bin/env bash
#
# fuzz.sh NAME... - lets a fuzzer look for bytes that break a module.
#
# NAME is a target of tests/fuzz/ that make has built. Each runs for SECONDS_EACH
# seconds (10 by default). Beside it may stand NAME.lines, inputs to begin with,
# and NAME.dict, words to make inputs from. What it has learned, the inputs that
# reached something new, stays in build/fuzz/corpus/NAME, and the next run goes on
# from there. An input that broke something stays as build/fuzz/NAME-*. The exit
# status is 0 when nothing was found.

set -u

cd "$(dirname "$0")/../.." || exit 1
seconds=${SECONDS_EACH:-10}
status=0

# run NAME: runs a target and keeps what it says.
run() {
    local words=()
    [ ! -f "tests/fuzz/$1.dict" ] || words=("-dict=tests/fuzz/$1.dict")
    mkdir -p "build/fuzz/corpus/$1"
    [ ! -f "tests/fuzz/$1.lines" ] ||
        split -l 1 "tests/fuzz/$1.lines" "build/fuzz/corpus/$1/line-"
    "build/fuzz/$1" "build/fuzz/corpus/$1" ${words[@]+"${words[@]}"} \
        -max_total_time="$seconds" -timeout=60 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/$1-" >"build/fuzz/$1.log" 2>&1
}

# show NAME: what broke, and how to see it again.
show() {
    local log=build/fuzz/$1.log input
    grep -m 1 -E '^BROKEN|runtime error|ERROR: ' "$log"
    grep -m 1 '^SUMMARY' "$log"
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    if [ -n "$input" ]; then
        echo "The input, $(wc -c <"$input" | tr -d ' ') bytes:"
        od -A d -t x1 -c "$input" | head -n 12
        echo "Run it again: build/fuzz/$1 $input"
    fi
    echo "All that was said: $log"
}

for name in "$@"; do
    if run "$name"; then
        inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' \
            "build/fuzz/$name.log")
        echo "$name: $inputs inputs in $seconds s, nothing found"
    else
        status=1
        echo "$name: FOUND"
        show "$name" | sed 's/^/    /'
    fi
done
exit $status

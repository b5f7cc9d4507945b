#!/usr/bin/env bash
#
# run.sh SUITE... - runs tests that make has built, and sums up.
#
# A SUITE is a lesson's number (01), `hostile` (the hostile network's own tests),
# `pairs` (one lesson's client with another one's server) or `README` (the
# transcripts in the lessons' READMEs). A lesson is judged twice at the same
# time: on a calm network, and on a hostile one with a few seeds. What failed is
# printed as Criterion reports it; what passed is counted.
# With more than one suite the last line is "N passed, N failed, N skipped".
#
# From the environment: SERVER, CLIENT, ONLY, HOSTILE_SEED, SLOW and CALM as
# `make` explains them; CALLED_FROM, the folder that SERVER and CLIENT are
# relative to; PROGRAMS, the folder that holds the lessons' programs; UNDER, a
# command to run them under (valgrind); JOBS, how many tests run at once.

set -u
set -m # every run in a process group of its own, which stop_all can end

top=$(cd "$(dirname "$0")/../.." && pwd)
programs=$(cd "${PROGRAMS:-$top}" && pwd) || exit 2
results=$(mktemp -d "${TMPDIR:-/tmp}/tests.XXXXXX") || exit 2

# Who changes a lesson and calls `make test-NN` wants a verdict at once: without
# the tests that wait for seconds, and with one seed of the three.
quick=''
[ $# -gt 1 ] || [ -n "${SERVER:-}${CLIENT:-}${ONLY:-}${SLOW:-}" ] || quick=yes
[ -z "$quick" ] || export LEAVE_OUT_SLOW=1
seeds=${HOSTILE_SEED:-${quick:+1}}
case $seeds in
    *[!0-9\ ]*)
        echo "HOSTILE_SEED=$seeds: a seed is a whole number" >&2
        exit 2
        ;;
esac
# With all suites, the lessons from 05 on share the work: most of their tests
# are the same, and what a seed shows in one of them it shows in the others. So
# each has a seed of its own, and on the hostile network the slow tests run in
# the first of them.
several=''
[ $# -eq 1 ] || several=yes
seeds_of() {
    case $several$1 in
        yes05) echo 1 ;;
        yes06) echo 2 ;;
        yes07) echo 3 ;;
        *) echo 1 2 3 ;;
    esac
}
leave_out_slow_of() {
    case $several$1 in
        yes06 | yes07) echo 1 ;;
        *) echo "${LEAVE_OUT_SLOW:-}" ;;
    esac
}

# Tests at the same time, in each run. On two cores more are no faster, and a
# program that takes long to start, or forks for each client, gets its turn so
# late that tests give up.
jobs=${JOBS:-4}
unset HOSTILE_SEED MAKEFLAGS MFLAGS MAKELEVEL
export HOSTILE_LIBRARY=$top/build/tests/hostile.so
cd "${CALLED_FROM:-.}" || exit 2

running=() # runs that have not been waited for

# Ends what still runs, and nothing else: the number of a process that has ended
# may be another's by now. Criterion makes a group of its own, and leaves its
# socket behind when it is ended.
stop_all() {
    exec 2>/dev/null
    local group
    for group in $(jobs -rp) $(cat "$results"/*.pid); do
        kill -- "-$group"
        rm -f "/tmp/criterion_$group.sock"
    done
    rm -rf "$results"
}
trap stop_all EXIT
trap 'exit 130' INT TERM HUP

colour=()
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] && colour=(--color=always)

passed=0 failed=0 skipped=0 # of all suites
broken=false                # a run that gave no verdict
summary=()                  # one line a suite

# Prints a command (a path, or several words) with the path of a program that
# lies here made absolute.
located() {
    local program=$1
    [ -f "$program" ] || program=${1%% *}
    if [ -f "$program" ] && [ -x "$program" ]; then
        case $program in /*) ;; *) set -- "$PWD/$1" ;; esac
    elif ! command -v -- "$program" >/dev/null; then
        echo "$program: no such program, or none that may be run (I looked in" \
            "$PWD)" >&2
        return 1
    fi
    printf '%s\n' "$1"
}

# Sets SERVER, CLIENT and the variable `suites`: which of them are judged.
choose_programs() {
    local folder
    suites='*'
    if [ -n "${given_server}${given_client}" ]; then
        [ -n "$given_client" ] || suites=server
        [ -n "$given_server" ] || suites=client
        SERVER=$given_server CLIENT=$given_client
    else
        folder=$(cd "$top" && echo "$1"-*)
        SERVER=${UNDER:+$UNDER }$programs/$folder/server
        CLIENT=${UNDER:+$UNDER }$programs/$folder/client
    fi
    export SERVER CLIENT
}

# start RUN SEEDS COMMAND...: starts COMMAND in the background; its output, the
# results of each test (TAP), its time and its exit status go to $results/RUN.*.
start() {
    local run=$results/$1
    export HOSTILE_SEEDS=$2
    shift 2
    {
        TIMEFORMAT=%1R
        # shellcheck disable=SC2016 # the inner shell's $$ and $@
        time sh -c 'echo $$ >"$0" && exec "$@"' "$run.pid" \
            "$@" ${colour[@]+"${colour[@]}"} --tap="$run.tap" \
            </dev/null >"$run.log" 2>&1
        echo $? >"$run.status"
        rm -f "$run.pid"
    } 2>"$run.time" &
    running+=($!)
}

# Waits for what start has started.
finish() {
    [ "${#running[@]}" = 0 ] || wait "${running[@]}"
    running=()
}

# judged RUN WHAT: adds up a run that has ended. Sets `verdict`, a few words on
# it, and `count`, how many tests ran; prints what failed.
judged() {
    local run=$results/$1 what=$2 planned ran good bad ignored status
    # "ok - suite::name" and "not ok - ..."; a test that the filter left out
    # stands there as skipped, without a reason of its own; a slow one is left
    # out with the reason "slow".
    grep -vE '# SKIP (test was skipped|slow)' "$run.tap" >"$run.ran" 2>/dev/null
    left_out=$(grep -c '# SKIP slow' "$run.tap" 2>/dev/null)
    good=$(grep '^ok ' "$run.ran" | grep -vc '# SKIP')
    bad=$(grep -c '^not ok ' "$run.ran")
    ignored=$(grep -c '^ok .*# SKIP' "$run.ran")
    planned=$(sed -n 's/^1\.\.//p' "$run.tap" 2>/dev/null)
    ran=$(grep -cE '^(not )?ok ' "$run.tap" 2>/dev/null)
    status=$(cat "$run.status" 2>/dev/null)
    count=$((good + bad + ignored))
    passed=$((passed + good))
    failed=$((failed + bad))
    skipped=$((skipped + ignored))

    if [ "$bad" -gt 0 ] || [ "$status" != 0 ]; then
        printf '\n%s\n' "$what:"
        grep -av 'Synthesis: ' "$run.log"
    fi
    sed -n 's/^ok - \(.*[^ ]\)  *# SKIP \(.*\)/skipped: \1: \2/p' "$run.ran" |
        sed 's/::/\//'

    verdict='all passed'
    if [ "$bad" -gt 0 ]; then
        verdict="$bad failed"
    elif [ "$status" != 0 ] || [ "$ran" != "${planned:-none}" ]; then
        broken=true
        verdict="the test program broke off (exit status ${status:-unknown})"
    elif [ "$count" = 0 ]; then
        broken=true
        verdict='no test ran'
        case $1 in
            *-calm)
                echo "No test has that name (or judges that program)." \
                    "All names: build/tests/lesson-${1%-*} --list"
                ;;
        esac
    fi
    [ "$ignored" = 0 ] || verdict="$verdict, $ignored skipped"
    verdict="$verdict ($(tail -n 1 "$run.time") s)"
}

# Sets seeds_here and seeds_named, for a lesson.
choose_seeds() {
    seeds_here=${seeds:-$(seeds_of "$1")}
    case $seeds_here in
        *' '*) seeds_named="seeds $seeds_here" ;;
        *) seeds_named="seed $seeds_here" ;;
    esac
}

start_lesson() {
    local number=$1 binary=$top/build/tests/lesson-$1 filter=()
    choose_programs "$number"
    choose_seeds "$number"
    [ "$suites/${ONLY:-*}" = '*/*' ] || filter=(--filter "$suites/${ONLY:-*}")
    start "$number-calm" '' "$binary" "-j$jobs" ${filter[@]+"${filter[@]}"}
    [ -n "${CALM:-}" ] ||
        LEAVE_OUT_SLOW=$(leave_out_slow_of "$number") \
            start "$number-hostile" "$seeds_here" "$binary" "-j$jobs" \
            ${filter[@]+"${filter[@]}"}
}

# How many runs that have been started have not ended.
under_way() {
    jobs -rp | grep -cxF -e "$(printf '%s\n' "${running[@]:-none}")"
}

# Starts the last lesson first: it takes longest, and computes while the first
# ones mostly wait. Then the others, each when few enough runs are under way.
run_lessons() {
    local lesson last=${!#}
    for lesson in "$last" "${@:1:$#-1}"; do
        while [ "$(under_way)" -gt 6 ]; do
            sleep 0.1
        done
        start_lesson "$lesson"
    done
    finish
}

judge_lesson() {
    local number=$1 line
    choose_seeds "$number"
    judged "$number-calm" "Lesson $number on a calm network"
    line="lesson $number   $(printf %3d "$count") tests   calm: $verdict"
    if [ -z "${CALM:-}" ]; then
        judged "$number-hostile" \
            "Lesson $number on a hostile network ($seeds_named)"
        line="$line   hostile, $seeds_named: $verdict"
    fi
    summary+=("$line")
}

start_hostile_check() {
    start hostile '' "$top/build/tests/hostile-check" "-j$jobs"
}

judge_hostile_check() {
    judged hostile "The hostile network's own tests"
    summary+=("hostile     $(printf %3d "$count") tests   $verdict")
}

# Each room's client with each other room's server.
start_pairs() {
    "$top/tests/tools/interoperate.sh" >"$results/pairs" 2>&1 &
    pairs=$!
}

finish_pairs() {
    local report good bad verdict='all passed'
    wait "$pairs"
    report=$(cat "$results/pairs")
    read -r good _ <<<"$(tail -n 1 <<<"$report")"
    bad=$(sed -n '$s/.*, \([0-9]*\) do not$/\1/p' <<<"$report")
    if [ "${bad:-1}" != 0 ]; then
        printf '\n%s\n' "$report"
        verdict="${bad:=1} failed"
    fi
    passed=$((passed + ${good:-0}))
    failed=$((failed + bad))
    summary+=("pairs      $(printf %3d $((${good:-0} + bad)))          $verdict")
}

# The transcripts mostly wait: they run beside everything else.
start_transcripts() {
    local lesson
    for lesson in "$top"/[0-9][0-9]-*; do
        lesson=${lesson##*/}
        [ -f "$top/$lesson/README.md" ] || continue
        "$top/tests/tools/transcripts.sh" "${lesson%%-*}" \
            >"$results/$lesson.readme" 2>&1 &
            readmes+=($!)
    done
}

# Each README's run ends with a line of counts.
finish_transcripts() {
    local log last good bad ignored count=0 all_bad=0 all_ignored=0
    local verdict='all passed'
    [ "${#readmes[@]}" = 0 ] || wait "${readmes[@]}" 2>/dev/null
    for log in "$results"/*.readme; do
        [ -f "$log" ] || continue
        last=$(tail -n 1 "$log")
        case $last in
            *' passed, '*' failed, '*' skipped') ;;
            *) last='0 passed, 1 failed, 0 skipped' ;;
        esac
        read -r good _ bad _ ignored _ <<<"$last"
        if [ "$bad" != 0 ] || [ "$ignored" != 0 ]; then
            printf '\n%s\n' "The transcripts in $(basename "$log" .readme):"
            sed '$d' "$log"
        fi
        count=$((count + good + bad + ignored))
        passed=$((passed + good))
        all_bad=$((all_bad + bad))
        all_ignored=$((all_ignored + ignored))
    done
    failed=$((failed + all_bad))
    skipped=$((skipped + all_ignored))
    [ "$all_bad" = 0 ] || verdict="$all_bad failed"
    [ "$all_ignored" = 0 ] || verdict="$verdict, $all_ignored skipped"
    [ "$count" != "$all_ignored" ] || verdict="$count skipped"
    summary+=("READMEs   $(printf %3d "$count") lines   $verdict")
}

given_server='' given_client=''
if [ -n "${SERVER:-}" ]; then
    given_server=$(located "$SERVER") || exit 2
fi
if [ -n "${CLIENT:-}" ]; then
    given_client=$(located "$CLIENT") || exit 2
fi

left_out=0
readmes=()
lessons=()
for suite in "$@"; do
    case $suite in
        README) start_transcripts ;;
        pairs) start_pairs ;;
        hostile) start_hostile_check ;;
        *) lessons+=("$suite") ;;
    esac
done
if [ "${#lessons[@]}" -gt 0 ]; then run_lessons "${lessons[@]}"; else finish; fi
for suite in "$@"; do
    case $suite in
        hostile) judge_hostile_check ;;
        pairs) finish_pairs ;;
        README) finish_transcripts ;;
        *) judge_lesson "$suite" ;;
    esac
done

[ "$failed" = 0 ] && [ "$broken" = false ] || echo
printf '%s\n' "${summary[@]}"
[ -z "$quick" ] ||
    echo "A quick verdict: $left_out slow tests, and all seeds but one, are" \
        "left out;" \
        "make test-$1 SLOW=1 runs all."
if [ $# -gt 1 ]; then
    line="$passed passed, $failed failed"
    [ "$skipped" = 0 ] || line="$line, $skipped skipped"
    echo "$line"
fi
[ "$failed" = 0 ] && [ "$broken" = false ]

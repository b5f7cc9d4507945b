#!/usr/bin/env bash
#
# exercises.sh COMMAND... - the exercises: judging, hints, answers.
#
#     exercises.sh board            every exercise, done or not
#     exercises.sh judge NN-K       one of them: what passes, and a report on the
#                                   first test that fails (ONLY=name: that test)
#     exercises.sh results NN-K F   the same, as files in the folder F
#     exercises.sh report LOG NAME  the report of one test in such a file
#     exercises.sh tests NN-K       the names of its tests
#     exercises.sh file NN-K        where the learner works on it
#     exercises.sh first [NN-K]     the first exercise (behind NN-K) to do
#     exercises.sh hint NN-K        the first hint; called again, the next one
#     exercises.sh solution NN-K    the difference between the learner's and ours
#     exercises.sh reset NN-K       begins anew, and keeps what was there
#     exercises.sh prove            proves of each exercise that its starter
#                                   fails, its solution passes, and wrong answers
#                                   are refused (NAME=04-2: that one alone,
#                                   TIMES=20: twenty times)
#     exercises.sh check            says which of an exercise's files are missing
#                                   or not in order; prints nothing else
#
# An exercise NN-K is made of
#
#     NN-lesson/exercises/K-name.c        the task, and a hole; here one works
#     NN-lesson/solutions/K-name.c        one good answer
#     tests/exercises/NN-K.c              the tests
#     tests/exercises/NN-K/hint-1, -2     two hints
#     tests/exercises/NN-K/starter.patch  makes the starter out of the solution
#     tests/exercises/NN-K/wrong-*.patch  make wrong answers out of the solution
#
# A wrong answer's patch has a header (patches.sh): "Wrong" says what is wrong,
# "Seems right" why somebody would write it, "Caught by" and "Message" what has
# to happen. Verdicts are found afresh each time; nothing remembers them.

set -u
set -m # every run in a process group of its own, which stop_all can end

top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top" || exit 1
# shellcheck source=tests/tools/patches.sh
. tests/tools/patches.sh

seeds=${HOSTILE_SEED:-1 2}
jobs=${JOBS:-8}
case $seeds in
    *[!0-9\ ]*)
        echo "HOSTILE_SEED=$seeds: a seed is a whole number" >&2
        exit 2
        ;;
esac
# A learner waits in front of the screen: what should come at once has 3 s.
patience=${PATIENCE:-}
export PATIENCE=${PATIENCE:-3}
results=$(mktemp -d "${TMPDIR:-/tmp}/exercises.XXXXXX") || exit 2
export HOSTILE_LIBRARY=$top/build/tests/hostile.so
unset HOSTILE_SEED MAKEFLAGS MFLAGS MAKELEVEL

# Ends what still runs, and nothing else: the number of a process that has ended
# may be another's by now. Criterion leaves its socket behind when it is ended;
# another user's Criterion with the same process ID could not begin.
stop_all() {
    exec 2>/dev/null
    local group
    for group in $(jobs -rp) $(cat "$results"/*/*.pid); do
        kill -- "-$group"
        rm -f "/tmp/criterion_$group.sock"
    done
    rm -rf "$results"
}
trap stop_all EXIT
trap 'exit 130' INT TERM HUP

if { [ -t 1 ] || [ "${COLOUR:-}" = always ]; } && [ -z "${NO_COLOR:-}" ]; then
    green=$'\e[32m' red=$'\e[31m' bold=$'\e[1m' plain=$'\e[0m'
else
    green='' red='' bold='' plain=''
fi

# All exercises, in their order: 01-1 01-2 ...
all_exercises() {
    local file
    for file in tests/exercises/*.c; do
        basename "$file" .c
    done
}

# 04-2 -> 04-framing
lesson_of() {
    echo "${1%%-*}"-*
}

# Our answer, which gives an exercise its name, unless a teacher has taken it
# away, and the learner's files.
files_of() {
    find "$(lesson_of "$1")/solutions" "$(lesson_of "$1")/exercises" \
        -name "${1#*-}-*.c" 2>/dev/null
}

# 04-2 -> 2-varint
name_of() {
    basename "$(cd "$top" && files_of "$1" | head -n 1)" .c
}

# 04-2 -> 04-framing/exercises/2-varint.c, where the learner works
file_of() {
    echo "$(lesson_of "$1")/exercises/$(name_of "$1").c"
}

# The names of an exercise's tests, in the order in which they stand.
tests_in() {
    sed -nE 's/^TEST\([a-z]+, ([a-z0-9_]+).*/\1/p' "tests/exercises/$1.c"
}

# run RESULTS NETWORK SEEDS ID PROGRAM: runs the tests of exercise ID. UNDER is a
# command to run the program under, FILTER a pattern for the names of tests.
run() {
    local into=$1/$2 program=${UNDER:+$UNDER }$5
    export HOSTILE_SEEDS=$3 SERVER=$program CLIENT=$program
    export AGAIN="make exercise-$4"
    # shellcheck disable=SC2016 # the inner shell's $$ and $@
    sh -c 'echo $$ >"$0" && exec "$@"' "$into.pid" \
        "$top/build/tests/exercise-$4" "-j$jobs" --tap="$into.tap" \
        --filter "*/${FILTER:-${ONLY:-*}}" </dev/null >"$into.log" 2>&1
    echo $? >"$into.status"
    rm -f "$into.pid"
}

# verdicts ID RESULTS NETWORK...: a line for each test, its name and what it said
# on each network: yes, no, skipped, or none when it did not run.
verdicts() {
    local id=$1 into=$2 network taps=()
    shift 2
    for network; do
        [ -f "$into/$network.tap" ] || : >"$into/$network.tap"
        taps+=("network=$((${#taps[@]} / 2 + 1))" "$into/$network.tap")
    done
    tests_in "$id" | awk -v networks=$# '
        !network { names[++count] = $1; next }
        /^(not )?ok - / {
            name = $0
            sub(/^(not )?ok - [a-z]+::/, "", name)
            sub(/ .*/, "", name)
            said[network, name] = /^not/ ? "no" : \
                /# SKIP test was skipped/ ? "none" : \
                /# SKIP/ ? "skipped" : "yes"
        }
        END {
            for (i = 1; i <= count; i++) {
                line = names[i]
                for (j = 1; j <= networks; j++) {
                    verdict = said[j, names[i]]
                    line = line " " (verdict == "" ? "none" : verdict)
                }
                print line
            }
        }' - "${taps[@]}"
}

# judge_in ID FOLDER RESULTS: builds exercises/K-name.c in a copy of the lesson
# (or in the lesson itself) and runs its tests. What comes out stands in RESULTS:
# build.log, calm.log and hostile.log, and `verdict`: a line for each test, its
# name and what it said on the calm and on the hostile network. Without a
# `verdict` the file does not compile. With CALM there is no hostile network,
# and with EARLY none when the calm one has said no. With TOGETHER each test's
# process goes through both networks, which costs half as much: there is one
# log, both.log, and one verdict a test.
judge_in() {
    local id=$1 folder=$2 into=$3 name networks calm
    name=exercises/$(name_of "$id")
    mkdir -p "$into"
    rm -f "$into"/verdict
    make -s -C "$folder" "$name" >"$into/build.log" 2>&1 </dev/null || return
    if [ -n "${TOGETHER:-}" ]; then
        networks=both
        run "$into" both "0 $seeds" "$id" "$folder/$name" &
        wait
    else
        networks=calm
        run "$into" calm '' "$id" "$folder/$name" &
        calm=$!
        if [ -z "${CALM:-}" ]; then
            networks='calm hostile'
            run "$into" hostile "$seeds" "$id" "$folder/$name" &
        fi
        # Who waits in front of a terminal is told at once.
        if [ -n "${EARLY:-}" ] && wait "$calm" &&
            [ "$(cat "$into/calm.status")" != 0 ]; then
            networks=calm
        else
            wait
        fi
    fi
    # shellcheck disable=SC2086 # one word a network
    verdicts "$id" "$into" $networks |
        if [ -n "${ONLY:-}" ]; then grep "^$ONLY "; else cat; fi \
            >"$into/verdict"
}

# passed RESULTS: how many tests passed, and of how many. A test passes when no
# network refuses it; one that was skipped says nothing.
passed() {
    awk '{ n = ($2 != "no" && $2 != "none" && $3 != "no" && $3 != "none") }
         { good += n; all++ }
         END { print good + 0, all + 0 }' "$1/verdict"
}

# report LOG NAME: the report on a test that failed. Reports stand one after the
# other, and each says in its third line which test it is on.
report() {
    awk -v name=" / $2, on " '
        !/^\[----\]/ || /^\[----\] [^ ].*: Assertion Failed$/ { wanted = 0 }
        /^\[----\]/ && index($0, name) { wanted = 1 }
        wanted { sub(/^\[----\]  ? ?/, ""); print }' "$1"
}

# show ID RESULTS: what passes, and the report on the first test that does not.
# Succeeds when the exercise is done.
show() {
    local id=$1 into=$2 test calm hostile good all first='' network
    if [ ! -f "$into/verdict" ]; then
        echo "${red}$id does not compile:${plain}"
        cat "$into/build.log"
        return 1
    fi
    cat "$into/build.log" # warnings
    read -r good all < <(passed "$into")
    echo "${bold}$id $(title_of "$id")${plain}   $(file_of "$id")"
    while read -r test calm hostile; do
        case $calm$hostile in
            *no*)
                echo "  ${red}no${plain}   $test"
                if [ -z "$first" ]; then
                    first=$test network=hostile
                    case $calm in no*) network=calm ;; esac
                fi
                ;;
            *skipped*) echo "  skip $test (this machine cannot run it)" ;;
            *) echo "  ${green}ok${plain}   $test" ;;
        esac
    done <"$into/verdict"
    if [ -n "$first" ]; then
        echo
        report "$into/$network.log" "$first"
        if ! grep -q "::$first" "$into/$network.tap"; then
            echo "The tests broke off:"
            tail -n 20 "$into/$network.log"
        fi
        echo
        echo "${red}$good of $all.${plain} The report above is on $first." \
            "${HINT:-make hint-$id} gives a hint."
        return 1
    fi
    if [ "$all" = 0 ]; then
        echo "No test of $id has that name. These are its tests:"
        tests_in "$id" | sed 's/^/    /'
        return 2
    elif [ -n "${ONLY:-}${CALM:-}" ]; then
        echo "$all of $all: what was asked for passes. make exercise-$id" \
            "judges all, on a calm and on a hostile network."
    else
        echo "${green}Done: $all of $all, on a calm and on a hostile" \
            "network.${plain} make solution-$id shows our answer beside yours."
    fi
}

# The title stands in the first comment of the file: "Exercise 04-2: Varints."
title_of() {
    files_of "$1" | xargs sed -nE "s/^ \* Exercise $1: (.*)\.\$/\1/p" |
        head -n 1
}

results() {
    judge_in "$1" "$top/$(lesson_of "$1")" "$2"
}

judge() {
    judge_in "$1" "$top/$(lesson_of "$1")" "$results/$1"
    show "$1" "$results/$1"
}

# ---------------------------------------------------------------------- board

# One process an exercise: judges it, prints a line "ID GOOD ALL".
judge_quietly() {
    local good=0 all
    TOGETHER=1 judge_in "$1" "$top/$(lesson_of "$1")" "$results/$1"
    if [ -f "$results/$1/verdict" ]; then
        read -r good all < <(passed "$results/$1")
    else
        all=broken
    fi
    echo "$1 $good $all"
}

# bar DONE ALL
bar() {
    local i
    for ((i = 0; i < $2; i++)); do
        [ "$i" -lt "$1" ] && printf '%s' "${green}#${plain}" || printf '.'
    done
}

board() {
    local id good all lesson count lessons_done course_done=0 course=0 next=''
    local lines lines_here
    lines=$(all_exercises |
        JOBS=6 xargs -P 8 -I ID tests/tools/exercises.sh judge-quietly ID)
    for lesson in [0-9][0-9]-*; do
        lines_here=$(sort <<<"$lines" | grep "^${lesson%%-*}-")
        [ -n "$lines_here" ] || continue
        lessons_done=0 count=0
        while read -r id good all; do
            count=$((count + 1))
            [ "$good" != "$all" ] || lessons_done=$((lessons_done + 1))
        done <<<"$lines_here"
        echo "${bold}$lesson${plain}  $(bar "$lessons_done" "$count")"
        while read -r id good all; do
            if [ "$good" = "$all" ]; then
                printf '  %sdone%s   %s  %s\n' "$green" "$plain" "$id" \
                    "$(title_of "$id")"
            else
                : "${next:=$id}"
                [ "$all" != broken ] || good='does not compile' all=''
                printf '  to do  %s  %s  (%s)\n' "$id" "$(title_of "$id")" \
                    "$good${all:+ of $all}"
            fi
        done <<<"$lines_here"
        course_done=$((course_done + lessons_done))
        course=$((course + count))
    done
    echo
    echo "${bold}the course${plain}  $(bar "$course_done" "$course")" \
        "$course_done of $course"
    [ -z "$next" ] ||
        echo "Next: $(file_of "$next")   (make watch, or make exercise-$next)"
}

# The first exercise that is not done, of those behind $1.
first() {
    all_exercises | awk -v after="${1:-}" '$1 > after' |
        JOBS=6 xargs -P 4 -I ID tests/tools/exercises.sh judge-quietly ID |
        sort | awk '$2 != $3 { print $1; exit }'
}

# ------------------------------------------------------------ hints and answers

# Which hint was shown last stands in build/; it is forgotten by make clean.
# HINT is what to do for a hint, where that is not a command of make.
hint() {
    local id=$1 shown=$top/build/exercises/$1.hint number
    mkdir -p "${shown%/*}"
    number=$(($(cat "$shown" 2>/dev/null || echo 0) % 2 + 1))
    echo "$number" >"$shown"
    echo "${bold}Hint $number of 2 for $id, $(title_of "$id")${plain}"
    cat "tests/exercises/$id/hint-$number"
    if [ "$number" = 2 ]; then
        echo "That was the last one."
    else
        echo "${HINT:-make hint-$id} again: the next hint"
    fi
}

has_solution() {
    [ -f "$1" ] || {
        echo "$1 is not in this copy of the course." >&2
        return 1
    }
}

solution() {
    local id=$1 mine ours said
    mine=$(file_of "$id")
    ours=$(lesson_of "$id")/solutions/$(name_of "$id").c
    has_solution "$ours" || return
    if ! judge "$id" >/dev/null && [ -z "${SURE:-}" ]; then
        if [ -t 0 ]; then
            read -rp "Yours does not pass yet. Show ours? [y/N] " said
        else
            read -r said
        fi
        case ${said:-} in
            y* | Y*) ;;
            *)
                echo "Not shown. make hint-$id helps;" \
                    "SURE=1 make solution-$id does not ask."
                return 1
                ;;
        esac
    fi
    if cmp -s "$mine" "$ours"; then
        echo "Yours and ours are the same."
        return
    fi
    echo "From yours (-) to ours (+), which is one good answer of several:"
    git --no-pager diff --no-index "$mine" "$ours"
    return 0
}

# starter ID FILE: writes the starter, which is made out of the solution.
starter() {
    has_solution "$(lesson_of "$1")/solutions/$(name_of "$1").c" || return
    patch -s -o "$2" "$(lesson_of "$1")/solutions/$(name_of "$1").c" \
        "tests/exercises/$1/starter.patch"
}

reset() {
    local id=$1 file aside number=1
    file=$(file_of "$id")
    starter "$id" "$results/starter.c" || return
    if [ -f "$file" ]; then
        if cmp -s "$file" "$results/starter.c"; then
            echo "$file is as it was at the beginning."
            return
        fi
        while [ -e "${file%.c}.mine-$number" ]; do number=$((number + 1)); done
        aside=${file%.c}.mine-$number
        mv "$file" "$aside" || return
        echo "Yours is kept as $aside"
    fi
    cp "$results/starter.c" "$file" && echo "$file is as it was at the beginning."
}

# -------------------------------------------------------------------- proving

# Prints what is missing or not in order; nothing else.
check() {
    local id patch key name
    for id in $(all_exercises); do
        [ -f "tests/exercises/$id/starter.patch" ] &&
            starter "$id" "$results/starter.c" >/dev/null 2>&1 ||
            echo "tests/exercises/$id/starter.patch does not apply"
        cmp -s "$results/starter.c" "$(file_of "$id")" ||
            echo "$(file_of "$id") is not the starter that make reset-$id" \
                "makes (fine where you solve it, wrong in the course itself)"
        [ -n "$(title_of "$id")" ] ||
            echo "$id: the solution has no line \" * Exercise $id: TITLE.\""
        for key in 1 2; do
            [ -s "tests/exercises/$id/hint-$key" ] ||
                echo "tests/exercises/$id/hint-$key is missing"
        done
        set -- tests/exercises/"$id"/wrong-*.patch
        [ $# -ge 2 ] || echo "$id has fewer than two wrong answers"
        [ "$(grep -c '^TEST(' "tests/exercises/$id.c")" = \
            "$(tests_in "$id" | grep -c '')" ] ||
            echo "tests/exercises/$id.c: TEST( and a name belong on one line"
        for patch in tests/exercises/"$id"/wrong-*.patch; do
            [ -f "$patch" ] || continue
            patch -s --dry-run -o /dev/null \
                "$(lesson_of "$id")/solutions/$(name_of "$id").c" "$patch" \
                >/dev/null 2>&1 || echo "$patch does not apply"
            for key in Wrong 'Seems right' 'Caught by' Message; do
                [ -n "$(value "$key" "$patch")" ] ||
                    echo "$patch does not say: $key"
            done
            for name in $(tests_of "$patch"); do
                tests_in "$id" | grep -qx "$name" ||
                    echo "$patch: no test of $id is called $name"
            done
        done
    done
}

# copy ID FOLDER: the lesson's folder, with nothing yet in exercises/.
copy() {
    rm -rf "$2"
    mkdir -p "$2/exercises"
    cp -p "$(lesson_of "$1")"/*.[ch] "$(lesson_of "$1")"/Makefile "$2"
}

# count_passed RESULTS: sets good and all.
count_passed() {
    good=0 all=0
    [ ! -f "$1/verdict" ] || read -r good all < <(passed "$1")
}

# Each of the following prints a cell of the table, and `!` in it when the
# exercise is not as it should be; what went wrong goes to standard error.

prove_starter() {
    local id=$1 folder=$2 into=$3 first
    copy "$id" "$folder"
    starter "$id" "$folder/exercises/$(name_of "$id").c" || { echo '!'; return; }
    CALM=1 judge_in "$id" "$folder" "$into"
    count_passed "$into"
    first=$(awk '/ no/ { print $1; exit }' "$into/verdict" 2>/dev/null)
    if [ "$all" = 0 ] || [ "$good" = "$all" ] || [ -s "$into/build.log" ]; then
        echo "$id: the starter does not compile, warns, or passes" >&2
        cat "$into/build.log" >&2
        echo '!'
    elif ! report "$into/calm.log" "$first" | one_line '' |
        grep -q 'To begin with'; then
        echo "$id: what the starter is told does not say: To begin with" >&2
        report "$into/calm.log" "$first" >&2
        echo '!'
    else
        echo "fails-$((all - good))/$all"
    fi
}

# prove_solution ID FOLDER RESULTS CFLAGS
prove_solution() {
    local id=$1 folder=$2 into=$3 name
    name=$(name_of "$id")
    copy "$id" "$folder"
    cp "$(lesson_of "$id")/solutions/$name.c" "$folder/exercises/$name.c"
    [ -z "$4" ] || make -s -C "$folder" CFLAGS="$4" "exercises/$name" >&2
    PATIENCE=${patience:-15} judge_in "$id" "$folder" "$into"
    count_passed "$into"
    if [ "$all" = 0 ] || [ "$good" != "$all" ] || [ -s "$into/build.log" ]; then
        show "$id" "$into" >&2
        echo '!'
    else
        echo "$good/$all"
    fi
}

# prove_wrong ID FOLDER RESULTS PATCH
prove_wrong() {
    local id=$1 folder=$2 into=$3 patch=$4 name test caught calm hostile message
    local network
    name=$(name_of "$id")
    caught=$(value 'Caught by' "$patch")
    message=$(value Message "$patch")
    copy "$id" "$folder"
    patch -s -o "$folder/exercises/$name.c" \
        "$(lesson_of "$id")/solutions/$name.c" "$patch" >&2 || { echo '!'; return; }
    # The tests that the header names; on the hostile network where it says so.
    test=$(tests_of "$patch" | tr -s ' ' '|')
    case $caught in calm*) network=1 ;; *) network='' ;; esac
    CALM=$network FILTER="@(${test%|})" judge_in "$id" "$folder" "$into"
    if [ ! -f "$into/verdict" ]; then
        cat "$into/build.log" >&2
        echo '!'
        return
    fi
    for test in $(tests_of "$patch"); do
        read -r _ calm hostile < <(grep "^$test " "$into/verdict")
        case $caught:$calm:${hostile:-} in
            calm*:no:*) network=calm ;;
            hostile*:yes:no | hostile*:skipped:no) network=hostile ;;
            *)
                echo "$patch: $test says $calm calm, ${hostile:-} hostile" >&2
                echo '!'
                return
                ;;
        esac
        report "$into/$network.log" "$test" | one_line '' |
            grep -qE -- "$message" || {
            echo "$patch: the report of $test does not say: $message" >&2
            report "$into/$network.log" "$test" >&2
            echo '!'
            return
        }
    done
    echo "${caught%% *}"
}

# One process an exercise: prints its line of the table. SANITIZE, from the
# Makefile, has the flags of the address sanitizer. The thread sanitizer and the
# hostile library do not go together; lesson 05 has threads.
prove_one() {
    local id=$1 at=$top/build/exercises/$1 round into lesson patch wrong said
    local cells=''
    lesson=$(lesson_of "$id")
    rm -rf "$at"
    for ((round = 1; round <= ${TIMES:-1}; round++)); do
        into=$results/$round
        mkdir -p "$into"
        cells="$(prove_starter "$id" "$at/starter/$lesson" "$into/starter")"
        cells="$cells $(prove_solution "$id" "$at/solution/$lesson" \
            "$into/solution" '')"
        cells="$cells $(export ASAN_OPTIONS=quarantine_size_mb=1
            prove_solution "$id" \
                "$at/memory/$lesson" "$into/memory" "$SANITIZE")"
        case $id in
            05-*)
                cells="$cells $(CALM=1 prove_solution "$id" \
                    "$at/threads/$lesson" "$into/threads" \
                    '-O1 -g -fsanitize=thread')"
                ;;
            *) cells="$cells -" ;;
        esac
        for patch in tests/exercises/"$id"/wrong-*.patch; do
            wrong=$(basename "$patch" .patch)
            said=$(prove_wrong "$id" "$at/$wrong/$lesson" "$into/$wrong" \
                "$patch")
            # It may be a race, which no test sees every time.
            [ "$said" != '!' ] || [ -n "${TIMES:-}" ] ||
                said=$(prove_wrong "$id" "$at/$wrong/$lesson" "$into/$wrong" \
                    "$patch"),second-try
            cells="$cells ${wrong#wrong-}:$said"
        done
        case $cells in *'!'*) break ;; esac
    done
    echo "$id $cells"
}

prove() {
    local table=$results/table
    # A solution is given longer than the 3 s of a learner: prove_solution, which
    # has to see whether the user has set PATIENCE, or we above.
    { if [ -n "${NAME:-}" ]; then echo "$NAME"; else all_exercises; fi; } |
        PATIENCE=$patience xargs -P "${AT_ONCE:-3}" -I ID \
            tests/tools/exercises.sh prove-one ID >"$table"
    {
        echo "exercise starter solution sanitized tsan wrong answers, refused on"
        sort "$table"
    } | awk '{ printf "%-9s %-11s %-9s %-10s %-6s", $1, $2, $3, $4, $5
               for (i = 6; i <= NF; i++) printf " %s", $i
               print "" }'
    echo "$(grep -c '' "$table") exercises," \
        "$(grep -vc '!' "$table") as they should be"
    [ -s "$table" ] && ! grep -q '!' "$table"
}

case ${1:-} in
    board | prove | check) "$1" ;;
    judge | hint | solution | reset) "$1" "$2" ;;
    results | report) "$1" "$2" "$3" ;;
    tests) tests_in "$2" ;;
    file) file_of "$2" ;;
    first) first "${2:-}" ;;
    judge-quietly) judge_quietly "$2" ;;
    prove-one) prove_one "$2" ;;
    *)
        echo "usage: exercises.sh board | prove | check |" \
            "judge|hint|solution|reset NN-K" >&2
        exit 2
        ;;
esac

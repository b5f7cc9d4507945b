#!/usr/bin/env bash
#
# grade.sh NN-K... - grades exercises: build/grade.json, build/grade.xml.
#
# grade.json is what Gradescope reads (results.json), grade.xml is JUnit XML,
# which everything else reads. Both have an entry for each test: its points, and
# the report that the learner would see. An exercise has POINTS points (10), in
# equal parts for its tests; a test that one of the two networks refuses has
# none.
#
# The programs are somebody else's, and may be wrong in every way. So each
# exercise has SECONDS_EACH seconds (60) and the limits below, and when its time
# is over, or it has filled the disk, everything that it started is ended. As
# root (in a container, for example) the programs run as a user of no name, in a
# copy of the course: they can change nothing, and what hides from its process
# group is found by its user.

set -u
set -m

top=$(cd "$(dirname "$0")/../.." && pwd)
points=${POINTS:-10}
seconds=${SECONDS_EACH:-60}
file_kilobytes=65536   # the largest file
disk_kilobytes=1048576 # what may be missing on the disk, in all
processes=400          # processes and threads at the same time
memory_kilobytes=4194304
case $points$seconds in
    *[!0-9]*)
        echo "grade.sh: POINTS and SECONDS_EACH are whole numbers" >&2
        exit 2
        ;;
esac
learner=54321 # the user and group that runs the programs, when root grades

scratch=$(mktemp -d "${TMPDIR:-/tmp}/grade.XXXXXX") || exit 2
course=$top

# A command as the learner, with the limits; without root as whoever grades.
as_learner() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid "$learner" --regid "$learner" --clear-groups \
            --no-new-privs "$@"
    else
        "$@"
    fi
}

# The programs of the learner that run now: their process IDs.
programs_of_the_learner() {
    find /proc -mindepth 2 -maxdepth 2 -name exe \
        -lname "$course/[0-9][0-9]-*/exercises/*" 2>/dev/null |
        sed 's/[^0-9]//g'
}

# Ends what hides from its process group, and what starts itself anew: first all
# are stopped, so that none can, and then killed.
end_all_of_the_learner() {
    local signal pids
    for signal in STOP KILL; do
        for _ in 1 2 3 4 5; do
            pids=$(programs_of_the_learner)
            [ -n "$pids" ] || break
            # shellcheck disable=SC2086 # one word a process
            kill -s "$signal" $pids 2>/dev/null
        done
    done
    [ "$(id -u)" = 0 ] || return
    as_learner sh -c 'kill -s KILL -1' 2>/dev/null
    find /tmp /var/tmp /dev/shm -xdev -user "$learner" \
        -not -path "$scratch/*" -delete 2>/dev/null
}
trap 'end_all_of_the_learner; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP

# Sockets that ended test runs have left behind. Criterion names its socket by
# its process ID, and cannot begin where another user's has that name.
remove_old_sockets() {
    local socket pid
    for socket in /tmp/criterion_*.sock; do
        pid=${socket#*_}
        kill -0 "${pid%.sock}" 2>/dev/null || rm -f "$socket"
    done
}

# The copy in which the learner's programs are built and run.
make_copy() {
    course=$scratch/course
    mkdir "$course" && chmod 711 "$scratch" || exit 2
    (cd "$top" && tar cf - --exclude=./.git --exclude=./build . &&
        echo ok >"$scratch/copied") | tar xf - -C "$course" || exit 2
    [ -f "$scratch/copied" ] || exit 2
    chown -hR "$learner:$learner" "$course" || exit 2
}

free_kilobytes() {
    df -Pk "$scratch" | awk 'NR == 2 { print $4 }'
}

# Ends a process group and what its processes look after, then what is left.
end_group() {
    kill -s TERM -- "-$1" 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -0 -- "-$1" 2>/dev/null || break
        sleep 0.1
    done
    kill -s KILL -- "-$1" 2>/dev/null
}

# limited COMMAND...: runs it in the course, with the limits. Sets `stopped` to
# the reason when it had to be ended, or to nothing.
limited() {
    local began=$SECONDS free others=0 pid
    stopped=''
    free=$(free_kilobytes)
    # The limit counts what else the user is running.
    [ "$(id -u)" = 0 ] || others=$(ps -L -u "$(id -u)" -o lwp= | wc -l)
    (
        cd "$course" || exit 1
        ulimit -c 0 -f "$file_kilobytes" -v "$memory_kilobytes"
        export HOME=$work TMPDIR=$work JOBS=4 PATIENCE=${PATIENCE:-10}
        # For the learner's program alone: the tests have to start theirs, and
        # to get a turn when it uses all there is.
        UNDER='nice -n 19'
        ! command -v prlimit >/dev/null ||
            UNDER="$UNDER prlimit --nproc=$((processes + others))"
        export UNDER
        as_learner "$@"
    ) >"$scratch/said" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid"; do
        if [ $((SECONDS - began)) -ge "$seconds" ]; then
            stopped="It had not ended after $seconds s, and was stopped."
        elif [ $((free - $(free_kilobytes))) -gt "$disk_kilobytes" ]; then
            stopped='It filled the disk (more than 1 GiB), and was stopped.'
        else
            sleep 0.1
            continue
        fi
        end_group "$pid"
        break
    done 2>/dev/null # where bash says which job has ended
    wait "$pid" 2>/dev/null
    end_all_of_the_learner
}

# entry ID NUMBER NAME STATUS TEXT-FILE: prints one test as JSON.
entry() {
    jq -nc --arg id "$1" --argjson number "$2" --arg name "$3" \
        --arg status "$4" --rawfile output "$5" '{$id, $number, $name, $status,
            output: ($output | gsub("[\u0000-\u0008\u000b\u000c\u000e-\u001f]"; ""))}'
}

# grade_one ID: judges it and prints its tests as JSON, one a line. What stands in
# $work is the learner's, and so is who reads it: a link there may lead anywhere.
grade_one() {
    local id=$1 test calm hostile number=0 status network text=$scratch/text
    limited tests/tools/exercises.sh results "$id" "$work/$id"
    for test in $("$top/tests/tools/exercises.sh" tests "$id"); do
        number=$((number + 1))
        status=passed network=calm
        read -r _ calm hostile < <(as_learner \
            grep "^$test " "$work/$id/verdict" 2>/dev/null)
        case ${calm:-none}:${hostile:-none} in
            yes:yes | yes:skipped) : >"$text" ;;
            skipped:*) status=skipped && : >"$text" ;;
            *)
                status=failed
                [ "${calm:-}" = no ] || network=hostile
                if [ -n "$stopped" ]; then
                    echo "$stopped"
                elif [ -s "$work/$id/build.log" ] &&
                    [ ! -f "$work/$id/verdict" ]; then
                    echo 'It does not compile:'
                    as_learner cat "$work/$id/build.log"
                elif [ ! -f "$work/$id/verdict" ]; then
                    echo "The tests broke off. A program may have started so" \
                        "many processes that they could start none" \
                        "($processes are allowed)."
                    cat "$scratch/said"
                else
                    as_learner "$course/tests/tools/exercises.sh" report \
                        "$work/$id/$network.log" "$test"
                fi 2>&1 | head -c 20000 >"$text"
                [ -s "$text" ] || echo 'The tests broke off.' >"$text"
                ;;
        esac
        entry "$id" "$number" "$test" "$status" "$text"
    done
}

if [ "$(id -u)" = 0 ]; then
    command -v setpriv >/dev/null || {
        echo "grade.sh: as root it needs setpriv (util-linux)" >&2
        exit 2
    }
    make_copy
fi
work=$scratch/work
mkdir -p "$work" "$top/build" || exit 2
if [ "$(id -u)" = 0 ]; then
    chown "$learner:$learner" "$work" || exit 2
fi

# The tests are built without limits: they are ours.
build_tests() {
    cd "$course" && as_learner make -s -j4 "${@/#/build/tests/exercise-}" \
        build/tests/hostile.so
}
(build_tests "$@") || exit 2

for id; do
    echo "$id ..." >&2
    remove_old_sockets
    grade_one "$id"
done >"$scratch/entries"

# Points: in equal parts for the tests of an exercise that this machine can run.
jq -s --argjson points "$points" '
    group_by(.id) | map(
        ([.[] | select(.status != "skipped")] | length) as $count
        | .[] | (if .status == "skipped" then 0 else $points / $count end) as $max
        | {name: "\(.id) \(.name)", number: "\(.id).\(.number)",
           score: (if .status == "passed" then $max else 0 end), max_score: $max,
           status: (if .status == "skipped" then "passed" else .status end),
           skipped: (.status == "skipped"), output})
    | {score: ((map(.score) | add) * 100 | round / 100),
       max_score: (map(.max_score) | add | round), tests: .}
    ' "$scratch/entries" >"$top/build/grade.json" || exit 2

jq -r '
    def one: "    <testcase classname=\"exercises.\(.name[0:4])\" name=\"\(.name[5:])\"" +
        if .skipped then "><skipped/></testcase>"
        elif .status == "passed" then "/>"
        else "><failure message=\"0 of \(.max_score) points\">\(.output | @html)</failure></testcase>" end;
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>", "<testsuites>",
    (.tests | group_by(.name[0:4])[]
     | "  <testsuite name=\"\(.[0].name[0:4])\" tests=\"\(length)\" failures=\"\(map(select(.status == "failed")) | length)\" skipped=\"\(map(select(.skipped)) | length)\">",
       (.[] | one), "  </testsuite>"),
    "</testsuites>"' "$top/build/grade.json" >"$top/build/grade.xml" || exit 2

jq -r '.tests | group_by(.name[0:4])[]
       | "\(.[0].name[0:4])  \(map(select(.status == "passed")) | length) of \(length) tests, \((map(.score) | add) * 100 | round / 100) of \(map(.max_score) | add | round) points"' \
    "$top/build/grade.json"
jq -r '"\(.score) of \(.max_score) points: build/grade.json, build/grade.xml"' \
    "$top/build/grade.json"

#!/usr/bin/env bash
#
# transcripts.sh LESSON - runs the transcripts in a lesson's README with clitest
# and compares what comes with what stands there.
#
# A transcript is an indented code block whose commands begin with "$ ". It runs
# in a copy of the lessons' folders, built by make, so that the reader's files
# stay as they are. Three things differ from what a reader types:
#
# - the ports 7770 to 7779 become ten others that nothing uses, so that several
#   runs can go on at once;
# - a command line that starts a server ("./server -p 7777 &") is followed by
#   waiting for the server's first line, which is its output here;
# - "kill %1" also waits until that job has ended.
#
# The last line is "N passed, N failed, N skipped"; exit status 1 when any failed.

# shellcheck disable=SC2317 # it takes what a trap calls for unreachable

set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
lesson=$(cd "$top" && echo "$1"-*)
commands=$(grep -c '^    \$ ' "$top/$lesson/README.md")

# finish PASSED FAILED SKIPPED
finish() {
    echo "$1 passed, $2 failed, $3 skipped"
    [ "$2" = 0 ]
    exit
}

[ "$commands" -gt 0 ] || finish 0 0 0
clitest=$(command -v clitest) || {
    echo "NOT CHECKED: there is no clitest on this machine." \
        "tests/tools/setup.sh says how to get it."
    finish 0 0 "$commands"
}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/transcripts.XXXXXX") || finish 0 1 0
group=
reserved=
clean_up_group() {
    [ -z "$group" ] || kill -KILL -- "-$group" 2>/dev/null
    group= # the number may soon be another's
}
clean_up() {
    clean_up_group
    [ -z "$reserved" ] || rmdir "$reserved"
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP
unset MAKEFLAGS MFLAGS MAKELEVEL SERVER CLIENT CDPATH

# Ten ports below those that the kernel gives away (32768 and up) and above those
# that the tests take (unused_port() in tests/harness/network.c): between two
# commands here a port may be nobody's, and a test that took it would answer.
# Making a directory succeeds for one run alone, so that no other takes the same.
decade=$((3000 + ($$ + 10#$1 * 30) % 270))
for _ in {1..270}; do
    reserved=/tmp/transcripts-ports.$decade
    mkdir "$reserved" 2>/dev/null && {
        (: </dev/tcp/127.0.0.1/${decade}7) 2>/dev/null || break
        rmdir "$reserved"
    }
    reserved=
    decade=$((3000 + (decade - 3000 + 7) % 270))
done
[ -n "$reserved" ] || {
    echo "No ports are free; old /tmp/transcripts-ports.* may be in the way."
    finish 0 1 0
}

# The lesson, and every other one whose programs its README runs.
cp -Rp "$top"/[0-9][0-9]-* "$scratch" || finish 0 1 0
cd "$scratch" || finish 0 1 0
for folder in *; do
    if [ "$folder" = "$lesson" ] || grep -q "\.\./$folder/" "$lesson/README.md"
    then
        make -s -C "$folder" all || finish 0 1 0
    fi
done
cd "$lesson" || finish 0 1 0

# A server whose output goes elsewhere (>server.log) is none that is waited for.
server='[^ ]*\/server[^|;>]*\(2>[^|;>]*\)\{0,1\}'
sed -e "s/777\([0-9]\)/$decade\1/g" \
    -e "s/^    \\$ \($server\) &\$/    \$ : >.said; >.said 2>\&1 \1 \& first_line .said/" \
    -e 's/^    \$ kill %\([0-9]\)$/    $ kill %\1; wait %\1 2>\/dev\/null/' \
    README.md >transcripts.md

# Defined in the shell that runs the commands.
first_line() {
    for _ in $(seq 1500); do
        grep -qs . "$1" && break
        sleep 0.01
    done
    cat "$1"
}
export -f first_line

# A command that hangs is noticed, and the report ends with it. Beside two whole
# test runs, on two slow cores, a README took 210 s without hanging.
set -m # a process group of its own, so that no server stays behind
limit=1200
bounded=(timeout -k 1 "$limit")
command -v timeout >/dev/null || bounded=() # macOS has none
${bounded[@]+"${bounded[@]}"} bash "$clitest" --prefix 4 \
    transcripts.md </dev/null >report 2>&1 &
group=$!
wait "$group"
status=$?
clean_up_group

# clitest ends with "OK: 8 of 8 tests passed" or "FAIL: 2 of 8 tests failed".
case $(tail -n 1 report) in
    'OK: '*) finish "$commands" 0 0 ;;
    'FAIL: '*)
        sed -e '$d' -e '/^#[0-9]/d' report
        bad=$(tail -n 1 report | cut -d ' ' -f 2)
        finish $((commands - bad)) "$bad" 0
        ;;
    *)
        cat report
        [ "$status" != 124 ] || echo "The last of these was at work when" \
            "$limit s had passed."
        finish 0 1 0
        ;;
esac

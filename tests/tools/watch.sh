#!/usr/bin/env bash
#
# watch.sh [NN-K] - judges an exercise now, and again at every save.
#
# It begins with the first exercise that is not done (or with NN-K), and watches
# that file and the lesson's own, with inotifywait, or fswatch where there is no
# inotify. A save while the tests run starts them anew. Keys: h shows a hint, n
# moves on, q ends.

set -u
set -m # what runs in the background has a process group of its own

cd "$(dirname "$0")/../.." || exit 1
if ! { exec 4</dev/tty; } 2>/dev/null; then
    echo "make watch wants a terminal; make exercise-NN-K judges once."
    exit 1
fi
scratch=$(mktemp -d "${TMPDIR:-/tmp}/watch.XXXXXX") || exit 1
mkfifo "$scratch/saves" || exit 1
exec 3<>"$scratch/saves"

export HINT=h
judging='' watching=''
stop() {
    jobs -rp | grep -qx "${1:-none}" || return 0
    kill -- "-$1" 2>/dev/null
    wait "$1" 2>/dev/null
}
trap 'stop "$judging"; stop "$watching"; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP

# Sets id, lesson and file, and watches them.
choose() {
    id=$1
    lesson=$(echo "${id%%-*}"-*)
    file=$(tests/tools/exercises.sh file "$id")
    stop "$watching"
    if command -v inotifywait >/dev/null; then
        inotifywait -q -m -e close_write -e moved_to --format %w%f \
            "$lesson" "$lesson/exercises" >&3 2>"$scratch/watcher" &
    else
        fswatch --event Updated --event Renamed --event Created \
            "$lesson" >&3 2>"$scratch/watcher" &
    fi
    watching=$!
}

# Whether a save that came concerns the exercise; takes all that have come.
saved() {
    local path found=1
    while read -r -t "$moment" -u 3 path; do
        case $path in
            */exercises/*.c)
                [ "${path##*/}" != "${file##*/}" ] || found=0
                ;;
            *.c | *.h) found=0 ;;
        esac
    done
    return $found
}

start_judging() {
    stop "$judging"
    printf '\n%s  judging %s ...\n' "$(date +%T)" "$file"
    # In colour, although it goes to a file first.
    EARLY=1 COLOUR=always tests/tools/exercises.sh judge "$id" \
        >"$scratch/verdict" 2>&1 </dev/null &
    judging=$!
}

show() {
    printf '\e[2J\e[H' # an empty screen
    cat "$scratch/verdict"
    tell_keys
}

tell_keys() {
    echo
    echo "Watching $file and its lesson." \
        "  h: hint   n: the next one to do   q: end"
}

# How long one look takes. The bash of macOS knows whole seconds only.
moment=0.05
[ "${BASH_VERSINFO[0]}" -ge 4 ] || moment=1

first=${1:-}
if [ -z "$first" ]; then
    echo "Looking for the first exercise that is not done (some seconds) ..."
    first=$(tests/tools/exercises.sh first)
    [ -n "$first" ] || { echo "All exercises are done." && exit; }
fi
choose "$first"
start_judging
while kill -0 "$watching" 2>/dev/null; do
    ! saved || start_judging
    if [ -n "$judging" ] && ! kill -0 "$judging" 2>/dev/null; then
        wait "$judging" 2>/dev/null
        judging=''
        show
    fi
    key=''
    read -r -s -n 1 -t "$moment" -u 4 key
    case $key in
        h | H)
            echo
            tests/tools/exercises.sh hint "$id"
            tell_keys
            ;;
        n | N)
            echo "Looking for the next one behind $id that is not done ..."
            next=$(tests/tools/exercises.sh first "$id")
            if [ -z "$next" ]; then
                echo "None behind $id is left. make exercises shows them all."
                tell_keys
            else
                choose "$next"
                start_judging
            fi
            ;;
        q | Q) echo && exit 0 ;;
    esac
done
cat "$scratch/watcher"
echo "The file watcher has ended."
exit 1

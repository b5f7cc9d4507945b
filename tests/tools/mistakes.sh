#!/usr/bin/env bash
#
# mistakes.sh COMMAND... - the museum of mistakes in tests/mistakes/.
#
#     mistakes.sh list NN...     the mistakes of these lessons, a line each
#     mistakes.sh hunt NN K      puts the K-th mistake of lesson NN into a copy,
#                                runs the lesson's tests, and shows what a
#                                learner would see; REVEAL=1 tells which it is
#     mistakes.sh prove NN...    proves of each one that it applies, builds, and
#                                is caught as its header says, with a message
#                                that fits. Some mistakes are races, which no
#                                test sees every time: who is missed has a
#                                second chance, and the table says so. TIMES=20
#                                does it twenty times, and each has to catch;
#                                NAME=04-signed-length proves that one alone
#     mistakes.sh check          says which patches do not apply, and which
#                                headers are not whole; prints nothing else
#
# A mistake is a patch, NN-name.patch, against a lesson's folder, behind a header
# of "Key: value" lines (a line that begins with a blank goes on):
#
#     Mistake: what is wrong, in a sentence
#     Seems to work: why nobody notices
#     Seen in: where in the wild, by title
#     Caught by, Message: as in patches.sh

set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top" || exit 1
copies=$top/build/mistakes
keys=('Mistake' 'Seems to work' 'Seen in' 'Caught by' 'Message')

# shellcheck source=tests/tools/patches.sh
. tests/tools/patches.sh

# All patches of a lesson, in their order.
patches_of() {
    ls tests/mistakes/"$1"-*.patch 2>/dev/null
}

# The folder of a patch's lesson.
lesson_of() {
    local name
    name=$(basename "$1")
    echo "${name%%-*}"-*
}

list() {
    local lesson patch number
    for lesson; do
        number=0
        for patch in $(patches_of "$lesson"); do
            number=$((number + 1))
            printf '%s-%-2d  %-26s %s\n' "$lesson" "$number" \
                "$(basename "${patch#*/"$lesson"-}" .patch)" \
                "$(value Mistake "$patch")"
        done
    done
}

check() {
    local patch key
    for patch in tests/mistakes/*.patch; do
        patch --dry-run -s -p1 <"$patch" >/dev/null 2>&1 ||
            echo "$patch does not apply"
        for key in "${keys[@]}"; do
            [ -n "$(value "$key" "$patch")" ] ||
                echo "$patch does not say: $key"
        done
        for key in $(tests_of "$patch"); do
            grep -qE "TEST\([a-z]+, ${key}[,)]" tests/*.c ||
                echo "$patch: no test is called $key"
        done
    done
}

# copy PATCH FOLDER: builds the lesson with the mistake in FOLDER.
copy() {
    local patch=$1 folder=$2 lesson
    lesson=$(lesson_of "$patch")
    rm -rf "$folder"
    mkdir -p "$folder/$lesson" || return 1
    cp -p "$lesson"/*.[ch] "$lesson"/Makefile "$folder/$lesson" || return 1
    patch -s -d "$folder" -p1 <"$patch" >&2 || {
        echo "$patch does not apply" >&2
        return 1
    }
    make -s -C "$folder/$lesson" all >"$folder/build.log" 2>&1 || {
        echo "$patch does not build:" >&2
        cat "$folder/build.log" >&2
        return 1
    }
}

hunt() {
    local lesson=$1 patch folder=$copies/hunt-$1-$2
    patch=$(patches_of "$lesson" | sed -n "$2p")
    [ -n "$patch" ] || {
        echo "Lesson $lesson has no mistake $2:" \
            "make mistakes-$lesson lists them." >&2
        exit 2
    }
    copy "$patch" "$folder" || exit 1
    echo "There is one mistake in ${folder#"$top/"}/$(lesson_of "$patch")."
    echo "This is what the tests say of it:"
    PROGRAMS=$folder SLOW=1 tests/tools/run.sh "$lesson"
    echo
    echo "One test again: PROGRAMS=${folder#"$top/"} make test-$lesson ONLY=NAME"
    if [ -n "${REVEAL:-}" ]; then
        cat "$patch"
    else
        echo "Which mistake is it? REVEAL=1 make mistake-$lesson-$2 tells."
    fi
}

# -------------------------------------------------------------------- proving

# joined LOG CAUGHT-BY NAME: what the reports in a log say. What a mistake is
# caught by on the calm network has to be said there.
joined() {
    case $2 in
        calm*) sed '/on a hostile network (/,$d' "$1" ;;
        *) cat "$1" ;;
    esac | one_line "$3"
}

# run_once PATCH FOLDER: the tests that the header names, on both networks. Sets
# calm and hostile to how many tests failed there, and `fits` to whether every
# report says what it should.
run_once() {
    local patch=$1 folder=$2 name message lesson log
    lesson=$(lesson_of "$patch")
    message=$(value Message "$patch")
    calm=0 hostile=0 fits=yes
    for name in $(tests_of "$patch"); do
        log=$folder/$name.log
        PROGRAMS=$folder ONLY=$name tests/tools/run.sh "${lesson%%-*}" \
            >"$log" 2>&1
        grep -qE '^lesson .* calm: [0-9]+ failed' "$log" &&
            calm=$((calm + 1))
        grep -qE '^lesson .* hostile, .*: [0-9]+ failed' "$log" &&
            hostile=$((hostile + 1))
        joined "$log" "$(value 'Caught by' "$patch")" \
            "$(basename "$folder")" | grep -qE -- "$message" || fits=no
    done
}

# as_said CAUGHT-BY COUNT: whether that was as the header says, of COUNT tests.
as_said() {
    [ "$fits" = yes ] || return 1
    case $1 in
        calm*) [ "$calm" = "$2" ] ;;
        hostile*) [ "$calm" = 0 ] && [ "$hostile" = "$2" ] ;;
        *) false ;;
    esac
}

# prove_one NAME: prints a line of the table, which begins with `ok` or `bad`;
# leaves in the copy what the tests last said that was not as the header has it.
prove_one() {
    local patch=tests/mistakes/$1.patch folder=$copies/$1 times=${TIMES:-1}
    local round wanted name names count good=0 seconds
    local all_calm='' all_hostile=''
    local said shown_calm shown_hostile began
    wanted=$(value 'Caught by' "$patch")
    names=$(tests_of "$patch")
    count=$(wc -w <<<"$names")
    if ! said=$(copy "$patch" "$folder" 2>&1); then
        printf 'bad %-38s %s\n' "$1" "$said" | tr '\n' ' '
        echo
        return
    fi
    began=$(date +%s%N)
    for ((round = 1; round <= times; round++)); do
        run_once "$patch" "$folder"
        all_calm=$((all_calm + calm))
        all_hostile=$((all_hostile + hostile))
        if as_said "$wanted" "$count"; then
            good=$((good + 1))
        else
            for name in $names; do
                cp "$folder/$name.log" "$folder/unproven-$name.log"
            done
            [ -n "${TIMES:-}" ] || times=2
        fi
    done
    seconds=$((($(date +%s%N) - began) / 10000000 / times))
    shown_calm=$(verdict "$all_calm" $((times * count)))
    shown_hostile=$(verdict "$all_hostile" $((times * count)))
    if [ "$good" = "$times" ]; then
        said=ok
    elif [ -z "${TIMES:-}" ] && [ "$good" = 1 ]; then
        said=ok
        names="$names (at the second try)"
    else
        said=bad
        names="$names: as its header says $good of $times times"
        [ "$fits" = yes ] || names="$names, without its message"
    fi
    printf '%s %-38s %-7s %-7s %4d.%02d  %s\n' $said "$1" "$shown_calm" \
        "$shown_hostile" $((seconds / 100)) $((seconds % 100)) "$names"
}

# Four at the same time, for they mostly wait. The table comes at the end, in
# the order of the lessons; behind it, what is not proven and what the tests said
# of that.
prove() {
    local table all bad only lesson name said
    table=$(mktemp "${TMPDIR:-/tmp}/mistakes.XXXXXX") || exit 1
    for lesson; do
        patches_of "$lesson"
    done | sed 's/.*\///; s/\.patch$//' |
        { if [ -n "${NAME:-}" ]; then grep -xF "$NAME"; else cat; fi; } |
        xargs -P "${AT_ONCE:-4}" -I NAME tests/tools/mistakes.sh prove-one NAME \
            >"$table"
    printf '%-38s %-7s %-7s %7s  %s\n' mistake calm hostile seconds 'caught by'
    sort -k 2,2 "$table" | sed -n 's/^ok //p'
    sort "$table" | sed -n 's/^bad //p' | while read -r name said; do
        printf '\nNOT PROVEN: %s  %s\n' "$name" "$said"
        tail -n 40 "$copies/$name"/unproven-*.log 2>/dev/null
    done
    all=$(grep -c '' "$table")
    bad=$(grep -c '^bad' "$table")
    only=$(awk '$1 == "ok" && $3 == "-"' "$table" | grep -c '')
    rm -f "$table"
    echo "$all mistakes, $((all - bad)) caught as their headers say," \
        "$only of them on the hostile network alone"
    [ "$bad" = 0 ] && [ "$all" -gt 0 ]
}

case ${1:-} in
    list | hunt | prove | check) "$@" ;;
    prove-one) prove_one "$2" ;;
    *)
        echo "usage: mistakes.sh list|prove NN... | hunt NN K | check" >&2
        exit 2
        ;;
esac

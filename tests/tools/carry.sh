#!/usr/bin/env bash
#
# carry.sh - copies a mended module into every lesson that carries it.
#
# A module (net.c, utf8.h, ...) is the same file in each lesson that has it. When
# one copy differs from what git has last committed, that copy is the mended one
# and replaces the others. When two copies were changed in different ways, or
# the committed copies differ already, nobody can tell: carry.sh shows the
# difference and changes nothing. FROM=03 in the environment says whose copy it
# shall be. With --check it only says which copies differ.

set -u

cd "$(dirname "$0")/../.." || exit 1
check=false
[ "${1:-}" = --check ] && check=true
result=0

names=$(for file in [0-9][0-9]-*/*.[ch]; do basename "$file"; done |
    grep -vx 'server\.c\|client\.c' | sort | uniq -d)

for name in $names; do
    copies=([0-9][0-9]-*/"$name")
    differing=false
    for copy in "${copies[@]}"; do
        cmp -s "${copies[0]}" "$copy" || differing=true
    done
    [ "$differing" = true ] || continue

    if [ "$check" = true ]; then
        echo "$name is not the same in: $(printf '%s ' "${copies[@]%/*}")"
        echo "    Mend one copy, then: make carry"
        result=1
        continue
    fi

    # The copy that was changed; none when two were, each in its own way.
    mended='' several=false
    for copy in "${copies[@]}"; do
        case $copy in "${FROM:-none}"-*) mended=$copy several=false && break ;; esac
        git show "HEAD:$copy" 2>/dev/null | cmp -s - "$copy" && continue
        if [ -z "$mended" ]; then
            mended=$copy
        elif ! cmp -s "$mended" "$copy"; then
            several=true
        fi
    done
    if [ -z "$mended" ] || [ "$several" = true ]; then
        echo "$name: which copy is the mended one? make carry FROM=03 tells, for"
        echo "lesson 03's. They differ so:"
        for copy in "${copies[@]:1}"; do
            git --no-pager diff --no-index "${copies[0]}" "$copy"
        done
        result=1
        continue
    fi
    for copy in "${copies[@]}"; do
        cmp -s "$mended" "$copy" && continue
        cp "$mended" "$copy" && echo "$mended -> $copy"
    done
done
exit $result

#!/usr/bin/env bash
#
# diff.sh LESSON - what a lesson changed in the ones before.
#
# It names the modules that are carried over and those that are new, says of
# each function in a new module whether an earlier lesson's server.c or client.c
# had it, and shows what is different in server.c and client.c. Functions that
# have moved into a module are left out of that: only what is new remains.

set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top" || exit 1
lesson=$(echo "$1"-*)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/diff.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT

colour=never bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    colour=always bold=$'\e[1m' plain=$'\e[0m'
fi

earlier=() # folders, the newest first
for folder in [0-9][0-9]-*; do
    [[ $folder < $lesson ]] && earlier=("$folder" ${earlier[@]+"${earlier[@]}"})
done
[ "${#earlier[@]}" -gt 0 ] || {
    echo "Lesson $1 is the first: there is nothing to compare it with."
    exit 0
}

# The newest earlier folder that has a file of this name.
home_of() {
    local folder
    for folder in "${earlier[@]}"; do
        [ -f "$folder/$1" ] && echo "$folder" && return
    done
}

# take_apart FILE FOLDER [NAMES]: writes each function of a C file, with the
# comment above it, to FOLDER/NAME, and its code alone, without comments, blanks
# and `static`, to FOLDER/NAME.code. Prints the file without the functions in
# NAMES. It relies on the layout: a function's braces stand in the first column,
# and there is a blank line before it.
take_apart() {
    mkdir -p "$2"
    awk -v folder="$2" -v names=" ${3:-} " '
        function finish(code) {
            if (name != "") {
                printf "%s", paragraph >(folder "/" name)
                close(folder "/" name)
                code = paragraph
                while (match(code, /\/\*([^*]|\*+[^*\/])*\*+\//))
                    code = substr(code, 1, RSTART - 1) \
                        substr(code, RSTART + RLENGTH)
                gsub(/static /, "", code)
                gsub(/[ \t\n]+/, "", code)
                print code >(folder "/" name ".code")
                close(folder "/" name ".code")
            }
            if (name == "" || index(names, " " name " ") == 0)
                printf "%s%s", blanks, paragraph
            paragraph = header = name = blanks = ""
        }
        /^$/ && !inside {
            if (paragraph != "")
                finish()
            blanks = "\n"
            next
        }
        { paragraph = paragraph $0 "\n" }
        /^\{$/ {
            inside = 1
            name = header
            sub(/\(.*/, "", name)
            sub(/.*[ *]/, "", name)
        }
        /^\}$/ { inside = 0 }
        !inside && /^[a-zA-Z_]/ { header = header $0 }
        END { finish() }
    ' "$1"
}

# show_difference OLD NEW: paths below $scratch.
show_difference() {
    (cd "$scratch" && git --no-pager diff --no-index --no-prefix \
        --color="$colour" --patience "$1" "$2") |
        grep -v '^[^ +-]*\(diff --git\|index [0-9a-f]\)'
}

headline() {
    printf '\n%s%s%s\n' "$bold" "$*" "$plain"
}

# -------------------------------------------------------------------- modules

carried=() changed=() new=()
for file in "$lesson"/*.[ch] "$lesson"/*.sh; do
    [ -f "$file" ] || continue # there is no script
    file=${file#*/}
    case $file in server.c | client.c) continue ;; esac
    home=$(home_of "$file")
    if [ -z "$home" ]; then
        new+=("$file")
    elif cmp -s "$home/$file" "$lesson/$file"; then
        carried+=("$file")
    else
        changed+=("$file")
    fi
done

headline "$lesson, compared with the lessons before it"
[ "${#carried[@]}" = 0 ] || echo "carried over as they were: ${carried[*]}"
[ "${#changed[@]}" = 0 ] ||
    echo "carried over and CHANGED (make carry mends that): ${changed[*]}"
for file in ${new[@]+"${new[@]}"}; do
    printf 'new: %-12s %5d lines\n' "$file" "$(wc -l <"$lesson/$file")"
done

# What the earlier server.c and client.c consist of.
for program in server.c client.c; do
    home=$(home_of $program)
    [ -z "$home" ] ||
        take_apart "$home/$program" "$scratch/old/$home/$program" >/dev/null
done

# Of each function in a new module: which program had it, and whether its code
# is the same. "net.c same 02-basic-client/client.c send_all"
for file in ${new[@]+"${new[@]}"}; do
    case $file in *.c) ;; *) continue ;; esac
    take_apart "$lesson/$file" "$scratch/new/$file" >/dev/null
    for code in "$scratch/new/$file"/*.code; do
        name=$(basename "$code" .code)
        [ "$name" != main ] || continue
        was=''
        kind=changed
        for old in "$scratch"/old/*/*.c; do
            [ "$kind" = changed ] || break
            [ -f "$old/$name" ] || continue
            was=${old#"$scratch/old/"}
            cmp -s "$code" "$old/$name.code" && kind=same
        done
        [ -z "$was" ] || echo "$file $kind $was $name"
    done
done >"$scratch/moved"

# shellcheck disable=SC2013 # the three words are read as one
cut -d ' ' -f 1-3 "$scratch/moved" | sort -u | while read -r file kind was; do
    case $kind in
        same) words="$file has these from $was, the code unchanged:" ;;
        *) words="$file has these from $was, CHANGED:" ;;
    esac
    echo
    echo "$words"
    grep "^$file $kind $was " "$scratch/moved" | cut -d ' ' -f 4 |
        tr '\n' ' ' | fold -s -w 72 | sed 's/^/    /; s/ *$//'
    echo
done

# ---------------------------------------------------------------- differences

while read -r file kind was name; do
    [ "$kind" = changed ] || continue
    mkdir -p "$scratch/$(dirname "$was")" "$scratch/$lesson"
    cp "$scratch/old/$was/$name" "$scratch/$was: $name"
    cp "$scratch/new/$file/$name" "$scratch/$lesson/$file: $name"
    headline "$name, as it went from $was into $file"
    show_difference "$was: $name" "$lesson/$file: $name"
done <"$scratch/moved"

moved=$(cut -d ' ' -f 4 "$scratch/moved" | tr '\n' ' ')
for program in server.c client.c; do
    [ -f "$lesson/$program" ] || continue
    home=$(home_of $program)
    if [ -z "$home" ]; then
        headline "$program is new: $(wc -l <"$lesson/$program") lines"
        continue
    fi
    headline "$program${moved:+, without the functions that have moved}"
    mkdir -p "$scratch/$home" "$scratch/$lesson"
    take_apart "$home/$program" "$scratch/unused" "$moved" \
        >"$scratch/$home/$program"
    cp "$lesson/$program" "$scratch/$lesson/$program"
    show_difference "$home/$program" "$lesson/$program" || echo 'unchanged'
done

#!/usr/bin/env bash
#
# lint.sh - checks what the tests cannot see: copies, layout, warnings, and that
# the READMEs say what stands in the code.
#
# It prints what is wrong and what to do about it, and nothing when all is well
# but the last line.

set -u

cd "$(dirname "$0")/../.." || exit 1
scratch=$(mktemp -d "${TMPDIR:-/tmp}/lint.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT

lessons=([0-9][0-9]-*)
sources=([0-9][0-9]-*/*.[ch] [0-9][0-9]-*/*/*.c)
tests=(tests/*.[ch] tests/*/*.[ch])
scripts=(tests/tools/*.sh [0-9][0-9]-*/*.sh .ci/run)
readmes=([0-9][0-9]-*/README.md)
[ -f "${readmes[0]}" ] || readmes=()
checks=0 failures=0

# passes WHAT TO_DO COMMAND...: a check passes when the command succeeds and
# prints nothing; otherwise it says what is wrong.
passes() {
    local what=$1 to_do=$2
    shift 2
    checks=$((checks + 1))
    if ! "$@" >"$scratch/wrong" 2>&1 || [ -s "$scratch/wrong" ]; then
        failures=$((failures + 1))
        printf '\n%s\n' "$what:"
        sed 's/^/    /' "$scratch/wrong"
        printf 'To do: %s\n' "$to_do"
    fi
}

# --------------------------------------------------------------------- C files

badly_laid_out() {
    local file
    for file in "${sources[@]}" "${tests[@]}"; do
        clang-format "$file" | cmp -s - "$file" || echo "$file"
    done
}

# Between functions stands a blank line.
crowded() {
    awk 'FNR > 1 && before == "}" && !/^$/ && !/^#/ {
             print FILENAME ":" FNR ": " $0
         }
         { before = $0 }' "${sources[@]}"
}

warnings=(-std=c17 -Wall -Wextra -Wpedantic -Wshadow -Wconversion
    -Wstrict-prototypes -Wmissing-prototypes)
read -r -a libraries < <(pkg-config --cflags criterion jansson openssl)

# A line of arguments for each compilation. The lessons get no more than C17
# and POSIX.1-2008; the tests may use what Linux has. A file that is compiled
# for several lessons is checked for each.
compilations() {
    local file lesson number folder
    for file in [0-9][0-9]-*/*.c; do
        echo "-D_POSIX_C_SOURCE=200809L $file"
    done
    for file in [0-9][0-9]-*/*/*.c; do
        echo "-D_POSIX_C_SOURCE=200809L -I${file%%/*} $file"
    done
    for file in tests/exercises/*.c; do
        number=${file##*/0}
        echo "-D_GNU_SOURCE -DLESSON=${number%%-*} -Itests/harness $file"
    done
    for file in tests/*.c; do
        for lesson in "${lessons[@]}"; do
            number=${lesson%%-*}
            case $file in
                */lesson-"$number".c) ;;
                */lesson-*) continue ;;
                */room.c) [ "$number" -ge 4 ] || continue ;;
                */crowd.c) [ "$number" -ge 5 ] || continue ;;
            esac
            echo "-D_GNU_SOURCE -DLESSON=${number#0} -Itests/harness $file"
        done
    done
    echo "-D_GNU_SOURCE tests/bench/bench.c"
    for file in tests/fuzz/*.c; do
        number=${file##*/}
        folder=("${number%%-*}"-*)
        echo "-D_GNU_SOURCE -I${folder[0]} $file"
    done
    for file in tests/h*/*.c; do
        echo "-D_GNU_SOURCE -DLESSON=1 -Itests/harness $file"
    done
    echo "-D_GNU_SOURCE -DLESSON=7 -Itests/harness tests/harness/lesson.c"
}

compile_all() {
    compilations | xargs -P 4 -L 1 "$@" "${warnings[@]}" "${libraries[@]}" 2>&1
}

# ------------------------------------------------------------------ text files

# Everything that git has or would have.
text_files() {
    git ls-files --cached --others --exclude-standard |
        grep -vE '\.(patch|png|pem)$' | while read -r file; do
        [ ! -f "$file" ] || echo "$file"
    done
}

blanks() {
    text_files | xargs awk '
        FNR == 1 { makefile = FILENAME ~ /(^|\/)(Makefile|.*\.mk)$/ }
        /[ \t]$/ { print FILENAME ":" FNR ": blanks at the end of the line" }
        /\t/ && !makefile { print FILENAME ":" FNR ": a tab" }
        /\r/ { print FILENAME ":" FNR ": a carriage return" }
    '
    text_files | while read -r file; do
        [ -z "$(tail -c 1 "$file")" ] || echo "$file: no newline at its end"
    done
}

too_long() {
    awk 'length > 80 { print FILENAME ":" FNR ": " length " columns" }' \
        "${sources[@]}" "${tests[@]}"
}

# --------------------------------------------------------------------- READMEs

headings='## What you will be able to do
## The problem
## The idea
## The code in reading order
## What changed since the last lesson
## Try it
## Break it
## Exercises
## Check yourself
## The same in Python
## Further reading'

wrong_headings() {
    local readme
    for lesson in "${lessons[@]}"; do
        readme=$lesson/README.md
        if [ ! -f "$readme" ]; then
            echo "$readme is missing"
        elif ! diff <(echo "$headings") <(awk '/^```/ { code = !code }
            /^## / && !code' "$readme") >"$scratch/headings"; then
            echo "$readme (< what should stand there, > what does):"
            grep '^[<>]' "$scratch/headings"
        fi
    done
}

# Each ```c block must be found, line by line, in a source file beside it; how
# far it is indented does not matter.
wrong_excerpts() {
    local readme
    for readme in ${readmes[@]+"${readmes[@]}"}; do
        awk '
            function indent(line) {
                match(line, /^ */)
                return RLENGTH
            }
            function stands_at(start, i, shift) {
                shift = indent(source[start]) - indent(block[1])
                for (i = 1; i <= count; i++)
                    if (block[i] == "" || source[start + i - 1] == "") {
                        if (block[i] != source[start + i - 1])
                            return 0
                    } else if (substr(source[start + i - 1], indent(source[start + i - 1]) + 1) != \
                               substr(block[i], indent(block[i]) + 1) ||
                               indent(source[start + i - 1]) - indent(block[i]) != shift)
                        return 0
                return 1
            }
            function check(start) {
                for (start = 1; start + count - 1 <= total; start++)
                    if (stands_at(start))
                        return
                print FILENAME ":" first ": " block[1]
            }
            FNR == 1 { files++ }
            FILENAME !~ /README\.md$/ { source[++total] = $0; next }
            FNR == 1 { source[++total] = "" }
            /^```c$/ { inside = 1; count = 0; first = FNR + 1; next }
            /^```/ && inside { inside = 0; check(); next }
            inside { block[++count] = $0 }
        ' "${readme%/*}"/*.[ch] "$readme"
    done
}

# Links to files of the repository; links that begin with a scheme or # are not
# looked at.
dead_links() {
    local file target
    text_files | grep '\.md$' | while read -r file; do
        awk '/^```/ { code = !code } !code' "$file" | grep -o ']([^) ]*)' |
            sed 's/^](//; s/)$//; s/#.*//' | while read -r target; do
            case $target in '' | *:*) continue ;; esac
            [ -e "$(dirname "$file")/$target" ] || echo "$file: $target"
        done
    done
}

# A test's report sends the reader to a heading of a README.
wrong_references() {
    local readme heading
    grep -rhoE '[0-9][0-9]-[a-z]+(-[a-z]+)*/README\.md, \\"[^"\\]*\\"' tests |
        sort -u | sed 's/, \\"/|/; s/\\"$//' |
        while IFS='|' read -r readme heading; do
            grep -qxF "## $heading" "$readme" 2>/dev/null ||
                echo "$readme has no heading \"$heading\""
        done
}

# A README or a comment that names a test (ONLY=name, "Test: name") names one
# that exists.
wrong_test_names() {
    local name
    grep -ohE '(ONLY=|Tests?: )[a-z0-9]+(_[a-z0-9]+)+' "${sources[@]}" \
        README.md tests/README.md ${readmes[@]+"${readmes[@]}"} 2>/dev/null |
        sed 's/.*[= ]//' | sort -u | while read -r name; do
        grep -qE "TEST\([a-z]+, ${name}[,)]" tests/*.c \
            tests/exercises/*.c ||
            echo "no test is called $name"
    done
}

# ---------------------------------------------------------------------- all of it

passes 'Copies of a module differ' 'make carry' tests/tools/carry.sh --check
passes 'These files are not laid out as .clang-format says' \
    'clang-format -i FILE' badly_laid_out
passes 'A function begins without a blank line before it' \
    'put one there' crowded
passes 'gcc warns' 'mend the code, do not silence the warning' \
    compile_all gcc -O2 -Werror -c -o /dev/null
passes 'clang warns' 'mend the code, do not silence the warning' \
    compile_all clang -Werror -fsyntax-only
passes 'Lines of more than 80 columns' 'break them' too_long
passes 'Blanks, tabs, ends of files' 'remove them (.editorconfig helps)' blanks
passes 'The headings of a README are not those of every lesson' \
    'give it these headings in this order' wrong_headings
passes 'A C excerpt in a README does not stand in the code of its lesson' \
    'copy it from the source again; an excerpt is one run of lines' \
    wrong_excerpts
passes 'A link leads nowhere' 'mend the path' dead_links
passes 'A test sends its reader to a heading that is not there' \
    'mend .read in tests/, or the README' wrong_references
passes 'A README or a comment names a test that does not exist' \
    'mend the name' wrong_test_names
passes 'A mistake of the museum is not in order' \
    'make its patch again, against the code as it is now' \
    tests/tools/mistakes.sh check
passes 'An exercise is not in order' \
    'see the head of tests/tools/exercises.sh' tests/tools/exercises.sh check
passes 'shellcheck complains' 'see the page that it names' \
    shellcheck "${scripts[@]}"
if command -v codespell >/dev/null; then
    # shellcheck disable=SC2046 # no file name here has a blank
    passes 'A word is misspelt' 'mend it' codespell -q 3 -L te $(text_files)
else
    echo 'NOT CHECKED: spelling, there is no codespell here.'
fi

echo
echo "lint: $checks checks, $failures failed"
[ "$failures" = 0 ]

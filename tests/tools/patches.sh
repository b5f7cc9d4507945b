# shellcheck shell=bash
#
# patches.sh - reads the headers of patches, for mistakes.sh and exercises.sh.
#
# A patch that tests have to catch stands behind a header of "Key: value" lines;
# a line that begins with a blank goes on. Two keys are the same everywhere:
#
#     Caught by: calm | hostile, then the names of the tests, each of which has
#                to fail; `hostile`: the calm network does not show it
#     Message: what each report has to say, an extended regular expression

header() {
    sed '/^diff \|^--- /,$d' "$1"
}

# value KEY PATCH: what the header says, on one line.
value() {
    header "$2" | awk -v key="$1:" '
        index($0, key) == 1 {
            found = 1
            sub(key " *", "")
            printf "%s", $0
            next
        }
        /^[ \t]/ && found { sub(/^[ \t]+/, " "); printf "%s", $0; next }
        { found = 0 }'
}

# The tests that a header names.
tests_of() {
    value 'Caught by' "$1" | sed 's/^[a-z]*[:,]* *//; s/,/ /g'
}

# one_line NAME: what the reports on standard input say, in one line; theirs are
# broken anywhere. NAME, the folder that was judged, does not count ('': none).
one_line() {
    sed "s/^\[----\] *//; s/${1:-^\$}//g" | tr -s '\n ' ' '
}

# verdict FAILED ALL: how often a test failed, as a word.
verdict() {
    case $1 in
        0) echo - ;;
        "$2") echo yes ;;
        *) echo "$1/$2" ;;
    esac
}

#!/usr/bin/env bash
#
# grade-check.sh - proves that make grade gives what a teacher relies on: all
# points for our solutions, some for a starter, none for what does not compile,
# never ends or floods its output, each with its reason, in files that other
# programs can read. It grades a copy of the course, in build/.

set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
copy=$top/build/grade-check
failed=0

# expect WHAT FILTER: a line on WHAT; the jq FILTER has to say true.
expect() {
    if [ "$(jq "$2" "$copy/build/grade.json" 2>&1)" = true ]; then
        echo "ok   $1"
    else
        echo "bad  $1"
        failed=$((failed + 1))
    fi
}

rm -rf "$copy"
mkdir -p "$copy" || exit 2
(cd "$top" && tar cf - --exclude=./.git --exclude=./build/mistakes \
    --exclude=./build/exercises --exclude=./build/grade-check .) |
    tar xf - -C "$copy" || exit 2
cd "$copy" || exit 2

# What a class hands in.
cp 03-encoding/solutions/1-*.c 03-encoding/exercises/ || exit 2
cp 04-framing/solutions/1-*.c 04-framing/exercises/ || exit 2
tests/tools/exercises.sh reset 04-2 >/dev/null || exit 2
echo 'int main(void) { return 1' >"$(tests/tools/exercises.sh file 01-1)"
cat >"$(tests/tools/exercises.sh file 01-2)" <<'C'
int main(void)
{
    for (;;) {
    }
}
C
cat >"$(tests/tools/exercises.sh file 02-1)" <<'C'
#include <stdio.h>

int main(void)
{
    for (;;)
        puts("</failure> & \"flood\" ]]>");
}
C
SECONDS_EACH=20 make -s grade EXERCISES='01-1 01-2 02-1 03-1 04-1 04-2' \
    >build/grade.log 2>&1 || {
    cat build/grade.log
    exit 1
}

# The tests of an exercise in a jq filter: of("04-2").
# shellcheck disable=SC2016 # jq's variable, not the shell's
of='def of($id): [.tests[] | select(.name | startswith($id))];'
none='length > 0 and all(.score == 0 and .status == "failed")'

expect 'our solutions have all points' \
    "$of of(\"03-1\") + of(\"04-1\") | all(.score == .max_score) and length > 9"
expect 'a starter has not all points' \
    "$of of(\"04-2\") | length > 0 and (map(.score) | add) < 10"
expect 'a starter is told how to begin' \
    "$of of(\"04-2\") | any(.output | contains(\"To begin with\"))"
expect 'what does not compile has none, and the compiler says why' \
    "$of of(\"01-1\") | $none and all(.output | contains(\"does not compile\"))"
expect 'what never answers has none' "$of of(\"01-2\") | $none"
expect 'what floods its output has none' "$of of(\"02-1\") | $none"
expect 'each exercise counts 10 points' \
    '.max_score == 60 and ((.tests | map(.max_score) | add) - 60 | fabs) < 0.001'
expect 'the sum is that of the tests' \
    '((.tests | map(.score) | add) - .score | fabs) < 0.01'
if ! command -v python3 >/dev/null; then
    echo 'skip grade.xml is well-formed (this machine has no python3)'
elif python3 - build/grade.xml build/grade.json <<'PYTHON'; then
import json, sys
import xml.etree.ElementTree as tree
suites = tree.parse(sys.argv[1]).getroot()
tests = json.load(open(sys.argv[2]))["tests"]
failed = [test for test in tests if test["status"] == "failed"]
assert len(suites.findall(".//testcase")) == len(tests)
assert len(suites.findall(".//failure")) == len(failed)
PYTHON
    echo 'ok   grade.xml is well-formed, and has the same entries'
else
    echo 'bad  grade.xml is well-formed, and has the same entries'
    failed=$((failed + 1))
fi

if [ "$failed" != 0 ]; then
    cat build/grade.log
    exit 1
fi
rm -rf "$copy"

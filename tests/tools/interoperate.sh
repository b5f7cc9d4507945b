#!/usr/bin/env bash
#
# interoperate.sh - each lesson's client with each other lesson's server, as the
# contract promises it for lessons 04, 05 and 06 (07 speaks TLS).
#
# Prints a line for each pair that does not understand each other, and at last
# how many do. Programs that have not been built are left out.

set -u

cd "$(dirname "$0")/../.." || exit 1
scratch=$(mktemp -d "${TMPDIR:-/tmp}/interoperate.XXXXXX") || exit 1
server=''
cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null
    rm -rf "$scratch"
}
trap cleanup EXIT

good=0 bad=0
printf '%s\n' '* you are ada (1 in the room)' 'ada: hello' 'ada: héllo' \
    >"$scratch/expected"

# Waits until the server has said where it listens, and prints the port.
port_of() {
    for ((i = 0; i < 500; i++)); do
        if grep -q '^listening on' "$1"; then
            sed 's/.*://' "$1"
            return
        fi
        sleep 0.02
    done
}

for server_folder in 0[456]-*; do
    [ -x "$server_folder/server" ] || continue
    : >"$scratch/line"
    "$server_folder/server" -p 0 >"$scratch/line" 2>"$scratch/complaint" &
    server=$!
    port=$(port_of "$scratch/line")
    for client_folder in 0[456]-*; do
        [ -x "$client_folder/client" ] || continue
        printf 'hello\nhéllo\n' |
            timeout 10 "$client_folder/client" -n ada 127.0.0.1 "$port" \
                >"$scratch/came" 2>>"$scratch/complaint"
        status=$?
        if [ "$status" = 0 ] && cmp -s "$scratch/came" "$scratch/expected"; then
            good=$((good + 1))
        else
            bad=$((bad + 1))
            echo "$client_folder/client with $server_folder/server:" \
                "exit status $status, and what came was:"
            sed 's/^/    /' "$scratch/came" "$scratch/complaint"
        fi
    done
    kill "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=''
done

echo "$good pairs of client and server understand each other, $bad do not"
[ "$bad" = 0 ]

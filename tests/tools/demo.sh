#!/usr/bin/env bash
#
# demo.sh LESSON... - runs lessons end to end and explains what happens.
#
# For each lesson it starts the server, runs a client, and shows the commands,
# the bytes that went over the wire and what came back. Between client and
# server stands socat, which passes every byte on and writes down what it saw.
# The exit status is 0 when everything came back as it should.

set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/demo.XXXXXX") || exit 1
wrong=0 # how many answers were not what they should be

clean_up() {
    local running
    running=$(jobs -rp)
    # shellcheck disable=SC2086 # one word a process
    [ -z "$running" ] || kill $running 2>/dev/null
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT HUP
trap 'give_up "Something has not ended for a minute."' TERM

# All of it takes a few seconds. (read can wait without a process of its own.)
mkfifo "$scratch/never" || exit 1
{
    read -r -t 60 <>"$scratch/never"
    kill "$$"
} &

bold='' command='' wire='' bad='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' command=$'\e[32m' wire=$'\e[36m' bad=$'\e[31m' plain=$'\e[0m'
fi

title() {
    printf '\n%s%s%s   (in %s/)\n' "$bold" "$1" "$plain" "$(basename "$PWD")"
}

# A paragraph of explanation.
explain() {
    echo
    echo "$*" | fold -s -w 76 | sed 's/ *$//'
}

show_command() {
    printf '\n    %s$ %s%s\n' "$command" "$1" "$plain"
}

# What a program printed.
show_output() {
    sed 's/^/    /' "$1"
    [ -z "$(tail -c 1 "$1")" ] || echo # no newline at its end
}

give_up() {
    printf '%s%s%s\n' "$bad" "$*" "$plain"
    exit 1
}

# wait_for_text FILE PATTERN: waits until a line of the file matches.
wait_for_text() {
    local turn
    for turn in $(seq 500); do
        grep -q "$2" "$1" 2>/dev/null && return
        sleep 0.01
    done
    give_up "Nothing like \"$2\" came within ${turn}0 ms: $(cat "$1")"
}

# start_server "WORDS": starts a server in the background and sets `server`, its
# process, and `port`, where it listens.
start_server() {
    show_command "$1 &"
    $1 >"$scratch/server" 2>&1 &
    server=$!
    wait_for_text "$scratch/server" '^listening on .*:[0-9]*$'
    show_output "$scratch/server"
    port=$(sed -n 's/^listening on .*://p' "$scratch/server")
}

stop_server() {
    kill "$server"
    wait "$server" 2>/dev/null
}

# start_relay: one connection to `relay`, a port, goes on to the server's, and
# is written down.
start_relay() {
    socat -d -d -x -v -t 10 -T 10 TCP-LISTEN:0,bind=127.0.0.1 \
        "TCP:127.0.0.1:$port" 2>"$scratch/wire" &
    relay_process=$!
    wait_for_text "$scratch/wire" ' listening on '
    relay=$(sed -n 's/.* listening on .*://p' "$scratch/wire")
}

# Shows what the relay wrote down, in the order in which it passed.
show_wire() {
    wait "$relay_process"
    printf '%s' "$wire"
    LC_ALL=C awk '
        function way(sign) {
            return sign == ">" ? "client --> server" : "server --> client"
        }
        /^[<>] / {
            match($0, /length=[0-9]+/)
            count = substr($0, RSTART + 7, RLENGTH - 7)
            print "      " way($1) "   " count (count == 1 ? " byte" : " bytes")
        }
        /^ [0-9a-f][0-9a-f] / { sub(/ +$/, ""); print "         " $0 }
        / socket 1 .* is at EOF/ { print "      " way(">") "   end of file" }
        / socket 2 .* is at EOF/ { print "      " way("<") "   end of file" }
    ' "$scratch/wire"
    printf '%s' "$plain"
}

# run "COMMAND": shows a shell command, runs it, and shows what it printed.
run() {
    show_command "$1"
    bash -c "$1" </dev/null >"$scratch/output" 2>&1
    show_output "$scratch/output"
}

# should_be TEXT: compares what the last command printed with what it should.
should_be() {
    printf '%b' "$1" >"$scratch/expected"
    cmp -s "$scratch/expected" "$scratch/output" && return
    wrong=$((wrong + 1))
    printf '%sThis is not what should have come back:%s\n' "$bad" "$plain"
    show_output "$scratch/expected"
}

# should_match PATTERN: the same, for a line that varies.
should_match() {
    grep -q -- "$1" "$scratch/output" && return
    wrong=$((wrong + 1))
    printf '%sA line like this should have come back: %s%s\n' "$bad" "$1" \
        "$plain"
}

lesson_01() {
    title 'Lesson 01: a server'
    explain 'The server asks the kernel for a socket and a port (-p 0: any' \
        'that is free) and waits for somebody to connect.'
    start_server './server -p 0'

    explain 'It sends back every byte. A client comes with lesson 02; until' \
        'then socat, a tool that connects anything to anything, stands in for' \
        'one. A second socat sits on the way, on a port of its own, passes' \
        'every byte on to the server and writes down what it saw.'
    start_relay
    run "printf 'hello\\n' | socat - TCP:127.0.0.1:$relay"
    should_be 'hello\n'
    show_wire
    explain 'The same six bytes went out and came back. "End of file" is the' \
        'client saying that it will send no more; the server then closes too.'

    explain 'Bytes are bytes: a zero ends no text here, and 0xff is as good as' \
        'any other.'
    run "printf 'a\\000b\\377' | socat - TCP:127.0.0.1:$port | od -An -tx1"
    should_be ' 61 00 62 ff\n'

    explain 'Ten megabytes come back as well. The kernel takes them in pieces,' \
        'and the server sends each piece until all of it is gone.'
    run "head -c 10485760 /dev/zero | socat -t 10 - TCP:127.0.0.1:$port | cksum"
    should_be "$(head -c 10485760 /dev/zero | cksum)\n"

    explain 'This server serves one client at a time: while a first one holds' \
        'the connection for half a second, a second one waits in the' \
        'kernel'\''s queue.'
    show_command "sleep 0.5 | socat - TCP:127.0.0.1:$port &"
    sleep 0.5 | socat - "TCP:127.0.0.1:$port" &
    sleep 0.1
    TIMEFORMAT='(after %1R s)' \
        run "time printf 'second\\n' | socat -t 5 - TCP:127.0.0.1:$port"
    should_match '^second$'
    stop_server
}

lesson_02() {
    title 'Lesson 02: a client'
    explain 'The client needs a server to talk to: that of lesson 01.'
    start_server '../01-basic-server/server -p 0'

    explain 'It sends what it reads, a last line without a newline too, and' \
        'prints what comes back.'
    start_relay
    run "printf 'one\\ntwo' | ./client 127.0.0.1 $relay"
    should_be 'one\ntwo'
    show_wire

    explain 'When nobody is there, the kernel refuses the connection at once.' \
        'The client tries again after a pause, here once (-r 1), and then says' \
        'where, how often and why not.'
    stop_server
    run "printf 'hello\\n' | ./client -r 1 127.0.0.1 $port"
    should_match '127\.0\.0\.1.*refused'

    explain 'So a server may start late. The client is started first:'
    show_command "printf 'are you there?\\n' | ./client -r 10 127.0.0.1 $port &"
    printf 'are you there?\n' |
        ./client -r 10 127.0.0.1 "$port" >"$scratch/output" 2>&1 &
    client=$!
    sleep 0.3
    start_server "../01-basic-server/server -p $port"
    wait "$client"
    explain 'As soon as the server listens, the next attempt gets through:'
    echo
    show_output "$scratch/output"
    should_be 'are you there?\n'
    stop_server
}

lesson_03() {
    title 'Lesson 03: bytes are not characters'
    start_server './server -p 0'

    explain 'In this text are letters; an e with an accent, two bytes; an' \
        'emoji, four bytes; the byte 0xff, which is no UTF-8 at all; and an' \
        'emoji that the client makes out of its number. With -v the client' \
        'shows every code point that came back.'
    start_relay
    run "printf 'caf\\303\\251 \\360\\237\\230\\200 \\377 \\\\u{1F601}\\n' | ./client -v 127.0.0.1 $relay"
    should_match 'U+FFFD  ef bf bd'
    should_match 'U+1F601  f0 9f 98 81'
    show_wire
    explain 'The byte 0xff went to the server as it was. Back came ef bf bd,' \
        'which is U+FFFD, the sign for "something was here that is no' \
        'character". The whole answer is well-formed UTF-8.'

    explain 'What is no character is not sent: D800 is half of a pair (a' \
        'surrogate), and the client says where it stands.'
    run "printf 'first line\\nab\\\\u{D800}\\n' | ./client 127.0.0.1 $port; echo \"exit status \$?\""
    should_match '^exit status 2$'
    stop_server
}

lesson_04() {
    title 'Lesson 04: messages'
    explain 'A room, for one member so far. The client joins it under a name' \
        'and says what it reads, and the server tells it what was said.'
    start_server './server -p 0'
    start_relay
    run "printf 'hello\\n' | ./client -n ada 127.0.0.1 $relay"
    should_be '* you are ada (1 in the room)\nada: hello\n'
    show_wire
    explain 'Each message is a JSON object, and in front of each stand four' \
        'bytes: its length, most significant byte first. However the network' \
        'cuts the bytes, the receiver knows where a message ends.'

    explain 'A length that is too big cannot be skipped, for nobody knows where' \
        'the next frame begins. Four bytes 0xff claim four gigabytes: one' \
        'error, and the end.'
    start_relay
    run "printf '\\377\\377\\377\\377' | socat -t 5 - TCP:127.0.0.1:$relay | tail -c +5"
    should_match '"error"'
    show_wire
    stop_server

    explain 'The other way to say where a message ends is a sign that stands' \
        'in none of them: with -f line it is the newline.'
    start_server './server -p 0 -f line'
    start_relay
    run "printf 'hello\\n' | ./client -f line -n ada 127.0.0.1 $relay"
    should_be '* you are ada (1 in the room)\nada: hello\n'
    show_wire
    explain 'The same messages, without the lengths, and with 0a behind each.'

    explain 'Lines can be typed by hand. A message that is wrong costs that' \
        'message and no more: the error comes, then the answer to the ping.'
    run "printf '%s\\n' '{\"type\":\"say\",\"text\":\"too early\"}' '{\"type\":\"ping\"}' | socat - TCP:127.0.0.1:$port"
    should_match '"error"'
    should_match '"pong"'
    stop_server
}

for number in "$@"; do
    folder=$(cd "$top" && echo "$number"-*)
    declare -F "lesson_$number" >/dev/null ||
        give_up "demo.sh has nothing for lesson $number."
    cd "$top/$folder" || exit 1
    "lesson_$number"
done

echo
[ "$wrong" = 0 ] || give_up "$wrong of the answers were not what they should be."
echo 'Everything came back as it should.'

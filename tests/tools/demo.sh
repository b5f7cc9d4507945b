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

# All of it takes a few seconds, and more on a machine that is busy: the minute
# begins anew with each command, which writes a line into this pipe. (read can
# wait without a process of its own.)
mkfifo "$scratch/going_on" || exit 1
{
    while read -r -t 60; do continue; done <>"$scratch/going_on"
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
    echo 1<>"$scratch/going_on"
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
    : >"$scratch/server" # what the last one said is not waited for
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
    : >"$scratch/wire"
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
    bash -c "$1" </dev/null >"$scratch/output" 2>&1 &
    wait $! # a signal ends the wait, but not that for a command in front
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
    run "printf 'hello\\n' | socat -t 5 - TCP:127.0.0.1:$relay"
    should_be 'hello\n'
    show_wire
    explain 'The same six bytes went out and came back. "End of file" is the' \
        'client saying that it will send no more; the server then closes too.'

    explain 'Bytes are bytes: a zero ends no text here, and 0xff is as good as' \
        'any other.'
    run "printf 'a\\000b\\377' | socat -t 5 - TCP:127.0.0.1:$port | od -An -tx1"
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
    run "printf '%s\\n' '{\"type\":\"say\",\"text\":\"too early\"}' '{\"type\":\"ping\"}' | socat -t 5 - TCP:127.0.0.1:$port"
    should_match '"error"'
    should_match '"pong"'
    stop_server
}

lesson_05() {
    local ada eve
    title 'Lesson 05: a room for everybody'
    start_server './server -p 0'

    explain 'Ada joins and stays. A pipe with a name is her keyboard, a file is' \
        'her screen.'
    rm -f "$scratch/keyboard" "$scratch/screen"
    mkfifo "$scratch/keyboard"
    show_command "./client -n ada 127.0.0.1 $port <keyboard >screen &"
    ./client -n ada 127.0.0.1 "$port" <"$scratch/keyboard" \
        >"$scratch/screen" 2>&1 &
    ada=$!
    exec 9>"$scratch/keyboard"
    wait_for_text "$scratch/screen" '^\* you are ada'
    if [ -e "/proc/$server/status" ]; then
        explain 'The server has three threads now: one waits for new clients,' \
            'one for what Ada says, and one until there is something to tell' \
            'her.'
        run "grep Threads /proc/$server/status"
        should_match '3$'
    fi

    explain 'While she is connected, Grace comes, says something and goes.'
    start_relay
    run "echo 'hello ada' | ./client -n grace 127.0.0.1 $relay"
    should_be '* you are grace (2 in the room)\ngrace: hello ada\n'
    show_wire
    explain 'Ada has seen all of it, in this order, and so would everybody else.'
    wait_for_text "$scratch/screen" '^\* grace left'
    show_command 'cat screen'
    cp "$scratch/screen" "$scratch/output"
    show_output "$scratch/output"
    should_be '* you are ada (1 in the room)\n* grace joined\ngrace: hello ada\n* grace left\n'

    explain 'Her name is taken as long as she is there.'
    run "./client -n ada 127.0.0.1 $port"
    should_match '^! '

    explain 'Eve joins too, and never reads what she is told. (This socat only' \
        'sends.)'
    show_command "(printf '\\0\\0\\0\\034{\"type\":\"join\",\"name\":\"eve\"}'; sleep 60) |"
    echo "          socat -u - TCP:127.0.0.1:$port,rcvbuf=4096 &"
    printf '\0\0\0\034{"type":"join","name":"eve"}' >"$scratch/join"
    socat -u "OPEN:$scratch/join,ignoreeof" \
        "TCP:127.0.0.1:$port,rcvbuf=4096" 2>/dev/null &
    eve=$!
    wait_for_text "$scratch/screen" '^\* eve joined'
    explain 'Grace says 600 texts of 8000 letters. They go to everybody, and' \
        'for Eve they pile up: first in the kernel, which takes some' \
        'megabytes, then in her queue in the server. When 256 KiB wait' \
        'there, she has to go. Nobody waits for her: Grace gets all of hers.'
    run "for i in \$(seq 40); do
          yes \$(printf %08000d 0) | head -n 15; sleep 0.03
      done | ./client -n grace 127.0.0.1 $port | cut -c 1-10 | sort | uniq -c"
    should_match ' 600 grace: 000$'
    should_match ' 1 \* eve left$'
    show_command 'tail -n 1 server.log'
    tail -n 1 "$scratch/server" >"$scratch/output"
    show_output "$scratch/output"
    should_match 'does not read'
    kill "$eve" 2>/dev/null

    explain 'A signal ends the server while Ada is still there. All its threads' \
        'end, whatever they wait for, and then the server.'
    show_command "kill $server; wait $server; echo \"exit status \$?\""
    kill "$server"
    wait "$server"
    echo "exit status $?" >"$scratch/output"
    show_output "$scratch/output"
    should_be 'exit status 0\n'
    exec 9>&-
    wait "$ada"
    explain 'Ada sees that as well:'
    show_command 'tail -n 1 screen'
    tail -n 1 "$scratch/screen" >"$scratch/output"
    show_output "$scratch/output"
    should_match 'closed the connection'
}

# How much processor time a process has used, in hundredths of a second.
ticks() {
    awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"
}

lesson_06() {
    local ada before
    title 'Lesson 06: one thread, one poll'
    start_server './server -p 0'

    explain 'Ada joins and types half a line. A pipe with a name is her' \
        'keyboard, a file is her screen.'
    rm -f "$scratch/keyboard" "$scratch/screen"
    mkfifo "$scratch/keyboard"
    show_command "./client -n ada 127.0.0.1 $port <keyboard >screen &"
    ./client -n ada 127.0.0.1 "$port" <"$scratch/keyboard" \
        >"$scratch/screen" 2>&1 &
    ada=$!
    exec 9>"$scratch/keyboard"
    wait_for_text "$scratch/screen" '^\* you are ada'
    show_command "printf 'half a li' >keyboard"
    printf 'half a li' >&9

    explain 'Somebody else sends a frame in three parts. The server keeps what' \
        'has come and turns to others: it never waits for the rest.'
    start_relay
    run "(printf '\\0\\0'; sleep 0.1; printf '\\0\\017{\"type'; sleep 0.1; printf '\":\"ping\"}') |
          socat -t 5 - TCP:127.0.0.1:$relay | tail -c +5"
    should_be '{"type":"pong"}'
    show_wire

    explain 'Grace comes and goes meanwhile. Ada sees it, though her line is not' \
        'finished. Then she types the rest.'
    run "echo 'hello ada' | ./client -n grace 127.0.0.1 $port"
    should_be '* you are grace (2 in the room)\ngrace: hello ada\n'
    wait_for_text "$scratch/screen" '^\* grace left'
    show_command "printf 'ne\\n' >keyboard; cat screen"
    printf 'ne\n' >&9
    wait_for_text "$scratch/screen" '^ada: '
    cp "$scratch/screen" "$scratch/output"
    show_output "$scratch/output"
    should_be '* you are ada (1 in the room)\n* grace joined\ngrace: hello ada\n* grace left\nada: half a line\n'

    explain 'Two hundred more connect and say nothing. The shell itself can do' \
        'that.'
    [ ! -e "/proc/$server/status" ] || run "grep VmRSS /proc/$server/status"
    show_command "for i in \$(seq 200); do exec {socket}<>/dev/tcp/127.0.0.1/$port; done"
    local silent=() descriptor
    while [ "${#silent[@]}" -lt 200 ]; do
        exec {descriptor}<>"/dev/tcp/127.0.0.1/$port"
        silent+=("$descriptor")
    done
    if [ -e "/proc/$server/stat" ]; then
        sleep 0.1 # until they are accepted
        run "grep -E 'VmRSS|Threads' /proc/$server/status"
        should_match 'Threads:.*1$'
        before=$(ticks "$server")
        sleep 0.3
        explain 'There is still one thread, and hardly more memory in use. In' \
            'the last 0.3 seconds, in which nobody said anything, the server' \
            "used $(($(ticks "$server") - before)) hundredths of a second of" \
            'processor time.'
    fi
    for descriptor in "${silent[@]}"; do
        exec {descriptor}>&-
    done

    explain 'A signal ends it. The handler writes one byte into a pipe, and poll' \
        'reports it like everything else.'
    show_command "kill $server; wait $server; echo \"exit status \$?\""
    kill "$server"
    wait "$server"
    echo "exit status $?" >"$scratch/output"
    show_output "$scratch/output"
    should_be 'exit status 0\n'
    exec 9>&-
    wait "$ada"
}

# show_records WORD...: shows what the relay wrote down as records of TLS: each
# has five bytes in front (kind, version, length), then what nobody on the way
# understands. At the end it says which words can be read.
show_records() {
    wait "$relay_process"
    printf '%s' "$wire"
    LC_ALL=C awk -v words="$*" '
        function number(hex) {
            return 16 * (index("0123456789abcdef", substr(hex, 1, 1)) - 1) + \
                index("0123456789abcdef", substr(hex, 2, 1)) - 1
        }
        function named(kind, first) {
            if (kind == "16" && first == "01")
                return "ClientHello"
            if (kind == "16" && first == "02")
                return "ServerHello"
            if (kind == "14")
                return "change of ciphers"
            return kind == "15" ? "alert" : kind == "17" ? "encrypted" \
                : "handshake"
        }
        function byte(way, hex, code) {
            code = number(hex)
            text[way] = text[way] (code > 31 && code < 127 ? \
                sprintf("%c", code) : ".")
            record[way] = record[way] hex " "
            count = length(record[way]) / 3
            if (count == 5)
                whole[way] = 5 + 256 * number(substr(record[way], 10, 2)) + \
                    number(substr(record[way], 13, 2))
            if (count < 5 || count < whole[way])
                return
            shown = substr(record[way], 16, 36)
            sub(/ $/, whole[way] > 17 ? " ..." : "", shown)
            printf "         %-17s %5d %-6s %s\n", \
                named(substr(record[way], 1, 2), substr(record[way], 16, 2)), \
                whole[way] - 5, whole[way] == 6 ? "byte" : "bytes", shown
            record[way] = ""
        }
        /^[<>] / {
            way = $1
            match($0, /length=[0-9]+/)
            print "      " (way == ">" ? "client --> server" \
                : "server --> client") "   " \
                substr($0, RSTART + 7, RLENGTH - 7) " bytes"
        }
        /^ [0-9a-f][0-9a-f] / {
            bytes = split(substr($0, 1, 48), row, " ")
            for (i = 1; i <= bytes; i++)
                byte(way, row[i])
        }
        END {
            wanted = split(words, word, " ")
            for (i = 1; i <= wanted; i++)
                print "      \"" word[i] "\" can be read there: " \
                    (index(text["<"] text[">"], word[i]) ? "yes" : "no")
        }
    ' "$scratch/wire" | tee "$scratch/output"
    printf '%s' "$plain"
}

# certificate FILE NAME DAYS: one more from the CA in certs/.
certificate() {
    printf '[req]\ndistinguished_name = name\n[name]\n' >config
    openssl req -new -config config -key certs/server.key -subj "/CN=$2" |
        openssl x509 -req -CA certs/ca.pem -CAkey certs/ca.key -days "$3" \
            -extfile <(echo "subjectAltName = DNS:$2") -out "certs/$1"
}

# not_trusted PATTERN "WORDS": starts another server, and a client that has to
# say what is wrong with it.
not_trusted() {
    start_server "$2"
    run "echo secret | ./client -n ada localhost $port; echo \"exit status \$?\""
    should_match "$1"
    should_match '^exit status 1$'
    stop_server
}

lesson_07() {
    local client
    title 'Lesson 07: the room inside TLS'
    # The learner's own certificates stay as they are.
    mkdir "$scratch/07" && cd "$scratch/07" || exit 1
    ln -s "$top/$folder/server" "$top/$folder/client" \
        "$top/$folder/certs.sh" .
    ln -s "$top/01-basic-server" "$top/06-poll" "$scratch"

    explain 'First the room of lesson 06, and a socat on the way that passes' \
        'everything on and writes down what it sees.'
    start_server '../06-poll/server -p 0'
    start_relay
    run "echo 'my password is 1234' | ../06-poll/client -n ada 127.0.0.1 $relay"
    should_match '^ada: my password is 1234$'
    show_wire
    stop_server

    explain 'A server that wants to be known needs a certificate, and a private' \
        'key that nobody else can read. They are made here, for this demo' \
        'alone; -k keeps the key of the CA, which signs some more below.'
    run './certs.sh -k'
    should_match '^made '
    run 'ls -l certs'
    should_match '^-rw-------.* server.key$'

    explain 'Ada names the CA in certs/ca.pem as the one that she trusts, and' \
        'says something. Socat sits on the way and writes down what it sees.'
    start_server './server -p 0'
    start_relay
    run "echo 'my password is 1234' | ./client -n ada localhost $relay"
    should_be '* you are ada (1 in the room)\nada: my password is 1234\n'
    explain 'All that passed, record by record, the first twelve bytes of each:'
    echo
    show_records password localhost
    should_match '"password" can be read there: no'
    should_match 'ClientHello'
    should_match 'encrypted'
    explain 'The two Hellos agree on a key that only these two know. From there' \
        'on everything is encrypted, the certificate too. To be seen: who' \
        'talks to whom, when and how much, and the name of the host that the' \
        'client wanted, in ClientHello. What came first was one round trip;' \
        'the last record of each side is its close_notify.'

    explain 'Others speak TLS as well. "openssl s_client" sends a ping, and then' \
        'a length that is impossible, so that the server ends the connection.'
    run "printf '\\0\\0\\0\\017{\"type\":\"ping\"}\\377\\377\\377\\377' |
          openssl s_client -connect localhost:$port -CAfile certs/ca.pem \\
              -verify_return_error -quiet 2>s_client.log | tr -d '\\0' |
          grep -ao '{[^}]*}'"
    should_match '"pong"'
    should_match '"error"'

    explain 'A connection that is cut on the way: Ada is in the room, and the' \
        'relay between her and the server is killed. To TCP that is an end' \
        'like any other. TLS has a word of its own for the end, and it did' \
        'not come.'
    start_relay
    mkfifo keyboard
    show_command "./client -n ada localhost $relay <keyboard >screen &"
    ./client -n ada localhost "$relay" <keyboard >screen 2>&1 &
    client=$!
    exec 9>keyboard
    wait_for_text screen '^\* you are ada'
    show_command "kill $relay_process; wait $client; echo \"exit status \$?\"; cat screen"
    kill "$relay_process"
    wait "$relay_process" 2>/dev/null
    wait "$client"
    { echo "exit status $?" && cat screen; } >"$scratch/output"
    exec 9>&-
    show_output "$scratch/output"
    should_match '^exit status 1$'
    should_match 'cut off'
    stop_server

    certificate expired.pem localhost 0 2>openssl.log
    certificate other-name.pem chat.example 30 2>>openssl.log
    ./certs.sh foreign >certs.log 2>&1
    explain 'Four servers to which Ada says nothing. One shows a certificate' \
        'that has expired (it was made for this demo, with 0 days):'
    not_trusted 'has expired' './server -p 0 -c certs/expired.pem'
    explain 'One shows a good certificate, of the same CA, but of another host,' \
        'chat.example:'
    not_trusted 'another name' './server -p 0 -c certs/other-name.pem'
    explain 'One calls itself localhost, in a certificate that somebody else' \
        'has signed:'
    not_trusted 'nobody we trust' \
        './server -p 0 -c foreign/server.pem -k foreign/server.key'
    explain 'And one speaks no TLS at all, the echo server of lesson 01. The' \
        'client does not do without.'
    not_trusted 'TLS handshake' '../01-basic-server/server -p 0'

    explain 'A server whose key others can read does not even start:'
    run 'chmod 644 certs/server.key; ./server -p 0; echo "exit status $?"'
    should_match 'others may read it'
    should_match '^exit status 1$'
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

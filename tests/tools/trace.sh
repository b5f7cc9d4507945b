#!/usr/bin/env bash
#
# trace.sh LESSON - shows the system calls of one exchange, each with a word on
# what it does.
#
# The server and the client run under strace at the same time. Of what they ask
# the kernel for, only the calls on TCP sockets are shown, and what concerns
# threads: their start, the pipes that wake them, what they wait for. All stand
# in the order in which they began; a call that waits stands where its waiting
# begins.

set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
number=$1
folder=$(cd "$top" && echo "$number"-*)
cd "$top/$folder" || exit 1

command -v strace >/dev/null || {
    echo "There is no strace on this system. What shows system calls elsewhere:"
    echo "truss (FreeBSD), ktrace and kdump (OpenBSD, NetBSD), dtruss (macOS)."
    exit 1
}

scratch=$(mktemp -d "${TMPDIR:-/tmp}/trace.XXXXXX") || exit 1
clean_up() {
    local running
    running=$(jobs -rp)
    # shellcheck disable=SC2086 # one word a process
    [ -z "$running" ] || kill $running 2>/dev/null
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

bold='' faint='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' faint=$'\e[36m' plain=$'\e[0m'
fi

# -D: the program is our child, not strace's, and can be ended by its process.
strace=(strace -D -f -q -ttt -s 40 -e signal=none
    -e 'trace=%network,poll,ppoll,select,pselect6,epoll_wait,epoll_ctl,read,write,readv,writev,close,fcntl,pipe,pipe2,clone,clone3,futex')

# What the threads of each program are called, in the order of their first call.
# shellcheck disable=SC2034 # they are named by ${!names} below
{
    server_threads='server' client_threads='client' width=6
    case $number in
        05)
            server_threads='server reader writer'
            client_threads='client keyboard'
            width=8
            ;;
    esac
}

# Lesson 07 needs certificates; the learner's own stay as they are.
server_options=(-p 0) client_options=()
if [ "$number" = 07 ]; then
    ./certs.sh "$scratch/certs" >"$scratch/log" 2>&1 || {
        cat "$scratch/log"
        exit 1
    }
    server_options+=(-c "$scratch/certs/server.pem" -k "$scratch/certs/server.key")
    client_options=(-C "$scratch/certs/ca.pem")
    echo "${bold}\$ ./certs.sh${plain}"
fi

server=./server
[ -e server.c ] || server=../01-basic-server/server
"${strace[@]}" -o "$scratch/server.trace" "$server" \
    "${server_options[@]}" >"$scratch/server" 2>&1 &
server_process=$!
for _ in $(seq 300); do
    grep -q '^listening' "$scratch/server" && break
    sleep 0.01
done
port=$(sed -n 's/^listening on .*://p' "$scratch/server")
[ -n "$port" ] || {
    echo "The server did not start under strace:"
    cat "$scratch/server"
    exit 1
}

if [ -e client.c ]; then
    client=("${strace[@]}" -o "$scratch/client.trace" ./client
        ${client_options[@]+"${client_options[@]}"} 127.0.0.1 "$port")
    echo "${bold}\$ $server -p 0 &${plain}"
    echo "${bold}\$ echo hello | ./client 127.0.0.1 $port${plain}"
else
    client=(socat -t 5 - "TCP:127.0.0.1:$port") # is not traced
    echo "${bold}\$ $server -p 0 &${plain}"
    echo "${bold}\$ echo hello | socat -t 5 - TCP:127.0.0.1:$port${plain}"
fi
echo hello | "${client[@]}" >"$scratch/output" 2>&1
sleep 0.1 # for the server's last calls
kill "$server_process"
wait "$server_process" 2>/dev/null
for _ in $(seq 100); do # strace writes its last line after the program's end
    grep -q 'killed by\|exited with' "$scratch/server.trace" && break
    sleep 0.01
done
cat "$scratch/output"
echo

# A call during which another thread made one is written in two parts:
#
#     812 1700000000.000001 recvfrom(6,  <unfinished ...>
#     812 1700000000.000003 <... recvfrom resumed>"hello", 65540, 0, NULL, NULL) = 5
#
# This puts them together, at the place of the first.
whole_calls() {
    LC_ALL=C awk '
        / <unfinished \.\.\.>$/ {
            sub(/ *<unfinished \.\.\.>$/, "")
            begun[$1] = NR
        }
        / <\.\.\. [a-z0-9_]+ resumed>/ && $1 in begun {
            first = begun[$1]
            sub(/.* resumed>/, "")
            line[first] = line[first] " " $0
            next
        }
        { line[NR] = $0 }
        END { for (i = 1; i <= NR; i++) if (i in line) print line[i] }
    ' "$1"
}

for program in server client; do
    [ -f "$scratch/$program.trace" ] || continue
    names=${program}_threads
    whole_calls "$scratch/$program.trace" |
        LC_ALL=C awk -v program="$program" -v names="${!names}" \
            -v tls="$([ "$number" != 07 ] || echo yes)" '
        BEGIN { split(names, name, " ") }
        # 812 1700000000.000001 socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 3
        {
            if (!($1 in thread))
                thread[$1] = name[++threads]
            who = thread[$1]
            sub(/^[0-9]+ +/, "")
            when = $1
            sub(/^[0-9.]+ /, "")
        }
        /^[a-z0-9_]+\(/ {
            call = $0
            sub(/\(.*/, "", call)
            result = $0
            if (!sub(/.*\) += /, "", result) || result ~ /ERESTART/)
                result = ""
            shown = $0
            if (result == "")
                sub(/, .*/, ", ...", shown)
            gsub(/sa_family=/, "", shown)
            if (match(shown, /sin_port=htons\([0-9]+\), sin_addr=inet_addr\("[0-9.]+"\)/)) {
                port = substr(shown, RSTART, RLENGTH)
                address = port
                sub(/.*htons\(/, "", port)
                sub(/\).*/, "", port)
                sub(/.*inet_addr\("/, "", address)
                sub(/".*/, "", address)
                shown = substr(shown, 1, RSTART - 1) address ":" port \
                    substr(shown, RSTART + RLENGTH)
            }
            descriptor = $0
            sub(/^[a-z0-9_]+\(/, "", descriptor)
            sub(/^\[?\{?(fd=)?/, "", descriptor)
            sub(/[^0-9].*/, "", descriptor)

            if (call == "socket") {
                if (!/SOCK_STREAM/ || !/AF_INET/)
                    next
                watched[result] = 1
            } else if (call ~ /^pipe/) {
                split(substr($0, index($0, "[")), ends, /[^0-9]+/)
                watched[ends[2]] = pipe[ends[2]] = 1
                watched[ends[3]] = pipe[ends[3]] = 1
            } else if (call ~ /^clone/) {
                shown = call "(...) = " result
            } else if (call == "futex") {
                if (!/FUTEX_WAIT/ || result ~ /EAGAIN/)
                    next
                sub(/\|FUTEX_CLOCK_REALTIME/, "", shown)
                sub(/, NULL(, FUTEX_BITSET_MATCH_ANY)? ?\)/, ")", shown)
            } else if (!watches())
                next
            if (call ~ /^accept/ && result ~ /^[0-9]/) {
                accepted = result
                sub(/[^0-9].*/, "", accepted)
                watched[accepted] = 1
            }
            if (call == "close")
                delete watched[descriptor]
            gsub(/ +/, " ", shown)
            sub(/ \) = /, ") = ", shown)
            print when "\t" who "\t" shown "\t" meaning()
            if (call == "close")
                delete pipe[descriptor]
        }

        # Whether the call is on a descriptor that we watch; poll is on several.
        function watches(rest) {
            if (call !~ /poll/)
                return descriptor in watched
            rest = $0
            sub(/\].*/, "", rest)
            while (match(rest, /fd=[0-9]+/)) {
                if (substr(rest, RSTART + 3, RLENGTH - 3) in watched)
                    return 1
                rest = substr(rest, RSTART + RLENGTH)
            }
            return 0
        }

        function meaning() {
            if (result == "")
                return call ~ /^accept/ ? "waits for the next client; a signal ends the wait" \
                    : "waits; a signal ends the wait"
            if (call ~ /^pipe/)
                return "makes a pipe: what is written to the second can be read from the first"
            if (call ~ /^clone/)
                return "pthread_create: starts a thread"
            if (call == "futex")
                return waiting()
            if (descriptor in pipe && call == "write")
                return "wakes who waits for the pipe"
            if (descriptor in pipe && call == "read")
                return result ~ /^-1/ ? "the pipe is empty" : "empties the pipe"
            if (descriptor in pipe && call == "close")
                return "closes an end of the pipe"
            if (descriptor in pipe && call == "fcntl" && /O_NONBLOCK/)
                return /F_SETFL/ ? "no call on the pipe waits (EAGAIN instead)" \
                    : "asks for the flags of the pipe"
            if (descriptor in pipe && call == "fcntl")
                return "asks for the flags of the pipe"
            if (call == "socket")
                return "makes an end of a TCP connection, with no address yet"
            if (call == "bind")
                return "gives it an address and a port (port 0: the kernel chooses)"
            if (call == "getsockname")
                return "asks which address and port it really has"
            if (call == "getpeername")
                return "asks who is at the other end"
            if (call == "listen")
                return "from here on the kernel completes handshakes; they wait in its queue"
            if (call ~ /^accept/) {
                if (result ~ /EAGAIN/)
                    return "no client waits just now"
                if (result ~ /^-1/)
                    return "waits for a client; " why()
                return "takes the first client out of the queue: a socket of its own"
            }
            if (call == "connect") {
                if (result ~ /EINPROGRESS/)
                    return "begins the handshake and does not wait for its end"
                return result ~ /^0/ ? "the handshake is done" : "no connection: " why()
            }
            if (call == "setsockopt")
                return option()
            if (call == "getsockopt" && /SO_ERROR/)
                return "asks how the handshake ended: " \
                    (/SO_ERROR, \[0\]/ ? "it succeeded" : "it failed")
            if (call == "fcntl" && /F_GETFL/)
                return "asks for the flags of the socket"
            if (call == "fcntl" && /F_SETFL/)
                return /O_NONBLOCK/ ? "no call on it waits any more (EAGAIN instead)" \
                    : "calls on it wait again"
            if (call ~ /poll|select|epoll_wait/) {
                if (result ~ /^0/)
                    return "waits; nothing happens in time"
                if (/\}, \{/)
                    return "waits until one of them is ready"
                if (/events=POLLIN\|POLLOUT/)
                    return "waits until it can be read or takes bytes"
                if (/events=POLLOUT/)
                    return "waits until it takes bytes (or the handshake is over)"
                if (/events=POLLIN/)
                    return "waits until there is something to read"
                return "waits until something happens"
            }
            if (call ~ /^(recv|read)/) {
                if (result ~ /^0/)
                    return "end of file: the other side will send no more"
                if (result ~ /^-1/)
                    return "receives nothing: " why()
                return "receives what is there: " bytes(result) record()
            }
            if (call ~ /^(send|write)/) {
                if (result ~ /^-1/)
                    return "sends nothing: " why()
                return "hands bytes to the kernel, which takes " bytes(result) \
                    record()
            }
            if (call == "shutdown")
                return /SHUT_WR/ ? "ends our side: the other reads end of file; we go on receiving" \
                    : "ends the connection in one or both directions"
            if (call == "close")
                return "gives the descriptor back; the last one ends the connection"
            return ""
        }
        # What TLS says in the first of the five bytes before each record.
        function record() {
            if (!tls || !/, "\\2[4-7]\\3\\/)
                return tls && call == "read" ? ", the rest of the record" : ""
            return (/, "\\24/ ? ": TLS, change of ciphers" : \
                /, "\\25/ ? ": TLS, an alert" : \
                /, "\\26/ ? ": TLS, a Hello" : \
                ": TLS, encrypted") (result ~ /^5$/ ? ", and its length" : "")
        }
        # Threads wait for one another in futex(2).
        function waiting(rest) {
            rest = $0
            sub(/^[^,]*,[^,]*, /, "", rest)
            sub(/[^0-9].*/, "", rest)
            if (rest in thread)
                return "pthread_join: waits until a thread has ended"
            if (/FUTEX_WAIT_BITSET/)
                return "pthread_cond_wait: lets go of the lock and waits for a change"
            return "pthread_mutex_lock: waits until another thread lets go of the lock"
        }
        function bytes(count) {
            sub(/[^0-9].*/, "", count)
            return count (count == 1 ? " byte" : " bytes")
        }
        function why(text) {
            text = result
            if (text ~ /EAGAIN/)
                return "nothing can be done just now"
            if (text ~ /ECONNREFUSED/)
                return "nobody listens there"
            sub(/^-1 [A-Z0-9]+ \(/, "", text)
            sub(/\).*/, "", text)
            return text
        }
        function option() {
            if (/SO_REUSEADDR/)
                return "lets a restarted server have its port at once"
            if (/SO_RCVTIMEO/)
                return "sets how long a receive may wait"
            if (/SO_SNDTIMEO/)
                return "sets how long a send may wait"
            if (/TCP_NODELAY/)
                return "sends small messages at once, not when they fill a segment"
            if (/IPV6_V6ONLY/)
                return "decides whether an IPv6 socket takes IPv4 too"
            return "sets an option"
        }
    '
done | sort -n | awk -F '\t' -v faint="$faint" -v plain="$plain" \
    -v width="$width" '
    { printf "%-*s  %s\n%*s  %s%s%s\n", width, $2, $3, width, "",
          faint, $4, plain }'

echo
echo 'A call that waits stands where its waiting begins. recv() and send() are the'
echo 'system calls recvfrom and sendto without an address.'
[ "$number" != 07 ] || cat <<'END'

Each record of TLS has five bytes in front: its kind, a version, the length.
OpenSSL reads these, and then what they announce. The two Hellos are readable;
all that follows is not, the certificate and the rest of the handshake included.
The client verifies the certificate before it writes its own 80 bytes, and says
nothing of yours until then. What the server sends first after that are two
tickets, with which the client could resume the session another day. The last
record of each side, 19 bytes, is its close_notify; only then the sockets are
closed. write() is OpenSSL itself, sendto() is tls_flush().
END

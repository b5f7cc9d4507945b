#!/usr/bin/env bash
#
# trace.sh LESSON - shows the system calls of one exchange, each with a word on
# what it does.
#
# The server and the client run under strace at the same time. Of what they ask
# the kernel for, only the calls on TCP sockets are shown, in the order in which
# they began; a call that waits stands where its waiting begins.

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
strace=(strace -D -f -qq -ttt -s 40 -e signal=none
    -e 'trace=%network,poll,ppoll,select,pselect6,epoll_wait,epoll_ctl,read,write,readv,writev,close,fcntl')

server=./server
[ -e server.c ] || server=../01-basic-server/server
"${strace[@]}" -o "$scratch/server.trace" "$server" -p 0 \
    >"$scratch/server" 2>&1 &
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
    client=("${strace[@]}" -o "$scratch/client.trace" ./client 127.0.0.1 "$port")
    echo "${bold}\$ $server -p 0 &${plain}"
    echo "${bold}\$ echo hello | ./client 127.0.0.1 $port${plain}"
else
    client=(socat - "TCP:127.0.0.1:$port") # is not traced
    echo "${bold}\$ $server -p 0 &${plain}"
    echo "${bold}\$ echo hello | socat - TCP:127.0.0.1:$port${plain}"
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

for program in server client; do
    [ ! -f "$scratch/$program.trace" ] || LC_ALL=C awk -v program="$program" '
        # 812 1700000000.000001 socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 3
        { sub(/^[0-9]+ +/, ""); when = $1; sub(/^[0-9.]+ /, "") }
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
                if (/SOCK_STREAM/ && /AF_INET/)
                    tcp[result] = 1
            } else if (!(descriptor in tcp))
                next
            if (call ~ /^accept/ && result ~ /^[0-9]/) {
                accepted = result
                sub(/[^0-9].*/, "", accepted)
                tcp[accepted] = 1
            }
            if (call == "close")
                delete tcp[descriptor]
            gsub(/ +/, " ", shown)
            print when "\t" program "\t" shown "\t" meaning()
        }

        function meaning() {
            if (result == "")
                return call ~ /^accept/ ? "waits for the next client (the trace ends here)" \
                    : "waits (the trace ends here)"
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
                return "receives what is there: " bytes(result)
            }
            if (call ~ /^(send|write)/) {
                if (result ~ /^-1/)
                    return "sends nothing: " why()
                return "hands bytes to the kernel, which takes " bytes(result)
            }
            if (call == "shutdown")
                return /SHUT_WR/ ? "ends our side: the other reads end of file; we go on receiving" \
                    : "ends the connection in one or both directions"
            if (call == "close")
                return "gives the descriptor back; the last one ends the connection"
            return ""
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
    ' "$scratch/$program.trace"
done | sort -n | awk -F '\t' -v faint="$faint" -v plain="$plain" '
    { printf "%s  %s\n        %s%s%s\n", $2, $3, faint, $4, plain }'

echo
echo 'A call that waits stands where its waiting begins. recv() and send() are the'
echo 'system calls recvfrom and sendto without an address.'

/*
 * server.c - an echo server: every byte that a client sends comes back.
 *
 * New in this lesson: the life of a TCP server, system call by system call.
 *
 *     socket        make an endpoint; it has no address yet
 *     setsockopt    let the port be taken again at once after a restart
 *     bind          give it an address and a port
 *     getsockname   ask which port the kernel chose, where we left it open
 *     listen        from here on the kernel completes handshakes for us
 *     accept        take one finished connection, as a socket of its own
 *     recv, send    bytes in, bytes out
 *     close         end of the conversation
 *
 * One client at a time. While it is being served, others wait in the kernel's
 * queue; lessons 05 and 06 mend that. IPv4 only; lesson 03 mends that.
 *
 * Run it:
 *
 *     make
 *     ./server                listens on 127.0.0.1, port 7777
 *     nc 127.0.0.1 7777       in a second terminal: type a line
 */
#define _POSIX_C_SOURCE 200809L /* C17 and POSIX.1-2008, nothing else */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    NAME_SIZE = INET_ADDRSTRLEN + sizeof ":65535", /* "127.0.0.1:7777" */
    REASON_SIZE = 256,
    PIECE_SIZE = 16384 /* at most so many bytes in one recv */
};

/*
 * Reads a port number. Returns 0 to 65535, or -1 when the text is no such
 * number. strtol alone would not do: it accepts blanks, signs and an empty
 * text, and htons would quietly turn 65537 into 1.
 */
static long parse_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] != '\0')
        return -1;
    errno = 0;
    long port = strtol(text, NULL, 10);
    return errno == 0 && port <= 65535 ? port : -1;
}

/* Writes an address as a person reads it, "127.0.0.1:7777", into `name`. */
static void name_address(const struct sockaddr_in *address,
                         char name[NAME_SIZE])
{
    char host[INET_ADDRSTRLEN];
    if (inet_ntop(AF_INET, &address->sin_addr, host, sizeof host) == NULL)
        strcpy(host, "?");
    snprintf(name, NAME_SIZE, "%s:%u", host, ntohs(address->sin_port));
}

/*
 * Makes a socket that listens on `address` (IPv4, in digits and dots) and
 * `port` (0 to 65535; 0: the kernel chooses a free one).
 *
 * Returns the socket, which the caller closes. On failure returns -1 and
 * writes into `reason` what could not be done and why.
 */
static int listen_on(const char *address, long port, char reason[REASON_SIZE])
{
    /*
     * The address goes to the kernel in the structure that IPv4 sockets use.
     * Port and address stand there in network byte order, most significant
     * byte first: htons ("host to network short") turns the port round where
     * the processor keeps numbers the other way. Without it, port 7777
     * (0x1E61) becomes 24862 (0x611E) on most machines of today.
     */
    struct sockaddr_in where = {0};
    where.sin_family = AF_INET;
    where.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, address, &where.sin_addr) != 1) {
        snprintf(reason, REASON_SIZE, "%s is no IPv4 address", address);
        return -1;
    }

    /* A stream socket of the IPv4 family is TCP. It is only a descriptor so
     * far, the lowest free number, like one that open() returns. */
    const char *step = "make a socket";
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener == -1)
        goto failed;

    /*
     * When a server closes first, its end of the connection stays behind in
     * the state TIME_WAIT, for a minute on Linux, to catch late segments
     * (RFC 9293, section 3.6). Without SO_REUSEADDR bind answers EADDRINUSE
     * for that minute, so that every restart fails. The option does not let
     * two servers listen on one port. Test: restart_on_the_same_port.
     */
    step = "set SO_REUSEADDR";
    int yes = 1;
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == -1)
        goto failed;

    /*
     * bind names the socket. It can fail in three ways that a user should
     * hear about: EADDRINUSE, somebody listens there already; EACCES, ports
     * below 1024 are for privileged processes; EADDRNOTAVAIL, the address
     * belongs to no network interface of this machine.
     */
    step = "bind to";
    if (bind(listener, (struct sockaddr *)&where, sizeof where) == -1)
        goto failed;

    /*
     * From listen on, the kernel answers SYN segments on its own and queues
     * the finished connections until accept takes them. The second argument,
     * the backlog, bounds that queue. SOMAXCONN asks for the most that the
     * system grants. When the queue is full, Linux drops further handshakes
     * and the client's kernel repeats its SYN after a second, and again, ever
     * more slowly: a short backlog looks like a slow network.
     */
    step = "listen on";
    if (listen(listener, SOMAXCONN) == -1)
        goto failed;
    return listener;

failed:
    snprintf(reason, REASON_SIZE, "cannot %s %s:%ld: %s", step, address, port,
             strerror(errno));
    if (listener != -1)
        close(listener);
    return -1;
}

/*
 * Tells the user, and any script that waits for us, where the server listens:
 * the one line that goes to standard output. With port 0 only getsockname
 * knows the real port. Returns 0, or -1 with errno set.
 */
static int announce(int listener)
{
    struct sockaddr_in where;
    socklen_t size = sizeof where;
    if (getsockname(listener, (struct sockaddr *)&where, &size) == -1)
        return -1;
    char name[NAME_SIZE];
    name_address(&where, name);
    /* Standard output is buffered when it is a pipe: without fflush the line
     * would stay in this process, and whoever waits for it would hang. */
    if (printf("listening on %s\n", name) < 0 || fflush(stdout) == EOF)
        return -1;
    return 0;
}

/*
 * Takes the next client, however long that takes, and writes its address into
 * `name`. Returns the client's socket, which the caller closes. Returns -1
 * with errno set only when the listener itself is of no more use.
 *
 * Most failures of accept are no reason to stop: they concern one client, or
 * pass with time. A server that exits on them can be stopped by anybody.
 */
static int accept_client(int listener, char name[NAME_SIZE])
{
    bool told = false;
    for (;;) {
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        int client = accept(listener, (struct sockaddr *)&from, &size);
        if (client != -1) {
            name_address(&from, name);
            return client;
        }
        switch (errno) {
        case EBADF:
        case EFAULT:
        case EINVAL:
        case ENOTSOCK:
        case EOPNOTSUPP:
            return -1;
        case EMFILE: /* this process has no descriptor left, */
        case ENFILE: /* or the whole system, */
        case ENOBUFS:
        case ENOMEM: /* or the kernel has no memory. */
            /*
             * The client stays in the queue, so accept would fail again at
             * once, and again: a loop that uses a whole core to get nowhere.
             * Say it once, then look ten times a second whether it has
             * passed. Test: out_of_descriptors.
             */
            if (!told)
                fprintf(stderr, "server: accept: %s; waiting\n",
                        strerror(errno));
            told = true;
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
            break;
        default:
            /* EINTR: a signal came in between. ECONNABORTED: the client went
             * away while it waited. The next one may be there already. */
            break;
        }
    }
}

/*
 * Sends all `length` bytes. send may take fewer than it was given: the kernel
 * copies what its buffer has room for, and a signal can cut a long wait
 * short. What it did not take is still ours to send. On loopback that almost
 * never happens, which is why so many programs forget it; the tests make it
 * happen.
 *
 * Returns 0 when the kernel has taken all (the peer may not have it yet), -1
 * with errno set when the connection is of no more use.
 */
static int send_all(int socket, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(socket, bytes, length, 0);
        if (sent == -1) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        bytes += sent;
        length -= (size_t)sent;
    }
    return 0;
}

/*
 * Sends back what the client sends until it ends its side. `name` is the
 * client's address, for messages. The caller keeps the socket.
 */
static void echo(int client, const char *name)
{
    char piece[PIECE_SIZE];
    for (;;) {
        /*
         * recv waits until at least one byte is there and returns what is
         * there then: perhaps half of what the client sent with one send,
         * perhaps several sends at once. TCP is a stream of bytes and knows
         * no messages. That is enough for an echo; lesson 04 is about those
         * who need more.
         */
        ssize_t length = recv(client, piece, sizeof piece, 0);
        if (length == 0)
            return; /* the client has ended its side (a FIN has come) */
        if (length == -1) {
            if (errno == EINTR)
                continue;
            fprintf(stderr, "server: receive from %s: %s\n", name,
                    strerror(errno));
            return;
        }
        /* We send `length` bytes, not a string: a NUL is a byte like any
         * other. The client may have ended its own side already and still
         * gets everything, for each direction ends on its own. */
        if (send_all(client, piece, (size_t)length) == -1) {
            fprintf(stderr, "server: send to %s: %s\n", name, strerror(errno));
            return;
        }
    }
}

int main(int argc, char *argv[])
{
    const char *address = "127.0.0.1"; /* this machine alone can reach us */
    long port = 7777;
    int option;
    while ((option = getopt(argc, argv, "a:p:")) != -1) {
        if (option == 'a')
            address = optarg;
        else if (option == 'p')
            port = parse_port(optarg);
        if (option == '?' || port == -1)
            goto usage;
    }
    if (optind != argc)
        goto usage;

    /*
     * Sending to a client that has gone raises SIGPIPE, and SIGPIPE ends the
     * process: one impolite client would stop the server for all. Ignored,
     * send fails with EPIPE in its place, which we handle.
     */
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        perror("server: ignore SIGPIPE");
        return 1;
    }

    char reason[REASON_SIZE];
    int listener = listen_on(address, port, reason);
    if (listener == -1) {
        fprintf(stderr, "server: %s\n", reason);
        return 1;
    }
    if (announce(listener) == -1) {
        perror("server: announce the address");
        close(listener);
        return 1;
    }

    char name[NAME_SIZE];
    int client;
    while ((client = accept_client(listener, name)) != -1) {
        echo(client, name);
        /* Every accept needs its close. Without it the client never sees the
         * end, and after some thousand clients no descriptor is left. */
        close(client);
    }
    perror("server: accept");
    close(listener);
    return 1;

usage:
    fprintf(stderr, "usage: server [-a ADDRESS] [-p PORT]\n");
    return 2;
}

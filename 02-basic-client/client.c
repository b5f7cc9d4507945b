/*
 * client.c - an echo client: sends what you type, prints what comes back.
 *
 * New in this lesson: getting through to a server that may have several
 * addresses, may not be up yet, may not answer, and may go away at any time.
 *
 *     getaddrinfo   from a name to a list of addresses, IPv6 and IPv4
 *     connect       the handshake; non-blocking, so that we set the limit
 *     poll          wait for a descriptor, but not for ever
 *     SO_ERROR      how a handshake ended that we did not wait for
 *     SO_RCVTIMEO, SO_SNDTIMEO   a limit for every later recv and send
 *
 * Run it, with lesson 01's server in another terminal:
 *
 *     make
 *     ./client 127.0.0.1 7777
 *     ./client -t 0.5 -r 10 localhost 7777 <client.c
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
    REASON_SIZE = 256,
    PIECE_SIZE = 4096 /* at most so many bytes before we wait for the echo */
};

/* Limits for what the user asks for; longer waits are no use to anybody. */
#define SECONDS_MAX 1e6
#define RETRIES_MAX 1000000

/* The pause before the first retry, and the longest one, in seconds. */
#define PAUSE_FIRST 0.2
#define PAUSE_LONGEST 1.0

/* --------------------------------------------------------- the command line */

/*
 * Whether the text is a port number, 0 to 65535. The text itself goes to
 * getaddrinfo.
 */
static bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] != '\0')
        return false;
    errno = 0;
    long port = strtol(text, NULL, 10);
    return errno == 0 && port <= 65535;
}

/*
 * Reads a decimal number of seconds, "5" or "0.2". Returns -1 when the text is
 * none. strtod alone would take "inf", "nan", "0x10" and " 1" as well.
 */
static double parse_seconds(const char *text)
{
    size_t allowed = strspn(text, "0123456789.");
    if (allowed == 0 || text[allowed] != '\0')
        return -1;
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end != '\0')
        return -1;
    return seconds < SECONDS_MAX ? seconds : SECONDS_MAX;
}

/* Reads a whole number from 0. Returns -1 when the text is none. */
static int parse_count(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] != '\0')
        return -1;
    errno = 0;
    long count = strtol(text, NULL, 10);
    return errno == 0 && count < RETRIES_MAX ? (int)count : RETRIES_MAX;
}

/* --------------------------------------------------------------------- time */

/*
 * Seconds since some moment in the past. The clock on the wall will not do
 * for deadlines: somebody may set it. CLOCK_MONOTONIC only goes forward.
 */
static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Does nothing for so many seconds; a signal does not shorten it. */
static void pause_for(double seconds)
{
    struct timespec left = {.tv_sec = (time_t)seconds};
    left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
    while (nanosleep(&left, &left) == -1 && errno == EINTR)
        continue;
}

/*
 * Waits until `events` (POLLIN, POLLOUT) come true for a descriptor, but only
 * until `deadline`, a moment on the clock of now(). After a signal it goes on
 * waiting for the time that is left, not for the whole time again.
 *
 * Returns 0, or -1 with errno set: ETIMEDOUT when the deadline has passed.
 */
static int wait_until(int descriptor, short events, double deadline)
{
    for (;;) {
        double left = deadline - now();
        if (left <= 0) {
            errno = ETIMEDOUT;
            return -1;
        }
        struct pollfd wanted = {.fd = descriptor, .events = events};
        /* poll counts in whole milliseconds; one more, so that we never wake
         * a moment too early and go round in circles until it is time. */
        int ready = poll(&wanted, 1, (int)(left * 1000) + 1);
        if (ready > 0)
            return 0;
        if (ready == -1 && errno != EINTR)
            return -1;
    }
}

/* ----------------------------------------------------------- the connection */

/*
 * Makes every later send and recv on the socket give up after `seconds`
 * without progress. Returns 0, or -1 with errno set.
 */
static int limit_waits(int socket, double seconds)
{
    struct timeval limit = {.tv_sec = (time_t)seconds};
    limit.tv_usec = (suseconds_t)((seconds - (double)limit.tv_sec) * 1e6);
    if (limit.tv_sec == 0 && limit.tv_usec == 0)
        limit.tv_usec = 1; /* zero would mean: wait for ever */
    if (setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == -1)
        return -1;
    return setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

/* Makes a socket return EAGAIN or EINPROGRESS where it would wait, or wait
 * again. Returns 0, or -1 with errno set. */
static int set_nonblocking(int socket, bool nonblocking)
{
    int flags = fcntl(socket, F_GETFL);
    if (flags == -1)
        return -1;
    flags = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return fcntl(socket, F_SETFL, flags);
}

/*
 * Connects to one address within `seconds`.
 *
 * A blocking connect waits as long as the kernel likes: one to two minutes on
 * Linux when nothing answers. So we make the socket non-blocking first:
 * connect sends the SYN and returns EINPROGRESS, poll waits for the end of
 * the handshake as long as we like, and SO_ERROR tells how it ended. poll
 * alone does not: a refused connection is "writable" too.
 *
 * Returns a blocking socket, which the caller closes, or -1 with errno set.
 */
static int connect_within(const struct addrinfo *address, double seconds)
{
    int server = socket(address->ai_family, address->ai_socktype,
                        address->ai_protocol);
    if (server == -1)
        return -1;

    if (set_nonblocking(server, true) == -1)
        goto failed;

    /* EINTR too means that the handshake goes on without us. Calling connect
     * once more would only give EALREADY or EISCONN. */
    if (connect(server, address->ai_addr, address->ai_addrlen) == -1) {
        if (errno != EINPROGRESS && errno != EINTR)
            goto failed;
        if (wait_until(server, POLLOUT, now() + seconds) == -1)
            goto failed;
        int error;
        socklen_t size = sizeof error;
        if (getsockopt(server, SOL_SOCKET, SO_ERROR, &error, &size) == -1)
            goto failed;
        if (error != 0) {
            errno = error;
            goto failed;
        }
    }

    if (set_nonblocking(server, false) == -1)
        goto failed;
    return server;

failed:;
    int reason = errno; /* close may change errno */
    close(server);
    errno = reason;
    return -1;
}

/*
 * Whether a failed attempt may succeed a little later: the server is being
 * restarted, the network is being plugged in. What is left are failures that
 * waiting does not cure, such as a family that this machine does not have.
 */
static bool may_pass(int error)
{
    return error == ECONNREFUSED || error == ETIMEDOUT || error == ECONNRESET ||
           error == ECONNABORTED || error == EHOSTUNREACH ||
           error == ENETUNREACH || error == ENETDOWN || error == EADDRNOTAVAIL;
}

/*
 * One attempt: looks the name up and tries every address in turn, each for at
 * most `seconds`. A name may have addresses that do not answer: `localhost`
 * is often ::1 and 127.0.0.1, while the server listens on one of them.
 *
 * Returns a connected socket, which the caller closes. On failure returns -1,
 * writes the last reason into `reason`, and sets `*again` when another
 * attempt may do better.
 */
static int try_every_address(const char *host, const char *port, double seconds,
                             char reason[REASON_SIZE], bool *again)
{
    *again = false;
    struct addrinfo wanted = {0};
    wanted.ai_family = AF_UNSPEC; /* IPv6 or IPv4, as the name has them */
    wanted.ai_socktype = SOCK_STREAM;
    wanted.ai_flags = AI_NUMERICSERV; /* the port is a number, no name */
    struct addrinfo *addresses;
    int error = getaddrinfo(host, port, &wanted, &addresses);
    if (error != 0) {
        *again = error == EAI_AGAIN; /* no name server answered */
        snprintf(reason, REASON_SIZE, "look up the name: %s",
                 error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
        return -1;
    }

    int server = -1;
    for (struct addrinfo *address = addresses; server == -1 && address != NULL;
         address = address->ai_next) {
        server = connect_within(address, seconds);
        if (server != -1)
            break;
        int why = errno;
        if (may_pass(why))
            *again = true;
        char number[64];
        if (getnameinfo(address->ai_addr, address->ai_addrlen, number,
                        sizeof number, NULL, 0, NI_NUMERICHOST) != 0)
            strcpy(number, "?");
        snprintf(reason, REASON_SIZE, "%s: %s", number, strerror(why));
    }
    freeaddrinfo(addresses);
    return server;
}

/*
 * Connects to `port` (0 to 65535, in digits) of `host` (a name or an
 * address). When an attempt fails in a way that may pass, pauses and tries
 * again, at most `retries` times.
 *
 * The pauses double: a server that is down for long should not be hammered.
 * Each is cut by a random part, up to half: when a server with a thousand
 * clients restarts, they should not all come back in the same instant.
 * ("Exponential backoff and jitter.")
 *
 * The whole takes at most (retries + 1) * addresses * seconds, plus the
 * pauses, plus what getaddrinfo takes: POSIX has no deadline for that.
 *
 * Returns a connected socket, which the caller closes. On failure returns -1
 * and writes into `reason` where to, which address, why and how often.
 */
static int connect_to(const char *host, const char *port, double seconds,
                      int retries, char reason[REASON_SIZE])
{
    double pause = PAUSE_FIRST;
    for (int attempt = 1;; attempt++) {
        bool again;
        char why[REASON_SIZE];
        int server = try_every_address(host, port, seconds, why, &again);
        if (server != -1)
            return server;
        if (!again || attempt > retries) {
            snprintf(reason, REASON_SIZE,
                     "cannot connect to %.80s port %s: %.100s (%d %s)", host,
                     port, why, attempt, attempt == 1 ? "try" : "tries");
            return -1;
        }
        double random = (double)rand() / RAND_MAX; /* 0 to 1 */
        pause_for(pause * (1 - random / 2));
        pause = pause * 2 < PAUSE_LONGEST ? pause * 2 : PAUSE_LONGEST;
    }
}

/* ------------------------------------------------------------ bytes out, in */

/*
 * Sends all `length` bytes, however many the kernel takes at a time. Returns
 * 0, or -1 with errno set: ETIMEDOUT when the server takes nothing more.
 */
static int send_all(int socket, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(socket, bytes, length, 0);
        if (sent == -1) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                errno = ETIMEDOUT; /* that is how SO_SNDTIMEO says it */
            return -1;
        }
        bytes += sent;
        length -= (size_t)sent;
    }
    return 0;
}

/*
 * Receives what is there, waiting for the first byte: 1 to `size` bytes.
 * Returns how many, 0 when the server has ended its side, or -1 with errno
 * set: ETIMEDOUT when nothing came.
 */
static ssize_t receive(int socket, char *bytes, size_t size)
{
    for (;;) {
        ssize_t length = recv(socket, bytes, size, 0);
        if (length >= 0)
            return length;
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            errno = ETIMEDOUT;
        return -1;
    }
}

/*
 * Writes all bytes to standard output. write, like send, may take fewer than
 * it was given, when the output is a pipe or a disk that is nearly full.
 * Returns 0, or -1 with errno set.
 */
static int print_all(const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(STDOUT_FILENO, bytes, length);
        if (written == -1) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        bytes += written;
        length -= (size_t)written;
    }
    return 0;
}

/* Says on standard error what failed, and why. Always returns 1, the exit
 * status of a program that failed. */
static int failed(const char *step, const char *why)
{
    fprintf(stderr, "client: %s: %s\n", step, why);
    return 1;
}

/*
 * The conversation: a piece of standard input goes out, and as many bytes
 * must come back before the next piece is read. So at most PIECE_SIZE bytes
 * are under way at once, which fit into the kernel's buffers: neither side
 * ever waits for the other to read while the other waits for it.
 *
 * Returns the exit status: 0 when all input has come back.
 */
static int converse(int server)
{
    char piece[PIECE_SIZE];
    for (;;) {
        ssize_t length = read(STDIN_FILENO, piece, sizeof piece);
        if (length == 0)
            return 0;
        if (length == -1) {
            if (errno == EINTR)
                continue;
            return failed("read standard input", strerror(errno));
        }
        if (send_all(server, piece, (size_t)length) == -1)
            return failed("send to the server", strerror(errno));

        /* The echo may come in any number of pieces. We print each as it
         * comes, and count: the one way to know that all is back. */
        size_t due = (size_t)length;
        while (due > 0) {
            ssize_t came = receive(server, piece, due);
            if (came == 0)
                return failed("receive from the server",
                              "it closed while an echo was due");
            if (came == -1)
                return failed("receive from the server", strerror(errno));
            if (print_all(piece, (size_t)came) == -1)
                return failed("write standard output", strerror(errno));
            due -= (size_t)came;
        }
    }
}

int main(int argc, char *argv[])
{
    double seconds = 5;
    int retries = 3;
    int option;
    while ((option = getopt(argc, argv, "t:r:")) != -1) {
        if (option == 't')
            seconds = parse_seconds(optarg);
        else if (option == 'r')
            retries = parse_count(optarg);
        if (option == '?' || seconds <= 0 || retries < 0)
            goto usage;
    }
    if (argc - optind != 2 || !is_port(argv[optind + 1]))
        goto usage;

    /* A server or a reader that has gone is an error that we report, no
     * signal that ends us. */
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return failed("ignore SIGPIPE", strerror(errno));
    srand((unsigned)getpid() ^ (unsigned)time(NULL)); /* for the pauses */

    char reason[REASON_SIZE];
    int server = connect_to(argv[optind], argv[optind + 1], seconds, retries,
                            reason);
    if (server == -1) {
        fprintf(stderr, "client: %s\n", reason);
        return 1;
    }
    int status = 1;
    if (limit_waits(server, seconds) == -1)
        failed("limit the waits", strerror(errno));
    else
        status = converse(server);
    close(server);
    return status;

usage:
    fprintf(stderr, "usage: client [-t SECONDS] [-r RETRIES] HOST PORT\n");
    return 2;
}

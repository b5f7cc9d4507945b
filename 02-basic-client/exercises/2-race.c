/*
 * Exercise 02-2: Two addresses, one of them dead.
 *
 *     2-race [-t SECONDS] PORT ADDRESS...
 *
 * connects to the port at one of these addresses (at most 16), says on standard
 * output which, in a line `connected to ADDRESS`, sends the line `hello`, and
 * prints what the server answers until it closes. Exit status 0.
 *
 * The addresses are tried one after the other. One that does not answer, as
 * when a user's IPv6 leads nowhere, costs all of SECONDS. Change it (RFC 8305,
 * "Happy Eyeballs", in small), so that
 *
 *     - the next attempt starts 0.25 s after the last one was started, or at
 *       once when an attempt has failed; those under way go on;
 *     - the first that is through wins. All others are closed before the first
 *       byte is sent, and no more are started;
 *     - SECONDS (5 without -t) is the limit for all attempts together;
 *     - when all have failed, or SECONDS are over, it says so in a line on
 *       standard error and ends, with status 1.
 *
 * Beware of poll. It says that an attempt is over, not how it ended: SO_ERROR
 * tells. And what won does not block, for connect was not to wait; the
 * conversation expects a socket that does.
 *
 * Try it:   make exercises/2-race && exercises/2-race 7777 ::1 127.0.0.1
 *           (lesson 01's server in another terminal listens on 127.0.0.1)
 * Judge it: make exercise-02-2   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ADDRESSES_MAX = 16 };

#define SECONDS_MAX 1e6

/* Seconds since some moment in the past. */
static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Makes the socket return where it would wait, or wait again. Returns 0, or -1
 * with errno set. */
static int set_flags(int socket, int add, int take_off)
{
    int flags = fcntl(socket, F_GETFL);
    if (flags == -1)
        return -1;
    return fcntl(socket, F_SETFL, (flags | add) & ~take_off);
}

/*
 * Begins to connect to an address in digits. Returns a socket on its way,
 * which does not block and which the caller closes, or -1 with errno set.
 */
static int begin_attempt(const char *address, const char *port)
{
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found;
    if (getaddrinfo(address, port, &wanted, &found) != 0) {
        errno = EINVAL; /* it was one in main */
        return -1;
    }
    int server = socket(found->ai_family, found->ai_socktype, 0);
    if (server != -1 &&
        (set_flags(server, O_NONBLOCK, 0) == -1 ||
         (connect(server, found->ai_addr, found->ai_addrlen) == -1 &&
          errno != EINPROGRESS && errno != EINTR))) {
        int why = errno;
        close(server);
        server = -1;
        errno = why;
    }
    freeaddrinfo(found);
    return server;
}

/* How an attempt ended that poll has called over: 0, or an errno. */
static int result_of(int server)
{
    int error;
    socklen_t size = sizeof error;
    if (getsockopt(server, SOL_SOCKET, SO_ERROR, &error, &size) == -1)
        return errno;
    return error;
}

/*
 * Connects to one of the addresses within `seconds`. Returns a blocking socket,
 * which the caller closes, and its place in the list in `*winner`. On failure
 * returns -1 with errno set.
 *
 * YOUR ANSWER goes here: each attempt is waited for until its end.
 */
static int connect_to_one(char *addresses[], size_t count, const char *port,
                          double seconds, size_t *winner)
{
    int why = ETIMEDOUT;
    for (size_t i = 0; i < count; i++) {
        int server = begin_attempt(addresses[i], port);
        double deadline = now() + seconds;
        why = server == -1 ? errno : ETIMEDOUT;
        while (server != -1 && now() < deadline) {
            struct pollfd attempt = {.fd = server, .events = POLLOUT};
            int left = (int)((deadline - now()) * 1000) + 1;
            if (poll(&attempt, 1, left) <= 0)
                continue;
            why = result_of(server);
            if (why == 0 && set_flags(server, 0, O_NONBLOCK) == 0) {
                *winner = i;
                return server;
            }
            break;
        }
        if (server != -1)
            close(server);
    }
    errno = why;
    return -1;
}

/* --------------------------------------------------------- the conversation */

static int write_all(int descriptor, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(descriptor, bytes, length);
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

/* Says hello and prints the answer, to its end. Returns 0, or -1 with errno
 * set. */
static int converse(int server)
{
    char piece[4096];
    if (write_all(server, "hello\n", 6) == -1 ||
        shutdown(server, SHUT_WR) == -1)
        return -1;
    for (;;) {
        ssize_t length = recv(server, piece, sizeof piece, 0);
        if (length == -1 && errno == EINTR)
            continue;
        if (length <= 0)
            return (int)length;
        if (write_all(STDOUT_FILENO, piece, (size_t)length) == -1)
            return -1;
    }
}

/* Whether a text is an address in digits, and the other a port. */
static int are_numeric(const char *address, const char *port)
{
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found;
    if (getaddrinfo(address, port, &wanted, &found) != 0)
        return 0;
    freeaddrinfo(found);
    return 1;
}

/* Reads a decimal number of seconds above 0. Returns -1 when it is none. */
static double parse_seconds(const char *text)
{
    char *end;
    if (text[0] == '\0' || text[strspn(text, "0123456789.")] != '\0')
        return -1;
    double seconds = strtod(text, &end);
    if (*end != '\0' || seconds <= 0)
        return -1;
    return seconds < SECONDS_MAX ? seconds : SECONDS_MAX;
}

int main(int argc, char *argv[])
{
    double seconds = 5;
    int option;
    while ((option = getopt(argc, argv, "t:")) != -1) {
        if (option == '?' || (seconds = parse_seconds(optarg)) < 0)
            goto usage;
    }
    if (argc - optind < 2 || argc - optind > ADDRESSES_MAX + 1)
        goto usage;
    const char *port = argv[optind];
    char **addresses = argv + optind + 1;
    size_t count = (size_t)(argc - optind - 1), winner = 0;
    for (size_t i = 0; i < count; i++) {
        if (!are_numeric(addresses[i], port))
            goto usage;
    }
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        perror("2-race: ignore SIGPIPE");
        return 1;
    }

    int server = connect_to_one(addresses, count, port, seconds, &winner);
    if (server == -1) {
        fprintf(stderr, "2-race: cannot connect to port %s: %s\n", port,
                strerror(errno));
        return 1;
    }
    int status = 0;
    if (printf("connected to %s\n", addresses[winner]) < 0 ||
        fflush(stdout) == EOF || converse(server) == -1) {
        perror("2-race: the conversation");
        status = 1;
    }
    close(server);
    return status;

usage:
    fprintf(stderr, "usage: 2-race [-t SECONDS] PORT ADDRESS...\n");
    return 2;
}

/*
 * net.c - what lessons 01 and 02 taught, as a module. net.h says how to use it.
 *
 * New in this lesson: listen_on and announce know IPv6 as well as IPv4,
 * because getaddrinfo and getnameinfo hide the difference. All else stood in
 * lesson 01's server.c and lesson 02's client.c, where every step is explained.
 */
#define _POSIX_C_SOURCE 200809L

#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Limits for what the user asks for; longer waits are no use to anybody. */
#define SECONDS_MAX 1e6
#define RETRIES_MAX 1000000

/* The pause before the first retry, and the longest one, in seconds. */
#define PAUSE_FIRST 0.2
#define PAUSE_LONGEST 1.0

/* --------------------------------------------------------- the command line */

bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] != '\0')
        return false;
    errno = 0;
    long port = strtol(text, NULL, 10);
    return errno == 0 && port <= 65535;
}

double parse_seconds(const char *text)
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

int parse_count(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] != '\0')
        return -1;
    errno = 0;
    long count = strtol(text, NULL, 10);
    return errno == 0 && count < RETRIES_MAX ? (int)count : RETRIES_MAX;
}

/* --------------------------------------------------------------------- time */

double now(void)
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

int wait_until(int descriptor, short events, double deadline)
{
    for (;;) {
        double left = deadline - now();
        if (left <= 0) {
            errno = ETIMEDOUT;
            return -1;
        }
        struct pollfd wanted = {.fd = descriptor, .events = events};
        int ready = poll(&wanted, 1, (int)(left * 1000) + 1);
        if (ready > 0)
            return 0;
        if (ready == -1 && errno != EINTR)
            return -1;
    }
}

/* --------------------------------------------------------------- a listener */

/*
 * Writes an address as a person reads it, "127.0.0.1:7777" or "[::1]:7777",
 * into `name`. The brackets keep the colons of the address apart from that of
 * the port (RFC 3986, section 3.2.2).
 */
static void name_address(const struct sockaddr *address, socklen_t size,
                         char name[NAME_SIZE])
{
    char host[64], port[8];
    if (getnameinfo(address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(name, NAME_SIZE, "?");
    else if (address->sa_family == AF_INET6)
        snprintf(name, NAME_SIZE, "[%s]:%s", host, port);
    else
        snprintf(name, NAME_SIZE, "%s:%s", host, port);
}

int listen_on(const char *address, const char *port, char reason[REASON_SIZE])
{
    /* AI_NUMERICHOST: "::1" and "127.0.0.1" are read, names are not looked
     * up. What comes back holds the family and the address as the kernel wants
     * them, whichever family it is: no htons and no inet_pton any more. */
    struct addrinfo wanted = {0};
    wanted.ai_family = AF_UNSPEC;
    wanted.ai_socktype = SOCK_STREAM;
    wanted.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    struct addrinfo *where;
    int error = getaddrinfo(address, port, &wanted, &where);
    if (error != 0) {
        snprintf(reason, REASON_SIZE, "address %.80s: %s", address,
                 error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
        return -1;
    }

    const char *step = "make a socket";
    int listener = socket(where->ai_family, SOCK_STREAM, where->ai_protocol);
    if (listener == -1)
        goto failed;
    step = "set SO_REUSEADDR";
    int yes = 1;
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == -1)
        goto failed;
    step = "bind to";
    if (bind(listener, where->ai_addr, where->ai_addrlen) == -1)
        goto failed;
    step = "listen on";
    if (listen(listener, SOMAXCONN) == -1)
        goto failed;
    freeaddrinfo(where);
    return listener;

failed:
    snprintf(reason, REASON_SIZE, "cannot %s %.80s port %s: %s", step, address,
             port, strerror(errno));
    if (listener != -1)
        close(listener);
    freeaddrinfo(where);
    return -1;
}

int announce(int listener)
{
    struct sockaddr_storage where; /* room for an address of any family */
    socklen_t size = sizeof where;
    if (getsockname(listener, (struct sockaddr *)&where, &size) == -1)
        return -1;
    char name[NAME_SIZE];
    name_address((struct sockaddr *)&where, size, name);
    if (printf("listening on %s\n", name) < 0 || fflush(stdout) == EOF)
        return -1;
    return 0;
}

bool out_of_resources(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS ||
           error == ENOMEM;
}

int accept_now(int listener, char name[NAME_SIZE])
{
    for (;;) {
        struct sockaddr_storage from;
        socklen_t size = sizeof from;
        int client = accept(listener, (struct sockaddr *)&from, &size);
        if (client != -1) {
            name_address((struct sockaddr *)&from, size, name);
            return client;
        }
        bool nobody_waits = errno == EAGAIN || errno == EWOULDBLOCK;
        bool useless = errno == EBADF || errno == EFAULT || errno == EINVAL ||
                       errno == ENOTSOCK || errno == EOPNOTSUPP;
        if (nobody_waits || useless || out_of_resources(errno))
            return -1;
        /* EINTR, ECONNABORTED: the next one may be there. */
    }
}

int accept_client(int listener, char name[NAME_SIZE])
{
    bool told = false;
    for (;;) {
        int client = accept_now(listener, name);
        if (client != -1 || !out_of_resources(errno))
            return client;
        if (!told)
            fprintf(stderr, "server: accept: %s; waiting\n", strerror(errno));
        told = true;
        pause_for(0.1); /* no spinning until a descriptor is free */
    }
}

/* ------------------------------------------------------------- a connection */

int set_nonblocking(int socket, bool nonblocking)
{
    int flags = fcntl(socket, F_GETFL);
    if (flags == -1)
        return -1;
    flags = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return fcntl(socket, F_SETFL, flags);
}

/* Connects to one address and greets the server, all within `seconds`. Returns
 * a blocking socket, or -1 with errno set; a greeting may have written why. */
static int connect_within(const struct addrinfo *address, double seconds,
                          const struct greeting *greeting,
                          char why[REASON_SIZE])
{
    double deadline = now() + seconds;
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
        if (wait_until(server, POLLOUT, deadline) == -1)
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
    if (greeting != NULL &&
        greeting->greet(greeting->of, server, deadline, why) == -1)
        goto failed;
    return server;

failed:;
    int reason = errno; /* close may change errno */
    close(server);
    errno = reason;
    return -1;
}

/* Whether a failed attempt may succeed a little later. */
static bool may_pass(int error)
{
    return error == ECONNREFUSED || error == ETIMEDOUT || error == ECONNRESET ||
           error == ECONNABORTED || error == EHOSTUNREACH ||
           error == ENETUNREACH || error == ENETDOWN || error == EADDRNOTAVAIL;
}

/* One attempt: every address of the name, each for at most `seconds`. Returns
 * a socket, or -1 with the last reason; sets `*again` when another attempt may
 * do better. */
static int try_every_address(const char *host, const char *port, double seconds,
                             const struct greeting *greeting,
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
        char why[REASON_SIZE] = "";
        server = connect_within(address, seconds, greeting, why);
        if (server != -1)
            break;
        error = errno;
        char number[64];
        if (getnameinfo(address->ai_addr, address->ai_addrlen, number,
                        sizeof number, NULL, 0, NI_NUMERICHOST) != 0)
            strcpy(number, "?");
        snprintf(reason, REASON_SIZE, "%s: %.180s", number,
                 why[0] == '\0' ? strerror(error) : why);
        if (error == EPROTO) { /* the server is there, and is not for us */
            *again = false;
            break;
        }
        if (may_pass(error))
            *again = true;
    }
    freeaddrinfo(addresses);
    return server;
}

int connect_to(const char *host, const char *port, double seconds, int retries,
               const struct greeting *greeting, char reason[REASON_SIZE])
{
    double pause = PAUSE_FIRST;
    for (int attempt = 1;; attempt++) {
        bool again;
        char why[REASON_SIZE];
        int server = try_every_address(host, port, seconds, greeting, why,
                                       &again);
        if (server != -1)
            return server;
        if (!again || attempt > retries) {
            snprintf(reason, REASON_SIZE,
                     "cannot connect to %.80s port %s: %.130s (%d %s)", host,
                     port, why, attempt, attempt == 1 ? "try" : "tries");
            return -1;
        }
        double random = (double)rand() / RAND_MAX; /* 0 to 1 */
        pause_for(pause * (1 - random / 2));
        pause = pause * 2 < PAUSE_LONGEST ? pause * 2 : PAUSE_LONGEST;
    }
}

int limit_waits(int socket, double seconds)
{
    struct timeval limit = {.tv_sec = (time_t)seconds};
    limit.tv_usec = (suseconds_t)((seconds - (double)limit.tv_sec) * 1e6);
    if (limit.tv_sec == 0 && limit.tv_usec == 0)
        limit.tv_usec = 1; /* zero would mean: wait for ever */
    if (setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == -1)
        return -1;
    return setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

int send_all(int socket, const char *bytes, size_t length)
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

ssize_t receive(int socket, char *bytes, size_t size)
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

/*
 * Exercise 01-2: Listen on IPv6 and IPv4.
 *
 * This server takes one address, and an IPv4 address alone. Change it so that
 *
 *     - `-a ::1` works, and is announced as `listening on [::1]:7777`; the
 *       brackets keep the colons of the address apart from the one before
 *       the port;
 *     - `-a` may be given several times (at most 8). The one server listens
 *       on all these addresses, on the same port, and announces each in a
 *       line of its own, in their order, once all of them listen. With `-p 0`
 *       the kernel chooses the port for the first, and the others get it too;
 *     - a client is served at whichever address it comes. Still one client at
 *       a time; but where clients wait at two addresses, these take turns;
 *     - `-a ::`, which means "every address of this machine", takes clients
 *       over IPv4 too;
 *     - what is no address, or cannot be had, ends the server with a line on
 *       standard error and status 1, and nothing is announced.
 *
 * Without `-a` it listens on 127.0.0.1, as before. And as before it uses no
 * processor time while nobody comes; nor while it has no descriptor for who
 * comes: it says so, and looks ten times a second whether that has passed.
 *
 * Beware of two things. accept waits at one listener and is deaf to the others.
 * And whether an IPv6 socket takes IPv4 clients depends on the system and its
 * settings, unless you say what you want: that is the option IPV6_V6ONLY.
 * (Such a client's address then looks like ::ffff:192.0.2.1. The tests use
 * `-a ::ffff:127.0.0.1`, which is how an IPv6 socket gets 127.0.0.1 alone.)
 *
 * Try it:   make exercises/2-both
 *           exercises/2-both -p 7777 -a 127.0.0.1 -a ::1
 * Judge it: make exercise-01-2   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ADDRESSES_MAX = 8 };

/* An address of either kind. The first member of each, the family, stands at
 * the same place: it says which of them it is. */
union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Reads an address in digits, and enters the port. Returns how many bytes of
 * the union bind wants to see, or 0 when the text is no address. */
static socklen_t parse_address(const char *text, unsigned port,
                               union address *address)
{
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1) {
        address->v4.sin_family = AF_INET;
        address->v4.sin_port = htons((uint16_t)port);
        return sizeof address->v4;
    }
    if (inet_pton(AF_INET6, text, &address->v6.sin6_addr) == 1) {
        address->v6.sin6_family = AF_INET6;
        address->v6.sin6_port = htons((uint16_t)port);
        return sizeof address->v6;
    }
    return 0;
}

/* Returns the port that a listener has, or 0 with errno set. */
static unsigned port_of(int listener)
{
    union address where;
    socklen_t size = sizeof where;
    if (getsockname(listener, &where.any, &size) == -1)
        return 0;
    return ntohs(where.any.sa_family == AF_INET6 ? where.v6.sin6_port
                                                 : where.v4.sin_port);
}

/*
 * Listens on one address. Returns the listener, which does not block and which
 * the caller closes. On failure says why on standard error and returns -1.
 */
static int listen_on(const char *text, unsigned port)
{
    union address where;
    socklen_t size = parse_address(text, port, &where);
    if (size == 0) {
        fprintf(stderr, "2-both: %s is no address\n", text);
        return -1;
    }
    int yes = 1, no = 0;
    int listener = socket(where.any.sa_family, SOCK_STREAM, 0);
    if (listener == -1)
        goto failed;
    /* OpenBSD refuses to clear it: there, IPv6 sockets are for IPv6 alone. */
    if (where.any.sa_family == AF_INET6)
        (void)setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
        bind(listener, &where.any, size) == 0 &&
        listen(listener, SOMAXCONN) == 0 &&
        fcntl(listener, F_SETFL, O_NONBLOCK) == 0)
        return listener;

failed:
    fprintf(stderr, "2-both: cannot listen on %s, port %u: %s\n", text, port,
            strerror(errno));
    if (listener != -1)
        close(listener);
    return -1;
}

/* Says where a listener listens. Returns 0, or -1 with errno set. */
static int announce(int listener)
{
    char host[INET6_ADDRSTRLEN];
    union address where;
    socklen_t size = sizeof where;
    if (getsockname(listener, &where.any, &size) == -1)
        return -1;
    int v6 = where.any.sa_family == AF_INET6;
    const void *bytes = v6 ? (const void *)&where.v6.sin6_addr
                           : (const void *)&where.v4.sin_addr;
    if (inet_ntop(where.any.sa_family, bytes, host, sizeof host) == NULL)
        return -1;
    int printed = printf(v6 ? "listening on [%s]:%u\n" : "listening on %s:%u\n",
                         host, port_of(listener));
    return printed < 0 || fflush(stdout) == EOF ? -1 : 0;
}

/* Whether accept has failed because there is no descriptor or memory for the
 * client. It stays in the queue then, and accept would fail again at once. */
static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS ||
           error == ENOMEM;
}

/*
 * Waits for a client at any of the listeners. `*turn` is the one that is asked
 * first; afterwards it is the one behind that which had the client, so that
 * many clients at one address do not keep out those at another.
 *
 * Returns the client's socket, which the caller closes.
 *
 * The listeners do not block: a client that poll saw may be gone when accept
 * comes, and accept would wait there for the next one, deaf to the others.
 */
static int wait_for_client(const int listeners[], size_t count, size_t *turn)
{
    bool told = false;
    for (;;) {
        struct pollfd watched[ADDRESSES_MAX];
        for (size_t i = 0; i < count; i++)
            watched[i] = (struct pollfd){.fd = listeners[i], .events = POLLIN};
        if (poll(watched, (nfds_t)count, -1) == -1)
            continue; /* EINTR */
        for (size_t i = 0; i < count; i++) {
            size_t which = (*turn + i) % count;
            if (watched[which].revents == 0)
                continue;
            int client = accept(listeners[which], NULL, NULL);
            if (client == -1 && is_shortage(errno)) {
                if (!told)
                    perror("2-both: accept, waiting");
                told = true;
                nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
                break; /* at the other listeners it would be the same */
            }
            if (client == -1)
                continue; /* EAGAIN, ECONNABORTED: this client is gone */
            *turn = (which + 1) % count;
            /* On the BSDs and macOS it inherits O_NONBLOCK. */
            if (fcntl(client, F_SETFL, 0) == 0)
                return client;
            close(client);
        }
    }
}

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

/* Sends back what the client sends, until it ends its side or is gone. */
static void echo(int client)
{
    char piece[16384];
    for (;;) {
        ssize_t length = recv(client, piece, sizeof piece, 0);
        if (length == -1 && errno == EINTR)
            continue;
        if (length <= 0 || send_all(client, piece, (size_t)length) == -1)
            return;
    }
}

int main(int argc, char *argv[])
{
    const char *addresses[ADDRESSES_MAX] = {"127.0.0.1"};
    size_t count = 0, listening = 0, turn = 0;
    unsigned long port = 7777;
    int option;
    while ((option = getopt(argc, argv, "a:p:")) != -1) {
        if (option == 'a' && count < ADDRESSES_MAX)
            addresses[count++] = optarg;
        else if (option != 'p' || (port = strtoul(optarg, NULL, 10)) > 65535)
            goto usage;
    }
    if (optind != argc)
        goto usage;
    if (count == 0)
        count = 1;
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        perror("2-both: ignore SIGPIPE");
        return 1;
    }

    int listeners[ADDRESSES_MAX];
    while (listening < count) {
        int listener = listen_on(addresses[listening], (unsigned)port);
        if (listener == -1)
            goto failed;
        listeners[listening++] = listener;
        if (port == 0 && (port = port_of(listener)) == 0) {
            perror("2-both: ask for the port");
            goto failed;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (announce(listeners[i]) == -1) {
            perror("2-both: announce the address");
            goto failed;
        }
    }

    for (;;) {
        int client = wait_for_client(listeners, count, &turn);
        echo(client);
        close(client);
    }

failed:
    while (listening > 0)
        close(listeners[--listening]);
    return 1;

usage:
    fprintf(stderr, "usage: 2-both [-a ADDRESS]... [-p PORT]\n");
    return 2;
}

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
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ADDRESSES_MAX = 8 };

/*
 * Listens on one address. Returns the listener, which the caller closes. On
 * failure says why on standard error and returns -1.
 *
 * YOUR ANSWER goes here and into the three functions below: everything in them
 * is made for IPv4 and one listener.
 */
static int listen_on(const char *text, unsigned port)
{
    struct sockaddr_in where = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, text, &where.sin_addr) != 1) {
        fprintf(stderr, "2-both: %s is no address\n", text);
        return -1;
    }
    int yes = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener == -1)
        goto failed;
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
        bind(listener, (struct sockaddr *)&where, sizeof where) == 0 &&
        listen(listener, SOMAXCONN) == 0)
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
    char host[INET_ADDRSTRLEN];
    struct sockaddr_in where;
    socklen_t size = sizeof where;
    if (getsockname(listener, (struct sockaddr *)&where, &size) == -1 ||
        inet_ntop(AF_INET, &where.sin_addr, host, sizeof host) == NULL)
        return -1;
    int printed = printf("listening on %s:%u\n", host, ntohs(where.sin_port));
    return printed < 0 || fflush(stdout) == EOF ? -1 : 0;
}

/* Whether accept has failed because there is no descriptor or memory for the
 * client. It stays in the queue then, and accept would fail again at once. */
static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS ||
           error == ENOMEM;
}

/* Waits for a client. Returns its socket, which the caller closes. */
static int wait_for_client(int listener)
{
    bool told = false;
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client != -1)
            return client;
        if (is_shortage(errno)) {
            if (!told)
                perror("2-both: accept, waiting");
            told = true;
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
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
    size_t count = 0;
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
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        perror("2-both: ignore SIGPIPE");
        return 1;
    }

    int listener = listen_on(addresses[0], (unsigned)port);
    if (listener == -1)
        return 1;
    if (announce(listener) == -1) {
        perror("2-both: announce the address");
        close(listener);
        return 1;
    }

    for (;;) {
        int client = wait_for_client(listener);
        echo(client);
        close(client);
    }

usage:
    fprintf(stderr, "usage: 2-both [-a ADDRESS]... [-p PORT]\n");
    return 2;
}

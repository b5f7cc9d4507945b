/*
 * Exercise 01-1: Stop cleanly.
 *
 * SIGINT (Ctrl-C) and SIGTERM (what `kill`, systemd and Docker send) end this
 * server in the middle of whatever it does: a client loses the second half of
 * its answer. Change it so that on either signal
 *
 *     - a server that waits for a client ends at once (also while it is out of
 *       descriptors, and looks ten times a second whether that has passed),
 *     - a server that serves a client serves it to its end first,
 *       however many signals come, and takes no other,
 *
 * and in both cases closes its sockets and exits with status 0. Who still waits
 * in the queue is dropped with the listener.
 *
 * Beware of the gap. A program that looks at a flag and then calls accept has
 * a moment between the two. A signal that comes in this moment sets the flag,
 * and accept waits all the same: for ever, if no client comes. Two ways to
 * close the gap: a pipe to yourself, which the handler writes into and poll
 * watches; or pselect, which lets signals in and waits in one step. A wait with
 * a timeout does not close it: the program is late, and never sleeps for long.
 * The tests count how often a server wakes up while nobody comes.
 *
 * Try it:   make exercises/1-stop && exercises/1-stop -p 7777
 * Judge it: make exercise-01-1   (in the course's top folder)
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

/* Whether accept has failed because there is no descriptor or memory for the
 * client. It stays in the queue then, and accept would fail again at once. */
static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS ||
           error == ENOMEM;
}

/*
 * Waits for the next client. Returns its socket, which the caller closes.
 *
 * YOUR ANSWER goes here and into main: nothing in this program knows of signals
 * yet. Let it return -1 when a signal has asked the server to stop.
 */
static int wait_for_client(int listener)
{
    bool told = false;
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client != -1)
            return client;
        if (is_shortage(errno)) {
            if (!told)
                perror("1-stop: accept, waiting");
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

/* Listens on 127.0.0.1 and says where. Returns the listener, or -1 with errno
 * set. */
static int listen_on(unsigned port)
{
    struct sockaddr_in where = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof where;
    int yes = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener == -1)
        return -1;
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
        bind(listener, (struct sockaddr *)&where, size) == 0 &&
        listen(listener, SOMAXCONN) == 0 &&
        getsockname(listener, (struct sockaddr *)&where, &size) == 0 &&
        printf("listening on 127.0.0.1:%u\n", ntohs(where.sin_port)) > 0 &&
        fflush(stdout) == 0)
        return listener;
    int saved = errno;
    close(listener);
    errno = saved;
    return -1;
}

int main(int argc, char *argv[])
{
    unsigned long port = 7777;
    int option;
    while ((option = getopt(argc, argv, "p:")) != -1) {
        if (option == '?' || (port = strtoul(optarg, NULL, 10)) > 65535) {
            fprintf(stderr, "usage: 1-stop [-p PORT]\n");
            return 2;
        }
    }
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        perror("1-stop: signals");
        return 1;
    }
    int listener = listen_on((unsigned)port);
    if (listener == -1) {
        perror("1-stop: listen");
        return 1;
    }

    int client;
    while ((client = wait_for_client(listener)) != -1) {
        echo(client);
        close(client);
    }
    close(listener);
    return 0;
}

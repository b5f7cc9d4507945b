/*
 * Exercise 06-1: epoll.
 *
 * A client of this server sends numbers, each in decimal digits and with a
 * newline behind it, and gets so many letters x for each. The server is a loop
 * around poll. In every turn the whole list of sockets goes to the kernel,
 * which asks each of them, and is looked through when it comes back: a thousand
 * silent clients make every turn dear. Put epoll in the place of poll (kqueue
 * on macOS and the BSDs; delete the line with _POSIX_C_SOURCE there), so that
 *
 *     - what an answer costs does not depend on how many others are silent,
 *     - the server uses no processor while it can do nothing: when all are
 *       silent, and when one of them does not read its answer.
 *
 * What the program does already must stay:
 *
 *     - requests come in pieces, or many at once; each gets its answer, however
 *       large it is (up to 999,999,999), and nobody holds up the others;
 *     - a client that ends its side gets all that it has asked for, and then
 *       the end of the connection; one that sends anything else is closed;
 *     - without free descriptors the server serves those whom it has, as fast
 *       as before, and takes others when there are descriptors again.
 *
 * Beware of telling the kernel too much or too little. Whoever calls epoll_ctl
 * for every client in every turn has written a slower poll. Whoever does not
 * call it when a client begins to wait for something else waits for ever, or
 * not at all. And with EPOLLET a change is reported once: recv and send must
 * then go on until they say EAGAIN.
 *
 * Try it:   make exercises/1-epoll && exercises/1-epoll -p 7777
 *           echo 70 | socat - TCP:127.0.0.1:7777   (in another terminal)
 * Judge it: make exercise-06-1   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "net.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    NUMBER_MAX = 999999999,
    PIECE_MAX = 65536, /* what a client may receive or be sent in a turn */
    ACCEPT_MAX = 100,  /* clients that may come in a turn */
    REST = 100         /* milliseconds without an eye on the listener */
};

struct client {
    int socket;
    bool ended;      /* it sends nothing more */
    bool digits;     /* a number has begun */
    uint64_t number; /* its value so far */
    uint64_t left;   /* letters still to be sent */
};

/* YOUR ANSWER takes the place of these two, which are gone through in every
 * turn, and of what stands below "YOUR ANSWER, from here". epoll_create1 makes
 * a descriptor that remembers what is to be watched; epoll_wait names those to
 * whom something has happened. */
static struct client **clients;
static struct pollfd *watched; /* the listener, then one for each client */
static size_t count, size;

/* Without descriptors the listener is left alone until then. 0: it is not. */
static double rest_until;

/* -------------------------------------------------------------- one client */

/* Reads requests; the last one may be unfinished. Returns 0, or -1 when this is
 * no request, or too many letters. */
static int take_requests(struct client *client, const char *bytes,
                         size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] >= '0' && bytes[i] <= '9') {
            client->digits = true;
            client->number = 10 * client->number + (uint64_t)(bytes[i] - '0');
            if (client->number > NUMBER_MAX)
                return -1;
        } else if (bytes[i] == '\n' && client->digits &&
                   client->left <= UINT64_MAX - NUMBER_MAX) {
            client->left += client->number;
            client->digits = false;
            client->number = 0;
        } else {
            return -1;
        }
    }
    return 0;
}

/* Whether recv or send has failed only for now. */
static bool may_try_again(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Receives once. Returns 0, also when nothing came, or -1 when the client has
 * to go. */
static int receive_from(struct client *client)
{
    static char piece[PIECE_MAX];
    ssize_t came = recv(client->socket, piece, sizeof piece, 0);
    if (came == -1)
        return may_try_again() ? 0 : -1;
    if (came > 0)
        return take_requests(client, piece, (size_t)came);
    client->ended = true;
    return client->digits ? -1 : 0;
}

/* Sends once, as much as the kernel takes. Returns 0, also when it takes
 * nothing now, or -1 when the client has to go. */
static int send_to(struct client *client)
{
    static char letters[PIECE_MAX];
    if (letters[0] == '\0')
        memset(letters, 'x', sizeof letters);
    size_t length = client->left < PIECE_MAX ? (size_t)client->left : PIECE_MAX;
    ssize_t sent = send(client->socket, letters, length, 0);
    if (sent == -1)
        return may_try_again() ? 0 : -1;
    client->left -= (uint64_t)sent;
    return 0;
}

/* Does for a client what can be done now. Returns 0, or -1 when it has to go:
 * its connection is broken, or it has ended and got everything. */
static int serve(struct client *client, bool may_receive)
{
    if (may_receive && !client->ended && receive_from(client) == -1)
        return -1;
    if (client->left > 0 && send_to(client) == -1)
        return -1;
    return client->ended && client->left == 0 ? -1 : 0;
}

/* --------------------------------------------------- YOUR ANSWER, from here */

/* Makes room for one more client. Returns 0, or -1 when memory is out. */
static int make_room(void)
{
    if (count < size)
        return 0;
    size_t more = size == 0 ? 64 : 2 * size;
    struct client **all = realloc(clients, more * sizeof *clients);
    if (all == NULL)
        return -1;
    clients = all;
    struct pollfd *list = realloc(watched, (more + 1) * sizeof *watched);
    if (list == NULL)
        return -1;
    watched = list;
    size = more;
    return 0;
}

/* Takes the socket over, and closes it when nothing is left for it. */
static void add_client(int socket)
{
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL || set_nonblocking(socket, true) == -1 ||
        make_room() == -1) {
        free(client);
        close(socket);
        return;
    }
    client->socket = socket;
    clients[count++] = client;
    watched[count] = (struct pollfd){.fd = socket, .events = POLLIN};
}

/* The last client takes the place of the one that goes. */
static void remove_client(size_t i)
{
    close(clients[i]->socket);
    free(clients[i]);
    count--;
    clients[i] = clients[count];
    watched[i + 1] = watched[count + 1];
}

/* Takes the clients that wait. Returns 0, or -1 with errno set when the
 * listener is of no more use. */
static int accept_clients(int listener)
{
    for (int i = 0; i < ACCEPT_MAX; i++) {
        char name[NAME_SIZE];
        int socket = accept_now(listener, name);
        if (socket != -1) {
            add_client(socket);
        } else if (out_of_resources(errno)) {
            rest_until = now() + REST / 1000.0;
            return 0;
        } else {
            return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
        }
    }
    return 0;
}

/* Serves until the listener or poll is of no more use; errno says why. */
static void run(int listener)
{
    if (make_room() == -1)
        return;
    for (;;) {
        /* poll passes over a descriptor that is negative. */
        watched[0].fd = rest_until > now() ? -1 : listener;
        watched[0].events = POLLIN;
        int found = poll(watched, (nfds_t)count + 1,
                         watched[0].fd == -1 ? REST : -1);
        if (found == -1 && errno != EINTR)
            return;
        if (found <= 0)
            continue;
        /* From the end, because remove_client moves the last one. */
        for (size_t i = count; i-- > 0;) {
            struct pollfd *entry = &watched[i + 1];
            if (entry->revents == 0)
                continue;
            if (serve(clients[i], (entry->revents & ~POLLOUT) != 0) == -1)
                remove_client(i);
            else
                entry->events = (short)((clients[i]->ended ? 0 : POLLIN) |
                                        (clients[i]->left > 0 ? POLLOUT : 0));
        }
        if (watched[0].revents != 0 && accept_clients(listener) == -1)
            return;
    }
}

int main(int argc, char *argv[])
{
    const char *port = "7777";
    int option;
    while ((option = getopt(argc, argv, "p:")) != -1) {
        if (option == '?' || !is_port(port = optarg)) {
            fprintf(stderr, "usage: 1-epoll [-p PORT]\n");
            return 2;
        }
    }
    char reason[REASON_SIZE];
    int listener = listen_on("127.0.0.1", port, reason);
    if (listener == -1) {
        fprintf(stderr, "1-epoll: %s\n", reason);
        return 1;
    }
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
        set_nonblocking(listener, true) == -1 || announce(listener) == -1) {
        perror("1-epoll: cannot listen");
        return 1;
    }
    run(listener);
    perror("1-epoll");
    return 1;
}

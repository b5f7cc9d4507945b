/*
 * Exercise 06-3: Stop reading.
 *
 * An echo server in one thread, a loop around poll. What a client does not take
 * waits in memory for it. A client that sends without end and never reads would
 * fill the memory, so this server closes it when more than 64 KiB wait: it
 * punishes a slow client like a bad one. Change it so that
 *
 *     - a client for which 64 KiB or more wait is not read from, until 16 KiB
 *       or less wait; what it sends then waits in the kernels, and at last it
 *       cannot send any more,
 *     - nobody is closed for that: when the client reads again, it gets all
 *       that it has sent, in order, and so does one that has ended its side,
 *     - the server holds less than 1 MiB for a client, whatever it sends,
 *     - all others are served meanwhile, and the server uses no processor while
 *       it can do nothing,
 *     - a client that breaks off while it is not read from is gone at once.
 *
 * Beware of the way back. What is not asked of poll is not reported: who stops
 * reading must have something that lets it begin again, and must still be told
 * when the connection breaks. And POLLIN that is asked for and not obeyed is
 * reported again at once, for ever.
 *
 * Try it:   make exercises/3-stop-reading && exercises/3-stop-reading -p 7777
 *           socat -u /dev/zero TCP:127.0.0.1:7777   (in another terminal: how
 *           long does it run, and what does `top` say of both?)
 * Judge it: make exercise-06-3   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "connection.h"
#include "net.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HIGH_WATER = 64 * 1024, /* as many bytes wait: too many */
    ACCEPT_MAX = 100,       /* clients that may come in a turn */
    REST = 100              /* milliseconds without an eye on the listener */
};

struct client {
    struct connection connection;
};

static struct client **clients;
static struct pollfd *wanted; /* the listener, then one for each client */
static size_t count, size;

/* Without descriptors the listener is left alone until then. */
static double rest_until;

/* -------------------------------------------------------------- one client */

/* Receives once, and queues what came. Returns 0, also when nothing came, or -1
 * when the client has to go. */
static int receive_from(struct client *client)
{
    struct connection *connection = &client->connection;
    ssize_t came = connection_receive(connection);
    if (came == -1)
        return errno == EAGAIN ? 0 : -1;
    if (came == 0)
        connection_end(connection); /* when all is sent */
    else if (connection_queue(connection, connection->bytes,
                              connection->length) == -1)
        return -1;
    return 0;
}

/*
 * Does for a client what can be done now. Returns 0, or -1 when it has to go.
 *
 * YOUR ANSWER goes here and into events_of: do not close this client.
 */
static int serve(struct client *client, short found)
{
    struct connection *connection = &client->connection;
    if (connection_ready(connection, found) && receive_from(client) == -1)
        return -1;
    if (connection_flush(connection) == -1 || connection->ended)
        return -1;
    if (connection->queued >= HIGH_WATER) {
        fprintf(stderr, "3-stop-reading: a client does not read\n");
        return -1;
    }
    return 0;
}

/* What poll shall wait for. */
static short events_of(const struct client *client)
{
    return connection_events(&client->connection);
}

/* --------------------------------------------------------- all the clients */

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
    struct pollfd *list = realloc(wanted, (more + 1) * sizeof *wanted);
    if (list == NULL)
        return -1;
    wanted = list;
    size = more;
    return 0;
}

/* Takes the socket over, and closes it when memory is out. */
static void add_client(int socket)
{
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL || make_room() == -1) {
        free(client);
        close(socket);
        return;
    }
    if (connection_open(&client->connection, socket) == -1) {
        free(client);
        return;
    }
    clients[count++] = client;
    wanted[count] = (struct pollfd){.fd = socket, .events = POLLIN};
}

/* The last client takes the place of the one that goes. */
static void remove_client(size_t i)
{
    connection_close(&clients[i]->connection);
    free(clients[i]);
    count--;
    clients[i] = clients[count];
    wanted[i + 1] = wanted[count + 1];
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
        bool rests = rest_until > now();
        wanted[0] = (struct pollfd){.fd = rests ? -1 : listener,
                                    .events = POLLIN};
        int found = poll(wanted, (nfds_t)count + 1, rests ? REST : -1);
        if (found == -1 && errno != EINTR)
            return;
        if (found <= 0)
            continue;
        /* From the end, because remove_client moves the last one. */
        for (size_t i = count; i-- > 0;) {
            if (wanted[i + 1].revents == 0)
                continue;
            if (serve(clients[i], wanted[i + 1].revents) == -1)
                remove_client(i);
            else
                wanted[i + 1].events = events_of(clients[i]);
        }
        if (wanted[0].revents != 0 && accept_clients(listener) == -1)
            return;
    }
}

int main(int argc, char *argv[])
{
    const char *port = "7777";
    int option;
    while ((option = getopt(argc, argv, "p:")) != -1) {
        if (option == '?' || !is_port(port = optarg)) {
            fprintf(stderr, "usage: 3-stop-reading [-p PORT]\n");
            return 2;
        }
    }
    char reason[REASON_SIZE];
    int listener = listen_on("127.0.0.1", port, reason);
    if (listener == -1) {
        fprintf(stderr, "3-stop-reading: %s\n", reason);
        return 1;
    }
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
        set_nonblocking(listener, true) == -1 || announce(listener) == -1) {
        perror("3-stop-reading: cannot listen");
        return 1;
    }
    run(listener);
    perror("3-stop-reading");
    return 1;
}

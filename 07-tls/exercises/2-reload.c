/*
 * Exercise 07-2: A new certificate.
 *
 * Certificates expire, and nobody wants to end a server with a thousand
 * connections because of that. SIGHUP is how daemons are told to look at their
 * files again; by default it ends a program. Change this echo server so that on
 * SIGHUP it reads both files, certificate (-c) and key (-k), once more:
 *
 *     - connections that come after that get the new certificate,
 *     - nobody who is there is disconnected, and nobody's handshake fails,
 *     - when something is wrong with the files (one cannot be read, they do not
 *       belong together, others may read the key) a line on standard error says
 *       so, and the server goes on with what it had,
 *     - it reads them at once, also when no client comes and none speaks,
 *     - and nothing of the old ones stays when nobody uses it any more.
 *
 * Beware of half a change. Whoever gives the new certificate to the context
 * that is in use, and then finds that the key does not belong to it, has lost
 * the old one. Beware of the gap (exercise 01-1): a handler that sets a flag is
 * not enough, for the signal may come between the look at the flag and poll.
 * And do not read the files in the handler: it may run in the middle of malloc
 * or of OpenSSL, which then end or wait for ever (signal-safety(7)). The tests
 * see that by chance only.
 *
 * Try it:   ./certs.sh; make exercises/2-reload; exercises/2-reload &
 *           openssl s_client -connect localhost:7777 -CAfile certs/ca.pem
 *           ./certs.sh -f && kill -HUP %1    (s_client is still connected)
 * Judge it: make exercise-07-2   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "connection.h"
#include "net.h"
#include "tls.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CLIENTS_MAX = 100,      /* more wait in the backlog */
    QUEUE_MAX = 256 * 1024, /* who has more waiting is not read from */
    REST = 100              /* milliseconds, when no descriptors are left */
};

/* What SSL_CTX holds is shared by all connections that were made with it. */
static SSL_CTX *context;
static const char *certificate = "certs/server.pem";
static const char *key = "certs/server.key";

static struct connection clients[CLIENTS_MAX]; /* the first `count` */
static size_t count;

/* Returns 0, or -1 with errno set. */
static int expect_signals(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    /* YOUR ANSWER: SIGHUP ends the program. */
    return sigaction(SIGPIPE, &ignore, NULL);
}

/* YOUR ANSWER: read both files again, which main does once, at the start. */

/* Sends back what has come, and ends our side when the client has ended its
 * own. Returns 0, or -1 when the connection is to be closed. */
static int echo(struct connection *client, bool may_receive)
{
    if (may_receive && client->queued < QUEUE_MAX) {
        ssize_t came = connection_receive(client);
        if (came == 0)
            connection_end(client);
        else if (came == -1 && errno != EAGAIN)
            return -1;
        if (came > 0 &&
            connection_queue(client, client->bytes, client->length) == -1)
            return -1;
    }
    if (connection_flush(client) == -1)
        return -1;
    return client->ended && client->peer_ended ? -1 : 0;
}

/* Takes the clients that wait, while there are places. Returns 0, or -1 with
 * errno set: out_of_resources() is true when the listener shall rest for a
 * while, else it is of no more use. */
static int accept_clients(int listener)
{
    char address[NAME_SIZE];
    while (count < CLIENTS_MAX) {
        struct connection *client = &clients[count];
        int socket = accept_now(listener, address);
        if (socket == -1)
            return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
        if (connection_open(client, socket) == -1)
            continue;
        if (tls_accept(client, context) == -1)
            connection_close(client);
        else
            count++;
    }
    return 0;
}

/* What poll shall wait for. A client who does not take what is sent back to it
 * is not read from. */
static short events_of(const struct connection *client)
{
    return client->queued < QUEUE_MAX ? connection_events(client)
                                      : client->send_waits_for;
}

/* Serves everybody. Returns -1 with errno set when the listener or poll has
 * failed. (How long a client may be silent is server.c's business.) */
static int run(int listener)
{
    struct pollfd watched[CLIENTS_MAX + 2];
    bool rest = false; /* the listener is left alone for a turn */
    for (;;) {
        bool more = false; /* somebody has bytes that poll does not know of */
        for (size_t i = 0; i < count; i++) {
            watched[i + 2] = (struct pollfd){.fd = clients[i].socket,
                                             .events = events_of(&clients[i])};
            more = more || (clients[i].more && clients[i].queued < QUEUE_MAX);
        }
        watched[0] = (struct pollfd){.fd = -1}; /* YOUR ANSWER */
        /* poll passes over a descriptor that is negative. */
        watched[1] = (struct pollfd){
            .fd = count < CLIENTS_MAX && !rest ? listener : -1,
            .events = POLLIN};
        int ready = poll(watched, (nfds_t)count + 2,
                         more   ? 0
                         : rest ? REST
                                : -1);
        if (ready == -1 && errno != EINTR)
            return -1;
        if (ready == -1)
            continue;

        for (size_t i = count; i-- > 0;) { /* the last one may take a place */
            bool may = connection_ready(&clients[i], watched[i + 2].revents);
            if (echo(&clients[i], may) == -1) {
                connection_close(&clients[i]);
                clients[i] = clients[--count];
            }
        }
        rest = watched[1].revents != 0 && accept_clients(listener) == -1;
        if (rest && !out_of_resources(errno))
            return -1;
    }
}

int main(int argc, char *argv[])
{
    const char *port = "7777";
    int option;
    while ((option = getopt(argc, argv, "p:c:k:")) != -1) {
        if (option == 'p')
            port = optarg;
        else if (option == 'c')
            certificate = optarg;
        else if (option == 'k')
            key = optarg;
        if (option == '?' || !is_port(port)) {
            fprintf(stderr, "usage: 2-reload [-p PORT] [-c CERT] [-k KEY]\n");
            return 2;
        }
    }

    char reason[REASON_SIZE];
    int listener = -1;
    context = tls_server_context(certificate, key, reason);
    if (context != NULL)
        listener = listen_on("127.0.0.1", port, reason);
    if (listener == -1) {
        fprintf(stderr, "2-reload: %s\n", reason);
        SSL_CTX_free(context);
        return 1;
    }
    if (expect_signals() == 0 && set_nonblocking(listener, true) == 0 &&
        announce(listener) == 0)
        run(listener);
    perror("2-reload: wait for clients");
    close(listener);
    for (size_t i = 0; i < count; i++)
        connection_close(&clients[i]);
    SSL_CTX_free(context);
    return 1;
}

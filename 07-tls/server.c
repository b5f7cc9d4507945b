/*
 * server.c - a chat room for everybody, inside TLS.
 *
 * New in this lesson: the same loop, but what goes over the wire is encrypted,
 * and the client knows to whom it speaks. The loop has not changed: tls.c is
 * another transport for connection.c. What has changed is what a server needs
 * to begin, a certificate and a private key, and that a client may stop in the
 * middle of a handshake.
 *
 * Run it, and as many clients as you like:
 *
 *     make
 *     ./certs.sh                         once: makes the certificates
 *     ./server                           in one terminal
 *     ./client -n ada 127.0.0.1 7777     in another
 *     ./client -n grace localhost 7777   in a third
 */
#define _POSIX_C_SOURCE 200809L

#include "connection.h"
#include "net.h"
#include "room.h"
#include "tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    /* Who has more bytes waiting, when the kernel takes none, does not read. */
    QUEUE_MAX = 256 * 1024,

    /* Connections that are at their end need a place for a while too. When
     * there are so many, new clients wait in the backlog. */
    ENDING_MAX = 500,

    /* So many clients are taken in one turn, so that a rush of them does not
     * hold up those who are there. */
    ACCEPT_MAX = 256
};

/* How long a connection that we end first stays open for reading, and how long
 * a client that has said its last may take nothing. */
#define LAST_WORDS_SECONDS 1.5
#define GIVE_UP_SECONDS 30

/* How long the handshake of a client may take for whom there is no place. */
#define HANDSHAKE_SECONDS 2

/* How long to rest when there are no descriptors left. */
#define REST_SECONDS 0.1

/* A moment that does not come. */
#define NEVER 1e300

/* One connection and who is behind it. */
struct client {
    struct connection connection;
    struct member member;
    char address[NAME_SIZE]; /* for messages to the operator */
    bool ending;             /* it is told nothing any more */
    bool doomed;             /* it goes at the end of this turn */
    const char *why;         /* why we ended it, or NULL: the client did */
    double deadline;         /* when it must have joined; ending: be gone */
    size_t index;            /* where it stands in server.clients */
    bool touched;            /* something happened to it in this turn */
    struct client *next_touched;
};

struct server {
    int listener;
    SSL_CTX *tls;
    size_t places;     /* -m */
    double idle_limit; /* -i; 0: none */
    struct room room;
    struct client **clients; /* `count` of them, room for `size` */
    size_t count, size;
    /* What poll waits for: at wanted[0] the signal pipe, at wanted[1] the
     * listener, at wanted[i + 2] client i. Room for size + 2. */
    struct pollfd *wanted;
    struct client *touched; /* a list, linked by next_touched */
    size_t places_taken;    /* clients that are not ending */
    double first_deadline;  /* no client's deadline is earlier */
    double rest_until;      /* no descriptors were left; else 0 */
    bool more;              /* somebody has bytes that poll does not know of */
};

static struct server server = {
    .places = 1000, .idle_limit = 30, .first_deadline = NEVER};

/* ------------------------------------------------------------------ signals */

/* Both say that a signal came: a byte in this pipe, and this variable. */
static int signal_pipe[2];
static volatile sig_atomic_t stopping;

/*
 * A signal handler runs between any two instructions of the program, and may
 * call hardly any function; write is one that it may (signal-safety(7)). So it
 * leaves all work to the loop.
 *
 * The variable alone would not do: a signal that comes between the loop's look
 * at it and poll would be seen when the next client says something, perhaps
 * tomorrow. The byte stays in the pipe, and wakes poll. Nor would the byte
 * alone: when a thousand clients have much to be answered, it is long until the
 * next poll.
 */
static void on_signal(int number)
{
    (void)number;
    int error = errno; /* whom we interrupted may be about to look at it */
    stopping = 1;
    while (write(signal_pipe[1], "", 1) == -1 && errno == EINTR)
        continue; /* a full pipe has bytes enough */
    errno = error;
}

static int catch_signals(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction end = {.sa_handler = on_signal};
    if (pipe(signal_pipe) == -1 ||
        set_nonblocking(signal_pipe[1], true) == -1 ||
        sigaction(SIGPIPE, &ignore, NULL) == -1 ||
        sigaction(SIGINT, &end, NULL) == -1)
        return -1;
    return sigaction(SIGTERM, &end, NULL);
}

/* ------------------------------------------------- what happens to a client */

/*
 * Notes that something happened to a client. Of ten thousand clients, a handful
 * say something or are told something in a turn. Only these are looked at when
 * the turn ends; nothing is done for each client in each turn.
 */
static void touch(struct client *client)
{
    if (client->touched)
        return;
    client->touched = true;
    client->next_touched = server.touched;
    server.touched = client;
}

static void set_deadline(struct client *client, double deadline)
{
    client->deadline = deadline;
    if (deadline < server.first_deadline)
        server.first_deadline = deadline;
}

/*
 * Decides that a client goes. It is taken out at the end of the turn, not here:
 * the room may be in the middle of telling everybody something, and all are to
 * hear that before they hear that this one has left.
 */
static void doom(struct client *client, const char *why)
{
    if (client->why == NULL)
        client->why = why;
    client->doomed = true;
    touch(client);
}

/* Tells a client something, by putting it into its queue: what is queued in
 * one turn goes out with one send. */
static void queue_frame(void *of, const char *frame, size_t length)
{
    struct client *client = of;
    struct connection *connection = &client->connection;
    if (client->ending || client->doomed)
        return;
    touch(client);
    /* So much in one turn? Perhaps the kernel takes some of it, also if it
     * refused before: the member may have read since. */
    if (connection->queued + length > QUEUE_MAX)
        connection->send_waits_for = 0;
    if (connection->queued + length > QUEUE_MAX &&
        connection_flush(connection) == -1)
        doom(client, "the connection broke");
    else if (connection->queued + length > QUEUE_MAX)
        doom(client, "it does not read what it is told");
    else if (frame == NULL || connection_queue(connection, frame, length) == -1)
        doom(client, "out of memory");
}

/* From here on the client is told nothing more; what is queued is still sent.
 * Its place is free before anybody can see that it has gone. */
static void end_client(struct client *client)
{
    if (client->ending)
        return;
    client->ending = true;
    touch(client);
    set_deadline(client, now() + GIVE_UP_SECONDS);
    server.places_taken--;
    room_leave(&server.room, &client->member);
    connection_ignore(&client->connection);
    connection_end(&client->connection);
}

/* The same with last words. */
static void end_with_error(struct client *client, const char *reason)
{
    if (client->why == NULL)
        client->why = reason;
    room_refuse(&server.room, &client->member, reason);
    end_client(client);
}

/* ---------------------------------------------------------- a turn: receive */

static void answer(struct client *client, const struct frame *frame)
{
    struct message request;
    const char *problem = message_read(frame->payload, frame->length, &request);
    if (problem == NULL)
        problem = message_check_request(&request);
    if (problem != NULL)
        room_refuse(&server.room, &client->member, problem);
    else
        room_answer(&server.room, &client->member, &request);
    message_free(&request);
}

/* Takes what has come from a client, and answers every whole frame. After our
 * last words, what still comes is thrown away. */
static void serve(struct client *client)
{
    ssize_t came = connection_receive(&client->connection);
    if (came == 0)
        end_client(client);
    else if (came == -1 && errno != EAGAIN)
        doom(client, "the connection broke");
    if (came <= 0)
        return;

    struct frame frame;
    enum frame_result result = FRAME_UNFINISHED;
    while (!stopping && !client->ending && !client->doomed &&
           (result = connection_next(&client->connection, &frame)) ==
               FRAME_WHOLE)
        answer(client, &frame);
    if (result == FRAME_IMPOSSIBLE)
        end_with_error(client, "this frame is too long or empty");
}

/* ----------------------------------------------------------- a turn: accept */

/* Makes room for one more client. Returns 0, or -1 with errno set. */
static int make_place(void)
{
    if (server.count < server.size)
        return 0;
    size_t size = server.size == 0 ? 16 : 2 * server.size;
    struct client **clients = realloc(server.clients, size * sizeof *clients);
    if (clients == NULL)
        return -1;
    server.clients = clients;
    struct pollfd *wanted = realloc(server.wanted, (size + 2) * sizeof *wanted);
    if (wanted == NULL)
        return -1;
    server.wanted = wanted;
    server.size = size;
    return 0;
}

/* Begins to serve a client. Takes over the socket. Returns 0, or -1 with errno
 * set, and the socket is closed. */
static int start_client(int socket, const char *address)
{
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL || make_place() == -1) {
        free(client);
        close(socket);
        errno = ENOMEM;
        return -1;
    }
    if (connection_open(&client->connection, socket) == -1) {
        free(client);
        return -1;
    }
    if (tls_accept(&client->connection, server.tls) == -1) {
        connection_close(&client->connection);
        free(client);
        errno = ENOMEM;
        return -1;
    }
    snprintf(client->address, NAME_SIZE, "%s", address);
    client->member.connection = client;
    client->index = server.count++;
    server.clients[client->index] = client;
    server.wanted[client->index + 2] = (struct pollfd){.fd = socket};
    touch(client); /* what to wait for is filled in when the turn ends */
    if (server.idle_limit > 0)
        set_deadline(client, now() + server.idle_limit);

    int yes = 1; /* for TCP_NODELAY see lesson 04 */
    if (setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == -1)
        doom(client, "no TCP_NODELAY: it has gone");

    server.places_taken++;
    if (server.places_taken > server.places) {
        end_with_error(client, "all places in the room are taken");
        set_deadline(client, now() + HANDSHAKE_SECONDS); /* then it is told */
    }
    return 0;
}

/* Takes the clients that wait. Returns 0, or -1 with errno set when the
 * listener is of no more use. */
static int accept_clients(void)
{
    for (int i = 0; i < ACCEPT_MAX; i++) {
        char address[NAME_SIZE];
        int client = accept_now(server.listener, address);
        if (client == -1 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0; /* that was all of them */
        if (client == -1 && !out_of_resources(errno))
            return -1;
        if (client == -1) {
            /* The clients stay in the backlog. poll would report them at once,
             * for ever: the listener is left out until something is free. */
            if (server.rest_until == 0)
                fprintf(stderr, "server: accept: %s; waiting\n",
                        strerror(errno));
            server.rest_until = now() + REST_SECONDS;
            return 0;
        }
        server.rest_until = 0;
        if (start_client(client, address) == -1)
            fprintf(stderr, "server: serve %s: %s\n", address, strerror(errno));
    }
    return 0;
}

/* -------------------------------------------------------- a turn: the clock */

/* Whether a client has a deadline. A member may be silent for ever. */
static bool has_deadline(const struct client *client)
{
    return client->ending || (!client->member.joined && server.idle_limit > 0);
}

/* Sees who is too late. Before first_deadline that is nobody; then all clients
 * are looked at, and the next first deadline is found. */
static void look_at_the_clock(double moment)
{
    if (moment < server.first_deadline)
        return;
    server.first_deadline = NEVER;
    for (size_t i = 0; i < server.count; i++) {
        struct client *client = server.clients[i];
        if (!has_deadline(client))
            continue;
        if (client->deadline > moment)
            set_deadline(client, client->deadline);
        else if (!tls_established(&client->connection))
            doom(client, "no handshake in time");
        else if (!client->ending)
            end_with_error(client, "you did not join in time");
        else
            doom(client, client->connection.ended
                             ? NULL
                             : "it did not read its last messages");
    }
}

/* ------------------------------------------------------------- a turn: send */

/* Sends what is queued for a client, as much as the network takes now. */
static void flush(struct client *client, double moment)
{
    struct connection *connection = &client->connection;
    size_t queued = connection->queued;
    bool ended = connection->ended;
    if (connection_flush(connection) == -1)
        doom(client, "the connection broke");
    else if (!ended && connection->ended) /* these were its last words */
        set_deadline(client, moment + LAST_WORDS_SECONDS);
    else if (client->ending && connection->queued < queued)
        set_deadline(client, moment + GIVE_UP_SECONDS);
}

/*
 * Sends what this turn has queued, and announces who goes. The others are told
 * of it, which may be too much for one of them, so that it goes as well: this
 * is repeated until nobody goes any more.
 */
static void send_to_all(double moment)
{
    bool somebody_went;
    do {
        somebody_went = false;
        struct client *client;
        for (client = server.touched; client; client = client->next_touched)
            if (!client->doomed)
                flush(client, moment);
        for (client = server.touched; client; client = client->next_touched) {
            if (!client->doomed || client->ending)
                continue;
            end_client(client);
            somebody_went = true;
        }
    } while (somebody_went);
}

/* ------------------------------------------------------- a turn: clear away */

static void free_client(struct client *client)
{
    if (client->why != NULL)
        fprintf(stderr, "server: end %s: %s\n", client->address, client->why);
    connection_close(&client->connection);
    free(client);
}

/* Takes a client out of the arrays and frees it. The last one takes its place:
 * nothing else has to move. */
static void remove_client(struct client *client)
{
    size_t hole = client->index;
    server.count--;
    server.clients[hole] = server.clients[server.count];
    server.clients[hole]->index = hole;
    server.wanted[hole + 2] = server.wanted[server.count + 2];
    server.rest_until = 0; /* a descriptor is free */
    free_client(client);
}

/* Looks at every client to whom something happened in this turn: has it gone,
 * and if not, what does it wait for now? */
static void end_turn(void)
{
    server.more = false;
    while (server.touched != NULL) {
        struct client *client = server.touched;
        const struct connection *connection = &client->connection;
        server.touched = client->next_touched;
        client->touched = false;
        if (client->doomed || (connection->ended && connection->peer_ended)) {
            remove_client(client);
            continue;
        }
        server.wanted[client->index + 2].events = connection_events(connection);
        if (connection->more)
            server.more = true;
    }
}

/* ------------------------------------------------------------- a turn: wait */

/* How long poll may wait, in milliseconds; -1: for ever. */
static int time_to_wait(double moment)
{
    double first = server.first_deadline;
    if (server.rest_until > moment && server.rest_until < first)
        first = server.rest_until;
    if (server.more)
        return 0;
    if (first == NEVER)
        return -1;
    double left = first - moment;
    if (left > 3600)
        left = 3600; /* an int holds no more than 24 days */
    return left <= 0 ? 0 : (int)(left * 1000) + 1;
}

/* Waits until something can be done; what that is stands in `wanted`. Returns
 * 0, or -1 with errno set. */
static int wait_for_events(double moment)
{
    bool rest = server.rest_until > moment ||
                server.count >= server.places + ENDING_MAX;
    server.wanted[0] = (struct pollfd){.fd = signal_pipe[0], .events = POLLIN};
    /* poll passes over a descriptor that is negative. */
    server.wanted[1] = (struct pollfd){.fd = rest ? -1 : server.listener,
                                       .events = POLLIN};
    int ready = poll(server.wanted, (nfds_t)server.count + 2,
                     time_to_wait(moment));
    if (ready == -1 && errno != EINTR)
        return -1;
    for (size_t i = 0; ready == -1 && i < server.count + 2; i++)
        server.wanted[i].revents = 0; /* not written when poll fails */
    return 0;
}

/* ----------------------------------------------------------------- the loop */

/* Turns until a signal comes. Returns 0, or -1 with errno set when the listener
 * or poll has failed. */
static int run(void)
{
    while (!stopping) {
        if (wait_for_events(now()) == -1)
            return -1;

        size_t count = server.count; /* those that poll has looked at */
        for (size_t i = 0; i < count && !stopping; i++) {
            struct client *client = server.clients[i];
            short found = server.wanted[i + 2].revents;
            if (found == 0 && !(server.more && client->connection.more))
                continue;
            touch(client);
            if (connection_ready(&client->connection, found) && !client->doomed)
                serve(client);
        }
        if (server.wanted[1].revents != 0 && accept_clients() == -1)
            return -1;

        double moment = now();
        look_at_the_clock(moment);
        send_to_all(moment);
        end_turn();
    }
    return 0;
}

int main(int argc, char *argv[])
{
    const char *address = "127.0.0.1";
    const char *port = "7777";
    const char *certificate = "certs/server.pem";
    const char *key = "certs/server.key";
    int option;
    while ((option = getopt(argc, argv, "a:p:m:i:c:k:")) != -1) {
        int places = 1;
        if (option == 'a')
            address = optarg;
        else if (option == 'p')
            port = optarg;
        else if (option == 'c')
            certificate = optarg;
        else if (option == 'k')
            key = optarg;
        else if (option == 'm')
            server.places = (size_t)(places = parse_count(optarg));
        else if (option == 'i')
            server.idle_limit = parse_seconds(optarg);
        if (option == '?' || places < 1 || server.idle_limit < 0)
            goto usage;
    }
    if (optind != argc || !is_port(port))
        goto usage;

    room_open(&server.room, queue_frame);
    if (catch_signals() == -1) {
        perror("server: prepare for signals");
        return 1;
    }

    char reason[REASON_SIZE];
    server.tls = tls_server_context(certificate, key, reason);
    if (server.tls == NULL) {
        fprintf(stderr, "server: %s\n", reason);
        return 1;
    }
    server.listener = listen_on(address, port, reason);
    if (server.listener == -1) {
        fprintf(stderr, "server: %s\n", reason);
        SSL_CTX_free(server.tls);
        return 1;
    }
    /* poll says that a client waits; when we accept, it may have gone. */
    int status = 1;
    if (set_nonblocking(server.listener, true) == -1 || make_place() == -1 ||
        announce(server.listener) == -1)
        perror("server: begin");
    else if (run() == -1)
        perror("server: wait for clients");
    else
        status = 0;

    close(server.listener);
    room_close(&server.room);
    for (size_t i = 0; i < server.count; i++)
        free_client(server.clients[i]);
    free(server.clients);
    free(server.wanted);
    SSL_CTX_free(server.tls);
    return status;

usage:
    fprintf(stderr, "usage: server [-a ADDRESS] [-p PORT] [-m CONNECTIONS] "
                    "[-i SECONDS] [-c CERT] [-k KEY]\n");
    return 2;
}

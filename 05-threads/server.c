/*
 * server.c - a chat room for everybody, with two threads for each connection.
 *
 * New in this lesson: threads. One thread of a connection waits for what the
 * client says, one waits until the client takes what it is told, and the main
 * thread waits for new clients. So each of them may block, and holds up nobody
 * else, as long as it does not hold the lock while it waits.
 *
 * What is shared: the room, and of each connection the queue of bytes that are
 * to be sent. One mutex guards all of it. Whoever holds it may look at these
 * and change them, and does no I/O that could wait. What a single thread needs
 * for itself is not shared, and needs no lock.
 *
 * Run it, and as many clients as you like:
 *
 *     make
 *     ./server                           in one terminal
 *     ./client -n ada 127.0.0.1 7777     in another
 *     ./client -n grace 127.0.0.1 7777   in a third
 */
#define _POSIX_C_SOURCE 200809L

#include "net.h"
#include "room.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
    /* Who has more bytes waiting, when the kernel takes none, does not read. */
    QUEUE_MAX = 256 * 1024,

    /* When the kernel would take some, the writer has not had its turn yet.
     * With so many threads that happens; but there is an end to everything. */
    QUEUE_LIMIT = 16 * QUEUE_MAX,

    /* So much leaves the queue at a time. */
    PIECE_SIZE = 16 * 1024,

    /* Every thread has a stack of its own. Linux reserves 8 MiB if nobody says
     * how much; two thousand threads would reserve 16 GiB. A reader needs 64
     * KiB for a frame and up to 192 KiB for jansson, which calls itself for
     * every nested bracket. */
    STACK_SIZE = 1024 * 1024,

    /* Connections that are at their end need a place for a while too. When
     * there are so many, new clients wait in the backlog. */
    ENDING_MAX = 500
};

/* How long a connection that we end first stays open for reading, and how long
 * a client that has said its last may take nothing. */
#define LAST_WORDS_SECONDS 1.5
#define GIVE_UP_SECONDS 30

/* How long a request waits, at most, for writers that are behind. */
#define CATCH_UP_SECONDS 0.1

/* How long to rest when there are no descriptors left. */
#define REST_SECONDS 0.1

/*
 * One connection. The main thread makes it, and frees it when both of its
 * threads have ended.
 */
struct connection {
    /* Written before the threads start, never changed while they run. */
    int socket;
    char address[NAME_SIZE]; /* for messages to the operator */
    double join_by;          /* a moment on the clock of now() */
    pthread_t reader;
    struct connection *next; /* the main thread's list */

    /* Only used by who holds the lock; when both threads have ended, by the
     * main thread without it. */
    struct member member;
    char *queue; /* what it is to be told: `queued` bytes, room for `size` */
    size_t queued, size;
    unsigned behind_in;     /* the round in which it was counted as behind */
    pthread_cond_t changed; /* tells the writer that something here changed */
    bool ending;            /* nothing is added to the queue any more */
    bool client_ended;      /* the client has ended its side */
    bool broken;            /* nothing is sent any more either */
    bool finished;          /* the reader ends now, the writer has ended */
    const char *why;        /* why we ended it, or NULL: the client did */
};

/* What all threads share, and the lock that one of them at a time holds. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct room room;
static int places_taken; /* connections that are not ending */
static int behind;       /* queues that are over QUEUE_MAX and waited for */
static unsigned round_of_waiting;
static pthread_cond_t caught_up; /* tells that none of these is left */

/* --------------------------------------------------- waking the main thread */

/* The main thread waits for clients, for threads that have ended and for
 * signals, in one poll. A byte in this pipe wakes it. */
static int wake_pipe[2];
static atomic_bool stopping;

static void wake_main(void)
{
    /* A full pipe (EAGAIN) has enough in it to wake somebody. */
    while (write(wake_pipe[1], "", 1) == -1 && errno == EINTR)
        continue;
}

/*
 * Runs when SIGINT or SIGTERM comes, in whichever thread the kernel chooses,
 * between any two instructions of it, perhaps inside malloc or while it holds
 * the lock. Hardly any function may be called here; write is one that may
 * (signal-safety(7)). So it leaves all work to the main thread.
 */
static void on_signal(int number)
{
    (void)number;
    int error = errno; /* whom we interrupted may be about to look at it */
    stopping = true;
    wake_main();
    errno = error;
}

static int make_wake_pipe(void)
{
    return pipe(wake_pipe) == -1 || set_nonblocking(wake_pipe[0], true) == -1 ||
                   set_nonblocking(wake_pipe[1], true) == -1
               ? -1
               : 0;
}

static void empty_wake_pipe(void)
{
    char bytes[256];
    while (read(wake_pipe[0], bytes, sizeof bytes) > 0 || errno == EINTR)
        continue;
}

/* ---------------------------------- what happens to a connection, lock held */

/* Notes how much is in a queue, and counts the queues that are too full: see
 * wait_for_writers(). */
static void set_queued(struct connection *connection, size_t queued)
{
    bool was_behind = connection->queued > QUEUE_MAX;
    bool is_behind = queued > QUEUE_MAX;
    connection->queued = queued;
    if (is_behind && !was_behind) {
        connection->behind_in = round_of_waiting;
        behind++;
    } else if (was_behind && !is_behind &&
               connection->behind_in == round_of_waiting) {
        behind--;
        pthread_cond_broadcast(&caught_up);
    }
}

/* Who is idle, or has gone, needs no memory for a queue. */
static void empty_queue(struct connection *connection)
{
    free(connection->queue);
    connection->queue = NULL;
    connection->size = 0;
    set_queued(connection, 0);
}

/* Ends a connection at once. shutdown, unlike close, wakes the threads that
 * wait in recv and send, and leaves them the descriptor: a number that was
 * closed may mean another connection a moment later. */
static void break_off(struct connection *connection, const char *why)
{
    if (connection->why == NULL)
        connection->why = why;
    connection->broken = true;
    empty_queue(connection);
    shutdown(connection->socket, SHUT_RDWR); /* fails if the client has gone */
    pthread_cond_signal(&connection->changed);
}

/* Whether a send would not wait now. Does not wait itself. */
static bool kernel_takes_more(int socket)
{
    struct pollfd wanted = {.fd = socket, .events = POLLOUT};
    int ready;
    while ((ready = poll(&wanted, 1, 0)) == -1 && errno == EINTR)
        continue;
    return ready == 1;
}

/*
 * Tells a connection something, by putting it into its queue. A send would
 * wait for a client that does not read; we hold the lock, so everybody would
 * wait for that client. A queue costs only memory, and a bounded one not much.
 */
static void queue_frame(void *of, const char *frame, size_t length)
{
    struct connection *connection = of;
    if (connection->ending || connection->broken)
        return;
    size_t needed = connection->queued + length;
    if (needed > QUEUE_LIMIT ||
        (needed > QUEUE_MAX && !kernel_takes_more(connection->socket))) {
        break_off(connection, "it does not read what it is told");
        return;
    }
    if (needed > connection->size) { /* twice as much: few copies */
        char *queue = realloc(connection->queue, 2 * needed);
        if (queue != NULL) {
            connection->queue = queue;
            connection->size = 2 * needed;
        }
    }
    if (frame == NULL || needed > connection->size) {
        break_off(connection, "out of memory");
        return;
    }
    memcpy(connection->queue + connection->queued, frame, length);
    set_queued(connection, needed);
    pthread_cond_signal(&connection->changed);
}

/* Moves bytes from the queue into a piece. Returns how many. The rest moves to
 * the front; that is done under the lock, and takes microseconds for 256 KiB.
 * Lesson 06 leaves it where it is. */
static size_t take_piece(struct connection *connection, char piece[PIECE_SIZE])
{
    size_t length = connection->queued < PIECE_SIZE ? connection->queued
                                                    : PIECE_SIZE;
    memcpy(piece, connection->queue, length);
    set_queued(connection, connection->queued - length);
    memmove(connection->queue, connection->queue + length, connection->queued);
    if (connection->queued == 0)
        empty_queue(connection);
    return length;
}

/* From here on the connection is told nothing more; what is in the queue is
 * still sent. Its place is free before anybody can see that it has gone. */
static void end_connection(struct connection *connection)
{
    if (connection->ending)
        return;
    connection->ending = true;
    places_taken--;
    room_leave(&room, &connection->member);
    pthread_cond_signal(&connection->changed);
}

/* The same with last words. */
static void end_with_error(struct connection *connection, const char *reason)
{
    if (connection->why == NULL)
        connection->why = reason;
    room_refuse(&room, &connection->member, reason);
    end_connection(connection);
}

/* ------------------------------------------------------------------ threads */

/* By which clock a condition waits. The one on the wall may be set back by an
 * hour, and who waits for a tenth of a second then waits for an hour. */
#ifdef __APPLE__
#define CONDITION_CLOCK CLOCK_REALTIME /* there is no choice there */
#else
#define CONDITION_CLOCK CLOCK_MONOTONIC
#endif

/* Makes a condition that waits by that clock. Returns 0 or an error number. */
static int make_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    int error = pthread_condattr_init(&attributes);
    if (error != 0)
        return error;
#ifndef __APPLE__
    error = pthread_condattr_setclock(&attributes, CONDITION_CLOCK);
#endif
    if (error == 0)
        error = pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return error;
}

/* The moment so many seconds from now, on that clock. */
static struct timespec moment_in(double seconds)
{
    struct timespec moment;
    clock_gettime(CONDITION_CLOCK, &moment);
    seconds += (double)moment.tv_nsec / 1e9;
    moment.tv_sec += (time_t)seconds;
    moment.tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9);
    return moment;
}

/* Starts a thread for a connection. Returns 0 or an error number: pthread
 * functions return it and leave errno alone. */
static int start_thread(pthread_t *thread, void *(*function)(void *),
                        struct connection *connection)
{
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error != 0)
        return error;
    error = pthread_attr_setstacksize(&attributes, STACK_SIZE);
    if (error == 0)
        error = pthread_create(thread, &attributes, function, connection);
    pthread_attr_destroy(&attributes);
    return error;
}

/* ------------------------------------------------------ the writer's thread */

/*
 * Waits until the client has ended its side too, but not for ever. Meanwhile
 * the reader throws away what comes: see let_client_read in lesson 04.
 */
static void let_client_read(struct connection *connection)
{
    struct timespec until = moment_in(LAST_WORDS_SECONDS);
    int result = 0;
    while (!connection->client_ended && !connection->broken && result == 0)
        result = pthread_cond_timedwait(&connection->changed, &lock, &until);
}

/*
 * Sends what is in the queue for as long as the connection lasts, and ends our
 * side of it. The lock is held everywhere but in send, and what is being sent
 * is a copy on this thread's own stack.
 */
static void *write_to_client(void *argument)
{
    struct connection *connection = argument;
    char piece[PIECE_SIZE];
    size_t length = 0, sent = 0; /* of the piece */
    pthread_mutex_lock(&lock);
    while (!connection->broken) {
        if (sent == length && connection->queued > 0) {
            length = take_piece(connection, piece);
            sent = 0;
        }
        if (sent == length) {
            if (connection->ending)
                break;
            /* Lets go of the lock while it waits. It may wake up without a
             * reason, so it is the loop that decides, not the waking. */
            pthread_cond_wait(&connection->changed, &lock);
            continue;
        }

        pthread_mutex_unlock(&lock);
        ssize_t took = send(connection->socket, piece + sent, length - sent, 0);
        int error = errno;
        pthread_mutex_lock(&lock);

        if (took >= 0) {
            sent += (size_t)took;
        } else if (error == EAGAIN || error == EWOULDBLOCK) {
            /* Nothing was taken for GIVE_UP_SECONDS. As long as the queue has
             * room, a member may be as slow as it likes. */
            if (connection->ending)
                break_off(connection, "it did not read its last messages");
        } else if (error != EINTR) {
            break_off(connection, "the connection broke");
        }
    }
    if (!connection->broken) {
        shutdown(connection->socket, SHUT_WR);
        let_client_read(connection);
    }
    break_off(connection, NULL); /* now the reader does not wait either */
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* ------------------------------------------------------ the reader's thread */

/*
 * Waits until the writers have caught up. A client may ask faster than the
 * writers' threads get their turn, and the queues would grow although everybody
 * reads. So requests wait.
 *
 * `behind` counts the queues that are waited for. One of their clients may have
 * stopped reading; nobody waits longer than CATCH_UP_SECONDS for it. Then those
 * that are still behind are struck off: `behind` becomes 0, and a new round
 * begins. When such a queue becomes short after all it must not be subtracted a
 * second time, so it remembers in which round it was counted (behind_in). When
 * more is put into it, and the kernel still takes nothing, it is broken off.
 */
static void wait_for_writers(void)
{
    if (behind == 0)
        return;
    struct timespec until = moment_in(CATCH_UP_SECONDS);
    int result = 0;
    unsigned round = round_of_waiting;
    while (behind > 0 && round == round_of_waiting && result == 0)
        result = pthread_cond_timedwait(&caught_up, &lock, &until);
    if (behind > 0 && round == round_of_waiting) {
        behind = 0;
        round_of_waiting++;
        pthread_cond_broadcast(&caught_up);
    }
}

/* Answers one request. JSON is read before the lock is taken: nobody else
 * needs to wait for it. Returns false when the request came too late: the
 * connection is at its end, and so is what else has come. */
static bool answer(struct connection *connection, const struct frame *frame)
{
    struct message request;
    const char *problem = message_read(frame->payload, frame->length, &request);
    if (problem == NULL)
        problem = message_check_request(&request);

    pthread_mutex_lock(&lock);
    wait_for_writers();
    bool in_time = !connection->ending && !connection->broken;
    if (in_time && problem != NULL)
        room_refuse(&room, &connection->member, problem);
    else if (in_time)
        room_answer(&room, &connection->member, &request);
    pthread_mutex_unlock(&lock);

    message_free(&request);
    return in_time;
}

/*
 * Serves one connection until the client has ended its side. After our last
 * words, what still comes is thrown away.
 *
 * `bytes` is on this thread's own stack, where no other thread has business.
 */
static void serve(struct connection *connection)
{
    char bytes[FRAME_MAX];
    size_t length = 0;
    bool listening = true;
    for (;;) {
        ssize_t came = receive(connection->socket, bytes + length,
                               sizeof bytes - length);
        if (came == 0)
            return;
        if (came == -1) {
            pthread_mutex_lock(&lock);
            break_off(connection, "the connection broke");
            pthread_mutex_unlock(&lock);
            return;
        }
        if (!listening)
            continue;
        length += (size_t)came;

        struct frame frame;
        enum frame_result result;
        size_t used = 0;
        while ((result = frame_read(bytes + used, length - used, &frame)) ==
                   FRAME_WHOLE &&
               answer(connection, &frame))
            used += frame.size;
        if (result == FRAME_IMPOSSIBLE) {
            pthread_mutex_lock(&lock);
            end_with_error(connection, "this frame is too long or empty");
            pthread_mutex_unlock(&lock);
        }
        if (result != FRAME_UNFINISHED) {
            listening = false;
            used = length;
        }
        /* What is left is the beginning of a frame; it moves to the front. */
        memmove(bytes, bytes + used, length - used);
        length -= used;
    }
}

static void *read_from_client(void *argument)
{
    struct connection *connection = argument;
    pthread_t writer;
    int error = start_thread(&writer, write_to_client, connection);
    if (error == 0)
        serve(connection);

    pthread_mutex_lock(&lock);
    if (error != 0)
        break_off(connection, "no thread could be started to write to it");
    end_connection(connection);
    connection->client_ended = true;
    pthread_cond_signal(&connection->changed);
    pthread_mutex_unlock(&lock);

    /* The writer may have much to send yet. */
    if (error == 0)
        pthread_join(writer, NULL);

    pthread_mutex_lock(&lock);
    const char *why = connection->why;
    pthread_mutex_unlock(&lock);
    if (why != NULL)
        fprintf(stderr, "server: end %s: %s\n", connection->address, why);

    pthread_mutex_lock(&lock);
    connection->finished = true;
    pthread_mutex_unlock(&lock);
    wake_main();
    return NULL;
}

/* ---------------------------------------------------------- the main thread */

/* What the operator wants, and what the main thread keeps for itself. */
struct server {
    int listener;
    int places;        /* -m */
    double idle_limit; /* -i; 0: none */
    struct connection *connections;
    int count;
    double rest_until; /* no descriptors, memory or threads were left */
    bool told;         /* that accept() found none; false when it works again */
};

/*
 * Starts serving a client. It gets memory of its own: the address of a
 * variable of the main loop would be the same for every thread, and by the
 * time a thread looks, the next client would be in it.
 * Takes over the socket. Returns 0, or -1 when that could not be done; that is
 * told and the socket is closed.
 */
static int start_connection(struct server *server, int socket,
                            const char *address)
{
    const char *step = "make room for it";
    int error = ENOMEM;
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL)
        goto failed;
    connection->socket = socket;
    snprintf(connection->address, NAME_SIZE, "%s", address);
    connection->join_by = now() + server->idle_limit;
    connection->member.connection = connection;
    error = make_condition(&connection->changed);
    if (error != 0)
        goto failed;

    pthread_mutex_lock(&lock);
    if (places_taken < server->places) {
        places_taken++;
    } else {
        room_refuse(&room, &connection->member, "the room is full");
        connection->why = "all places are taken";
        connection->ending = true;
    }
    pthread_mutex_unlock(&lock);

    step = "start a thread for it";
    error = start_thread(&connection->reader, read_from_client, connection);
    if (error != 0) {
        pthread_mutex_lock(&lock);
        end_connection(connection);
        pthread_mutex_unlock(&lock);
        pthread_cond_destroy(&connection->changed);
        goto failed;
    }
    connection->next = server->connections;
    server->connections = connection;
    server->count++;
    return 0;

failed:
    fprintf(stderr, "server: serve %s: cannot %s: %s\n", address, step,
            strerror(error));
    if (connection != NULL)
        free(connection->queue);
    free(connection);
    close(socket);
    return -1;
}

/*
 * Takes one client, if there still is one. Returns 0, or -1 with errno set
 * when the listener is of no more use.
 */
static int accept_one(struct server *server)
{
    char address[NAME_SIZE];
    int client = accept_now(server->listener, address);
    if (client == -1) {
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return 0; /* it has gone again */
        if (!out_of_resources(errno))
            return -1;
        if (!server->told)
            fprintf(stderr, "server: accept: %s; waiting\n", strerror(errno));
        server->told = true;
        server->rest_until = now() + REST_SECONDS;
        return 0;
    }
    server->told = false;

    /* The listener does not block, and on some systems its clients' sockets
     * inherit that. For TCP_NODELAY see lesson 04. */
    int yes = 1;
    struct timeval give_up = {.tv_sec = GIVE_UP_SECONDS};
    if (set_nonblocking(client, false) == -1 ||
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == -1 ||
        setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &give_up, sizeof give_up) ==
            -1) {
        close(client); /* on some systems these fail when it has gone */
        return 0;
    }
    if (start_connection(server, client, address) == -1)
        server->rest_until = now() + REST_SECONDS;
    return 0;
}

/* Frees the connections whose threads have ended. */
static void free_finished(struct server *server)
{
    struct connection **link = &server->connections;
    while (*link != NULL) {
        struct connection *connection = *link;
        pthread_mutex_lock(&lock);
        bool finished = connection->finished;
        pthread_mutex_unlock(&lock);
        if (!finished) {
            link = &connection->next;
            continue;
        }
        *link = connection->next;
        pthread_join(connection->reader, NULL);
        pthread_cond_destroy(&connection->changed);
        close(connection->socket);
        free(connection->queue);
        free(connection);
        server->count--;
    }
}

/* Ends the connections that should have joined by now. Returns the moment
 * when the next one will have to, or `never`. */
static double end_idle(struct server *server, double never)
{
    double next = never;
    if (server->idle_limit == 0)
        return next;
    double moment = now();
    pthread_mutex_lock(&lock);
    for (struct connection *connection = server->connections;
         connection != NULL; connection = connection->next) {
        if (connection->member.joined || connection->ending)
            continue;
        if (connection->join_by <= moment)
            end_with_error(connection, "you did not join in time");
        else if (connection->join_by < next)
            next = connection->join_by;
    }
    pthread_mutex_unlock(&lock);
    return next;
}

/* Ends all connections, whatever their clients do, and their threads. */
static void stop(struct server *server)
{
    pthread_mutex_lock(&lock);
    for (struct connection *connection = server->connections;
         connection != NULL; connection = connection->next)
        break_off(connection, NULL);
    pthread_mutex_unlock(&lock);
    while (server->connections != NULL) {
        struct pollfd wanted = {.fd = wake_pipe[0], .events = POLLIN};
        poll(&wanted, 1, -1);
        empty_wake_pipe();
        free_finished(server);
    }
}

/*
 * Takes clients until a signal comes or the listener fails. Returns 0, or -1
 * with errno set.
 */
static int run(struct server *server)
{
    while (!stopping) {
        double never = now() + 3600;
        double deadline = end_idle(server, never);
        struct pollfd wanted[2] = {{.fd = wake_pipe[0], .events = POLLIN},
                                   {.fd = server->listener, .events = POLLIN}};
        nfds_t count = 2;
        if (server->count >= server->places + ENDING_MAX) {
            count = 1; /* until a thread has ended, which wakes us */
        } else if (server->rest_until > now()) {
            count = 1;
            if (server->rest_until < deadline)
                deadline = server->rest_until;
        }
        double left = deadline - now();
        int timeout = left <= 0 ? 0 : (int)(left * 1000) + 1;
        int ready = poll(wanted, count, timeout);
        if (ready == -1 && errno != EINTR)
            return -1;
        if (ready <= 0)
            continue;
        if (wanted[0].revents != 0) {
            empty_wake_pipe();
            free_finished(server);
        }
        if (count == 2 && wanted[1].revents != 0 && accept_one(server) == -1)
            return -1;
    }
    return 0;
}

int main(int argc, char *argv[])
{
    const char *address = "127.0.0.1";
    const char *port = "7777";
    struct server server = {.places = 1000, .idle_limit = 30};
    int option;
    while ((option = getopt(argc, argv, "a:p:m:i:")) != -1) {
        if (option == 'a')
            address = optarg;
        else if (option == 'p')
            port = optarg;
        else if (option == 'm')
            server.places = parse_count(optarg);
        else if (option == 'i')
            server.idle_limit = parse_seconds(optarg);
        if (option == '?' || server.places < 1 || server.idle_limit < 0)
            goto usage;
    }
    if (optind != argc || !is_port(port))
        goto usage;

    room_open(&room, queue_frame);
    errno = make_condition(&caught_up);
    if (errno != 0) {
        perror("server: prepare to wait");
        return 1;
    }
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction end = {.sa_handler = on_signal};
    if (make_wake_pipe() == -1 || sigaction(SIGPIPE, &ignore, NULL) == -1 ||
        sigaction(SIGINT, &end, NULL) == -1 ||
        sigaction(SIGTERM, &end, NULL) == -1) {
        perror("server: prepare for signals");
        return 1;
    }

    char reason[REASON_SIZE];
    server.listener = listen_on(address, port, reason);
    if (server.listener == -1) {
        fprintf(stderr, "server: %s\n", reason);
        return 1;
    }
    /* poll says that a client waits; when we accept, it may have gone. */
    int status = 1;
    if (set_nonblocking(server.listener, true) == -1 ||
        announce(server.listener) == -1)
        perror("server: announce the address");
    else if (run(&server) == -1)
        perror("server: wait for clients");
    else
        status = 0;
    close(server.listener);
    stop(&server);
    room_close(&room);
    return status;

usage:
    fprintf(stderr, "usage: server [-a ADDRESS] [-p PORT] [-m CONNECTIONS] "
                    "[-i SECONDS]\n");
    return 2;
}

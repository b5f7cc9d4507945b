/*
 * connection.c - one connection that nobody waits for. connection.h says how
 * to use it.
 *
 * New in this lesson. A blocking call hides three things: that it may have to
 * wait, how far it had come, and what comes next. Whoever does not wait keeps
 * them in a structure: what has come of an unfinished frame, what is still to
 * be sent, and what to wait for.
 */
#define _POSIX_C_SOURCE 200809L

#include "connection.h"

#include "net.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --------------------------------------------------------------- TCP itself */

static ssize_t tcp_receive(struct connection *connection, char *bytes,
                           size_t size)
{
    ssize_t came;
    do
        came = recv(connection->socket, bytes, size, 0);
    while (came == -1 && errno == EINTR);
    if (came == -1 && errno == EWOULDBLOCK)
        errno = EAGAIN; /* on some systems they are two numbers */
    return came;
}

static ssize_t tcp_send(struct connection *connection, const char *bytes,
                        size_t length)
{
    ssize_t took;
    do
        took = send(connection->socket, bytes, length, 0);
    while (took == -1 && errno == EINTR);
    if (took == -1 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        errno = EAGAIN;
        connection->send_waits_for = POLLOUT;
    }
    return took;
}

static int tcp_flush(struct connection *connection)
{
    (void)connection; /* what TCP took, the kernel sends */
    return 0;
}

static int tcp_end(struct connection *connection)
{
    return shutdown(connection->socket, SHUT_WR);
}

static void tcp_close(struct connection *connection)
{
    (void)connection; /* TCP keeps nothing */
}

const struct transport tcp = {tcp_receive, tcp_send, tcp_flush, tcp_end,
                              tcp_close};

/* --------------------------------------------------------- opening, closing */

int connection_open(struct connection *connection, int socket)
{
    *connection = (struct connection){
        .transport = &tcp, .socket = socket, .receive_waits_for = POLLIN};
    if (set_nonblocking(socket, true) == 0)
        return 0;
    int error = errno;
    close(socket);
    errno = error;
    return -1;
}

void connection_close(struct connection *connection)
{
    connection->transport->close(connection);
    close(connection->socket);
    free(connection->unfinished);
    free(connection->queue);
}

/* --------------------------------------------------------- what to wait for */

short connection_events(const struct connection *connection)
{
    short events = 0;
    if (!connection->peer_ended)
        events |= connection->receive_waits_for;
    /* Room to send is nearly always there: who asks poll for it without having
     * anything to send is answered at once, for ever. It is asked for only
     * when a send was refused. */
    events |= connection->send_waits_for;
    return events;
}

bool connection_ready(struct connection *connection, short found)
{
    /* Poll reports POLLERR and POLLHUP unasked. Receiving or sending will say
     * what they mean; after POLLHUP there may still be bytes to receive. */
    short broken = found & (POLLERR | POLLHUP | POLLNVAL);
    if ((found & connection->send_waits_for) != 0 || broken != 0)
        connection->send_waits_for = 0;
    return !connection->peer_ended &&
           (connection->more || broken != 0 ||
            (found & connection->receive_waits_for) != 0);
}

/* ------------------------------------------------------------ bytes come in */

/* Makes room for `needed` bytes, and for as many again when it has to grow: a
 * buffer that grew by a little at a time would be copied each time. Returns 0,
 * or -1 when memory is out. */
static int make_room(char **buffer, size_t *size, size_t needed)
{
    if (needed <= *size)
        return 0;
    char *larger = realloc(*buffer, 2 * needed);
    if (larger == NULL)
        return -1;
    *buffer = larger;
    *size = 2 * needed;
    return 0;
}

/* Gives back most of a buffer of which hardly anything is used any more. */
static void give_back_room(char **buffer, size_t *size, size_t used)
{
    if (*size / 8 < used)
        return;
    char *smaller = realloc(*buffer, 2 * used);
    if (smaller == NULL)
        return; /* then it stays large */
    *buffer = smaller;
    *size = 2 * used;
}

static void forget_unfinished(struct connection *connection)
{
    free(connection->unfinished);
    connection->unfinished = NULL;
    connection->unfinished_length = connection->unfinished_size = 0;
}

ssize_t connection_receive(struct connection *connection)
{
    /* One for all connections: a thousand that are silent need no thousand
     * buffers. */
    static char buffer[FRAME_MAX];

    ssize_t came = connection->transport->receive(connection, buffer,
                                                  sizeof buffer);
    if (came == 0) {
        connection->peer_ended = true;
        forget_unfinished(connection);
    }
    if (came <= 0)
        return came;

    connection->bytes = buffer;
    connection->length = connection->deaf ? 0 : (size_t)came;
    if (connection->unfinished != NULL) {
        size_t held = connection->unfinished_length;
        if (make_room(&connection->unfinished, &connection->unfinished_size,
                      held + connection->length) == -1)
            return -1;
        memcpy(connection->unfinished + held, buffer, connection->length);
        connection->bytes = connection->unfinished;
        connection->length += held;
    }
    return came;
}

enum frame_result connection_next(struct connection *connection,
                                  struct frame *frame)
{
    enum frame_result result = frame_read(connection->bytes, connection->length,
                                          frame);
    if (result == FRAME_WHOLE) {
        connection->bytes += frame->size;
        connection->length -= frame->size;
    } else if (result == FRAME_IMPOSSIBLE || connection->length == 0) {
        forget_unfinished(connection);
    } else { /* keep the rest, in memory of its own */
        if (connection->unfinished == NULL &&
            make_room(&connection->unfinished, &connection->unfinished_size,
                      connection->length) == -1)
            return FRAME_IMPOSSIBLE;
        memmove(connection->unfinished, connection->bytes, connection->length);
        connection->unfinished_length = connection->length;
        give_back_room(&connection->unfinished, &connection->unfinished_size,
                       connection->length);
    }
    return result;
}

void connection_ignore(struct connection *connection)
{
    connection->deaf = true;
    connection->length = 0;
    forget_unfinished(connection);
}

/* ------------------------------------------------------------- bytes go out */

int connection_queue(struct connection *connection, const char *bytes,
                     size_t length)
{
    /* What was sent leaves a gap at the front. Closing it costs a copy of the
     * rest, so that is done when the gap is as large as the rest. */
    if (connection->begin > 0 && connection->begin >= connection->queued) {
        memmove(connection->queue, connection->queue + connection->begin,
                connection->queued);
        connection->begin = 0;
    }
    size_t end = connection->begin + connection->queued;
    if (make_room(&connection->queue, &connection->size, end + length) == -1) {
        errno = ENOMEM;
        return -1;
    }
    memcpy(connection->queue + end, bytes, length);
    connection->queued += length;
    return 0;
}

void connection_end(struct connection *connection)
{
    connection->ending = true;
}

int connection_flush(struct connection *connection)
{
    if (connection->send_waits_for != 0)
        return 0; /* poll has not said yet that there is room */
    if (connection->transport->flush(connection) == -1)
        return errno == EAGAIN ? 0 : -1;
    while (connection->queued > 0 && connection->send_waits_for == 0) {
        ssize_t took = connection->transport->send(
            connection, connection->queue + connection->begin,
            connection->queued);
        if (took == -1)
            return errno == EAGAIN ? 0 : -1;
        connection->begin += (size_t)took;
        connection->queued -= (size_t)took;
    }
    if (connection->queued > 0)
        return 0;

    /* Who is idle needs no memory for it. */
    free(connection->queue);
    connection->queue = NULL;
    connection->begin = connection->size = 0;

    if (connection->ending && !connection->ended &&
        connection->send_waits_for == 0) {
        if (connection->transport->end(connection) == -1)
            return errno == EAGAIN ? 0 : -1;
        connection->ended = true;
    }
    return 0;
}

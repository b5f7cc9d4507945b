/*
 * connection.h - one connection that nobody waits for: frames come out of it,
 * bytes go into it, and it says what poll shall wait for.
 *
 * No function here ever waits. The order of calls in one turn of a loop:
 * poll for connection_events(), connection_ready() with what poll found, then
 * connection_receive() and connection_next() if it may receive, and at the end
 * of the turn connection_flush().
 */
#ifndef CONNECTION_H
#define CONNECTION_H

#include "frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct connection;

/*
 * How bytes come from the network and go to it. Here there is one way, TCP
 * itself; lesson 07 adds TLS. Each function returns at once. When it could not
 * go on it returns -1 with EAGAIN, and has written into the connection what
 * poll shall wait for before it is called again.
 */
struct transport {
    /* Takes what has come, up to `size` bytes. Returns how many, 0 when the
     * peer has ended its side, or -1 with errno set. */
    ssize_t (*receive)(struct connection *connection, char *bytes, size_t size);
    /* Gives bytes to the network, 1 or more. Returns how many it took, at least
     * 1, or -1 with errno set. */
    ssize_t (*send)(struct connection *connection, const char *bytes,
                    size_t length);
    /* Sends what the transport itself still holds; TCP holds nothing. Returns 0
     * when nothing is left, or -1 with errno set. */
    int (*flush)(struct connection *connection);
    /* Ends our side; the peer's stays open. Returns 0 or -1 with errno set. */
    int (*end)(struct connection *connection);
    /* Frees what the transport keeps; the socket is not its own. */
    void (*close)(struct connection *connection);
};

extern const struct transport tcp;

struct connection {
    const struct transport *transport;
    void *session; /* the transport's own; TCP has none */
    int socket;    /* non-blocking */

    /* What poll shall wait for: to receive (always something) and to send (0:
     * it was not refused the last time, so it may be tried). TCP waits for
     * POLLIN to receive and for POLLOUT to send; TLS may need the other. */
    short receive_waits_for;
    short send_waits_for;
    bool more; /* there is something to receive that poll does not know of */

    bool peer_ended; /* nothing more will come */
    bool deaf;       /* what comes is thrown away */
    bool ending;     /* our side ends when all is sent */
    bool ended;      /* it has */

    /* The beginning of a frame that has not come whole, or NULL. */
    char *unfinished;
    size_t unfinished_length, unfinished_size;

    /* What has come and was not looked at yet; good until the next
     * connection_receive() on any connection. */
    const char *bytes;
    size_t length;

    /* What is to be sent: `queued` bytes from `begin` on. */
    char *queue;
    size_t begin, queued, size;
};

/* Begins to use a connected socket, and makes it non-blocking. Takes the socket
 * over. Returns 0, or -1 with errno set, and the socket is closed. */
int connection_open(struct connection *connection, int socket);

/* Closes the socket and frees all memory; the structure stays the caller's. */
void connection_close(struct connection *connection);

/* What poll shall wait for now, 0 or more of POLLIN and POLLOUT. */
short connection_events(const struct connection *connection);

/* Notes what poll found; until then connection_flush() sends nothing after a
 * send that was refused. Returns whether there may be something to receive. */
bool connection_ready(struct connection *connection, short found);

/*
 * Takes what has come. Returns how many bytes (now connection_next() finds the
 * frames among them, and must be called until there are no more), 0 when the
 * peer has ended its side, or -1 with errno set: EAGAIN when nothing has come.
 */
ssize_t connection_receive(struct connection *connection);

/*
 * Finds the next frame among what has come. It is good until the next call of
 * this function or of connection_ignore() for the connection, or of
 * connection_receive() for any: what has come stands in one buffer for all.
 * With FRAME_UNFINISHED, the rest is kept until more comes. When memory for
 * that is out, the result is FRAME_IMPOSSIBLE: the connection is out of step.
 */
enum frame_result connection_next(struct connection *connection,
                                  struct frame *frame);

/* From here on, what comes is thrown away; connection_receive() still says how
 * much, and when the peer ends its side. */
void connection_ignore(struct connection *connection);

/* Adds a copy of the bytes to what is to be sent; how much that may become is
 * the caller's to say. Returns 0, or -1 with errno ENOMEM, and nothing is
 * added. */
int connection_queue(struct connection *connection, const char *bytes,
                     size_t length);

/* From here on our side ends as soon as all is sent. */
void connection_end(struct connection *connection);

/*
 * Sends as much as the network takes now, and then ends our side if it is to
 * end. While send_waits_for is not 0 it does nothing: a send was refused, and
 * poll has to speak first. Returns 0, also when something is left, or -1 with
 * errno set when the connection is broken.
 */
int connection_flush(struct connection *connection);

#endif

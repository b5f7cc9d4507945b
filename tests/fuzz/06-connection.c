/*
 * 06-connection.c - fuzzes lesson 06's connection.c.
 *
 * The network is made up: a transport that hands over what has come in pieces
 * of any size, takes what is to be sent in pieces of any size, and now and then
 * says that it cannot go on. The fuzzer's bytes say what happens next, to one
 * of two connections. Whatever the pieces are, the frames that come out must be
 * those that went in, and the bytes that go out those that were queued.
 */
#include "connection.h"

#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

enum { PEERS = 2, STREAM_MAX = 3 * FRAME_MAX };

/* One connection and the other end of it. */
struct peer {
    struct connection connection;
    struct input *input;
    bool abrupt; /* closed before all has arrived */

    /* What we send it: the n-th byte is letter(n). */
    size_t queued, taken;
    bool held; /* the transport has some of that, as TLS may */
    bool ended;

    /* What it sends us: bytes from `received` on are still on the way. */
    size_t sent, received;
    size_t understood; /* where the next frame begins in `stream` */
    bool impossible;   /* no frame can begin there */
    bool finished;     /* it sends nothing more */
    char stream[STREAM_MAX];
};

static char letter(size_t position)
{
    return (char)(position * 7 + position / 251);
}

/* ------------------------------------------------------- a network, made up */

static struct peer *peer_of(struct connection *connection)
{
    return connection->session;
}

/* Whether the network says this time that it cannot go on. When the fuzzer's
 * bytes are used up, it takes and gives all that there is. */
static bool refuses(struct peer *peer)
{
    return peer->input->length > 0 && choose(peer->input, 4) == 0;
}

/* How many bytes it takes or gives, of up to `most`. */
static size_t piece(struct peer *peer, size_t most)
{
    if (peer->input->length == 0)
        return most;
    return 1 + choose(peer->input, most < 65536 ? most : 65536);
}

static ssize_t receive(struct connection *connection, char *bytes, size_t size)
{
    struct peer *peer = peer_of(connection);
    size_t here = peer->sent - peer->received;
    if (here == 0 && peer->finished)
        return 0;
    if (here == 0 || refuses(peer)) {
        errno = EAGAIN;
        return -1;
    }
    size_t length = piece(peer, here < size ? here : size);
    memcpy(bytes, peer->stream + peer->received, length);
    memset(bytes + length, '?', size - length); /* nobody may look there */
    peer->received += length;
    return (ssize_t)length;
}

static ssize_t send_some(struct connection *connection, const char *bytes,
                         size_t length)
{
    struct peer *peer = peer_of(connection);
    check(length > 0, "no empty send");
    check(!peer->ended, "nothing is sent after the end");
    if (refuses(peer)) {
        connection->send_waits_for = POLLOUT;
        errno = EAGAIN;
        return -1;
    }
    size_t took = piece(peer, length);
    for (size_t i = 0; i < took; i++)
        check(bytes[i] == letter(peer->taken + i),
              "what is sent is what was queued, in the same order");
    peer->taken += took;
    peer->held = refuses(peer);
    if (peer->held)
        connection->send_waits_for = POLLOUT;
    return (ssize_t)took;
}

static int flush_held(struct connection *connection)
{
    struct peer *peer = peer_of(connection);
    peer->held = peer->held && refuses(peer);
    if (!peer->held)
        return 0;
    connection->send_waits_for = POLLOUT;
    errno = EAGAIN;
    return -1;
}

static int end(struct connection *connection)
{
    struct peer *peer = peer_of(connection);
    check(!peer->ended, "our side ends once");
    check(peer->taken == peer->queued && !peer->held,
          "our side ends when all is sent");
    peer->ended = true;
    return 0;
}

static void close_nothing(struct connection *connection)
{
    (void)connection;
}

static const struct transport made_up = {receive, send_some, flush_held, end,
                                         close_nothing};

/* ---------------------------------------------------------------- the steps */

/* The peer sends a frame, or what only looks like the beginning of one. */
static void send_frame(struct peer *peer)
{
    size_t payload = choose(peer->input, 65536);
    if (choose(peer->input, 8) != 0)
        payload %= 64; /* mostly a short one */
    size_t size = 4 + payload;
    if (peer->finished || size > STREAM_MAX - peer->sent)
        return;
    char *frame = peer->stream + peer->sent;
    frame[0] = choose(peer->input, 32) == 31 ? 1 : 0;
    frame[1] = 0;
    frame[2] = (char)(payload >> 8);
    frame[3] = (char)payload;
    for (size_t i = 4; i < size; i++)
        frame[i] = letter(peer->sent + i);
    peer->sent += size;
}

/* Compares what connection_next() found with what stands in the stream. */
static void check_next(struct peer *peer, enum frame_result result,
                       const struct frame *frame)
{
    struct frame right;
    const char *begin = peer->stream + peer->understood;
    check(result ==
              frame_read(begin, peer->received - peer->understood, &right),
          "a frame is found as soon as it has come whole, and not before");
    if (result == FRAME_IMPOSSIBLE)
        peer->impossible = true;
    if (result != FRAME_WHOLE)
        return;
    check(frame->length == right.length &&
              memcmp(frame->payload, right.payload, right.length) == 0,
          "the frames that come out are those that went in");
    peer->understood += right.size;
}

static void receive_frames(struct peer *peer)
{
    struct connection *connection = &peer->connection;
    if (!connection_ready(connection, POLLIN))
        return;
    size_t before = peer->received;
    ssize_t came = connection_receive(connection);
    if (came == 0) {
        check(peer->finished && peer->received == peer->sent,
              "the peer's end comes behind all that it sent");
        check((connection_events(connection) & POLLIN) == 0,
              "behind the peer's end poll waits for nothing more to receive");
        return;
    }
    if (came == -1) {
        check(errno == EAGAIN, "receiving can fail with EAGAIN alone");
        return;
    }
    check((size_t)came == peer->received - before,
          "connection_receive() says how much has come");
    enum frame_result result = FRAME_WHOLE;
    while (!peer->impossible && result == FRAME_WHOLE) {
        struct frame frame;
        result = connection_next(connection, &frame);
        check_next(peer, result, &frame);
    }
    if (peer->impossible)
        connection_ignore(connection);
}

static void queue(struct peer *peer)
{
    char bytes[1000];
    if (peer->connection.ending || peer->queued - peer->taken > 1000000)
        return;
    size_t length = 1 + choose(peer->input, sizeof bytes);
    for (size_t i = 0; i < length; i++)
        bytes[i] = letter(peer->queued + i);
    check(connection_queue(&peer->connection, bytes, length) == 0,
          "there was memory for the queue");
    peer->queued += length;
}

static void flush(struct peer *peer)
{
    check(connection_flush(&peer->connection) == 0, "nothing broke");
    check((connection_events(&peer->connection) & POLLOUT) == 0 ||
              peer->taken < peer->queued || peer->held,
          "poll waits for room to send only while something is to be sent");
}

static void step(struct peer *peer)
{
    switch (choose(peer->input, 8)) {
    case 0:
    case 1:
        send_frame(peer);
        break;
    case 2:
    case 3:
        receive_frames(peer);
        break;
    case 4:
        queue(peer);
        break;
    case 5:
        flush(peer);
        break;
    case 6:
        connection_ready(&peer->connection, POLLOUT);
        flush(peer);
        break;
    default:
        switch (choose(peer->input, 16)) {
        case 14:
            peer->finished = true;
            break;
        case 15:
            connection_end(&peer->connection);
            break;
        }
    }
}

static void open_peer(struct peer *peer, struct input *input)
{
    memset(peer, 0, offsetof(struct peer, stream));
    peer->input = input;
    peer->abrupt = choose(input, 2) == 1;
    int file = open("/dev/null", O_RDWR);
    check(connection_open(&peer->connection, file) == 0,
          "/dev/null can be opened");
    peer->connection.transport = &made_up;
    peer->connection.session = peer;
}

/* The network becomes calm: all that is on the way arrives. */
static void arrive(struct peer *peer)
{
    connection_end(&peer->connection);
    connection_ready(&peer->connection, POLLOUT);
    flush(peer);
    check(peer->taken == peer->queued && peer->ended,
          "in the end everything is sent, and our side ends");
    while (peer->received < peer->sent)
        receive_frames(peer);
    check(peer->impossible || peer->understood == peer->sent,
          "in the end everything is understood");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static struct peer peers[PEERS];
    struct input input = {bytes, length};
    for (size_t i = 0; i < PEERS; i++)
        open_peer(&peers[i], &input);
    while (input.length > 0)
        step(&peers[choose(&input, PEERS)]);
    for (size_t i = 0; i < PEERS; i++) {
        if (!peers[i].abrupt)
            arrive(&peers[i]);
        connection_close(&peers[i].connection);
    }
    return 0;
}

/*
 * messages.h - the room's protocol in the hands of a test.
 *
 * A `channel` is one connection on which frames go, whichever end of it the
 * test holds. Everything that the tests of the room send and receive goes
 * through the functions here, and those go through the few at the top of
 * messages.c: what carries the bytes is decided there and nowhere else.
 *
 * What comes is judged as the contract wants it: the spacing of the JSON, the
 * order of its members, which characters are escaped, members that nobody
 * asked for and the number of segments make no difference.
 */
#ifndef MESSAGES_H
#define MESSAGES_H

#include "harness.h"

#include <stdint.h>

enum { MOST_PAYLOAD = 65536, MOST_TEXT = 8192, MOST_NAME = 32 };

/* Says what the steps from here on try ("a name of 33 code points"), for the
 * report; NULL: nothing in particular. */
void now_trying(const char *what);

/* --------------------------------------------------------- bytes to be sent */

enum framing {
    BY_LENGTH, /* four bytes, the most significant first, then the payload */
    BY_LINE    /* the payload, then one newline */
};

/* A stretch of a stream, put together piece by piece. */
struct stretch {
    enum framing framing;
    char *bytes; /* kept by the harness until the end of the test */
    size_t length;
    size_t size;
};

void add_bytes(struct stretch *stretch, const void *bytes, size_t length);
void add_header(struct stretch *stretch, uint32_t length);
void add_payload(struct stretch *stretch, const void *bytes, size_t length);
void add_message(struct stretch *stretch, const char *json);

/* `count` times the same text. */
const char *repeat(const char *text, size_t count);

/* The JSON text of a message. Strings are UTF-8. */
extern const char ping[];
const char *join_as(const char *name);
const char *say(const char *text);
const char *welcome(const char *name, int members);
const char *joined(const char *name);
const char *left(const char *name);
const char *said(const char *name, const char *text);
const char *said_bytes(const char *name, const void *text, size_t length);
const char *error_because(const char *reason);

/* ----------------------------------------------------------------- channels */

struct channel;

struct channel *open_channel(struct program *server);
struct channel *open_channel_with(struct program *server,
                                  const struct connect_options *options);
struct channel *accept_channel(struct listener *listener);
struct channel *channel_over(struct peer *peer);

/* The channel's frames are a client's: the test is the server. */
void act_as_server(struct channel *channel);

/* The connection that a channel goes over. */
struct peer *peer_of(const struct channel *channel);

/* From here on the frames of this channel end with a newline. */
void speak_lines(struct channel *channel);

void half_close_channel(struct channel *channel);
void close_channel(struct channel *channel);
void reset_channel(struct channel *channel);

/* Half-closes, waits until the server has closed too (one error may come
 * before), and closes: the server has noticed it when this returns. */
void leave(struct channel *channel);

/* ------------------------------------------------------------------ sending */

/* Sends all of it, taking in what comes meanwhile, so that neither side waits
 * for the other; fails when nothing moves for PATIENCE. */
void send_raw(struct channel *channel, const void *bytes, size_t length);
void send_stretch(struct channel *channel, const struct stretch *stretch);
void send_payload(struct channel *channel, const void *bytes, size_t length);
void send_message(struct channel *channel, const char *json);

/* The same in pieces of `piece` bytes, each a segment of its own. */
void send_in_pieces(struct channel *channel, const void *bytes, size_t length,
                    size_t piece, double pause);

/* Sends and takes nothing in, until all is sent or nothing has been taken for
 * `seconds`; returns how much was. A connection that breaks ends it too. */
size_t send_without_reading(struct channel *channel, const void *bytes,
                            size_t length, double seconds);

/* ---------------------------------------------------------------- receiving */

/* Each of these waits for one more message, at most PATIENCE, and fails when
 * it is another one, or none comes. */
void expect_pong(struct channel *channel);
void expect_error(struct channel *channel);
void expect_welcome(struct channel *channel, const char *name, int members);
void expect_said(struct channel *channel, const char *name, const char *text);
void expect_said_bytes(struct channel *channel, const char *name,
                       const void *text, size_t length);
void expect_join(struct channel *channel, const char *name);
void expect_say(struct channel *channel, const char *text);
void expect_say_bytes(struct channel *channel, const void *text, size_t length);

/* Sends a ping: the pong must come. */
void expect_alive(struct channel *channel);

/* One message of this type, or one error; true when it was no error. */
bool expect_either(struct channel *channel, const char *type);

/* Whichever message comes next. Lives until the end of the test. */
struct message {
    const char *shown; /* the payload as a report shows it */
    const char *type;
    const char *name; /* NULL when it has no such string */
    size_t name_length;
    const char *text; /* the same */
    size_t text_length;
    const char *reason; /* the same */
    long long members;  /* -1 when it has no such number */
};

/* Waits for a message, or for the connection's end: false. It fails when
 * neither comes; `expected` is for its report. */
bool next_message(struct channel *channel, struct message *message,
                  const char *expected);

/* Waits for end of file or a reset; a message before it fails the test. What
 * may stand before it: an error, or a frame that was never finished. */
enum { ONLY_THE_END = 0, ERROR_MAY_COME = 1, END_OF_FILE_ONLY = 2 };
void expect_end(struct channel *channel, int how);

/* Fails when anything comes within `seconds`, or the connection ends. */
void expect_quiet(struct channel *channel, double seconds);

/* Takes in what comes for `seconds`, or until the connection has ended: true.
 * What came waits for the functions above. */
bool ends_within(struct channel *channel, double seconds);

/* The same without taking in anything; true when it was broken off. */
bool breaks_within(struct channel *channel, double seconds);

/* Whether the connection was broken off rather than closed. */
bool was_reset(const struct channel *channel);

/* ------------------------------------------------ for guests.c: no waiting */

/* Sends what goes at once: how much that was; -1 when nothing ever will. */
ssize_t send_at_once(struct channel *channel, const void *bytes, size_t length);

/* Hands over the payload of every whole frame that is there, `most` of them at
 * most, and returns how many that were. */
typedef void take_payload(void *context, const char *payload, size_t length);
size_t take_payloads(struct channel *channel, take_payload *take, void *context,
                     size_t most);

/* Fails when the payload is no message. */
void judge_payload(struct channel *channel, const char *payload, size_t length);

/* A sentence on a frame that has begun and is not whole, or "". */
const char *unfinished_frame(struct channel *channel);

/* Whether the connection has ended, as far as it has been read. */
bool channel_is_over(const struct channel *channel);

/* The descriptor, and what to wait for on it when somebody wants to wait for
 * `events`; 0 when there is no need to wait. */
int channel_descriptor(const struct channel *channel);
short channel_events(const struct channel *channel, short events);

/* ------------------------------------------------------------ observation */

/* Whether what waits in the kernel at the program's end of the connection, to
 * be sent or to be read, changes within so many seconds (Linux; elsewhere it
 * never does). */
bool moves_within(struct channel *channel, double seconds);

/* The most address space that any process of the program has ever had, in
 * bytes: what it asked for, touched or not (Linux; elsewhere 0). */
size_t greatest_address_space(struct program *program);

/* Lets so many seconds pass, and returns in which part of them the program or
 * a child of it was on the CPU or wanted to be: 0 to 1. */
double share_of_time_busy(struct program *program, double seconds);

#endif

/*
 * messages.c - frames, messages, and the channels they go on.
 */
#include "messages.h"
#include "inside.h"

#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct channel {
    struct peer *peer;
    enum framing framing;
    bool is_server;    /* the test is the server */
    struct bytes came; /* what came and is not taken yet begins at `taken` */
    size_t taken;
    size_t searched; /* behind `taken`; there is no newline before it */
    enum ending ending;
    bool last_was_error; /* the message taken last */
    size_t messages;     /* so many have been taken */
};

/* No test asks for as much: what comes has no end. */
enum { MOST_UNTAKEN = 64 << 20, MOST_MESSAGES = 100000 };

/* ------------------------------------------------- what carries the bytes */

static ssize_t transmit(struct channel *channel, const void *bytes,
                        size_t length)
{
    return send_now(channel->peer, bytes, length);
}

/* Takes in what is there; true when something was, or the end. */
static bool take_in(struct channel *channel)
{
    char buffer[65536];
    size_t length;
    if (channel->ending != STILL_OPEN)
        return false;
    enum taken taken = take_now(channel->peer, buffer, sizeof buffer, &length);
    append_bytes(&channel->came, buffer, length);
    channel->ending = ending_of(taken);
    if (channel->came.length - channel->taken > MOST_UNTAKEN)
        fail_test("Expected: what the program sends comes to an end.\n"
                  "What came: %s, and there is more.",
                  quoted(channel->came.data + channel->taken,
                         channel->came.length - channel->taken));
    return taken != TAKEN_NOTHING;
}

static void wait_for(struct channel *channel, short events, double until)
{
    if (channel->ending != STILL_OPEN)
        events &= (short)~POLLIN;
    if (events == 0)
        wait_on(-1, 0, until);
    else
        wait_on_peer(channel->peer, events, until);
}

static void end_own_side(struct channel *channel)
{
    half_close(channel->peer);
}

/* ------------------------------------------------------- what a report says */

static char trying[400]; /* outlives the run: no memory of the harness's */

void now_trying(const char *what)
{
    trying[0] = '\0';
    if (what == NULL)
        return;
    snprintf(trying, sizeof trying, "%s", what);
    note("now: %s", what);
}

/* A line on what was being tried, or nothing. */
static const char *case_line(void)
{
    return trying[0] == '\0' ? "" : text_of("\nThe case: %s.", trying);
}

static const char *how_it_ended(enum ending ending)
{
    return ending == RESET     ? "a reset"
           : ending == CUT_OFF ? "the end of TCP without close_notify"
                               : "end of file";
}

/* --------------------------------------------------------- bytes to be sent */

const char ping[] = "{\"type\":\"ping\"}";

void add_bytes(struct stretch *stretch, const void *bytes, size_t length)
{
    size_t needed = stretch->length + length;
    if (needed > stretch->size) {
        size_t size = 2 * needed + 256;
        char *more = keep(size);
        if (stretch->length > 0)
            memcpy(more, stretch->bytes, stretch->length);
        stretch->bytes = more;
        stretch->size = size;
    }
    if (length > 0)
        memcpy(stretch->bytes + stretch->length, bytes, length);
    stretch->length = needed;
}

void add_header(struct stretch *stretch, uint32_t length)
{
    unsigned char header[4] = {
        (unsigned char)(length >> 24), (unsigned char)(length >> 16),
        (unsigned char)(length >> 8), (unsigned char)length};
    add_bytes(stretch, header, sizeof header);
}

void add_payload(struct stretch *stretch, const void *bytes, size_t length)
{
    if (stretch->framing == BY_LENGTH)
        add_header(stretch, (uint32_t)length);
    add_bytes(stretch, bytes, length);
    if (stretch->framing == BY_LINE)
        add_bytes(stretch, "\n", 1);
}

void add_message(struct stretch *stretch, const char *json)
{
    add_payload(stretch, json, strlen(json));
}

const char *repeat(const char *text, size_t count)
{
    size_t length = strlen(text);
    char *repeated = keep(length * count);
    for (size_t i = 0; i < count; i++)
        memcpy(repeated + i * length, text, length);
    repeated[length * count] = '\0';
    return repeated;
}

/* Writes the JSON down and gives it back. */
static const char *json_text(json_t *json)
{
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (text == NULL)
        fail_test("harness: a message of the test's own is no UTF-8");
    const char *kept = text_of("%s", text);
    free(text);
    return kept;
}

const char *join_as(const char *name)
{
    return json_text(json_pack("{s:s, s:s}", "type", "join", "name", name));
}

const char *say(const char *text)
{
    return json_text(json_pack("{s:s, s:s}", "type", "say", "text", text));
}

const char *welcome(const char *name, int members)
{
    return json_text(json_pack("{s:s, s:s, s:i}", "type", "welcome", "name",
                               name, "members", members));
}

const char *joined(const char *name)
{
    return json_text(json_pack("{s:s, s:s}", "type", "joined", "name", name));
}

const char *left(const char *name)
{
    return json_text(json_pack("{s:s, s:s}", "type", "left", "name", name));
}

const char *said_bytes(const char *name, const void *text, size_t length)
{
    return json_text(json_pack("{s:s, s:s, s:s%}", "type", "said", "name", name,
                               "text", text, length));
}

const char *said(const char *name, const char *text)
{
    return said_bytes(name, text, strlen(text));
}

const char *error_because(const char *reason)
{
    return json_text(
        json_pack("{s:s, s:s}", "type", "error", "reason", reason));
}

/* ----------------------------------------------------------------- channels */

struct channel *channel_over(struct peer *peer)
{
    struct channel *channel = keep(sizeof *channel);
    int on = 1;
    *channel = (struct channel){.peer = peer, .ending = STILL_OPEN};
    setsockopt(descriptor_of(peer), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return channel;
}

struct channel *open_channel_with(struct program *server,
                                  const struct connect_options *options)
{
    return channel_over(connect_with(server, options));
}

struct channel *open_channel(struct program *server)
{
    return channel_over(connect_to(server));
}

struct channel *accept_channel(struct listener *listener)
{
    struct channel *channel = channel_over(accept_client(listener));
    act_as_server(channel);
    return channel;
}

void act_as_server(struct channel *channel)
{
    channel->is_server = true;
}

struct peer *peer_of(const struct channel *channel)
{
    return channel->peer;
}

void speak_lines(struct channel *channel)
{
    channel->framing = BY_LINE;
}

void half_close_channel(struct channel *channel)
{
    end_own_side(channel);
}

void close_channel(struct channel *channel)
{
    close_peer(channel->peer);
    free_bytes(&channel->came);
}

void leave(struct channel *channel)
{
    half_close_channel(channel);
    expect_end(channel, ERROR_MAY_COME);
    close_channel(channel);
}

void reset_channel(struct channel *channel)
{
    reset_peer(channel->peer);
    free_bytes(&channel->came);
}

/* ------------------------------------------------------------------ sending */

_Noreturn static void fail_sending(struct channel *channel, size_t sent,
                                   size_t length, bool broken)
{
    if (broken)
        let_pass(0.1); /* whether it has ended shows a moment later */
    while (take_in(channel))
        continue;
    size_t waiting = channel->came.length - channel->taken;
    fail_test("Expected: the program takes %s.\n"
              "After %s %s%s.%s%s",
              count_of(length, "byte"), count_of(sent, "byte"),
              broken ? "it had closed the connection or broken it off"
                     : text_of("it took no more for %.1f s", patience()),
              state_of_programs(),
              waiting == 0 ? ""
                           : text_of("\nIt had sent, unread until then: %s",
                                     quoted(channel->came.data + channel->taken,
                                            waiting)),
              case_line());
}

/* Sends without a step of its own in the report. */
static void send_unnoted(struct channel *channel, const char *bytes,
                         size_t length)
{
    size_t sent = 0;
    double until = moment_in(patience());
    while (sent < length) {
        ssize_t more = transmit(channel, bytes + sent, length - sent);
        bool moved = more > 0;
        if (more > 0)
            sent += (size_t)more;
        if (sent < length && take_in(channel))
            moved = true;
        if (moved)
            until = moment_in(patience());
        else if (more == -2 || now() >= until)
            fail_sending(channel, sent, length, more == -2);
        else
            wait_for(channel, POLLIN | POLLOUT, until);
    }
}

void send_raw(struct channel *channel, const void *bytes, size_t length)
{
    note("sent %s", quoted(bytes, length));
    send_unnoted(channel, bytes, length);
}

void send_stretch(struct channel *channel, const struct stretch *stretch)
{
    send_raw(channel, stretch->bytes, stretch->length);
}

void send_payload(struct channel *channel, const void *bytes, size_t length)
{
    struct stretch stretch = {.framing = channel->framing};
    add_payload(&stretch, bytes, length);
    if (channel->framing == BY_LINE)
        note("sent the line %s", quoted(stretch.bytes, stretch.length));
    else
        note("sent a frame: %s", quoted(bytes, length));
    send_unnoted(channel, stretch.bytes, stretch.length);
}

void send_message(struct channel *channel, const char *json)
{
    send_payload(channel, json, strlen(json));
}

void send_in_pieces(struct channel *channel, const void *bytes, size_t length,
                    size_t piece, double pause)
{
    note("sent %s, %s at a time", quoted(bytes, length),
         count_of(piece, "byte"));
    for (size_t sent = 0; sent < length; sent += piece) {
        if (sent > 0 && pause > 0)
            let_pass(pause);
        send_unnoted(channel, (const char *)bytes + sent,
                     length - sent < piece ? length - sent : piece);
    }
}

size_t send_without_reading(struct channel *channel, const void *bytes,
                            size_t length, double seconds)
{
    size_t sent = 0;
    double until = moment_in(seconds);
    while (sent < length && now() < until) {
        ssize_t more = transmit(channel, (const char *)bytes + sent,
                                length - sent);
        if (more == -2)
            break;
        if (more > 0) {
            sent += (size_t)more;
            until = moment_in(seconds);
        } else {
            wait_for(channel, POLLOUT, until);
        }
    }
    note("sent %s%s and read nothing", count_of(sent, "byte"),
         sent == length ? "" : text_of(", more were not taken,"));
    return sent;
}

/* --------------------------------------------------------- frames that come */

static const char *untaken(struct channel *channel, size_t *length)
{
    *length = channel->came.length - channel->taken;
    return *length == 0 ? "" : channel->came.data + channel->taken;
}

/* Lets the rest of what is on its way come, for the report. */
static void let_it_settle(struct channel *channel)
{
    double until = moment_in(0.1);
    while (now() < until && channel->ending == STILL_OPEN &&
           channel->came.length < 1 << 20) {
        if (take_in(channel))
            until = moment_in(0.1);
        else
            wait_for(channel, POLLIN, until);
    }
}

/* What the report says where it is clear what went wrong. */
#define NO_LENGTH                                                              \
    "The JSON text goes out alone. With -f length four bytes come first: the " \
    "length of what follows, the most significant byte first."
#define OWN_BYTE_ORDER                                                         \
    "The length is sent as it lies in memory, and in most machines the least " \
    "significant byte lies first. htonl(), or four bytes made with shifts, "   \
    "put it into the order of the network."
#define WRONG_LENGTH                                                           \
    "The length in front of a frame counts the bytes of the payload: not its " \
    "own four, and not the NUL that ends a string in C."

#define CUT_SHORT                                                              \
    "On the hostile network send() takes fewer bytes than it was given, as "   \
    "it "                                                                      \
    "may anywhere. What it returns says how many it took; the rest has to be " \
    "sent with another call."

#define CUT_OFF_CAUSE                                                          \
    "close() without SSL_shutdown() before it; or SSL_shutdown() could not "   \
    "send all it had to, and close() came before the rest: who receives that " \
    "cannot tell it from a connection that somebody on the way has cut off. "  \
    "Or the connection was all right, and an error that another one had left " \
    "in OpenSSL's queue was taken for its own (ERR_clear_error() before each " \
    "call)."

/* For a report on the hostile network: what is different there. */
static const char *about_the_network(void)
{
    return hostile_seed() == 0
               ? ""
               : "\nIf that happens on the hostile network alone: calls are "
                 "interrupted there (EINTR), and take or return less than was "
                 "asked for. Neither is the end of a connection.";
}

_Noreturn static void fail_header(struct channel *channel, uint32_t length,
                                  const char *expected)
{
    let_it_settle(channel);
    size_t have;
    const char *bytes = untaken(channel, &have);
    const unsigned char *four = (const unsigned char *)bytes;
    uint32_t reversed = (uint32_t)four[3] << 24 | (uint32_t)four[2] << 16 |
                        (uint32_t)four[1] << 8 | four[0];
    const char *meaning = "";
    if (bytes[0] == '{') {
        meaning = " These four bytes are the beginning of the JSON text: the "
                  "length in front of it is missing.";
        usual_cause(NO_LENGTH);
    } else if (length == 0) {
        meaning = " A frame has at least one byte.";
        if (hostile_seed() != 0)
            usual_cause(CUT_SHORT);
    } else if (reversed >= 1 && reversed <= MOST_PAYLOAD) {
        meaning = text_of(" Read from the other end they are %u: they were "
                          "sent in the byte order of the machine, not of the "
                          "network.",
                          (unsigned)reversed);
        usual_cause(OWN_BYTE_ORDER);
    }
    fail_test("Expected: %s, in a frame of 1 to 65536 bytes.\n"
              "What came: %s, which begins with the length %u (%02x %02x %02x "
              "%02x).%s%s",
              expected, quoted(bytes, have), (unsigned)length, four[0], four[1],
              four[2], four[3], meaning, case_line());
}

enum arrival { A_FRAME, THE_END, NOTHING };

/* Waits for a whole frame, and says where its payload is. It is not taken. */
static enum arrival await_frame(struct channel *channel, double seconds,
                                const char *expected, const char **payload,
                                size_t *length)
{
    double until = moment_in(seconds);
    double at_last = moment_in(10 * seconds);
    for (;;) {
        size_t have;
        const char *bytes = untaken(channel, &have);
        if (channel->framing == BY_LENGTH && have >= 4) {
            const unsigned char *four = (const unsigned char *)bytes;
            uint32_t number = (uint32_t)four[0] << 24 |
                              (uint32_t)four[1] << 16 | (uint32_t)four[2] << 8 |
                              four[3];
            if (number < 1 || number > MOST_PAYLOAD)
                fail_header(channel, number, expected);
            if (have - 4 >= number) {
                *payload = bytes + 4;
                *length = number;
                return A_FRAME;
            }
        }
        if (channel->framing == BY_LINE && have > channel->searched) {
            const char *newline = memchr(bytes + channel->searched, '\n',
                                         have - channel->searched);
            channel->searched = have;
            if (newline != NULL) {
                *payload = bytes;
                *length = (size_t)(newline - bytes);
                channel->searched = *length;
                return A_FRAME;
            }
        }
        if (take_in(channel)) {
            until = moment_in(seconds);
            continue;
        }
        if (channel->ending != STILL_OPEN)
            return THE_END;
        if (now() >= until || now() >= at_last)
            return NOTHING;
        wait_for(channel, POLLIN, until);
    }
}

static void take_frame(struct channel *channel, size_t length)
{
    channel->taken += length + (channel->framing == BY_LENGTH ? 4 : 1);
    channel->searched = 0;
    if (channel->taken == channel->came.length) {
        channel->taken = 0;
        channel->came.length = 0;
    } else if (channel->taken > 1 << 20) {
        channel->came.length -= channel->taken;
        memmove(channel->came.data, channel->came.data + channel->taken,
                channel->came.length);
        channel->taken = 0;
    }
}

/* What the beginning of a frame that never became whole tells. */
static const char *about_the_rest(struct channel *channel)
{
    size_t have;
    const char *bytes = untaken(channel, &have);
    if (have == 0)
        return "";
    if (hostile_seed() != 0)
        usual_cause(CUT_SHORT);
    if (channel->framing == BY_LINE)
        return text_of(" Before that came %s, without a newline at its end.",
                       quoted(bytes, have));
    if (have < 4)
        return text_of(" Before that came %s: not even a whole length.",
                       quoted(bytes, have));
    const unsigned char *four = (const unsigned char *)bytes;
    size_t number = (size_t)four[2] << 8 | four[3] | (size_t)four[1] << 16;
    size_t missing = number + 4 - have;
    const char *meaning = "";
    if (missing == 4 && bytes[have - 1] == '}')
        meaning = " It looks as if the length counted its own four bytes too.";
    if (missing == 1 && bytes[have - 1] == '}')
        meaning = " It looks as if the length counted the NUL that ends a "
                  "string in C.";
    if (meaning[0] != '\0')
        usual_cause(WRONG_LENGTH);
    return text_of(" Before that came %s: a length of %zu, and %s of that; "
                   "%zu are missing.%s",
                   quoted(bytes, have), number, count_of(have - 4, "byte"),
                   missing, meaning);
}

/* When the server is silent: asks it once more, and tells what that shows. */
static const char *ask_once_more(struct channel *channel)
{
    size_t before = channel->came.length - channel->taken;
    struct stretch request = {.framing = channel->framing};
    if (channel->is_server || before > 0)
        return "";
    add_message(&request, ping);
    if (transmit(channel, request.bytes, request.length) !=
        (ssize_t)request.length)
        return "";
    double until = moment_in(0.5);
    while (now() < until && channel->ending == STILL_OPEN &&
           channel->came.length - channel->taken < 30) {
        if (!take_in(channel))
            wait_for(channel, POLLIN, until);
    }
    size_t have;
    const char *bytes = untaken(channel, &have);
    if (have == 0)
        return "\nThe test then sent one more ping, and nothing came either.";
    return text_of("\nThe test then sent one more ping, and there came %s. %s",
                   quoted(bytes, have),
                   memmem(bytes, have, "pong", 4) != NULL && have < 30
                       ? "So the server serves this connection; the request "
                         "before is lost."
                       : "So the request had not been lost: it waited, until "
                         "more came.");
}

_Noreturn static void fail_nothing(struct channel *channel,
                                   const char *expected, double seconds)
{
    const char *shown = about_the_rest(channel);
    fail_test("Expected: %s.\n"
              "What came: nothing more for %.1f s%s.%s%s%s",
              expected, seconds, state_of_programs(), shown, case_line(),
              ask_once_more(channel));
}

_Noreturn static void fail_end(struct channel *channel, const char *expected)
{
    double soon = moment_in(0.2);
    while (now() < soon)
        wait_on(-1, 0, soon);
    fail_test("Expected: %s.\n"
              "What came: %s: the connection is over%s.%s%s%s",
              expected, how_it_ended(channel->ending), state_of_programs(),
              about_the_rest(channel), case_line(), about_the_network());
}

/* ------------------------------------------------------- messages that come */

static const char *kept_bytes(const void *bytes, size_t length)
{
    char *copy = keep(length);
    if (length > 0)
        memcpy(copy, bytes, length);
    copy[length] = '\0';
    return copy;
}

static const char *string_member(const json_t *object, const char *key,
                                 size_t *length)
{
    const json_t *value = json_object_get(object, key);
    size_t unused;
    if (length == NULL)
        length = &unused;
    *length = 0;
    if (!json_is_string(value))
        return NULL;
    *length = json_string_length(value);
    return kept_bytes(json_string_value(value), *length);
}

/* A guess at why this payload is no JSON. */
static const char *about_bad_json(const struct channel *channel,
                                  const char *payload, size_t length)
{
    const char *nul = memchr(payload, '\0', length);
    if (nul != NULL && nul == payload + length - 1) {
        usual_cause(WRONG_LENGTH);
        return " The payload ends with a NUL: the one that ends a string in "
               "C was counted and sent.";
    }
    if (nul != NULL)
        return " There is a NUL in it, which in JSON has to be written as "
               "\\u0000.";
    if (channel->framing == BY_LINE && length < 3)
        return " A JSON text that goes over several lines is several frames "
               "here.";
    json_t *beginning = json_loadb(
        payload, length, JSON_ALLOW_NUL | JSON_DISABLE_EOF_CHECK, NULL);
    bool is_whole = beginning != NULL;
    json_decref(beginning);
    if (is_whole && channel->framing == BY_LENGTH) {
        usual_cause(WRONG_LENGTH);
        return " The JSON text ends before the frame does.";
    }
    if (is_whole)
        return " Something stands behind the JSON text.";
    if (payload[0] == '{' && payload[length - 1] != '}')
        return " The frame ends before the JSON text does.";
    return "";
}

/* Reads the payload as a message; fails when it is none. */
static void read_message(struct channel *channel, const char *payload,
                         size_t length, struct message *message,
                         const char *expected)
{
    json_error_t error;
    json_t *json = json_loadb(payload, length, JSON_ALLOW_NUL, &error);
    *message = (struct message){.shown = quoted(payload, length),
                                .members = -1};
    if (json == NULL)
        fail_test("Expected: %s.\n"
                  "What came: a frame of %s, that is no JSON object in "
                  "UTF-8: %s (byte %d).%s%s",
                  expected, message->shown, error.text, error.position,
                  about_bad_json(channel, payload, length), case_line());
    message->type = string_member(json, "type", NULL);
    message->name = string_member(json, "name", &message->name_length);
    message->text = string_member(json, "text", &message->text_length);
    message->reason = string_member(json, "reason", NULL);
    const json_t *members = json_object_get(json, "members");
    if (json_is_integer(members))
        message->members = json_integer_value(members);
    else if (json_is_real(members))
        message->members = (long long)json_real_value(members);
    bool is_object = json_is_object(json);
    json_decref(json);
    if (!is_object || message->type == NULL)
        fail_test("Expected: %s.\n"
                  "What came: %s, which is no JSON object with a string "
                  "member `type`.%s",
                  expected, message->shown, case_line());
}

bool next_message(struct channel *channel, struct message *message,
                  const char *expected)
{
    const char *payload;
    size_t length;
    for (;;) {
        switch (await_frame(channel, patience(), expected, &payload, &length)) {
        case THE_END:
            note("received %s", how_it_ended(channel->ending));
            return false;
        case NOTHING:
            fail_nothing(channel, expected, patience());
        case A_FRAME:
            break;
        }
        read_message(channel, payload, length, message, expected);
        take_frame(channel, length);
        note("received %s", message->shown);
        if (++channel->messages > MOST_MESSAGES)
            fail_test("Expected: %s.\n"
                      "What came: %s, and before it %d messages more. They "
                      "have no end.%s",
                      expected, message->shown, MOST_MESSAGES, case_line());
        if (!channel->is_server || strcmp(message->type, "ping") != 0)
            return true;
        /* A client may ask at any time whether anybody is there. */
        send_message(channel, "{\"type\":\"pong\"}");
    }
}

/* The next message, which must be of this type, in full. */
static struct message expect_type(struct channel *channel, const char *type,
                                  const char *expected)
{
    struct message message;
    bool after_error = channel->last_was_error;
    if (!next_message(channel, &message, expected))
        fail_end(channel, expected);
    bool is_error = strcmp(message.type, "error") == 0;
    channel->last_was_error = is_error;
    if (strcmp(message.type, type) != 0)
        fail_test("Expected: %s.\n"
                  "What came: %s%s%s",
                  expected, message.shown,
                  is_error && after_error
                      ? "\nThat is the second error in a row: what was wrong "
                        "before had got its answer already."
                      : "",
                  case_line());
    return message;
}

static void compare_string(const char *what, const char *expected,
                           size_t expected_length, const char *came,
                           size_t came_length, const struct message *message)
{
    if (came == NULL)
        fail_test("Expected: %s is the string %s.\n"
                  "There is no such string in %s%s",
                  what, quoted(expected, expected_length), message->shown,
                  case_line());
    if (came_length == expected_length &&
        memcmp(came, expected, expected_length) == 0)
        return;
    if (trying[0] != '\0')
        note("here it went wrong, with %s", trying);
    fail_difference(what, expected, expected_length, came, came_length,
                    STILL_OPEN);
}

void expect_pong(struct channel *channel)
{
    expect_type(channel, "pong", "the answer to the ping, {\"type\":\"pong\"}");
}

void expect_alive(struct channel *channel)
{
    send_message(channel, ping);
    expect_pong(channel);
}

void expect_error(struct channel *channel)
{
    struct message message = expect_type(
        channel, "error", "one {\"type\":\"error\",\"reason\":\"...\"}");
    if (message.reason == NULL || message.reason[0] == '\0')
        fail_test("Expected: an error says why, in a string member "
                  "`reason`.\nWhat came: %s%s",
                  message.shown, case_line());
}

void expect_welcome(struct channel *channel, const char *name, int members)
{
    const char *expected = text_of("the answer to the join, %s",
                                   welcome(name, members));
    struct message message = expect_type(channel, "welcome", expected);
    compare_string("the name in the welcome", name, strlen(name), message.name,
                   message.name_length, &message);
    if (message.members != members)
        fail_test("Expected: a welcome that says that %d %s in the room, the "
                  "new one counted in.\nWhat came: %s%s",
                  members, members == 1 ? "member is" : "members are",
                  message.shown, case_line());
}

void expect_said_bytes(struct channel *channel, const char *name,
                       const void *text, size_t length)
{
    const char *expected = text_of("a said with the text %s",
                                   quoted(text, length));
    struct message message = expect_type(channel, "said", expected);
    compare_string("the name of who said it", name, strlen(name), message.name,
                   message.name_length, &message);
    compare_string("the text of the said", text, length, message.text,
                   message.text_length, &message);
}

void expect_said(struct channel *channel, const char *name, const char *text)
{
    expect_said_bytes(channel, name, text, strlen(text));
}

void expect_join(struct channel *channel, const char *name)
{
    struct message message = expect_type(
        channel, "join", text_of("the client begins with %s", join_as(name)));
    compare_string("the name in the join", name, strlen(name), message.name,
                   message.name_length, &message);
}

void expect_say_bytes(struct channel *channel, const void *text, size_t length)
{
    const char *expected = text_of("the line that was typed comes as a say "
                                   "with the text %s",
                                   quoted(text, length));
    struct message message = expect_type(channel, "say", expected);
    compare_string("the text of the say", text, length, message.text,
                   message.text_length, &message);
}

void expect_say(struct channel *channel, const char *text)
{
    expect_say_bytes(channel, text, strlen(text));
}

bool expect_either(struct channel *channel, const char *type)
{
    struct message message;
    const char *expected = text_of("one answer, a %s or an error", type);
    if (!next_message(channel, &message, expected))
        fail_end(channel, expected);
    bool is_error = strcmp(message.type, "error") == 0;
    channel->last_was_error = is_error;
    if (!is_error && strcmp(message.type, type) != 0)
        fail_test("Expected: %s.\n"
                  "What came: %s%s",
                  expected, message.shown, case_line());
    return !is_error;
}

void expect_end(struct channel *channel, int how)
{
    const char *expected =
        channel->is_server ? "end of file: the client ends its side"
                           : "end of file: the server closes the connection";
    /* A program may take its time over the end: up to 5 s after an error. */
    double seconds = patience() > 5 ? patience() + 2 : 7;
    const char *payload;
    size_t length;
    bool error_may_come = (how & ERROR_MAY_COME) != 0;
    for (;;) {
        enum arrival arrival = await_frame(channel, seconds, expected, &payload,
                                           &length);
        if (arrival == NOTHING)
            fail_nothing(channel, expected, seconds);
        if (arrival == THE_END)
            break;
        struct message message;
        read_message(channel, payload, length, &message, expected);
        take_frame(channel, length);
        note("received %s", message.shown);
        if (!error_may_come || strcmp(message.type, "error") != 0)
            fail_test("Expected: nothing more, and the end of the "
                      "connection.\nWhat came: %s%s",
                      message.shown, case_line());
        error_may_come = false;
    }
    size_t have;
    const char *rest = untaken(channel, &have);
    if (have > 0)
        fail_test("Expected: only whole frames, then the end of the "
                  "connection.\nWhat came: %s, then %s.%s%s",
                  quoted(rest, have), how_it_ended(channel->ending),
                  about_the_rest(channel), case_line());
    if (channel->ending == RESET && (how & END_OF_FILE_ONLY) != 0)
        fail_end(channel, expected);
    if (channel->ending == CUT_OFF && !may_cut_off()) {
        usual_cause(CUT_OFF_CAUSE);
        fail_test("Expected: %s, and says so with close_notify.\n"
                  "What came: the end of TCP without close_notify%s.%s",
                  expected, state_of_programs(), case_line());
    }
    note("received %s", how_it_ended(channel->ending));
}

void expect_quiet(struct channel *channel, double seconds)
{
    double until = moment_in(seconds);
    while (now() < until && channel->ending == STILL_OPEN &&
           channel->came.length == channel->taken) {
        if (!take_in(channel))
            wait_for(channel, POLLIN, until);
    }
    if (channel->came.length > channel->taken) {
        let_it_settle(channel);
        size_t have;
        const char *bytes = untaken(channel, &have);
        fail_test("Expected: nothing more comes.\n"
                  "What came: %s%s",
                  quoted(bytes, have), case_line());
    }
    if (channel->ending != STILL_OPEN)
        fail_end(channel, "the connection stays open");
    note("received nothing more for %.0f ms", seconds * 1e3);
}

bool ends_within(struct channel *channel, double seconds)
{
    double until = moment_in(seconds);
    while (now() < until && channel->ending == STILL_OPEN) {
        if (!take_in(channel))
            wait_for(channel, POLLIN, until);
    }
    return channel->ending != STILL_OPEN;
}

bool breaks_within(struct channel *channel, double seconds)
{
    double until = moment_in(seconds);
    while (now() < until) {
        /* A reset is reported without being asked for. */
        if (wait_on(descriptor_of(channel->peer), 0, until) != 0)
            return true;
    }
    return false;
}

bool was_reset(const struct channel *channel)
{
    return channel->ending == RESET;
}

/* -------------------------------------------------- without any waiting */

ssize_t send_at_once(struct channel *channel, const void *bytes, size_t length)
{
    ssize_t sent = transmit(channel, bytes, length);
    return sent == -2 ? -1 : sent < 0 ? 0 : sent;
}

size_t take_payloads(struct channel *channel, take_payload *take, void *context,
                     size_t most)
{
    const char *payload;
    size_t length;
    size_t count = 0;
    while (count < most &&
           await_frame(channel, 0, "a message", &payload, &length) == A_FRAME) {
        take(context, payload, length);
        take_frame(channel, length);
        count++;
    }
    return count;
}

void judge_payload(struct channel *channel, const char *payload, size_t length)
{
    struct message message;
    read_message(channel, payload, length, &message, "a message");
}

const char *unfinished_frame(struct channel *channel)
{
    return about_the_rest(channel);
}

bool channel_is_over(const struct channel *channel)
{
    return channel->ending != STILL_OPEN;
}

int channel_descriptor(const struct channel *channel)
{
    return descriptor_of(channel->peer);
}

short channel_events(const struct channel *channel, short events)
{
    return events_for_peer(channel->peer, events);
}

/* ------------------------------------------------------------ observation */

static unsigned port_in(const struct sockaddr_storage *address)
{
    const void *any = address;
    const struct sockaddr_in6 *v6 = any;
    const struct sockaddr_in *v4 = any;
    return ntohs(address->ss_family == AF_INET6 ? v6->sin6_port : v4->sin_port);
}

/* What waits at the other end of an IPv4 connection. */
static void look_at_queues(struct channel *channel, unsigned long queues[2])
{
    struct sockaddr_storage here, there;
    socklen_t size = sizeof here;
    int descriptor = descriptor_of(channel->peer);
    queues[0] = queues[1] = 0;
    if (getsockname(descriptor, (struct sockaddr *)&here, &size) < 0)
        return;
    size = sizeof there;
    if (getpeername(descriptor, (struct sockaddr *)&there, &size) < 0)
        return;
    FILE *file = fopen("/proc/net/tcp", "r");
    char line[300];
    unsigned local, remote;
    unsigned long to_send, to_read;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, " %*d: %*8x:%x %*8x:%x %*x %lx:%lx", &local, &remote,
                   &to_send, &to_read) == 4 &&
            local == port_in(&there) && remote == port_in(&here)) {
            queues[0] = to_send;
            queues[1] = to_read;
        }
    }
    if (file != NULL)
        fclose(file);
}

bool moves_within(struct channel *channel, double seconds)
{
    unsigned long first[2], then[2];
    double until = moment_in(seconds);
    look_at_queues(channel, first);
    while (now() < until) {
        let_pass(0.02);
        look_at_queues(channel, then);
        if (then[0] != first[0] || then[1] != first[1])
            return true;
    }
    return false;
}

size_t greatest_address_space(struct program *program)
{
    pid_t members[64];
    char states[64];
    size_t count = members_of_group(program->pid, members, states, 64);
    size_t greatest = 0;
    for (size_t i = 0; i < count; i++) {
        FILE *file = fopen(text_of("/proc/%d/status", (int)members[i]), "r");
        char line[200];
        size_t kilobytes;
        while (file != NULL && fgets(line, sizeof line, file) != NULL) {
            if (sscanf(line, "VmPeak: %zu", &kilobytes) == 1 &&
                kilobytes << 10 > greatest)
                greatest = kilobytes << 10;
        }
        if (file != NULL)
            fclose(file);
    }
    return greatest;
}

double share_of_time_busy(struct program *program, double seconds)
{
    double until = moment_in(seconds);
    size_t looks = 0, busy = 0;
    while (now() < until) {
        let_pass(0.01);
        looks++;
        busy += group_is_busy(program->pid);
    }
    return looks == 0 ? 0 : (double)busy / (double)looks;
}

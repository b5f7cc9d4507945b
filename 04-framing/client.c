/*
 * client.c - a member of the room: says what you type, prints what is said.
 *
 * New in this lesson: the client speaks in messages. It sends one, and then
 * reads frames until its answer is among them, however the network cut them.
 * While it waits for you to type, it prints nothing; lesson 05 mends that.
 *
 * Run it, with this lesson's server in another terminal:
 *
 *     make
 *     ./client -n ada 127.0.0.1 7777
 */
#define _POSIX_C_SOURCE 200809L

#include "line.h"
#include "message.h"
#include "net.h"
#include "utf8.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The way to the server, and what has come from it and not been read. */
struct connection {
    int socket;
    const struct framing *framing;
    char bytes[FRAME_MAX];
    size_t length;
};

/* Says on standard error what failed, and why. Always returns 1, the exit
 * status of a program that failed. */
static int failed(const char *step, const char *why)
{
    fprintf(stderr, "client: %s: %s\n", step, why);
    return 1;
}

/* -------------------------------------------------------------- what we see */

/*
 * Prints a name or a text that came from the network. Control characters are
 * shown as `\u{1B}`: sent to a terminal they could clear it, set its title or
 * make it type. Whoever may write on your screen may do that.
 */
static void print_text(const char *text, size_t length)
{
    struct utf8_decoder decoder = {0};
    uint32_t code_points[2];
    char bytes[UTF8_SIZE];
    for (size_t i = 0; i < length; i++) {
        /* jansson has checked that it is UTF-8: at most one at a time. */
        if (utf8_decode(&decoder, (unsigned char)text[i], code_points) == 0)
            continue;
        uint32_t code_point = code_points[0];
        if (code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0))
            printf("\\u{%lX}", (unsigned long)code_point);
        else
            fwrite(bytes, 1, utf8_encode(code_point, bytes), stdout);
    }
}

/* Prints one event, a line. Returns 0, or -1 when that failed; then errno
 * says why. */
static int print_event(const struct message *event)
{
    switch (event->type) {
    case MESSAGE_WELCOME:
        printf("* you are ");
        print_text(event->name, event->name_length);
        printf(" (%" JSON_INTEGER_FORMAT " in the room)\n", event->members);
        break;
    case MESSAGE_JOINED:
    case MESSAGE_LEFT:
        printf("* ");
        print_text(event->name, event->name_length);
        printf(event->type == MESSAGE_JOINED ? " joined\n" : " left\n");
        break;
    case MESSAGE_SAID:
        print_text(event->name, event->name_length);
        printf(": ");
        print_text(event->text, event->text_length);
        printf("\n");
        break;
    case MESSAGE_ERROR:
        printf("! ");
        print_text(event->text, event->text_length);
        printf("\n");
        break;
    default: /* a pong, or what only clients say: nothing to see */
        break;
    }
    /* In a pipe, too, an event is to be seen when it happens. */
    return fflush(stdout) == EOF || ferror(stdout) ? -1 : 0;
}

/* --------------------------------------------------------- messages out, in */

static int send_message(const struct connection *connection,
                        const struct message *message)
{
    static char payload[PAYLOAD_MAX], frame[FRAME_MAX];
    size_t length = message_write(message, payload);
    if (length == 0) {
        errno = EMSGSIZE;
        return -1;
    }
    length = connection->framing->write(payload, length, frame);
    return send_all(connection->socket, frame, length);
}

/* How the wait for a message ended. */
enum receipt { RECEIVED, SERVER_CLOSED, RECEIVE_FAILED };

/*
 * Waits for the next message, prints it, and hands it over; the caller frees
 * it. A payload that we do not understand is passed over: a later server may
 * know messages that we do not. Failures are told here.
 */
static enum receipt receive_message(struct connection *connection,
                                    struct message *message)
{
    for (;;) {
        struct frame frame;
        enum frame_result result = connection->framing->read(
            connection->bytes, connection->length, &frame);
        if (result == FRAME_IMPOSSIBLE) {
            failed("receive from the server", "a frame of impossible length");
            return RECEIVE_FAILED;
        }
        if (result == FRAME_WHOLE) {
            const char *problem = message_read(frame.payload, frame.length,
                                               message);
            connection->length -= frame.size;
            memmove(connection->bytes, connection->bytes + frame.size,
                    connection->length);
            if (problem != NULL)
                continue;
            if (print_event(message) == 0)
                return RECEIVED;
            failed("write standard output", strerror(errno));
            message_free(message);
            return RECEIVE_FAILED;
        }
        ssize_t came = receive(connection->socket,
                               connection->bytes + connection->length,
                               sizeof connection->bytes - connection->length);
        if (came == 0)
            return SERVER_CLOSED;
        if (came == -1) {
            failed("receive from the server", strerror(errno));
            return RECEIVE_FAILED;
        }
        connection->length += (size_t)came;
    }
}

/* The same, where the server has no reason to close: that it did is told
 * too. Returns 0, or -1. */
static int await_message(struct connection *connection, struct message *message)
{
    enum receipt receipt = receive_message(connection, message);
    if (receipt == SERVER_CLOSED)
        failed("receive from the server", "it closed the connection");
    return receipt == RECEIVED ? 0 : -1;
}

/* --------------------------------------------------------- the conversation */

/*
 * Makes well-formed UTF-8 out of what was typed: JSON can carry nothing else.
 * Returns memory that the caller frees, or NULL; writes its length.
 */
static char *to_utf8(const char *typed, size_t typed_length, size_t *length)
{
    char *text = malloc(3 * typed_length + 1); /* U+FFFD takes three bytes */
    if (text == NULL)
        return NULL;
    struct utf8_decoder decoder = {0};
    uint32_t code_points[2];
    *length = 0;
    for (size_t i = 0; i < typed_length; i++) {
        int count = utf8_decode(&decoder, (unsigned char)typed[i], code_points);
        for (int k = 0; k < count; k++)
            *length += utf8_encode(code_points[k], text + *length);
    }
    if (utf8_finish(&decoder, code_points) == 1)
        *length += utf8_encode(code_points[0], text + *length);
    return text;
}

/*
 * Enters the room. Returns 0 and the welcome, which the caller frees, or -1
 * when the server refused us (that was printed) or the connection broke (that
 * was told).
 */
static int join(struct connection *connection, const char *name, size_t length,
                struct message *welcome)
{
    struct message request = {
        .type = MESSAGE_JOIN, .name = name, .name_length = length};
    if (send_message(connection, &request) == -1) {
        failed("join", strerror(errno));
        return -1;
    }
    while (await_message(connection, welcome) == 0) {
        if (welcome->type == MESSAGE_WELCOME)
            return 0;
        bool refused = welcome->type == MESSAGE_ERROR;
        message_free(welcome);
        if (refused)
            return -1;
    }
    return -1;
}

/*
 * Waits for the answer to what we said: `said` with our own name, or an error.
 * What others do may come in between; no two members have the same name.
 * Returns 0, or -1 when the answer will not come; that is told.
 */
static int await_answer(struct connection *connection,
                        const struct message *welcome)
{
    bool answered = false;
    while (!answered) {
        struct message message;
        if (await_message(connection, &message) == -1)
            return -1;
        answered = message.type == MESSAGE_ERROR ||
                   (message.type == MESSAGE_SAID &&
                    message.name_length == welcome->name_length &&
                    memcmp(message.name, welcome->name, message.name_length) ==
                        0);
        message_free(&message);
    }
    return 0;
}

/* Says one typed line and waits for the answer. Returns 0, also when the line
 * was refused, or -1 when the conversation is over; that is told. */
static int say(struct connection *connection, const struct message *welcome,
               const char *typed, size_t typed_length)
{
    struct message request = {.type = MESSAGE_SAY};
    char *text = to_utf8(typed, typed_length, &request.text_length);
    if (text == NULL) {
        failed("say", strerror(errno));
        return -1;
    }
    request.text = text;
    int result = send_message(connection, &request);
    int error = errno;
    free(text);
    if (result == 0)
        return await_answer(connection, welcome);
    failed("say", strerror(error));
    return error == EMSGSIZE ? 0 : -1; /* too long: on to the next line */
}

/*
 * Says every line of standard input, ends our side, and prints what still
 * comes until the server ends its own. Returns the exit status.
 */
static int converse(struct connection *connection,
                    const struct message *welcome)
{
    char *line = NULL;
    size_t size = 0;
    int status = 1;
    ssize_t length;
    while ((length = getline(&line, &size, stdin)) != -1) {
        if (line[length - 1] == '\n')
            length--;
        if (length > 0 && say(connection, welcome, line, (size_t)length) == -1)
            goto done;
    }
    if (!feof(stdin)) {
        failed("read standard input", strerror(errno));
        goto done;
    }

    /* The half-close: the server sees that we are done, and we still see
     * everything that it has for us. */
    if (shutdown(connection->socket, SHUT_WR) == -1) {
        failed("end the conversation", strerror(errno));
        goto done;
    }
    struct message message;
    enum receipt receipt;
    while ((receipt = receive_message(connection, &message)) == RECEIVED)
        message_free(&message);
    if (receipt == SERVER_CLOSED)
        status = 0;
done:
    free(line);
    return status;
}

int main(int argc, char *argv[])
{
    double seconds = 5;
    int retries = 3;
    const struct framing *framing = framing_named("length");
    const char *login = NULL;
    int option;
    while ((option = getopt(argc, argv, "t:r:f:n:")) != -1) {
        if (option == 't')
            seconds = parse_seconds(optarg);
        else if (option == 'r')
            retries = parse_count(optarg);
        else if (option == 'f')
            framing = framing_named(optarg);
        else if (option == 'n')
            login = optarg;
        if (option == '?' || seconds <= 0 || retries < 0 || framing == NULL)
            goto usage;
    }
    if (argc - optind != 2 || !is_port(argv[optind + 1]))
        goto usage;

    if (login == NULL) {
        const struct passwd *user = getpwuid(getuid());
        if (user == NULL)
            return failed("find your login name", "choose one with -n NAME");
        login = user->pw_name;
    }
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return failed("ignore SIGPIPE", strerror(errno));
    srand((unsigned)getpid() ^ (unsigned)time(NULL)); /* for the pauses */

    size_t length;
    char *name = to_utf8(login, strlen(login), &length);
    if (name == NULL)
        return failed("keep the name", strerror(errno));
    int status = 1;
    static struct connection connection; /* too large for some stacks */
    char reason[REASON_SIZE];
    connection.framing = framing;
    connection.socket = connect_to(argv[optind], argv[optind + 1], seconds,
                                   retries, NULL, reason);
    if (connection.socket == -1) {
        fprintf(stderr, "client: %s\n", reason);
        goto done;
    }
    struct message welcome;
    if (join(&connection, name, length, &welcome) == 0) {
        status = converse(&connection, &welcome);
        message_free(&welcome);
    }
    close(connection.socket);
done:
    free(name);
    return status;

usage:
    fprintf(stderr, "usage: client [-f length|line] [-n NAME] [-t SECONDS] "
                    "[-r RETRIES] HOST PORT\n");
    return 2;
}

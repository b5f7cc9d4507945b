/*
 * client.c - a member of the room: says what you type, prints what is said.
 *
 * New in this lesson: the client speaks TLS, and only to a server whose
 * certificate it has verified. There is no option to leave that out: who needs
 * another CA names it.
 *
 * Run it, with this lesson's server in another terminal:
 *
 *     make
 *     ./certs.sh
 *     ./client -n ada 127.0.0.1 7777
 */
#define _POSIX_C_SOURCE 200809L

#include "connection.h"
#include "line.h"
#include "message.h"
#include "net.h"
#include "tls.h"
#include "utf8.h"

#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* While so much waits to be sent, nothing more is read from the keyboard. */
enum { QUEUE_ENOUGH = 64 * 1024 };

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

/* Queues a message. Returns 0, or -1 with errno set: EMSGSIZE when it does not
 * fit into a frame. */
static int send_message(struct connection *server,
                        const struct message *message)
{
    static char payload[PAYLOAD_MAX], frame[FRAME_MAX];
    size_t length = message_write(message, payload);
    if (length == 0) {
        errno = EMSGSIZE;
        return -1;
    }
    length = frame_write(payload, length, frame);
    return connection_queue(server, frame, length);
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
 * Says one line. Returns 0, also when it is one that cannot be said (that is
 * told), or -1 with errno set when nothing more can be said.
 */
static int say(struct connection *server, const char *typed,
               size_t typed_length)
{
    struct message request = {.type = MESSAGE_SAY};
    char *text = to_utf8(typed, typed_length, &request.text_length);
    if (text == NULL)
        return -1;
    request.text = text;
    int result = send_message(server, &request);
    int error = errno;
    free(text);
    if (result == -1 && error == EMSGSIZE) {
        failed("say", strerror(error));
        result = 0;
    }
    errno = error;
    return result;
}

/* ------------------------------------------------------------ the keyboard */

/* What was typed and is no whole line yet. */
struct keyboard {
    char bytes[PAYLOAD_MAX + 1];
    size_t length;
    bool too_long; /* it is the end of a line that was refused */
    bool ended;    /* standard input has ended */
};

/* Says every whole line that was typed. Returns 0, or -1 with errno set when
 * nothing more can be said. */
static int say_lines(struct keyboard *keyboard, struct connection *server)
{
    struct frame line;
    enum frame_result result;
    size_t used = 0;
    while ((result = line_read(keyboard->bytes + used, keyboard->length - used,
                               &line)) == FRAME_WHOLE) {
        if (line.length > 0 && !keyboard->too_long &&
            say(server, line.payload, line.length) == -1)
            return -1;
        keyboard->too_long = false;
        used += line.size;
    }
    if (result == FRAME_IMPOSSIBLE) {
        if (!keyboard->too_long)
            failed("say", "the line is too long");
        keyboard->too_long = true;
        used = keyboard->length;
    }
    keyboard->length -= used;
    memmove(keyboard->bytes, keyboard->bytes + used, keyboard->length);
    return 0;
}

/* Reads what was typed, and says it. Returns 0, or -1 when that failed; that is
 * told. */
static int read_keyboard(struct keyboard *keyboard, struct connection *server)
{
    ssize_t came = read(STDIN_FILENO, keyboard->bytes + keyboard->length,
                        sizeof keyboard->bytes - keyboard->length);
    if (came == -1 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (came == -1) {
        failed("read standard input", strerror(errno));
        return -1;
    }
    keyboard->length += (size_t)came;
    /* The last line may have no newline. There is room for one: a full buffer
     * without a newline has been refused already. */
    if (came == 0 && keyboard->length > 0)
        keyboard->bytes[keyboard->length++] = '\n';
    if (say_lines(keyboard, server) == -1) {
        failed("say", strerror(errno));
        return -1;
    }
    if (came == 0) {
        /* The half-close, when all is sent: the server sees that we are done,
         * and we still see everything that it has for us. */
        keyboard->ended = true;
        connection_end(server);
    }
    return 0;
}

/* ------------------------------------------------------------- the network */

/* Ends our side before the conversation is over. A server that gets no
 * close_notify must think that somebody has cut the connection. So that is
 * waited for, but no longer than a second. */
static void take_leave(struct connection *server)
{
    double until = now() + 1;
    connection_end(server);
    while (connection_flush(server) == 0 && !server->ended &&
           wait_until(server->socket, server->send_waits_for, until) == 0)
        connection_ready(server, server->send_waits_for);
}

/*
 * Receives what has come, and prints it. A payload that we do not understand
 * is passed over: a later server may know messages that we do not.
 * Returns 0, or -1 when the conversation is over: the server has refused us
 * (that was printed) or something failed (that is told).
 */
static int hear(struct connection *server, bool *welcome)
{
    ssize_t came = connection_receive(server);
    if (came == -1 && errno != EAGAIN) {
        failed("receive from the server", errno == ECONNRESET
                                              ? "the connection was cut off"
                                              : strerror(errno));
        return -1;
    }
    if (came <= 0)
        return 0;
    struct frame frame;
    enum frame_result result;
    while ((result = connection_next(server, &frame)) == FRAME_WHOLE) {
        struct message message;
        if (message_read(frame.payload, frame.length, &message) != NULL)
            continue;
        bool refused = message.type == MESSAGE_ERROR && !*welcome;
        if (message.type == MESSAGE_WELCOME)
            *welcome = true;
        int printed = print_event(&message);
        message_free(&message);
        if (printed == -1)
            failed("write standard output", strerror(errno));
        if (printed == -1 || refused) {
            take_leave(server);
            return -1;
        }
    }
    if (result == FRAME_IMPOSSIBLE) {
        failed("receive from the server", "a frame of impossible length");
        take_leave(server);
        return -1;
    }
    return 0;
}

/* --------------------------------------------------------- the conversation */

/*
 * Says what is typed and prints what is said, until the server ends the
 * conversation. A join is queued already, and nothing is read from the keyboard
 * before it was answered. Returns the exit status.
 */
static int converse(struct connection *server)
{
    static struct keyboard keyboard; /* too large for some stacks */
    bool welcome = false;
    while (!server->peer_ended) {
        /* When a send or the end of our side was refused, the server may have
         * broken off, and its reason may be there to be read: hear() tells. */
        if (connection_flush(server) == -1 && errno != EPIPE &&
            errno != ECONNRESET && errno != ENOTCONN)
            return failed("send to the server", strerror(errno));

        bool listen_to_keyboard = welcome && !keyboard.ended &&
                                  server->queued < QUEUE_ENOUGH;
        struct pollfd wanted[2] = {
            {.fd = server->socket, .events = connection_events(server)},
            {.fd = listen_to_keyboard ? STDIN_FILENO : -1, .events = POLLIN}};
        if (poll(wanted, 2, server->more ? 0 : -1) == -1) {
            if (errno == EINTR)
                continue;
            return failed("wait", strerror(errno));
        }
        if (connection_ready(server, wanted[0].revents) &&
            hear(server, &welcome) == -1)
            return 1;
        if (wanted[1].revents != 0 && read_keyboard(&keyboard, server) == -1) {
            take_leave(server);
            return 1;
        }
    }
    if (keyboard.ended && server->ended)
        return 0;
    take_leave(server);
    return failed("receive from the server", "it closed the connection");
}

int main(int argc, char *argv[])
{
    double seconds = 5;
    int retries = 3;
    const char *login = NULL;
    const char *ca_file = "certs/ca.pem";
    int option;
    while ((option = getopt(argc, argv, "t:r:n:C:")) != -1) {
        if (option == 't')
            seconds = parse_seconds(optarg);
        else if (option == 'r')
            retries = parse_count(optarg);
        else if (option == 'n')
            login = optarg;
        else if (option == 'C')
            ca_file = optarg;
        if (option == '?' || seconds <= 0 || retries < 0)
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
    char reason[REASON_SIZE];
    struct tls_client tls = {.host = argv[optind]};
    struct greeting greeting = {tls_greet, &tls};
    tls.context = tls_client_context(ca_file, reason);
    if (tls.context == NULL) {
        fprintf(stderr, "client: %s\n", reason);
        goto done;
    }
    int socket = connect_to(argv[optind], argv[optind + 1], seconds, retries,
                            &greeting, reason);
    if (socket == -1) {
        fprintf(stderr, "client: %s\n", reason);
        goto done;
    }
    struct connection server;
    if (connection_open(&server, socket) == -1) {
        failed("use the connection", strerror(errno));
        SSL_free(tls.session);
        goto done;
    }
    if (tls_adopt(&server, &tls) == -1) {
        failed("use the connection", strerror(ENOMEM));
        connection_close(&server);
        goto done;
    }
    struct message join = {
        .type = MESSAGE_JOIN, .name = name, .name_length = length};
    if (send_message(&server, &join) == 0)
        status = converse(&server);
    else
        failed("join", strerror(errno));
    connection_close(&server);
done:
    SSL_CTX_free(tls.context);
    free(name);
    return status;

usage:
    fprintf(stderr, "usage: client [-n NAME] [-t SECONDS] [-r RETRIES] "
                    "[-C CAFILE] HOST PORT\n");
    return 2;
}

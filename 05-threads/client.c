/*
 * client.c - a member of the room: says what you type, prints what is said.
 *
 * New in this lesson: two threads. One waits for the keyboard and sends, one
 * waits for the network and prints, so what others say appears while you type.
 * They share the socket, which the kernel lets one send on while the other
 * receives, and nothing else; so there is no lock.
 *
 * Run it, with this lesson's server in another terminal:
 *
 *     make
 *     ./client -n ada 127.0.0.1 7777
 */
#define _POSIX_C_SOURCE 200809L

#include "frame.h"
#include "line.h"
#include "message.h"
#include "net.h"
#include "utf8.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
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

static int send_message(int socket, const struct message *message)
{
    static char payload[PAYLOAD_MAX], frame[FRAME_MAX];
    size_t length = message_write(message, payload);
    if (length == 0) {
        errno = EMSGSIZE;
        return -1;
    }
    length = frame_write(payload, length, frame);
    return send_all(socket, frame, length);
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
        enum frame_result result = frame_read(connection->bytes,
                                              connection->length, &frame);
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
 * Enters the room. Returns 0, or -1 when the server refused us (that was
 * printed) or the connection broke (that was told).
 */
static int join(struct connection *connection, const char *name, size_t length)
{
    struct message request = {
        .type = MESSAGE_JOIN, .name = name, .name_length = length};
    if (send_message(connection->socket, &request) == -1) {
        failed("join", strerror(errno));
        return -1;
    }
    struct message answer;
    enum receipt receipt;
    while ((receipt = receive_message(connection, &answer)) == RECEIVED) {
        enum message_type type = answer.type;
        message_free(&answer);
        if (type == MESSAGE_WELCOME)
            return 0;
        if (type == MESSAGE_ERROR)
            return -1;
    }
    if (receipt == SERVER_CLOSED)
        failed("join", "the server closed the connection");
    return -1;
}

/*
 * Says one line. Returns 0, also when it is one that cannot be said (that is
 * told), or -1 with errno set when nothing more can be said.
 */
static int say(int socket, const char *typed, size_t typed_length)
{
    struct message request = {.type = MESSAGE_SAY};
    char *text = to_utf8(typed, typed_length, &request.text_length);
    if (text == NULL)
        return -1;
    request.text = text;
    int result = send_message(socket, &request);
    int error = errno;
    free(text);
    if (result == -1 && error == EMSGSIZE) {
        failed("say", strerror(error));
        result = 0;
    }
    errno = error;
    return result;
}

/* --------------------------------------------------- the keyboard's thread */

/*
 * What the two threads know of each other. The main thread looks at
 * `all_is_said` when the other has ended, so there is still no lock.
 */
struct keyboard {
    int socket;
    int stop;         /* a pipe; its end of file says: no more typing */
    bool all_is_said; /* standard input has ended, and all was sent */
    bool failed;      /* it could not be read or said, and that was told */

    /* What was typed and is no whole line yet. */
    char bytes[PAYLOAD_MAX + 1];
    size_t length;
    bool too_long; /* it is the end of a line that was refused */
};

/* Says every whole line that was typed. Returns 0, or -1 with errno set when
 * nothing more can be said. */
static int say_lines(struct keyboard *keyboard)
{
    struct frame line;
    enum frame_result result;
    size_t used = 0;
    while ((result = line_read(keyboard->bytes + used, keyboard->length - used,
                               &line)) == FRAME_WHOLE) {
        if (line.length > 0 && !keyboard->too_long &&
            say(keyboard->socket, line.payload, line.length) == -1)
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

/*
 * Waits until something can be read from standard input, or until the main
 * thread has closed its end of the pipe: read alone would wait for the next
 * line when the conversation is long over. Returns whether to read.
 */
static bool may_read(const struct keyboard *keyboard)
{
    struct pollfd wanted[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = keyboard->stop, .events = POLLIN}};
    while (poll(wanted, 2, -1) == -1)
        if (errno != EINTR)
            return true; /* read will say what is wrong */
    return wanted[1].revents == 0;
}

static void *say_what_is_typed(void *argument)
{
    struct keyboard *keyboard = argument;
    while (may_read(keyboard)) {
        ssize_t came = read(STDIN_FILENO, keyboard->bytes + keyboard->length,
                            sizeof keyboard->bytes - keyboard->length);
        if (came == -1 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (came == -1) {
            failed("read standard input", strerror(errno));
            keyboard->failed = true;
            break;
        }
        keyboard->length += (size_t)came;
        /* The last line may have no newline. There is room for one: a full
         * buffer without a newline has been refused already. */
        if (came == 0 && keyboard->length > 0)
            keyboard->bytes[keyboard->length++] = '\n';
        if (say_lines(keyboard) == -1) {
            /* A connection that broke: the main thread sees that as well, and
             * tells it. */
            if (errno != EPIPE && errno != ECONNRESET) {
                failed("say", strerror(errno));
                keyboard->failed = true;
            }
            break;
        }
        if (came == 0) {
            keyboard->all_is_said = true;
            break;
        }
    }
    /* The half-close: the server sees that we are done, and we still see
     * everything that it has for us. If it fails, the connection is over. */
    shutdown(keyboard->socket, SHUT_WR);
    return NULL;
}

/* ------------------------------------------------------------- both of them */

/* Says what is typed and prints what is said, until the server ends the
 * conversation. Returns the exit status. */
static int converse(struct connection *connection)
{
    static struct keyboard keyboard;
    int status = 1;
    int stop[2];
    if (pipe(stop) == -1)
        return failed("make a pipe", strerror(errno));
    keyboard.socket = connection->socket;
    keyboard.stop = stop[0];

    pthread_t thread;
    int error = pthread_create(&thread, NULL, say_what_is_typed, &keyboard);
    if (error != 0) {
        failed("start a thread for the keyboard", strerror(error));
        close(stop[1]);
        goto done;
    }
    struct message message;
    enum receipt receipt;
    while ((receipt = receive_message(connection, &message)) == RECEIVED)
        message_free(&message);

    /* The other thread may wait in poll or in send. Neither goes on waiting. */
    close(stop[1]);
    shutdown(connection->socket, SHUT_RDWR);
    pthread_join(thread, NULL);
    if (receipt == SERVER_CLOSED && keyboard.all_is_said)
        status = 0;
    else if (receipt == SERVER_CLOSED && !keyboard.failed)
        failed("receive from the server", "it closed the connection");
done:
    close(stop[0]);
    return status;
}

int main(int argc, char *argv[])
{
    double seconds = 5;
    int retries = 3;
    const char *login = NULL;
    int option;
    while ((option = getopt(argc, argv, "t:r:n:")) != -1) {
        if (option == 't')
            seconds = parse_seconds(optarg);
        else if (option == 'r')
            retries = parse_count(optarg);
        else if (option == 'n')
            login = optarg;
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
    static struct connection connection; /* too large for some stacks */
    char reason[REASON_SIZE];
    connection.socket = connect_to(argv[optind], argv[optind + 1], seconds,
                                   retries, NULL, reason);
    if (connection.socket == -1) {
        fprintf(stderr, "client: %s\n", reason);
        goto done;
    }
    if (join(&connection, name, length) == 0)
        status = converse(&connection);
    close(connection.socket);
done:
    free(name);
    return status;

usage:
    fprintf(stderr, "usage: client [-n NAME] [-t SECONDS] [-r RETRIES] "
                    "HOST PORT\n");
    return 2;
}

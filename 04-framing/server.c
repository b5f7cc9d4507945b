/*
 * server.c - a chat room for one: join it, say something, hear yourself.
 *
 * New in this lesson: messages. TCP carries a stream of bytes, and a recv may
 * return half a message or three and a half. So the server keeps what has come
 * until it holds a whole frame (frame.c, line.c), reads what is in it
 * (message.c), and answers. What is wrong inside a frame costs that message;
 * what is wrong with the frame itself costs the connection.
 *
 * The room holds one member, because this server serves one connection at a
 * time. Lesson 05 opens it to everybody, with the same messages.
 *
 * Run it:
 *
 *     make
 *     ./server                         in one terminal
 *     ./client -n ada 127.0.0.1 7777   in another
 *
 * With `-f line` on both sides every message is a line, and one can be the
 * client oneself: nc 127.0.0.1 7777, then {"type":"ping"}
 */
#define _POSIX_C_SOURCE 200809L

#include "line.h"
#include "message.h"
#include "net.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* How long a connection that we end first stays open for reading. */
#define LAST_WORDS_SECONDS 1.5

/* The connection that is being served, and the member behind it. */
struct client {
    int socket;
    char address[NAME_SIZE]; /* for messages to the operator */
    bool joined;
    char name[4 * NAME_MAX_CODE_POINTS]; /* no C string */
    size_t name_length;
};

/* Sends one message in a frame. Returns 0, or -1 with errno set. */
static int send_message(const struct client *client,
                        const struct framing *framing,
                        const struct message *message)
{
    static char payload[PAYLOAD_MAX], frame[FRAME_MAX];
    size_t length = message_write(message, payload);
    if (length == 0) { /* every message of ours fits: memory must be out */
        errno = ENOMEM;
        return -1;
    }
    length = framing->write(payload, length, frame);
    return send_all(client->socket, frame, length);
}

static int send_error(const struct client *client,
                      const struct framing *framing, const char *reason)
{
    struct message error = {
        .type = MESSAGE_ERROR, .text = reason, .text_length = strlen(reason)};
    return send_message(client, framing, &error);
}

static int join(struct client *client, const struct framing *framing,
                const struct message *request)
{
    if (client->joined)
        return send_error(client, framing, "you have joined already");
    client->joined = true;
    /* The name fits: message_check_request() has counted its code points. */
    memcpy(client->name, request->name, request->name_length);
    client->name_length = request->name_length;
    struct message welcome = {.type = MESSAGE_WELCOME,
                              .name = client->name,
                              .name_length = client->name_length,
                              .members = 1};
    return send_message(client, framing, &welcome);
}

static int say(const struct client *client, const struct framing *framing,
               const struct message *request)
{
    if (!client->joined)
        return send_error(client, framing, "join before you say something");
    struct message said = {.type = MESSAGE_SAID,
                           .name = client->name,
                           .name_length = client->name_length,
                           .text = request->text,
                           .text_length = request->text_length};
    return send_message(client, framing, &said);
}

/*
 * Answers the request in one frame. Whatever is wrong with it, it gets exactly
 * one answer, and the next frame begins where this one ends.
 * Returns 0, or -1 with errno set when the answer could not be sent.
 */
static int answer(struct client *client, const struct framing *framing,
                  const struct frame *frame)
{
    struct message request;
    const char *problem = message_read(frame->payload, frame->length, &request);
    if (problem != NULL)
        return send_error(client, framing, problem);

    int result;
    problem = message_check_request(&request);
    if (problem != NULL)
        result = send_error(client, framing, problem);
    else if (request.type == MESSAGE_JOIN)
        result = join(client, framing, &request);
    else if (request.type == MESSAGE_SAY)
        result = say(client, framing, &request);
    else
        result = send_message(client, framing,
                              &(struct message){.type = MESSAGE_PONG});
    message_free(&request);
    return result;
}

/*
 * Ends a connection so that the client can read our last words.
 *
 * close on a socket with bytes that nobody has received, or that still come,
 * makes the kernel answer with a reset, and a reset throws away what the other
 * side has not read yet: our error message. So we end our side with a FIN and
 * throw away what comes, until the client closes too, but not for ever.
 */
static void let_client_read(const struct client *client)
{
    double deadline = now() + LAST_WORDS_SECONDS;
    if (shutdown(client->socket, SHUT_WR) == -1 ||
        set_nonblocking(client->socket, true) == -1)
        return; /* the client has gone already */
    while (wait_until(client->socket, POLLIN, deadline) == 0) {
        char piece[4096];
        ssize_t length = recv(client->socket, piece, sizeof piece, 0);
        if (length == 0)
            return;
        if (length == -1 && errno != EAGAIN && errno != EWOULDBLOCK &&
            errno != EINTR)
            return;
    }
}

/*
 * Serves one connection to its end: answers every whole frame that has come,
 * keeps the rest, waits for more. The caller closes the socket.
 *
 * `bytes` has room for one frame of the greatest size. An unfinished frame is
 * always smaller, so there is always room to receive; a client may claim any
 * length and say anything, the server needs no more memory for it.
 */
static void serve(struct client *client, const struct framing *framing)
{
    static char bytes[FRAME_MAX];
    size_t length = 0;
    for (;;) {
        ssize_t came = receive(client->socket, bytes + length,
                               sizeof bytes - length);
        if (came == 0)
            return; /* all whole frames are answered; a cut-off one is lost */
        if (came == -1) {
            fprintf(stderr, "server: receive from %s: %s\n", client->address,
                    strerror(errno));
            return;
        }
        length += (size_t)came;

        struct frame frame;
        enum frame_result result;
        size_t used = 0;
        while ((result = framing->read(bytes + used, length - used, &frame)) ==
               FRAME_WHOLE) {
            if (answer(client, framing, &frame) == -1) {
                fprintf(stderr, "server: send to %s: %s\n", client->address,
                        strerror(errno));
                return;
            }
            used += frame.size;
        }
        if (result == FRAME_IMPOSSIBLE) {
            fprintf(stderr, "server: frame from %s: impossible length\n",
                    client->address);
            if (send_error(client, framing,
                           "this frame is too long or empty") == 0)
                let_client_read(client);
            return;
        }
        /* What is left is the beginning of a frame; it moves to the front. */
        memmove(bytes, bytes + used, length - used);
        length -= used;
    }
}

int main(int argc, char *argv[])
{
    const char *address = "127.0.0.1";
    const char *port = "7777";
    const struct framing *framing = framing_named("length");
    int option;
    while ((option = getopt(argc, argv, "a:p:f:")) != -1) {
        if (option == 'a')
            address = optarg;
        else if (option == 'p')
            port = optarg;
        else if (option == 'f')
            framing = framing_named(optarg);
        if (option == '?' || framing == NULL)
            goto usage;
    }
    if (optind != argc || !is_port(port))
        goto usage;

    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        perror("server: ignore SIGPIPE");
        return 1;
    }

    char reason[REASON_SIZE];
    int listener = listen_on(address, port, reason);
    if (listener == -1) {
        fprintf(stderr, "server: %s\n", reason);
        return 1;
    }
    if (announce(listener) == -1) {
        perror("server: announce the address");
        close(listener);
        return 1;
    }

    for (;;) {
        struct client client = {0}; /* nothing of the last one is left */
        client.socket = accept_client(listener, client.address);
        if (client.socket == -1)
            break;
        /*
         * After a small segment the kernel holds the next one back until the
         * first is acknowledged (Nagle's algorithm, RFC 9293 section 3.7.4),
         * and the client delays its acknowledgement by up to 40 ms on Linux.
         * Our answers are whole messages: nothing comes to fill them up.
         */
        int yes = 1;
        if (setsockopt(client.socket, IPPROTO_TCP, TCP_NODELAY, &yes,
                       sizeof yes) == -1)
            fprintf(stderr, "server: no TCP_NODELAY for %s: %s\n",
                    client.address, strerror(errno));
        serve(&client, framing);
        close(client.socket);
    }
    perror("server: accept");
    close(listener);
    return 1;

usage:
    fprintf(stderr, "usage: server [-f length|line] [-a ADDRESS] [-p PORT]\n");
    return 2;
}

/*
 * server.c - takes a text, sends it back as well-formed UTF-8.
 *
 * New in this lesson: bytes are not characters. A character may take up to
 * four bytes, the network may cut it anywhere, and the bytes may be no UTF-8
 * at all. Each ill-formed sequence comes back as U+FFFD, so that whoever reads
 * the answer can rely on it. utf8.c does that; net.c is what lessons 01 and 02
 * taught.
 *
 * One text a connection: the client says where it ends by ending its side.
 *
 * Run it:
 *
 *     make
 *     ./server                               in one terminal
 *     printf 'caf\xe9 \u{1F600}\n' | ./client -v 127.0.0.1 7777
 */
#define _POSIX_C_SOURCE 200809L

#include "net.h"
#include "utf8.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    TEXT_MAX = 65536, /* bytes in one text; more are refused */
    PIECE_SIZE = 16384
};

/*
 * The answer while it grows. One byte that is no UTF-8 becomes U+FFFD, which
 * takes three: an answer is at most three times as long as its text.
 */
struct answer {
    char bytes[3 * TEXT_MAX];
    size_t length;
};

static void append(struct answer *answer, const uint32_t *code_points,
                   int count)
{
    for (int i = 0; i < count; i++)
        answer->length += utf8_encode(code_points[i],
                                      answer->bytes + answer->length);
}

/*
 * Receives a text and puts it, decoded and encoded again, into `answer`.
 * `name` is the client's address, for messages. Returns 0, or -1 when there
 * is nothing to send: the connection broke, or the text is too long.
 */
static int receive_text(int client, const char *name, struct answer *answer)
{
    struct utf8_decoder decoder = {0};
    uint32_t code_points[2];
    size_t taken = 0;
    answer->length = 0;
    for (;;) {
        char piece[PIECE_SIZE];
        ssize_t length = receive(client, piece, sizeof piece);
        if (length == -1) {
            fprintf(stderr, "server: receive from %s: %s\n", name,
                    strerror(errno));
            return -1;
        }
        if (length == 0)
            break;
        /* Count before the bytes are used: after this line `answer` cannot
         * overflow, whatever the client sends. */
        taken += (size_t)length;
        if (taken > TEXT_MAX) {
            fprintf(stderr, "server: text from %s: more than %d bytes\n", name,
                    TEXT_MAX);
            return -1;
        }
        /* A piece may end in the middle of a character. The decoder remembers
         * the beginning until the next piece comes. */
        for (ssize_t i = 0; i < length; i++)
            append(answer, code_points,
                   utf8_decode(&decoder, (unsigned char)piece[i], code_points));
    }
    append(answer, code_points, utf8_finish(&decoder, code_points));
    return 0;
}

int main(int argc, char *argv[])
{
    const char *address = "127.0.0.1";
    const char *port = "7777";
    int option;
    while ((option = getopt(argc, argv, "a:p:")) != -1) {
        if (option == 'a')
            address = optarg;
        else if (option == 'p')
            port = optarg;
        else
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

    static struct answer answer; /* too large for some stacks */
    char name[NAME_SIZE];
    int client;
    while ((client = accept_client(listener, name)) != -1) {
        if (receive_text(client, name, &answer) == 0 &&
            send_all(client, answer.bytes, answer.length) == -1)
            fprintf(stderr, "server: send to %s: %s\n", name, strerror(errno));
        close(client);
    }
    perror("server: accept");
    close(listener);
    return 1;

usage:
    fprintf(stderr, "usage: server [-a ADDRESS] [-p PORT]\n");
    return 2;
}

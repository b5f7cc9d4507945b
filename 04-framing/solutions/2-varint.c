/*
 * Exercise 04-2: Varints.
 *
 * Four bytes of length are a waste for a payload of two. Here the length is a
 * varint: seven bits a byte, those that are worth least first, and the highest
 * bit of a byte says that another one follows.
 *
 *     5     05
 *     127   7f
 *     128   80 01        128 = 0 + 1 * 128
 *     300   ac 02        300 = 44 + 2 * 128
 *     65536 80 80 04
 *
 * This server answers each frame, a varint and then so many bytes, with one
 * that holds the same payload backwards, however the network cuts them and
 * however many come at once. Short payloads work. Write varint_read and
 * varint_write. The limits:
 *
 *     - A payload has 0 to 65536 bytes (PAYLOAD_MAX), of any value.
 *     - A length has at most three bytes: a third byte says that it is the
 *       last.
 *     - Every number has one form, the shortest. 80 00 is no zero and 85 00 no
 *       five: a last byte of 00 is allowed only when it is the only one.
 *
 * What breaks one of these is impossible: the server closes the connection and
 * serves the next client. It does so as soon as this is known: it waits neither
 * for a fourth byte nor for a payload that is too long. The beginning of a
 * frame is unfinished: nothing is answered until it is whole. Answers keep the
 * limits too.
 *
 * Beware of char: it may be signed, and 80 is then -128, with ones in all
 * higher bits. And beware of a loop that shifts for as long as bytes ask for
 * more: a shift by the width of a type or more is undefined.
 *
 * Try it:   make exercises/2-varint && exercises/2-varint -p 7777
 *           printf '\5hello' | socat -t 5 - TCP:127.0.0.1:7777 | od -An -c
 * Judge it: make exercise-04-2   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "frame.h"
#include "net.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The length, then the payload. */
enum { LENGTH_MAX = 3, VARINT_FRAME_MAX = LENGTH_MAX + PAYLOAD_MAX };

/*
 * Looks for a varint at the beginning of `length` bytes. When the result is
 * FRAME_WHOLE, `number` is what it says, at most PAYLOAD_MAX, and `size` how
 * many bytes it has.
 */
static enum frame_result varint_read(const char *bytes, size_t length,
                                     size_t *number, size_t *size)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < LENGTH_MAX; i++) {
        if (i == length)
            return FRAME_UNFINISHED;
        unsigned char byte = (unsigned char)bytes[i];
        sum |= (byte & 0x7Fu) << 7 * i; /* by 14 at most */
        if (byte & 0x80)
            continue; /* another one follows */
        if (byte == 0 && i > 0)
            return FRAME_IMPOSSIBLE; /* without it the number is the same */
        if (sum > PAYLOAD_MAX)
            return FRAME_IMPOSSIBLE;
        *number = sum;
        *size = i + 1;
        return FRAME_WHOLE;
    }
    return FRAME_IMPOSSIBLE; /* a third byte that asks for a fourth */
}

/* Writes a number, at most PAYLOAD_MAX, as a varint into `bytes`. Returns how
 * many bytes it has. */
static size_t varint_write(size_t number, char bytes[LENGTH_MAX])
{
    size_t size = 0;
    while (number > 0x7F) {
        bytes[size++] = (char)(0x80 | (number & 0x7F));
        number >>= 7;
    }
    bytes[size++] = (char)number;
    return size;
}

/* Looks for a frame at the beginning of `length` bytes, as frame_read does. */
static enum frame_result read_frame(const char *bytes, size_t length,
                                    struct frame *frame)
{
    size_t payload_length, header;
    enum frame_result result = varint_read(bytes, length, &payload_length,
                                           &header);
    if (result != FRAME_WHOLE)
        return result;
    if (length - header < payload_length)
        return FRAME_UNFINISHED;
    frame->payload = bytes + header;
    frame->length = payload_length;
    frame->size = header + payload_length;
    return FRAME_WHOLE;
}

/* Sends a payload back, backwards. Returns 0, or -1 with errno set. */
static int answer(int client, const struct frame *frame)
{
    static char bytes[VARINT_FRAME_MAX];
    size_t header = varint_write(frame->length, bytes);
    for (size_t i = 0; i < frame->length; i++)
        bytes[header + i] = frame->payload[frame->length - 1 - i];
    return send_all(client, bytes, header + frame->length);
}

/* Serves one client to its end, as the lesson's server does. The caller closes
 * the socket. */
static void serve(int client, const char *name)
{
    static char bytes[VARINT_FRAME_MAX];
    size_t length = 0;
    for (;;) {
        ssize_t came = receive(client, bytes + length, sizeof bytes - length);
        if (came == 0)
            return;
        if (came == -1) {
            fprintf(stderr, "2-varint: receive from %s: %s\n", name,
                    strerror(errno));
            return;
        }
        length += (size_t)came;

        struct frame frame;
        enum frame_result result;
        size_t used = 0;
        while ((result = read_frame(bytes + used, length - used, &frame)) ==
               FRAME_WHOLE) {
            if (answer(client, &frame) == -1) {
                fprintf(stderr, "2-varint: send to %s: %s\n", name,
                        strerror(errno));
                return;
            }
            used += frame.size;
        }
        if (result == FRAME_IMPOSSIBLE) {
            fprintf(stderr, "2-varint: no frame from %s\n", name);
            return;
        }
        memmove(bytes, bytes + used, length - used);
        length -= used;
    }
}

int main(int argc, char *argv[])
{
    const char *port = "7777";
    int option;
    while ((option = getopt(argc, argv, "p:")) != -1) {
        if (option == '?')
            goto usage;
        port = optarg;
    }
    if (optind != argc || !is_port(port))
        goto usage;
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        perror("2-varint: ignore SIGPIPE");
        return 1;
    }

    char reason[REASON_SIZE];
    int listener = listen_on("127.0.0.1", port, reason);
    if (listener == -1) {
        fprintf(stderr, "2-varint: %s\n", reason);
        return 1;
    }
    if (announce(listener) == -1) {
        perror("2-varint: announce the address");
        close(listener);
        return 1;
    }
    char name[NAME_SIZE];
    int client;
    while ((client = accept_client(listener, name)) != -1) {
        serve(client, name);
        close(client);
    }
    perror("2-varint: accept");
    close(listener);
    return 1;

usage:
    fprintf(stderr, "usage: 2-varint [-p PORT]\n");
    return 2;
}

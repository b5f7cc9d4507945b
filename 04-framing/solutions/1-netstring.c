/*
 * Exercise 04-1: Netstrings.
 *
 * A third way to say where a message ends (Daniel J. Bernstein, 1997): the
 * length in decimal digits, a colon, the payload, a comma.
 *
 *     5:hello,    0:,
 *
 * This server answers each netstring with one that holds the same payload
 * backwards: 5:olleh, for 5:hello, however the network cuts them and however
 * many come at once. The loop is that of the lesson. Write netstring_read and
 * netstring_write, which are to netstrings what frame_read and frame_write are
 * to frames. The limits:
 *
 *     - A payload has 0 to 65536 bytes (PAYLOAD_MAX), of any value.
 *     - A length is digits alone: no sign, no blank. It has no leading zero;
 *       0 is written "0".
 *     - Behind the length stands a colon, behind the payload a comma.
 *
 * What breaks one of these is impossible: the server closes the connection and
 * serves the next client. A length is refused as soon as it is known to be
 * wrong: a sixth digit without waiting for a colon, 65537 without waiting for
 * the payload. What is the beginning of a netstring is unfinished: nothing is
 * answered until it is whole, the comma too. Answers have no leading zeros.
 *
 * Beware of strtoul and atoi: they skip blanks, take a sign, stop at what is no
 * digit without a word, and read on until they find it. The bytes here end at
 * `length`, with no '\0' behind.
 *
 * Try it:   make exercises/1-netstring && exercises/1-netstring -p 7777
 *           printf '5:hello,' | socat -t 5 - TCP:127.0.0.1:7777
 * Judge it: make exercise-04-1   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "frame.h"
#include "net.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* "65536:", the payload, ",". */
enum { DIGITS_MAX = 5, NETSTRING_MAX = DIGITS_MAX + 1 + PAYLOAD_MAX + 1 };

/*
 * Looks for a netstring at the beginning of `length` bytes. Fills in `frame`
 * when the result is FRAME_WHOLE.
 */
static enum frame_result netstring_read(const char *bytes, size_t length,
                                        struct frame *frame)
{
    /* At most 655360 + 9 before the limit is looked at: no overflow. */
    size_t payload_length = 0, digits = 0;
    while (digits < length && bytes[digits] >= '0' && bytes[digits] <= '9') {
        if (digits > 0 && payload_length == 0)
            return FRAME_IMPOSSIBLE; /* a leading zero */
        payload_length = 10 * payload_length + (size_t)(bytes[digits] - '0');
        if (payload_length > PAYLOAD_MAX)
            return FRAME_IMPOSSIBLE;
        digits++;
    }
    if (digits == length)
        return FRAME_UNFINISHED; /* more digits may come, or the colon */
    if (digits == 0 || bytes[digits] != ':')
        return FRAME_IMPOSSIBLE;

    size_t header = digits + 1;
    if (length - header < payload_length + 1)
        return FRAME_UNFINISHED;
    if (bytes[header + payload_length] != ',')
        return FRAME_IMPOSSIBLE;
    frame->payload = bytes + header;
    frame->length = payload_length;
    frame->size = header + payload_length + 1;
    return FRAME_WHOLE;
}

/* Writes the netstring of a payload, 0 to PAYLOAD_MAX bytes, into `bytes`.
 * Returns how many bytes that are. */
static size_t netstring_write(const char *payload, size_t length,
                              char bytes[NETSTRING_MAX])
{
    char header[DIGITS_MAX + 2]; /* the colon and a '\0', which stays here */
    size_t size = (size_t)snprintf(header, sizeof header, "%zu:", length);
    memcpy(bytes, header, size);
    memcpy(bytes + size, payload, length);
    bytes[size + length] = ',';
    return size + length + 1;
}

/* Sends a payload back, backwards. Returns 0, or -1 with errno set. */
static int answer(int client, const struct frame *frame)
{
    static char payload[PAYLOAD_MAX], bytes[NETSTRING_MAX];
    for (size_t i = 0; i < frame->length; i++)
        payload[i] = frame->payload[frame->length - 1 - i];
    return send_all(client, bytes,
                    netstring_write(payload, frame->length, bytes));
}

/* Serves one client to its end, as the lesson's server does. The caller closes
 * the socket. */
static void serve(int client, const char *name)
{
    static char bytes[NETSTRING_MAX];
    size_t length = 0;
    for (;;) {
        ssize_t came = receive(client, bytes + length, sizeof bytes - length);
        if (came == 0)
            return;
        if (came == -1) {
            fprintf(stderr, "1-netstring: receive from %s: %s\n", name,
                    strerror(errno));
            return;
        }
        length += (size_t)came;

        struct frame frame;
        enum frame_result result;
        size_t used = 0;
        while ((result = netstring_read(bytes + used, length - used, &frame)) ==
               FRAME_WHOLE) {
            if (answer(client, &frame) == -1) {
                fprintf(stderr, "1-netstring: send to %s: %s\n", name,
                        strerror(errno));
                return;
            }
            used += frame.size;
        }
        if (result == FRAME_IMPOSSIBLE) {
            fprintf(stderr, "1-netstring: no netstring from %s\n", name);
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
        perror("1-netstring: ignore SIGPIPE");
        return 1;
    }

    char reason[REASON_SIZE];
    int listener = listen_on("127.0.0.1", port, reason);
    if (listener == -1) {
        fprintf(stderr, "1-netstring: %s\n", reason);
        return 1;
    }
    if (announce(listener) == -1) {
        perror("1-netstring: announce the address");
        close(listener);
        return 1;
    }
    char name[NAME_SIZE];
    int client;
    while ((client = accept_client(listener, name)) != -1) {
        serve(client, name);
        close(client);
    }
    perror("1-netstring: accept");
    close(listener);
    return 1;

usage:
    fprintf(stderr, "usage: 1-netstring [-p PORT]\n");
    return 2;
}

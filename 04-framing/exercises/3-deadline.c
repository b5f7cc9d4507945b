/*
 * Exercise 04-3: A deadline for a frame.
 *
 * This server sends each frame back as it came (frame.h says what a frame is).
 * It has a limit for clients that say nothing, SO_RCVTIMEO, and that is not
 * enough: every byte starts it anew. A frame of 65,540 bytes, one a second,
 * lasts eighteen hours, and as long nobody else is served. Besides, the limit
 * ends a client that has nothing to say just now. Change the server so that
 *
 *     - a frame has SECONDS (-d, default 10) from its first byte to its last:
 *       when they have passed the server closes the connection, says so on
 *       standard error, and serves the next client,
 *     - every frame has the same time, whatever came before it; its first byte
 *       may come together with the last of the frame before,
 *     - between two frames, and before the first, a client may be silent for
 *       as long as it likes,
 *     - a signal that interrupts a call changes nothing.
 *
 * How late it closes does not matter, as long as the client cannot put it off.
 *
 * Beware of durations. "Wait at most ten seconds" said twice is twenty. Say
 * "wait until this moment": now() of the lesson is a clock (CLOCK_MONOTONIC)
 * that nobody sets, and what is left to wait is the difference. wait_until()
 * does just that.
 *
 * Try it:   make exercises/3-deadline && exercises/3-deadline -p 7777 -d 3
 *           (printf '\0\0'; sleep 2; printf '\0\5'; sleep 2; printf hello) |
 *               socat -t 5 - TCP:127.0.0.1:7777
 * Judge it: make exercise-04-3   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "frame.h"
#include "net.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/*
 * Serves one client to its end. Says on standard error what went wrong. The
 * caller closes the socket.
 *
 * YOUR ANSWER goes here: limit_waits() limits each call by itself. And it
 * limits the wait for a frame that has not begun.
 */
static void serve(int client, const char *name, double seconds)
{
    static char bytes[FRAME_MAX];
    size_t length = 0;
    if (limit_waits(client, seconds) == -1) {
        fprintf(stderr, "3-deadline: serve %s: %s\n", name, strerror(errno));
        return;
    }
    for (;;) {
        ssize_t came = receive(client, bytes + length, sizeof bytes - length);
        if (came == 0)
            return;
        if (came == -1) {
            fprintf(stderr, "3-deadline: receive from %s: %s\n", name,
                    strerror(errno));
            return;
        }
        length += (size_t)came;

        struct frame frame;
        enum frame_result result;
        size_t used = 0;
        while ((result = frame_read(bytes + used, length - used, &frame)) ==
               FRAME_WHOLE) {
            if (send_all(client, bytes + used, frame.size) == -1) {
                fprintf(stderr, "3-deadline: send to %s: %s\n", name,
                        strerror(errno));
                return;
            }
            used += frame.size;
        }
        if (result == FRAME_IMPOSSIBLE) {
            fprintf(stderr, "3-deadline: no frame from %s\n", name);
            return;
        }
        memmove(bytes, bytes + used, length - used);
        length -= used;
    }
}

int main(int argc, char *argv[])
{
    const char *port = "7777";
    double seconds = 10;
    int option;
    while ((option = getopt(argc, argv, "p:d:")) != -1) {
        if (option == 'p')
            port = optarg;
        else if (option == 'd')
            seconds = parse_seconds(optarg);
        if (option == '?' || !(seconds > 0))
            goto usage;
    }
    if (optind != argc || !is_port(port))
        goto usage;
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        perror("3-deadline: ignore SIGPIPE");
        return 1;
    }

    char reason[REASON_SIZE];
    int listener = listen_on("127.0.0.1", port, reason);
    if (listener == -1) {
        fprintf(stderr, "3-deadline: %s\n", reason);
        return 1;
    }
    if (announce(listener) == -1) {
        perror("3-deadline: announce the address");
        close(listener);
        return 1;
    }
    char name[NAME_SIZE];
    int client;
    while ((client = accept_client(listener, name)) != -1) {
        serve(client, name, seconds);
        close(client);
    }
    perror("3-deadline: accept");
    close(listener);
    return 1;

usage:
    fprintf(stderr, "usage: 3-deadline [-p PORT] [-d SECONDS]\n");
    return 2;
}

/*
 * 04-3.c - judges exercise 04-3: a deadline for a frame.
 *
 * On a loaded machine a program may be held up for longer than its own
 * deadline. So what must come in time is tried twice, the second time with a
 * longer deadline; and what must be closed may be closed late.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define READ "04-framing/README.md, \"Exercises\""

#define AGAIN "No answer came. Once more, with more time for a busy machine."

static struct program *start_with(double deadline)
{
    return start_server("-d", text_of("%.2f", deadline), NULL);
}

/* Sends all, or returns false when the server has closed. In earnest: ends the
 * test then. */
static bool tell(struct peer *client, const void *bytes, size_t length,
                 bool in_earnest)
{
    if (!in_earnest)
        return send(descriptor_of(client), bytes, length, MSG_NOSIGNAL) ==
               (ssize_t)length;
    send_bytes(client, bytes, length);
    return true;
}

/* Waits for exactly these bytes, or returns false. In earnest: ends the test
 * then. */
static bool hear(struct peer *client, const void *bytes, size_t length,
                 bool in_earnest)
{
    char came[64];
    size_t have = 0;
    if (in_earnest) {
        expect_bytes(client, bytes, length);
        return true;
    }
    while (have < length) {
        ssize_t more = receive_some(client, came + have, length - have,
                                    patience());
        if (more <= 0)
            return false;
        have += (size_t)more;
    }
    return memcmp(came, bytes, length) == 0;
}

/* Waits for the server to close, at most so many seconds; bytes before it fail
 * the test. Returns whether it has closed. */
static bool closes_within(struct peer *client, double seconds)
{
    char byte;
    ssize_t came = receive_some(client, &byte, 1, seconds);
    if (came > 0)
        fail_test("Expected: a frame that takes longer than its deadline is "
                  "not answered.\nThe server answered.");
    return came == -1;
}

/*
 * Starts a server and a client; one frame is answered, and with its end the
 * next one has begun. Returns the server, and the deadline that it got.
 */
static struct program *begin_second_frame(double *deadline,
                                          struct peer **client)
{
    static const char bytes[] = "\0\0\0\5hello\0\0";
    for (bool in_earnest = false;; in_earnest = true) {
        struct program *server = start_with(*deadline);
        *client = connect_to(server);
        if (tell(*client, bytes, 11, in_earnest) &&
            hear(*client, bytes, 9, in_earnest))
            return server;
        note(AGAIN);
        *deadline *= 6;
    }
}

static void expect_served(struct program *server)
{
    struct peer *client = connect_to(server);
    send_bytes(client, "\0\0\0\4next", 8);
    expect_bytes(client, "\0\0\0\4next", 8);
    close_peer(client);
}

TEST(server, answers_frames,
     .promise = "This server sends each frame back as it came.",
     .cause = "The deadline is over before it has begun, or a socket that does "
              "not block is treated as one that does: EAGAIN means that there "
              "is nothing to do just now.",
     .read = READ)
{
    struct peer *client = connect_to(start_server(NULL));
    send_bytes(client, "\0\0\0\5hello\0\0\0\1!\0\0", 16);
    expect_bytes(client, "\0\0\0\5hello\0\0\0\1!", 14);
    send_bytes(client, "\0\2ok", 4);
    expect_bytes(client, "\0\0\0\2ok", 6);
    static unsigned char frame[4 + 65536] = {0, 1, 0, 0};
    memcpy(frame + 4, pattern(65536, 1), 65536);
    exchange(client, frame, sizeof frame, frame, sizeof frame);
    half_close(client);
    expect_end_of_file(client);
}

TEST(server, a_byte_now_and_then,
     .promise = "A frame has SECONDS from its first byte to its last: when "
                "they have passed the server closes the connection and serves "
                "the next client.",
     .cause = "To begin with: SO_RCVTIMEO limits each recv by itself, and "
              "every byte starts it anew. When the first byte of a frame has "
              "come, compute the moment (now() + seconds) when the frame has "
              "to be whole, and wait no longer than that, however many bytes "
              "come meanwhile. wait_until() and a socket that does not block "
              "are one way.",
     .read = READ, .patient = true)
{
    struct program *server = start_with(0.5);
    struct peer *client = connect_to(server);
    struct peer *next = connect_to(server);
    send_bytes(next, "\0\0\0\4next", 8);
    char frame[4 + 32] = {0, 0, 0, 32};
    note("client 1 begins to send a frame of 36 bytes, one every 0.1 s");
    double began = now();
    bool is_closed = false;
    for (size_t i = 0; i < sizeof frame && !is_closed; i++)
        is_closed = !tell(client, frame + i, 1, false) ||
                    closes_within(client, 0.1);
    if (!is_closed)
        fail_test("Expected: with -d 0.5 the server closes before the frame "
                  "is whole.\nIt was still there after %.1f s.",
                  now() - began);
    usual_cause("The connection is closed in time, and nothing says so on "
                "standard error, or the next client is not served: the end of "
                "one client is not the end of the server.");
    expect_complaint(server, "that a frame took too long");
    expect_bytes(next, "\0\0\0\4next", 8);
}

TEST(server, silence_in_a_frame,
     .promise = "Every frame has the same time; its first byte may come "
                "together with the last of the frame before.",
     .cause = "The clock starts only when a recv finds an empty buffer, or is "
              "stopped whenever a frame has been answered. Look at what is "
              "left behind the last whole frame: when it is not empty, a frame "
              "has begun.",
     .read = READ, .patient = true)
{
    double deadline = 0.3;
    struct peer *client;
    struct program *server = begin_second_frame(&deadline, &client);
    double most = deadline + patience() / 2;
    if (!closes_within(client, most))
        fail_test("Expected: with -d %.1f the server closes when a frame has "
                  "begun, with the end of the one before, and its rest does "
                  "not come.\nIt was still there after %.1f s.",
                  deadline, most);
    expect_served(server);
}

/* A frame, a long silence, and once more. Returns whether both are answered. */
static bool silent_between(double deadline, bool in_earnest)
{
    struct program *server = start_with(deadline);
    struct peer *client = connect_to(server);
    bool good = true;
    for (int i = 0; i < 2 && good; i++) {
        let_pass(1.3 * deadline);
        good = tell(client, "\0\0\0\4ping", 8, in_earnest) &&
               hear(client, "\0\0\0\4ping", 8, in_earnest);
    }
    return good;
}

TEST(server, silence_between_frames,
     .promise = "Between two frames, and before the first, a client may be "
                "silent for as long as it likes.",
     .cause = "The clock runs though no frame has begun: from the beginning of "
              "the connection, or from the last frame on, or as SO_RCVTIMEO. "
              "While the buffer is empty, wait without a limit.",
     .read = READ, .patient = true)
{
    if (!silent_between(0.3, false)) {
        note(AGAIN);
        silent_between(2, true);
    }
}

/* Frames that overlap: each end comes together with the next beginning. Each
 * is there within half the deadline, all together take twice as long. */
static bool overlapping(double deadline, bool in_earnest)
{
    struct program *server = start_with(deadline);
    struct peer *client = connect_to(server);
    bool good = tell(client, "\0\0\0\6ha", 6, in_earnest);
    for (int i = 0; i < 4 && good; i++) {
        let_pass(0.5 * deadline);
        good = tell(client, "lves\0\0\0\6ha", 10, in_earnest) &&
               hear(client, "\0\0\0\6halves", 10, in_earnest);
    }
    return good;
}

TEST(server, each_frame_has_its_own_time,
     .promise = "Every frame has the same time, whatever came before it.",
     .cause = "The clock of one frame goes on for the next: when the last byte "
              "of a frame and the first of another come together, the clock "
              "starts anew.",
     .read = READ, .patient = true)
{
    if (!overlapping(0.5, false)) {
        note(AGAIN);
        overlapping(3, true);
    }
}

TEST(server, signals_start_nothing_anew,
     .promise = "A signal that interrupts a call changes nothing.",
     .cause = "After EINTR the program waits for the whole time again. Compute "
              "what is left before each call, not once before the loop.",
     .read = READ, .patient = true)
{
    double deadline = 1;
    struct peer *client;
    struct program *server = begin_second_frame(&deadline, &client);
    /* On Linux, SIGSTOP and SIGCONT end a recv with SO_RCVTIMEO with EINTR. */
    double began = now();
    int signals = 0;
    while (!closes_within(client, 0.1)) {
        if (now() - began > deadline + 2)
            fail_test("Expected: with -d %.1f a frame ends in time while "
                      "signals come.\nThe server was still there after %.1f s "
                      "and %d signals.",
                      deadline, now() - began, signals);
        stop_program(server);
        continue_program(server);
        signals++;
    }
}

/*
 * 02-3.c - judges exercise 02-3: a large file through an echo server.
 *
 * The test is the server. It echoes as lesson 01's does: it takes a piece,
 * sends all of it back, and takes no more until that is gone.
 */
#include "harness.h"
#include "inside.h"

#include <poll.h>
#include <sys/socket.h>

#define READ "02-basic-client/README.md, \"Exercises\""

enum { KIB = 1024, MIB = 1024 * 1024, PIECE = 16 * KIB };

static struct program *start_to(struct listener *listener)
{
    return start_client("127.0.0.1", text_of("%d", port_of_listener(listener)),
                        NULL);
}

/* What the server has taken and not sent back yet: mostly a piece. */
static char held[MIB];

struct echo {
    struct peer *peer;
    size_t begin, end; /* of what it holds */
    size_t echoed;     /* so many bytes have gone back */
    bool ended;        /* the client has ended its side; no more will come */
};

/* Small buffers on the server's side: then less than a large file stops both,
 * whatever this machine's buffers are like. */
static struct echo accept_to_echo(struct listener *listener)
{
    int size = 64 * KIB;
    struct echo echo = {.peer = accept_client(listener)};
    setsockopt(descriptor_of(echo.peer), SOL_SOCKET, SO_SNDBUF, &size,
               sizeof size);
    return echo;
}

/* Takes up to `most` bytes behind what the server holds, waiting at most
 * `seconds`. Returns whether some came, or the end. */
static bool take(struct echo *echo, size_t most, double seconds)
{
    size_t room = sizeof held - echo->end;
    ssize_t length = 0;
    if (room > 0)
        length = receive_some(echo->peer, held + echo->end,
                              most < room ? most : room, seconds);
    if (length > 0)
        echo->end += (size_t)length;
    if (length < 0)
        echo->ended = true;
    return length != 0;
}

/* Takes a piece, or sends on with what the server holds, waiting at most
 * `seconds`. Returns whether anything could be done. */
static bool step(struct echo *echo, double seconds)
{
    if (echo->begin == echo->end) {
        echo->begin = echo->end = 0;
        return take(echo, PIECE, seconds);
    }
    ssize_t sent = send_now(echo->peer, held + echo->begin,
                            echo->end - echo->begin);
    if (sent == -2) {
        usual_cause("The client gave up: EINTR and EAGAIN were taken for a "
                    "broken connection. Both may come although poll said "
                    "\"ready\"; they mean \"later\".");
        fail_test("Expected: the client takes what the server sends back.\n"
                  "It has closed the connection.");
    }
    if (sent > 0) {
        echo->begin += (size_t)sent;
        echo->echoed += (size_t)sent;
        return true;
    }
    wait_on(descriptor_of(echo->peer), POLLOUT, moment_in(seconds));
    return false;
}

/*
 * Echoes until `most` bytes have gone back, or the client has ended its side.
 * Fails when nothing can be done for PATIENCE.
 *
 * A server that waits to send takes a little more in each quarter of a second.
 * For Linux (seen in 6.18) may throw away everything that comes while a receive
 * buffer as small as ours is full, also the news that the client has room
 * again: then both would wait for ever, and nobody would be wrong. A client
 * that does not read waits all the same, for the file is much larger than what
 * the server can hold.
 */
static void echo_all(struct echo *echo, size_t most)
{
    double until = moment_in(patience()), take_more_at = moment_in(0.25);
    while (echo->echoed < most && !(echo->ended && echo->begin == echo->end)) {
        if (step(echo, 0.05)) {
            until = moment_in(patience());
            take_more_at = moment_in(0.25);
        } else if (now() >= until && echo->begin < echo->end)
            fail_test("Expected: the client reads while it sends.\n"
                      "It sends, but has read nothing for %.1f s. The server "
                      "waits to send back what it has read, and reads no "
                      "further: both wait for ever.",
                      patience());
        else if (now() >= until)
            fail_test("Expected: the client sends on, or ends its side.\n"
                      "Nothing came for %.1f s, after %zu bytes.",
                      patience(), echo->echoed);
        else if (now() >= take_more_at && !echo->ended) {
            take(echo, 4 * PIECE, 0);
            take_more_at = moment_in(0.25);
        }
    }
    note("the server has sent back %zu bytes", echo->echoed);
}

/* Waits until the client reads no more of the `length` bytes that are being
 * typed; the kernel takes a few MiB. */
static void wait_until_stuck(struct program *client, size_t length)
{
    size_t left;
    double until = moment_in(2 * patience());
    do {
        left = client->typed_length;
        let_pass(0.05);
    } while (now() < until && client->typed_length > 0 &&
             (client->typed_length != left || !group_rests(client->pid, 0.15) ||
              client->typed_length != left));
    note("the client has read %.1f of %.1f MiB, and then no more",
         (double)(length - left) / MIB, (double)length / MIB);
}

/* What the client holds in memory, in MiB. */
static double held_by(struct program *client)
{
    return (double)holdings_of(client).memory / MIB;
}

TEST(client, a_few_bytes,
     .promise = "It sends its standard input, ends its side, and prints what "
                "comes back; exit status 0.",
     .cause = "The client does not end its side (shutdown) when its input "
              "ends, or does so before all of it is sent; or it goes before "
              "the server has closed.",
     .read = READ)
{
    struct listener *listener = listen_here();
    struct program *client = start_to(listener);
    type_and_end(client, "hello\n", 6);
    struct peer *peer = accept_client(listener);
    expect_text(peer, "hello\n");
    expect_end_of_file(peer);
    send_text(peer, "he");
    expect_output_text(client, "he");
    send_text(peer, "llo\n");
    close_peer(peer);
    expect_output_text(client, "llo\n");
    expect_output_end(client);
    expect_exit(client, 0);
}

TEST(client, large_file, .promise = "It sends and receives at the same time.",
     .cause = "To begin with: make the socket non-blocking, and let poll wait "
              "for both, POLLIN, and POLLOUT while there is something to send. "
              "Do whichever can be done: receive and print, or send some of "
              "what was read.",
     .read = READ)
{
    struct listener *listener = listen_here();
    set_receive_buffer(listener, 64 * KIB);
    struct program *client = start_to(listener);
    size_t length = 12 * MIB;
    const unsigned char *file = pattern(length, 1);
    type_and_end(client, file, length);
    struct echo server = accept_to_echo(listener);
    echo_all(&server, length + 1);
    close_peer(server.peer);
    usual_cause("The client went too early, or with bytes missing. EINTR and "
                "EAGAIN may come although poll said \"ready\": they mean "
                "\"later\". send may take less than it was given; what is "
                "left over is sent in a later round.");
    expect_output(client, file, length);
    expect_output_end(client);
    expect_exit(client, 0);
}

TEST(client, prints_while_it_cannot_send,
     .promise = "It sends and receives at the same time, whichever can go on.",
     .cause = "The client waits in send, because its socket blocks, or in a "
              "loop around it. send takes what there is room for; the rest is "
              "for a later round.",
     .read = READ, .patient = true)
{
    struct listener *listener = listen_here();
    set_receive_buffer(listener, 64 * KIB);
    struct program *client = start_to(listener);
    size_t length = 12 * MIB;
    const unsigned char *file = pattern(length, 5);
    type_and_end(client, file, length);
    struct peer *peer = accept_client(listener);
    expect_bytes(peer, file, PIECE);
    wait_until_stuck(client, length);
    note("the server sends back the beginning, a little at a time, and takes "
         "no more");
    /* Many times: what comes from the server may make a little room, too. */
    for (size_t back = 0; back < PIECE; back += 256) {
        size_t printed = 0;
        double until = moment_in(patience());
        send_now(peer, (const char *)file + back, 256);
        while (standard_output(client, &printed), printed < back + 256) {
            if (now() >= until)
                fail_test("Expected: the client prints what comes, while the "
                          "server takes nothing.\nIt has printed %zu of %zu "
                          "bytes, and nothing for %.1f s.",
                          printed, back + 256, patience());
            wait_on(-1, 0, until);
        }
    }
    expect_output(client, file, PIECE);
}

TEST(client, prints_while_it_waits_for_input,
     .promise = "What comes back is printed at once, also while it waits for "
                "more input.",
     .cause =
         "The client waits in read for somebody to type, or in fread for a "
         "full buffer. Let poll watch standard input together with the "
         "socket. Or it prints into a buffer of stdio.",
     .read = READ)
{
    struct listener *listener = listen_here();
    struct program *client = start_to(listener);
    struct peer *peer = accept_client(listener);
    type_text(client, "one\n");
    expect_text(peer, "one\n");
    send_text(peer, "o");
    expect_output_text(client, "o");
    send_text(peer, "ne\n");
    expect_output_text(client, "ne\n");
    type_text(client, "two\n");
    expect_text(peer, "two\n");
    send_text(peer, "two\n");
    expect_output_text(client, "two\n");
    end_input(client);
    expect_end_of_file(peer);
    close_peer(peer);
    expect_exit(client, 0);
}

#define TICKS                                                                  \
    "poll or select has a limit of time, after which the program looks and "   \
    "waits again. It needs none: what it waits for wakes it up."

TEST(client, rests_while_nothing_comes,
     .promise = "It uses no processor time while nothing can go on.",
     .cause = "There is always room to send, and an input that has ended is "
              "always ready: poll returns at once, for ever. Ask for POLLOUT "
              "only while there is something to send; and leave standard input "
              "out of the list (fd = -1) when it has ended. To set its events "
              "to 0 is not enough: POLLHUP comes all the same.",
     .read = READ, .patient = true)
{
    struct listener *listener = listen_here();
    struct program *client = start_to(listener);
    struct peer *peer = accept_client(listener);
    type_text(client, "hello\n");
    expect_text(peer, "hello\n");
    expect_idle(client, "while it waits for input and for the echo");
    usual_cause(TICKS);
    expect_sound_sleep(client, 0.5,
                       "while it waits for input and for the echo");
    end_input(client);
    expect_end_of_file(peer);
    usual_cause(NULL);
    expect_idle(client, "while it waits for the echo, and its input has ended");
    usual_cause(TICKS);
    expect_sound_sleep(client, 0.5,
                       "while it waits for the echo, and its input has ended");
}

TEST(client, reads_no_further_than_it_can_send,
     .promise = "It holds at most some 100 KB, however slow the server: it "
                "reads no further than it can send.",
     .cause = "The client goes on reading, and keeps in memory what it cannot "
              "send. Read only when all that was read before has been sent. "
              "Or it watches standard input all the time, although it has no "
              "room for more: then poll returns at once, for ever.",
     .read = READ, .patient = true)
{
    struct listener *listener = listen_here();
    set_receive_buffer(listener, 64 * KIB);
    struct program *client = start_to(listener);
    struct peer *peer = accept_client(listener);
    type_text(client, "x");
    expect_text(peer, "x");
    double before = held_by(client);
    size_t length = 16 * MIB;
    type_and_end(client, pattern(length, 2), length);

    wait_until_stuck(client, length);
    double more = held_by(client) - before;
    if (more > 2)
        fail_test("Expected: while the server reads nothing, the client holds "
                  "some 100 KB of its input.\nIt holds %.1f MiB more than "
                  "before.",
                  more);
    expect_idle(client, "while the server takes nothing");
}

TEST(client, receives_no_further_than_it_can_print,
     .promise = "It holds at most some 100 KB, however large the file.",
     .cause = "What comes back is collected in memory, and printed when all is "
              "there, or when the reader of standard output takes it. Print "
              "each piece before you receive the next.",
     .read = READ, .patient = true)
{
    struct listener *listener = listen_here();
    set_receive_buffer(listener, 64 * KIB);
    struct program *client = start_client_with(&(struct start){
        .arguments = (const char *[]){"127.0.0.1",
                                      text_of("%d", port_of_listener(listener)),
                                      NULL},
        .output = OUTPUT_BLOCKED});
    struct echo server = accept_to_echo(listener);
    type_text(client, "x");
    echo_all(&server, 1);
    double before = held_by(client);
    note("nobody reads the client's standard output");
    size_t length = 12 * MIB;
    const unsigned char *file = pattern(length, 3);
    type_and_end(client, file, length);
    double until = moment_in(2 * patience());
    while (now() < until && !server.ended &&
           (step(&server, 0.05) || !group_rests(client->pid, 0.15) ||
            step(&server, 0)))
        continue;
    note("the server has sent back %.1f of 12 MiB, then nothing went on",
         (double)server.echoed / MIB);
    double more = held_by(client) - before;
    if (more > 2)
        fail_test("Expected: while nobody takes its output, the client stops "
                  "receiving.\nIt holds %.1f MiB more than before.",
                  more);
    unblock_output(client);
    echo_all(&server, length + 2);
    close_peer(server.peer);
    expect_output_text(client, "x");
    expect_output(client, file, length);
    expect_exit(client, 0);
}

TEST(client, server_closes_too_early,
     .promise = "Exit status 1, with a line on standard error, when the server "
                "closes before all has come back.",
     .cause = "The end of the server (recv returns 0) is taken for the end of "
              "the echo. Count what was sent and what came back; and while "
              "there is more input, or some of it is unsent, the end is too "
              "early in any case.",
     .read = READ)
{
    struct listener *listener = listen_here();
    struct program *client = start_to(listener);
    struct peer *peer = accept_client(listener);
    type_and_end(client, "hello\n", 6);
    expect_text(peer, "hello\n");
    expect_end_of_file(peer);
    send_text(peer, "hell");
    close_peer(peer);
    expect_exit(client, 1);
    expect_complaint(client, "that the server closed too early");
    expect_output_text(client, "hell");

    struct program *second = start_to(listener);
    peer = accept_client(listener);
    type_text(second, "hello\n");
    expect_text(peer, "hello\n");
    send_text(peer, "hello\n");
    half_close(peer);
    expect_exit(second, 1);
    expect_output_text(second, "hello\n");
}

TEST(client, server_breaks_off,
     .promise = "Exit status 1, with a line on standard error, when the server "
                "resets the connection, also behind the last byte.",
     .cause = "A reset is taken for the end (recv returns -1, and not 0), or "
              "SIGPIPE ends the client.",
     .read = READ)
{
    struct listener *listener = listen_here();
    struct program *client = start_to(listener);
    struct echo server = accept_to_echo(listener);
    size_t length = 4 * MIB;
    type_and_end(client, pattern(length, 4), length);
    echo_all(&server, 100 * KIB);
    reset_peer(server.peer);
    expect_exit(client, 1);
    expect_complaint(client, "that the connection broke");

    usual_cause("The client goes when as many bytes have come back as were "
                "sent. It has to wait for the end: only what recv returns then "
                "tells whether the server has closed.");
    struct program *second = start_to(listener);
    type_and_end(second, "hello\n", 6);
    struct peer *peer = accept_client(listener);
    expect_text(peer, "hello\n");
    expect_end_of_file(peer);
    send_text(peer, "hello\n");
    expect_output_text(second, "hello\n");
    note("all is back, and the server has not closed yet");
    reset_peer(peer);
    expect_exit(second, 1);
    expect_complaint(second, "that the connection broke");
}

TEST(client, output_cannot_be_written,
     .promise = "Exit status 1, with a line on standard error, when standard "
                "output cannot be written.",
     .cause = "What write returns is not looked at.", .read = READ)
{
    struct listener *listener = listen_here();
    struct program *client = start_client_with(&(struct start){
        .arguments = (const char *[]){"127.0.0.1",
                                      text_of("%d", port_of_listener(listener)),
                                      NULL},
        .output = OUTPUT_FULL_DISK});
    type_and_end(client, "hello\n", 6);
    struct peer *peer = accept_client(listener);
    expect_text(peer, "hello\n");
    send_text(peer, "hello\n");
    expect_exit(client, 1);
    expect_complaint(client, "that it could not write");
}

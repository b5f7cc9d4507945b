/*
 * 01-3.c - judges exercise 01-3: a client that is silent for too long.
 *
 * Time is the promise itself here, and a busy machine may hold up the test as
 * well as the server. A test that has to do something in time measures whether
 * it did, and begins anew when not.
 */
#include "harness.h"
#include "inside.h"

#include <signal.h>

#define READ "01-basic-server/README.md, \"Exercises\""

enum { ROUNDS = 8 };

/* The server closes this client, no matter how: with an end of file or, where
 * it leaves bytes unread, a reset. */
static void expect_close(struct peer *client)
{
    char some[65536];
    double until = now() + patience();
    while (receive_some(client, some, sizeof some, 0.2) >= 0) {
        if (now() >= until)
            fail_test("Expected: the server closes this client.\n"
                      "It has not, in %.1f s.",
                      patience());
    }
    note("the server has closed it");
}

TEST(server, closes_a_silent_client,
     .promise = "A client of which no byte has come for SECONDS is closed.",
     .cause = "To begin with: before each recv, let poll wait for the client "
              "with a limit of SECONDS, in milliseconds; when poll returns 0, "
              "leave echo, so that main closes the client.",
     .read = READ, .patient = true)
{
    struct program *server = start_server("-i", "0.3", NULL);
    double from = now();
    struct peer *client = connect_to(server);
    expect_end_of_file(client);
    double took = now() - from;
    usual_cause("The time is counted in another unit, or what is below a whole "
                "second or millisecond is cut off; or EINTR and EAGAIN, which "
                "say nothing of the client, are taken for its end.");
    if (took < 0.25)
        fail_test("Expected: with -i 0.3 the client is closed after 0.3 s.\n"
                  "It was closed after %.3f s.",
                  took);
    expect_running(server);
}

TEST(server, closes_a_client_that_falls_silent,
     .promise = "A client of which no byte has come for SECONDS is closed, and "
                "the next one gets its turn.",
     .cause = "Only the first byte is waited for with a limit; or the client "
              "is left without close.",
     .read = READ, .patient = true)
{
    struct program *server = start_server("-i", "0.2", NULL);
    size_t before = holdings_of(server).descriptors;
    struct peer *silent = connect_to(server);
    send_text(silent, "hello");
    expect_text(silent, "hello");
    struct peer *next = connect_to(server);
    send_text(next, "next");
    expect_end_of_file(silent);
    expect_text(next, "next");
    half_close(next);
    expect_end_of_file(next);

    double until = now() + patience();
    while (holdings_of(server).descriptors > before) {
        if (now() >= until)
            fail_test("Expected: after its clients have gone the server has "
                      "%zu open descriptors, as before.\nIt has %zu.",
                      before, holdings_of(server).descriptors);
        let_pass(0.01);
    }
}

TEST(server, serves_as_before,
     .promise = "(as before) Every byte comes back, in order; end of file ends "
                "the conversation.",
     .cause = "The client's socket does not block, and EAGAIN is taken for a "
              "failure: it may come although poll said \"ready\". Or send "
              "took fewer bytes than it was given, and the rest is lost.",
     .read = READ)
{
    struct program *server = start_server("-i", "1000", NULL);
    for (unsigned seed = 1; seed <= 2; seed++) {
        struct peer *client = connect_to(server);
        size_t length = 1 << 20;
        const unsigned char *bytes = pattern(length, seed);
        exchange(client, bytes, length, bytes, length);
        half_close(client);
        expect_end_of_file(client);
    }
}

TEST(server, rests_while_it_waits,
     .promise = "(as before) A server that waits for its client uses no "
                "processor time.",
     .cause = "recv does not block and is called again and again, or poll is "
              "called with a limit of 0 (or a few milliseconds) in a loop. "
              "One call of poll can wait for all that is left.",
     .read = READ, .patient = true)
{
    struct program *server = start_server("-i", "1000", NULL);
    struct peer *client = connect_to(server);
    send_text(client, "hello");
    expect_text(client, "hello");
    expect_idle(server, "while its client is silent");
}

TEST(server, keeps_a_slow_client,
     .promise = "Every byte that comes begins the time anew: who sends one "
                "byte every now and then, sooner than SECONDS, is kept.",
     .cause = "The deadline is one for the whole conversation. It has to be "
              "set anew after each byte.",
     .read = READ, .patient = true)
{
    const double limit = 0.5;
    for (int round = 0; round < ROUNDS; round++) {
        struct program *server = start_server("-i", "0.5", NULL);
        struct peer *client = connect_to(server);
        double sent_at = now(), longest = 0;
        bool kept = true;
        for (int i = 0; i < 3 && kept; i++) {
            let_pass(sent_at + 0.6 * limit - now());
            char byte;
            send_text(client, "x");
            if (now() - sent_at > longest)
                longest = now() - sent_at;
            sent_at = now();
            kept = receive_some(client, &byte, 1, patience()) == 1;
        }
        if (kept)
            return;
        if (longest < 0.8 * limit)
            fail_test("Expected: with -i 0.5 a client that sends a byte every "
                      "%.2f s is kept.\nIt was closed.",
                      longest);
        note("this machine is busy: a byte was sent %.2f s after the one "
             "before. Once more.",
             longest);
        kill_program(server);
    }
    skip_test("this machine is too busy for it");
}

TEST(server, signals_do_not_begin_the_time_anew,
     .promise = "A client of which no byte has come for SECONDS is closed, "
                "whatever signals come.",
     .cause = "After EINTR the server waits for the whole time again. (So does "
              "recv with SO_RCVTIMEO.) Compute a deadline before the first "
              "wait, now() + SECONDS, and before each wait what is left "
              "until then.",
     .read = READ, .patient = true)
{
    struct program *server = start_server("-i", "0.5", NULL);
    for (int round = 0; round < ROUNDS; round++) {
        struct peer *client = connect_to(server);
        send_text(client, "hello");
        expect_text(client, "hello");
        note("from here on a signal every 0.03 s (SIGUSR1)");
        double last = now(), longest = 0, until = now() + 2;
        bool closed = false;
        while (!closed && now() < until) {
            char byte;
            kill(server->pid, SIGUSR1);
            closed = receive_some(client, &byte, 1, 0.03) < 0;
            if (now() - last > longest)
                longest = now() - last;
            if (now() - last > 0.25)
                until = now() + 2; /* a busy machine */
            last = now();
        }
        if (!closed)
            fail_test("Expected: with -i 0.5 the silent client is closed "
                      "after 0.5 s, while signals come.\n"
                      "It is still there, much later.");
        /* In a pause that was as long as the limit, any server closes. */
        if (longest < 0.4)
            return;
        note("this machine is busy: no signal came for %.2f s. Once more.",
             longest);
        close_peer(client);
    }
    skip_test("this machine is too busy for it");
}

TEST(server, closes_a_client_that_does_not_read,
     .promise = "A client that has taken none of its echo for SECONDS is "
                "closed, and the next one gets its turn.",
     .cause = "The server waits in send, which has no limit. Make the client's "
              "socket non-blocking, and let poll wait for POLLOUT until the "
              "deadline. After poll alone, a blocking send of many bytes may "
              "still wait.",
     .read = READ, .patient = true)
{
    struct program *server = start_server("-i", "0.3", NULL);
    struct peer *deaf = connect_with(
        server, &(struct connect_options){.receive_buffer = 4096,
                                          .send_buffer = 65536});
    size_t length = 24 << 20;
    /* It goes on until the server closes, or takes nothing more for so long
     * that it must be waiting to send. */
    send_until_full(deaf, pattern(length, 3), length, 2);
    struct peer *next = connect_to(server);
    send_text(next, "next");
    expect_text(next, "next");
    expect_close(deaf);
}

TEST(server, wrong_limits,
     .promise = "(as before) -i takes a decimal number of seconds above 0.",
     .cause = "This was given: -i is read in main, by parse_seconds.",
     .read = READ)
{
    static const char *const wrong[] = {"0", "-1", "x", "", "inf", "1e3"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *arguments[] = {"-p", "0", "-i", wrong[i], NULL};
        struct program *server = start_server_with(
            &(struct start){.arguments = arguments});
        expect_exit(server, 2);
    }
}

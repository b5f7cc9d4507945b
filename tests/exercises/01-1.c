/*
 * 01-1.c - judges exercise 01-1: a server that stops cleanly.
 */
#include "harness.h"

#include <signal.h>
#include <stdlib.h>

#define READ "01-basic-server/README.md, \"Exercises\""

/* One exchange shows that the server has got through its start, and the next
 * end of file that it is on its way back to waiting. */
static void serve_one(struct program *server)
{
    struct peer *client = connect_to(server);
    send_text(client, "before");
    expect_text(client, "before");
    half_close(client);
    expect_end_of_file(client);
    close_peer(client);
}

TEST(server, stops_on_sigterm_while_it_waits,
     .promise = "A server that waits for a client ends at once on SIGTERM, "
                "with status 0.",
     .cause = "To begin with: give SIGTERM a handler (sigaction) that sets a "
              "flag of the type volatile sig_atomic_t. Let wait_for_client "
              "return -1 when the flag is set, and main close the listener "
              "and return 0.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    usual_cause("Nobody has sent a signal yet. poll, accept and recv fail with "
                "EINTR for other reasons too: ask whether it was for you, and "
                "if not wait again.");
    serve_one(server);
    expect_running(server);
    usual_cause(NULL);
    signal_program(server, SIGTERM);
    expect_exit(server, 0);
}

TEST(server, stops_on_sigint_while_it_waits,
     .promise = "A server that waits for a client ends at once on SIGINT, "
                "with status 0.",
     .cause = "Only SIGTERM has a handler. Ctrl-C sends SIGINT.", .read = READ)
{
    struct program *server = start_server(NULL);
    signal_program(server, SIGINT);
    expect_exit(server, 0);
}

TEST(server, serves_its_client_to_the_end,
     .promise = "A server that serves a client serves it to its end first, "
                "then ends with status 0.",
     .cause = "The handler ends the program, or recv and send take EINTR for "
              "the end of the client.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    send_text(client, "before");
    expect_text(client, "before");
    signal_program(server, SIGTERM);
    size_t length = 1 << 20;
    exchange(client, pattern(length, 1), length, pattern(length, 1), length);
    expect_running(server);
    half_close(client);
    expect_end_of_file(client);
    expect_exit(server, 0);
}

TEST(server, further_signals_change_nothing,
     .promise = "A server that serves a client serves it to its end first, "
                "however many signals come.",
     .cause = "signal() may put the default action back when the handler is "
              "called: glibc does so under -std=c17. The second Ctrl-C then "
              "ends the program. sigaction does not.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    for (int i = 0; i < 2; i++) {
        send_text(client, "again");
        expect_text(client, "again");
        signal_program(server, SIGTERM);
        signal_program(server, SIGINT);
    }
    size_t length = 1 << 20;
    exchange(client, pattern(length, 1), length, pattern(length, 1), length);
    half_close(client);
    expect_end_of_file(client);
    expect_exit(server, 0);
}

TEST(server, takes_no_other_client,
     .promise = "A server that was told to stop serves its client to its end "
                "and takes no other.",
     .cause =
         "A client that waits is looked at before the signal is. Note that "
         "pselect lets no signal in when it finds a client at once.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    send_text(client, "first");
    expect_text(client, "first");
    struct peer *next = connect_to(server);
    send_text(next, "next");
    signal_program(server, SIGTERM);
    half_close(client);
    expect_end_of_file(client);
    expect_exit(server, 0);
    expect_closed(next);
}

TEST(server, no_signal_falls_into_the_gap,
     .promise = "A signal that comes after the look at the flag and before "
                "the wait for a client ends the server too.",
     .cause = "The program looks at its flag, and then calls accept (or poll, "
              "or select). A signal between the two sets the flag, and the "
              "call waits for a client that does not come. Block the signals "
              "and let pselect open them while it waits; or let the handler "
              "write into a pipe that poll watches.",
     .read = READ, .patient = true)
{
    /* The hostile network holds the program up before each of these calls. */
    setenv("HOSTILE_LATE", "150", 1);
    struct program *server = start_server(NULL);
    serve_one(server);
    note("The client has gone; the signal comes 0.05 s later%s.",
         hostile_seed() != 0 ? ", while the program is held up between its "
                               "last look and its next call"
                             : "");
    let_pass(0.05);
    signal_program(server, SIGTERM);
    expect_exit(server, 0);
}

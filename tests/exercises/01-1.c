/*
 * 01-1.c - judges exercise 01-1: a server that stops cleanly.
 */
#include "harness.h"
#include "inside.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

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
    double until = now() + patience();
    while (!has_ended(server) && now() < until)
        let_pass(0.002);
    if (!has_ended(server))
        usual_cause("The signal has a handler, and the server waits on. With "
                    "SA_RESTART (which signal() may set, too) accept is begun "
                    "again after the handler. Or a client is waited for once "
                    "more after EINTR, without a look at the flag.");
    else if (server->ended_by == 0)
        usual_cause("The wait ended with EINTR, and the server takes that for "
                    "a failure. Where a signal has asked it to stop, the exit "
                    "status is 0.");
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
     .cause = "The handler ends the program; or recv and send take EINTR for "
              "the end of the client; or echo stops when the flag is set.",
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

TEST(server, stops_without_descriptors,
     .promise = "A server that is out of descriptors uses no processor time, "
                "and ends at once on SIGTERM.",
     .cause = "accept fails with EMFILE, and the client stays in the queue: "
              "who asks again at once asks for ever. This was given: on a "
              "shortage look again after a tenth of a second. The pause must "
              "not keep the server from seeing the signal.",
     .read = READ, .patient = true)
{
    struct program *server = start_server(NULL);
    serve_one(server);
    struct peer *client = NULL;
    ssize_t length = 1;
    /* A server that waits in accept has a descriptor for one more. */
    for (int i = 0; i < 3 && length > 0; i++) {
        char answer[8];
        exhaust_descriptors(server);
        client = connect_to(server);
        send_text(client, "hello");
        length = receive_some(client, answer, sizeof answer, 0.3);
        if (length > 0) {
            note("this one was still served");
            half_close(client);
            while (receive_some(client, answer, sizeof answer, patience()) > 0)
                continue;
            close_peer(client);
        }
    }
    expect_no_spinning(server, "while it has no descriptors left and a client "
                               "waits");
    signal_program(server, SIGTERM);
    expect_exit(server, 0);
}

TEST(server, sleeps_while_it_waits,
     .promise = "A server that waits for a client sleeps until one comes, or a "
                "signal.",
     .cause = "The wait has a timeout, and when it is over the flag is looked "
              "at. That makes the gap short and does not close it: the server "
              "stops late, and wakes up all day for nothing. Wait without a "
              "limit, for something that the signal leaves behind (a byte in "
              "a pipe); or let pselect open the signals while it waits.",
     .read = READ, .patient = true)
{
    struct program *server = start_server(NULL);
    serve_one(server);
    /* On the hostile network a short look: how often a server wakes up does
     * not depend on it. */
    expect_sound_sleep(server, hostile_seed() == 0 ? 1.2 : 0.3,
                       "while nobody comes");
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

/*
 * 02-2.c - judges exercise 02-2: two addresses, one of them dead.
 *
 * All of 127.0.0.0/8 is this machine. So the addresses of the tests are
 * 127.0.0.1 and 127.0.0.2, with the same port: one may listen, another refuse,
 * and a third not answer, because its backlog is full.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ "02-basic-client/README.md, \"Exercises\""

enum { ROUNDS = 3 };

/* Skips the test where 127.0.0.2 is no address of the machine (macOS). */
static void need_second_address(void)
{
    struct sockaddr_in where = {.sin_family = AF_INET};
    inet_pton(AF_INET, "127.0.0.2", &where.sin_addr);
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    bool there = descriptor >= 0 &&
                 bind(descriptor, (struct sockaddr *)&where, sizeof where) == 0;
    if (descriptor >= 0)
        close(descriptor);
    if (!there)
        skip_test("127.0.0.2 is no address of this machine");
}

static const char *port_text(struct listener *listener)
{
    return text_of("%d", port_of_listener(listener));
}

/* How many attempts at the listener's port are under way. */
static size_t attempts_at(struct listener *listener)
{
    unsigned ports[8];
    return pending_connects(port_of_listener(listener), ports, 8);
}

/* Waits until so many attempts at the listener are under way. */
static void expect_attempts(struct listener *listener, struct program *client,
                            size_t count)
{
    double until = now() + patience();
    while (attempts_at(listener) < count) {
        let_pass(0.002);
        expect_running(client);
        if (now() >= until)
            fail_test("Expected: %zu attempts are under way at the same time.\n"
                      "There are fewer, after %.1f s.",
                      count, patience());
    }
    note("%zu attempts are under way", count);
}

/* The server's part: lets a moment pass, answers and closes. */
static void answer_hello(struct peer *peer)
{
    expect_end_of_file(peer);
    let_pass(0.02);
    send_text(peer, "good ");
    let_pass(0.02);
    send_text(peer, "evening\n");
    close_peer(peer);
}

static void answer(struct peer *peer)
{
    expect_text(peer, "hello\n");
    answer_hello(peer);
}

static void expect_answer(struct program *client, const char *address)
{
    expect_output_text(client,
                       text_of("connected to %s\ngood evening\n", address));
    expect_output_end(client);
    expect_exit(client, 0);
}

TEST(client, one_address_that_answers,
     .promise = "It says which address it is connected to, sends \"hello\", "
                "and prints what the server answers until it closes.",
     .cause = "The socket that won does not block: connect was not to wait, "
              "recv is. Take O_NONBLOCK off.",
     .read = READ)
{
    struct listener *server = listen_here();
    struct program *client = start_client(port_text(server), "127.0.0.1", NULL);
    usual_cause("The client gave up, or never looked. poll may fail with "
                "EINTR, which says nothing of any attempt: wait again. 0 from "
                "SO_ERROR says that an attempt is through.");
    struct peer *peer = accept_client(server);
    expect_text(peer, "hello\n");
    usual_cause(NULL);
    answer_hello(peer);
    expect_answer(client, "127.0.0.1");
}

TEST(client, dead_address_costs_a_moment,
     .promise = "The next attempt starts 0.25 s after the last one was "
                "started.",
     .cause = "To begin with: keep the sockets of all attempts in an array of "
              "struct pollfd. Start the first attempt, let poll wait 0.25 s "
              "for all that are under way, start the second, and so on.",
     .read = READ, .patient = true)
{
    need_second_address();
    struct listener *dead = listen_but_never_answer();
    struct listener *server = listen_at("127.0.0.2", port_of_listener(dead));
    struct program *client = start_client("-t", "1000", port_text(dead),
                                          "127.0.0.1", "127.0.0.2", NULL);
    double bound = patience() / 2;
    struct peer *peer = accept_client_within(server, bound);
    if (peer == NULL)
        fail_test("Expected: 0.25 s after the attempt at 127.0.0.1, which does "
                  "not answer, the client tries 127.0.0.2.\n"
                  "After %.1f s it has not.",
                  age_of(client));
    usual_cause("The second attempt is through, and the client does not make "
                "it its own: it waits for the first as well, says the wrong "
                "address, or leaves O_NONBLOCK on.");
    answer(peer);
    expect_answer(client, "127.0.0.2");
}

TEST(client, second_is_left_alone,
     .promise = "The first that is through wins, and no more are started.",
     .cause = "All attempts are started at the same time. A server then gets "
              "a connection for each of its addresses, and all but one for "
              "nothing.",
     .read = READ)
{
    need_second_address();
    struct listener *first = listen_here();
    struct listener *second = listen_at("127.0.0.2", port_of_listener(first));
    struct program *client = start_client(port_text(first), "127.0.0.1",
                                          "127.0.0.2", NULL);
    answer(accept_client(first));
    expect_answer(client, "127.0.0.1");
    if (accept_client_within(second, 0) != NULL)
        fail_test("Expected: no attempt at 127.0.0.2, for the one at 127.0.0.1 "
                  "was through at once.\nThere was one.");
}

TEST(client, refused_is_followed_at_once,
     .promise = "The next attempt starts at once when an attempt has failed.",
     .cause = "The client waits for the 0.25 s to pass although the attempt "
              "has failed: that one needs no time to get through. Whether "
              "others are under way does not matter.",
     .read = READ, .patient = true)
{
    need_second_address();
    /* Ten refusals, which could take 2.5 s; and one good round is enough. */
    const char *nobody = "127.0.0.1";
    double took = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct listener *server = listen_at("127.0.0.2", unused_port());
        double from = now();
        struct program *client = start_client(
            port_text(server), nobody, nobody, nobody, nobody, nobody, nobody,
            nobody, nobody, nobody, nobody, "127.0.0.2", NULL);
        answer(accept_client(server));
        took = now() - from;
        expect_answer(client, "127.0.0.2");
        close_listener(server);
        if (took < 1)
            return;
    }
    fail_test("Expected: ten addresses refuse, and the client is through at "
              "the eleventh at once.\nIt took %.2f s, %d times.",
              took, ROUNDS);
}

TEST(client, refused_while_another_is_under_way,
     .promise = "The next attempt starts at once when an attempt has failed; "
                "those under way go on.",
     .cause = "The client waits for the 0.25 s to pass after a refusal, "
              "because an earlier attempt is still under way. What counts is "
              "the last one, which needs no time any more.",
     .read = READ, .patient = true)
{
    need_second_address();
    /* After the first 0.25 s ten refusals, which could take 2.5 s. */
    const char *nobody = "127.0.0.3";
    double took = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct listener *dead = listen_but_never_answer();
        struct listener *server = listen_at("127.0.0.2",
                                            port_of_listener(dead));
        double from = now();
        struct program *client = start_client(
            "-t", "1000", port_text(dead), "127.0.0.1", nobody, nobody, nobody,
            nobody, nobody, nobody, nobody, nobody, nobody, nobody, "127.0.0.2",
            NULL);
        answer(accept_client(server));
        took = now() - from;
        expect_answer(client, "127.0.0.2");
        close_listener(server);
        if (took < 1.5)
            return;
    }
    fail_test("Expected: one address does not answer, ten refuse, and the "
              "client is through at the twelfth after 0.25 s.\n"
              "It took %.2f s, %d times.",
              took, ROUNDS);
}

TEST(client, first_may_still_win,
     .promise = "Attempts that are under way go on when the next one starts.",
     .cause = "An attempt is closed when the next one is started. A server "
              "that answers after 0.3 s is then never reached. Or all is over "
              "when the last attempt has failed, though an earlier one is "
              "still under way.",
     .read = READ, .patient = true)
{
    need_second_address();
    struct listener *slow = listen_but_never_answer();
    struct program *client = start_client("-t", "1000", port_text(slow),
                                          "127.0.0.1", "127.0.0.2", NULL);
    note("at 127.0.0.1 nobody answers for 0.6 s, and 127.0.0.2 refuses");
    let_pass(0.6);
    expect_running(client);
    start_answering(slow);
    note("the kernel repeats an attempt 1 s after its begin");
    answer(accept_client(slow));
    expect_answer(client, "127.0.0.1");
}

TEST(client, refused_late,
     .promise = "When all have failed it says so in a line on standard error "
                "and ends, with status 1.",
     .cause = "poll says that an attempt is over, and the client takes it for "
              "through. getsockopt with SO_ERROR tells how it ended.",
     .read = READ, .patient = true)
{
    struct listener *dead = listen_but_never_answer();
    struct program *client = start_client("-t", "1000", port_text(dead),
                                          "127.0.0.1", NULL);
    expect_attempts(dead, client, 1);
    close_listener(dead);
    note("the kernel repeats the attempt 1 s after its begin, and is refused");
    expect_exit(client, 1);
    expect_complaint(client, "that it could not connect");
    expect_output_end(client);
}

TEST(client, losers_are_closed,
     .promise = "All others are closed before the first byte is sent.",
     .cause = "Only the winner is looked after. The socket of the attempt that "
              "is still under way stays open, and may get through later: a "
              "server waits for a client that does not come.",
     .read = READ, .patient = true)
{
    need_second_address();
    struct listener *dead = listen_but_never_answer();
    struct listener *server = listen_at("127.0.0.2", port_of_listener(dead));
    struct program *client = start_client("-t", "1000", port_text(dead),
                                          "127.0.0.1", "127.0.0.1", "127.0.0.2",
                                          NULL);
    struct peer *peer = accept_client(server);
    expect_text(peer, "hello\n");
    size_t alive = attempts_at(dead);
    if (alive > 0)
        fail_test("Expected: when 127.0.0.2 has won and got its hello, the "
                  "attempts at 127.0.0.1 are over.\n"
                  "%zu of them are still under way.",
                  alive);
    send_text(peer, "good evening\n");
    close_peer(peer);
    expect_answer(client, "127.0.0.2");
}

TEST(client, two_through_in_the_same_moment,
     .promise = "The first that is through wins. All others are closed.",
     .cause = "poll finds two attempts ready at once. One is taken, and the "
              "other, which is through as well, is never closed; or the last "
              "one of them is taken and the first one lost.",
     .read = READ, .patient = true)
{
    struct listener *slow = listen_but_never_answer();
    struct program *client = start_client("-t", "1000", port_text(slow),
                                          "127.0.0.1", "127.0.0.1", NULL);
    expect_attempts(slow, client, 2);
    stop_program(client);
    start_answering(slow);
    note("the kernel repeats each attempt 1 s after its begin");
    struct peer *one = accept_client(slow), *other = accept_client(slow);
    continue_program(client);
    char byte;
    while (bytes_waiting(one) == 0 && bytes_waiting(other) == 0) {
        expect_running(client);
        let_pass(0.002);
    }
    bool first = bytes_waiting(one) > 0;
    if (receive_some(first ? other : one, &byte, 1, patience()) != -1)
        fail_test("Expected: the connection that lost is closed, while the "
                  "other one goes on.\nIt is open, or it got bytes as well.");
    note("the connection that lost was closed");
    answer(first ? one : other);
    expect_answer(client, "127.0.0.1");
}

TEST(client, all_refuse,
     .promise = "When all have failed it says so in a line on standard error "
                "and ends, with status 1.",
     .cause = "The client waits on, although no attempt is under way and none "
              "is left.",
     .read = READ)
{
    struct program *client = start_client("-t", "1000",
                                          text_of("%d", unused_port()),
                                          "127.0.0.1", "127.0.0.1", NULL);
    expect_exit(client, 1);
    expect_complaint(client, "that it could not connect");
    expect_output_end(client);
}

TEST(client, one_limit_for_all,
     .promise = "SECONDS is the limit for all attempts together.",
     .cause = "Each attempt has a limit of its own, or the limit begins anew "
              "with each. Compute one deadline at the start.",
     .read = READ, .patient = true)
{
    const char *dead = "127.0.0.1";
    for (int round = 0; round < ROUNDS; round++) {
        struct listener *listener = listen_but_never_answer();
        /* With a limit for each it would take 0.4 s + 14 * 0.25 s = 3.9 s. */
        struct program *client = start_client(
            "-t", "0.4", port_text(listener), dead, dead, dead, dead, dead,
            dead, dead, dead, dead, dead, dead, dead, dead, dead, dead, NULL);
        expect_exit(client, 1);
        expect_complaint(client, "that nobody answered in time");
        expect_output_end(client);
        if (age_of(client) < 0.35)
            fail_test("Expected: with -t 0.4 the client waits 0.4 s.\n"
                      "It waited %.2f s.",
                      age_of(client));
        if (age_of(client) < 2)
            return;
    }
    fail_test("Expected: with -t 0.4 the client ends after 0.4 s, however many "
              "addresses there are.\nIt took more than 2 s, %d times.",
              ROUNDS);
}

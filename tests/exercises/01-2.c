/*
 * 01-2.c - judges exercise 01-2: one server on IPv6 and IPv4.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ "01-basic-server/README.md, \"Exercises\""

/* Skips the test on a machine without IPv6. */
static void need_ipv6(void)
{
    close_listener(listen_at("::1", 0));
}

static struct peer *connect_at(struct program *server, const char *address)
{
    return connect_with(server, &(struct connect_options){.address = address});
}

static void serve_one(struct program *server, const char *address)
{
    struct peer *client = connect_at(server, address);
    send_text(client, address);
    expect_text(client, address);
    half_close(client);
    expect_end_of_file(client);
    close_peer(client);
}

static void expect_line(struct program *server, const char *line)
{
    const char *came = next_output_line(server);
    if (strcmp(came, line) != 0)
        fail_test("Expected: the next line of the server is \"%s\".\n"
                  "It was \"%s\".",
                  line, came);
}

/* A server on 127.0.0.1 and ::1. The port is none that the kernel gives away:
 * a client of another test may have that on one of the two addresses. */
static struct program *start_both(void)
{
    int port = unused_port();
    struct program *server = start_server_on(port, "-a", "127.0.0.1", "-a",
                                             "::1", NULL);
    expect_line(server, text_of("listening on [::1]:%d", port));
    return server;
}

TEST(server, listens_on_ipv6,
     .promise = "`-a ::1` works, and is announced as \"listening on "
                "[::1]:PORT\".",
     .cause = "To begin with: try inet_pton with AF_INET, and when it returns "
              "0, with AF_INET6 and a struct sockaddr_in6. The family also "
              "goes to socket, the size of that struct to bind. When you "
              "print the address, getsockname needs room for either struct.",
     .read = READ)
{
    need_ipv6();
    struct program *server = start_server("-a", "::1", NULL);
    usual_cause("It listens, and does not serve. poll, accept, recv and send "
                "may fail with EINTR; accept with ECONNABORTED, or with EAGAIN "
                "where the listener does not block. None of these is the end. "
                "On some systems the client's socket inherits O_NONBLOCK.");
    serve_one(server, "::1");
    serve_one(server, "::1");
}

TEST(server, ipv4_as_before,
     .promise = "Without `-a` it listens on 127.0.0.1, as before.",
     .cause = "The size of the address that goes to bind is not that of a "
              "struct sockaddr_in, or the address is printed with brackets.",
     .read = READ)
{
    serve_one(start_server(NULL), "127.0.0.1");
    serve_one(start_server("-a", "127.0.0.1", NULL), "127.0.0.1");
}

TEST(server, listens_on_both,
     .promise = "The one server listens on all these addresses, on the same "
                "port, and announces each in a line of its own, in their "
                "order. A client is served at whichever address it comes.",
     .cause = "Only the first or the last address is listened on; or the "
              "server waits in accept for a client at one of them while "
              "another comes to the other. Let poll wait at all listeners, "
              "and call accept for one that is ready.",
     .read = READ)
{
    need_ipv6();
    struct program *server = start_both();
    static const char *const visits[] = {"::1", "::1", "127.0.0.1", "127.0.0.1",
                                         "::1"};
    for (size_t i = 0; i < sizeof visits / sizeof *visits; i++)
        serve_one(server, visits[i]);
}

TEST(server, rests_between_clients,
     .promise = "A server that waits for a client at several addresses uses "
                "no processor time.",
     .cause = "The listeners do not block, and the server asks one after the "
              "other, again and again. poll waits for all of them at once.",
     .read = READ, .patient = true)
{
    need_ipv6();
    struct program *server = start_both();
    serve_one(server, "::1");
    expect_idle(server, "while it waits at two addresses");
    usual_cause("The server looks at its listeners every now and then: it naps "
                "between two looks, or poll has a limit of time. poll without "
                "a limit waits for all of them at once.");
    expect_sound_sleep(server, 0.5, "while it waits at two addresses");
}

TEST(server, rests_without_descriptors,
     .promise = "A server that has no descriptor for who comes uses no "
                "processor time, and takes clients again when it has some.",
     .cause = "accept fails with EMFILE, and the client stays in the queue: "
              "poll tells of it again at once, for ever. This was given: on a "
              "shortage look again after a tenth of a second.",
     .read = READ, .patient = true)
{
    need_ipv6();
    struct program *server = start_both();
    serve_one(server, "127.0.0.1");
    struct peer *client = NULL;
    ssize_t length = 1;
    /* A server that waits in accept has a descriptor for one more. */
    for (int i = 0; i < 3 && length > 0; i++) {
        char answer[8];
        exhaust_descriptors(server);
        client = connect_at(server, "::1");
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
    restore_descriptors(server);
    close_peer(client); /* it may have been served, or turned away */
    usual_cause("After EMFILE the server no longer looks at its listeners, or "
                "has closed one of them.");
    serve_one(server, "127.0.0.1");
    serve_one(server, "::1");
}

/* The ports that a server announces at 127.0.0.1 and ::1. Returns false when
 * it has ended before that. */
static bool announced_ports(struct program *server, int *v4, int *v6)
{
    double until = now() + patience();
    while (now() < until) {
        bool ended = has_ended(server);
        const char *printed = standard_output(server, NULL);
        char newline = ' ';
        if (sscanf(printed, "listening on 127.0.0.1:%d listening on [::1]:%d%c",
                   v4, v6, &newline) == 3 &&
            newline == '\n')
            return true;
        if (ended)
            return false;
        let_pass(0.002);
    }
    fail_test("Expected: with -p 0 -a 127.0.0.1 -a ::1, a line for each "
              "address, in this order.\nWhat came in %.1f s: \"%s\"",
              patience(), standard_output(server, NULL));
}

TEST(server, port_0_is_one_port,
     .promise = "With `-p 0` the kernel chooses the port for the first "
                "address, and the others get it too.",
     .cause = "Each listener asks the kernel for a port of its own. Ask "
              "getsockname which one the first got, and bind the others to "
              "it.",
     .read = READ)
{
    need_ipv6();
    /* Somebody may have that port at ::1. Then the server says so and ends. */
    for (int attempt = 0; attempt < 5; attempt++) {
        const char *arguments[] = {"-p", "0",   "-a", "127.0.0.1",
                                   "-a", "::1", NULL};
        struct program *server = start_server_with(
            &(struct start){.arguments = arguments});
        int v4 = 0, v6 = 0;
        if (!announced_ports(server, &v4, &v6))
            continue;
        note("the server announced ports %d and %d", v4, v6);
        if (v4 != v6 || v4 == 0)
            fail_test("Expected: the same port at both addresses.\n"
                      "It is %d at 127.0.0.1 and %d at ::1.",
                      v4, v6);
        if (!accepts_connections("127.0.0.1", v4) ||
            !accepts_connections("::1", v6))
            fail_test("Expected: port %d accepts connections at 127.0.0.1 and "
                      "at ::1.\nIt does not.",
                      v4);
        return;
    }
    fail_test("Expected: with -p 0 -a 127.0.0.1 -a ::1, a line for each "
              "address.\nThe server ended before, in five attempts.");
}

TEST(server, addresses_take_turns,
     .promise = "Where clients wait at two addresses, these take turns.",
     .cause = "The listeners are always looked at in the same order: as long "
              "as somebody waits at the first, nobody at the second is "
              "served. Begin each time with the listener behind the one that "
              "had the last client.",
     .read = READ)
{
    need_ipv6();
    struct program *server = start_both();
    serve_one(server, "127.0.0.1");
    serve_one(server, "::1");

    /* Both ways round, since one of the two is the first in the list. */
    for (int round = 0; round < 2; round++) {
        const char *many = round == 0 ? "127.0.0.1" : "::1";
        const char *one = round == 0 ? "::1" : "127.0.0.1";
        enum { MANY = 5 };
        struct peer *holder = connect_at(server, many);
        send_text(holder, "holder");
        expect_text(holder, "holder");
        struct peer *crowd[MANY];
        for (int i = 0; i < MANY; i++) {
            crowd[i] = connect_at(server, many);
            send_text(crowd[i], "one of many");
        }
        struct peer *alone = connect_at(server, one);
        send_text(alone, "alone");
        half_close(alone);
        close_peer(holder);
        for (int i = 0; i < MANY; i++) {
            expect_text(crowd[i], "one of many");
            /* While the last one is served, nobody else is. */
            if (i < MANY - 1)
                close_peer(crowd[i]);
        }
        if (bytes_waiting(alone) == 0)
            fail_test("Expected: while %d clients wait at %s and one at %s, "
                      "that one is served before the last of the others.\n"
                      "It was not: all %d were served, and it still waits.",
                      MANY, many, one, MANY);
        expect_text(alone, "alone");
        expect_end_of_file(alone);
        close_peer(crowd[MANY - 1]);
    }
}

/* Whether an IPv6 socket of this machine can be for IPv4 as well. */
static bool can_take_both(void)
{
    int no = 0, descriptor = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 where = {.sin6_family = AF_INET6};
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &where.sin6_addr);
    bool can = descriptor >= 0 &&
               setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &no,
                          sizeof no) == 0 &&
               bind(descriptor, (struct sockaddr *)&where, sizeof where) == 0;
    if (descriptor >= 0)
        close(descriptor);
    return can;
}

TEST(server, an_ipv6_socket_takes_ipv4_clients,
     .promise = "`-a ::` takes clients over IPv4 too. (Judged with `-a "
                "::ffff:127.0.0.1`, an address that only such a socket has.)",
     .cause = "IPV6_V6ONLY is set. Set it to 0, before bind. An address with "
              "a dot in it may still be an IPv6 address, and is announced in "
              "brackets.",
     .read = READ)
{
    need_ipv6();
    if (!can_take_both())
        skip_test("an IPv6 socket of this machine is for IPv6 alone");
    struct program *server = start_server("-a", "::ffff:127.0.0.1", NULL);
    serve_one(server, "127.0.0.1");
}

static void expect_refusal(const char *bad)
{
    int port = unused_port();
    const char *arguments[] = {
        "-p", text_of("%d", port), "-a", "127.0.0.1", "-a", bad, NULL};
    struct program *server = start_server_with(
        &(struct start){.arguments = arguments});
    expect_exit(server, 1);
    expect_complaint(server, "that it cannot listen there");
    expect_output_end(server);
}

TEST(server, refuses_what_is_no_address,
     .promise = "What is no address ends the server with a line on standard "
                "error and status 1, and nothing is announced.",
     .cause = "inet_pton returns 0 for what is no address, and that is not -1; "
              "or a server that cannot have all of its addresses goes on with "
              "the others, or announces the first before it has the second.",
     .read = READ)
{
    static const char *const bad[] = {"localhost", "127.0.0.256", "::g",
                                      "[::1]", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refusal(bad[i]);
}

TEST(server, refuses_what_it_cannot_have,
     .promise = "What cannot be had ends the server with a line on standard "
                "error and status 1, and nothing is announced.",
     .cause = "The first address is announced before the second is bound, or "
              "what bind returns is not looked at. Announce when all listen.",
     .read = READ)
{
    int port = unused_port();
    listen_at("::1", port);
    const char *arguments[] = {
        "-p", text_of("%d", port), "-a", "127.0.0.1", "-a", "::1", NULL};
    struct program *server = start_server_with(
        &(struct start){.arguments = arguments});
    expect_exit(server, 1);
    expect_complaint(server, "that the port is taken");
    expect_output_end(server);
}

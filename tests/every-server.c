/*
 * every-server.c - what the contract promises of every server, whatever goes
 * over the wire. The lesson's own file supplies that: see every.h.
 */
#include "every.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* The lesson that teaches all of this. */
#define CODE "01-basic-server/README.md, \"The code in reading order\""
#define BREAK "01-basic-server/README.md, \"Break it\""

static void exchange_once(struct program *server)
{
    struct peer *client = connect_to(server);
    send_request(client);
    expect_answer(client);
    close_peer(client);
}

/* Connects, and waits until the server has accepted: until it holds more
 * descriptors than before. */
static struct peer *connect_and_be_accepted(struct program *server)
{
    size_t before = holdings_of(server).descriptors;
    struct peer *client = connect_to(server);
    double end = now() + patience();
    while (holdings_of(server).descriptors <= before && now() < end)
        let_pass(0.001);
    return client;
}

/* Waits until the server has closed what it held for its clients. */
static void wait_for_descriptors(struct program *server, size_t descriptors)
{
    double end = now() + patience();
    while (holdings_of(server).descriptors > descriptors && now() < end)
        let_pass(0.001);
}

/* Whether this machine lets us use an address. */
static bool has_address(int family, const char *address)
{
    union {
        struct sockaddr any;
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
    } name = {.any.sa_family = (sa_family_t)family};
    int socket_ = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = false;
    if (socket_ == -1)
        return false;
    if (family == AF_INET)
        has = inet_pton(family, address, &name.ipv4.sin_addr) == 1 &&
              bind(socket_, &name.any, sizeof name.ipv4) == 0;
    else
        has = inet_pton(family, address, &name.ipv6.sin6_addr) == 1 &&
              bind(socket_, &name.any, sizeof name.ipv6) == 0;
    close(socket_);
    return has;
}

TEST(server, every_listening_line,
     .promise = "A server that is ready prints exactly one line to standard "
                "output and flushes it: `listening on 127.0.0.1:7777` "
                "(`listening on [::1]:7777` for IPv6), with the port that the "
                "kernel really bound, once connections can come.",
     .cause = "The line says what was asked for, not what getsockname() "
              "returns; or it stays in a buffer, which happens when standard "
              "output is a pipe and nobody flushes it; or it comes before "
              "listen().",
     .read = CODE)
{
    struct program *server = start_server(NULL);
    exchange_once(server);
    server = start_server("-a", "127.0.0.1", NULL);
    exchange_once(server);
    int port = unused_port();
    server = start_server_on(port, NULL);
    if (port_of(server) != port)
        fail_test("Started with -p %d, the server says that it listens on "
                  "port %d.",
                  port, port_of(server));
    exchange_once(server);
    if (has_address(AF_INET, "127.0.0.2")) {
        /* A port of our own: the kernel gives one number away once for each
         * address, so a server of another test might have it on 127.0.0.1. */
        port = unused_port();
        server = start_server_on(port, "-a", "127.0.0.2", NULL);
        struct connect_options there = {.address = "127.0.0.2"};
        struct peer *client = connect_with(server, &there);
        send_request(client);
        expect_answer(client);
        close_peer(client);
        if (accepts_connections("127.0.0.1", port))
            fail_test("Started with -a 127.0.0.2, the server listens on "
                      "127.0.0.1 as well.");
    }
}

#if LESSON != 1
TEST(server, every_server_knows_ipv6,
     .promise = "Lesson 01 knows IPv4 alone, every other program IPv4 and "
                "IPv6: `listening on [::1]:7777`.",
     .cause = "The address goes into a sockaddr_in only. getaddrinfo() with "
              "AI_NUMERICHOST returns the right structure for either; a name "
              "of an IPv6 address stands in brackets, so that its colons and "
              "the port's do not mix.",
     .read = "03-encoding/README.md, \"The code in reading order\"")
{
    if (!has_address(AF_INET6, "::1"))
        skip_test("this machine has no address ::1");
    struct program *server = start_server("-a", "::1", NULL);
    exchange_once(server);
    exchange_once(server);
}
#endif

/* ------------------------------------------------------------ how it ends */

struct wrong_usage {
    const char *what;
    const char *arguments[5];
};

static const struct wrong_usage wrong_usage[] = {
    {"an unknown option", {"-x"}},
    {"-p without a port", {"-p"}},
    {"-a without an address", {"-p", "0", "-a"}},
    {"an operand, where none belongs", {"-p", "0", "7777"}},
    {"port 65536", {"-p", "65536"}},
    {"port -1", {"-p", "-1"}},
    {"port 4294967296, which is 0 in 32 bits", {"-p", "4294967296"}},
    {"port 70000, which is 4464 in 16 bits", {"-p", "70000"}},
    {"a port of 20 digits", {"-p", "99999999999999999999"}},
    {"a port that is a word", {"-p", "http"}},
    {"a port with letters behind it", {"-p", "80x"}},
    {"a port that is a fraction", {"-p", "7777.5"}},
    {"an empty port", {"-p", ""}},
#if LESSON == 4
    {"a kind of frame that there is not", {"-p", "0", "-f", "cloud"}},
#endif
#if LESSON >= 5
    {"-m below 1", {"-p", "0", "-m", "0"}},
    {"-i below 0", {"-p", "0", "-i", "-1"}},
#endif
};

TEST(server, every_wrong_usage,
     .promise = "A wrong option, an operand too many or too few, a port that "
                "is no number from 0 to 65535: a usage line on standard error, "
                "exit 2.",
     .cause = "atoi() takes anything for a number, and what does not fit into "
              "16 bits is cut off without a word. strtol() tells where the "
              "number ended and whether it was too large.",
     .read = CODE, .patient = true)
{
    for (size_t i = 0; i < COUNT(wrong_usage); i++) {
        note("%s:", wrong_usage[i].what);
        struct program *server = start_server_with(
            &(struct start){.arguments = wrong_usage[i].arguments});
        expect_exit(server, 2);
        expect_complaint(server, "how the server is called");
        expect_output_end(server);
    }
}

TEST(server, every_failure_to_start,
     .promise = "ADDRESS is numeric. An address that is none, or cannot be "
                "bound, and a port that is taken, are run-time failures: exit "
                "1, one line on standard error.",
     .cause = "The result of a call is not checked (inet_pton, getaddrinfo, "
              "bind, listen), or the program ends with another status than 1. "
              "Or names are looked up, where AI_NUMERICHOST is wanted; some "
              "libraries take an empty one for every address.",
     .read = BREAK, .patient = true)
{
    static const struct wrong_usage addresses[] = {
        {"a text that is no address", {"-p", "0", "-a", "a..b"}},
        {"a name, which is no numeric address", {"-p", "0", "-a", "localhost"}},
        {"an empty text", {"-p", "0", "-a", ""}},
#if LESSON == 1
        {"an IPv6 address", {"-p", "0", "-a", "::1"}},
#endif
        {"an address of another machine", {"-p", "0", "-a", "192.0.2.1"}},
    };
    size_t count = COUNT(addresses);
    if (has_address(AF_INET, "192.0.2.1"))
        count--; /* Linux can be told to let everybody bind any address */
    struct program *server;
    for (size_t i = 0; i < count; i++) {
        note("%s:", addresses[i].what);
        server = start_server_with(
            &(struct start){.arguments = addresses[i].arguments});
        expect_told_failure(server, "what is wrong with the address");
        expect_output_end(server);
    }

    struct listener *taken = listen_here();
    const char *port = text_of("%d", port_of_listener(taken));
    note("a port that is taken:");
    server = start_server_with(
        &(struct start){.arguments = (const char *[]){"-p", port, NULL}});
    expect_told_failure(server, "that the port is taken");
    expect_output_end(server);

    note("a port that only root may take:");
    server = start_server_with(
        &(struct start){.arguments = (const char *[]){"-p", "81", NULL},
                        .no_privileged_ports = true});
    expect_told_failure(server, "that it may not take the port");
    expect_output_end(server);
}

TEST(server, every_server_starts_again_on_its_port,
     .promise = "A server that has ended, however it ended, can be started "
                "again on the same port at once.",
     .cause = "A connection of the old server still lingers in the kernel "
              "(TIME_WAIT, FIN_WAIT), and bind() says \"Address already in "
              "use\". SO_REUSEADDR, set before bind(), allows it.",
     .read = BREAK)
{
    struct program *server = start_server(NULL);
    int port = port_of(server);
    let_pass(0.01);
    size_t holds = holdings_of(server).descriptors;
    exchange_once(server);
    wait_for_descriptors(server, holds);
    note("the server ends while a connection is open");
    struct peer *open = connect_and_be_accepted(server);
    kill_program(server);
    server = start_server_on(port, NULL); /* our end is still open */
    exchange_once(server);
    wait_for_descriptors(server, holds);
    close_peer(open);
    note("and once more; the old connection waits in TIME_WAIT");
    open = connect_and_be_accepted(server);
    kill_program(server);
    close_peer(open);
    server = start_server_on(port, NULL);
    exchange_once(server);
}

/* ------------------------------------------------- bad clients, and slow */

TEST(server, every_client_may_take_its_time,
     .promise = "03: The client sends UTF-8 text and half-closes. 04: `ping` "
                "is answered at once with `pong`, joined or not. (How long it "
                "may be silent before is not bounded.) 05-07: `-i SECONDS`, "
                "how long a connection may stay without having joined (default "
                "30).",
     .cause = "The server gives up on a client that says nothing for a while "
              "(SO_RCVTIMEO, settimeout(), a poll() with a timeout). Silence "
              "is no end: only end of file is.",
     .read = BREAK, .patient = true, .slow = true)
{
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    note("the client says nothing for 2.5 s");
    let_pass(2.5);
    send_request(client);
    expect_answer(client);
    close_peer(client);
}

TEST(server, every_server_survives_clients_that_vanish,
     .promise = "No program dies of SIGPIPE. Whatever a client does, the next "
                "one is served.",
     .cause = "The client has gone when the server sends: the kernel raises "
              "SIGPIPE, which ends a program that has not ignored it (or used "
              "MSG_NOSIGNAL). Or an error of one connection (ECONNRESET, "
              "EPIPE, ECONNABORTED) ends the whole server.",
     .read = BREAK)
{
    struct program *server = start_server(NULL);
    exchange_once(server);
    static const char *const ways[] = {
        "connects and closes",
        "connects and resets",
        "sends and resets",
        "sends and closes without reading",
        "sends, half-closes and resets",
        "half-closes and resets",
    };
    for (size_t round = 0; round < 2; round++) {
        for (size_t way = 0; way < COUNT(ways); way++) {
            note("a client %s%s", ways[way],
                 round == 1 ? ", while the server is stopped" : "");
            if (round == 1)
                stop_program(server);
            struct peer *client = connect_to(server);
            if (way == 2 || way == 3 || way == 4)
                send_request(client);
            if (way == 4 || way == 5)
                shutdown(descriptor_of(client), SHUT_WR);
            if (way == 0 || way == 3)
                close_peer(client);
            else
                reset_peer(client);
            if (round == 1)
                continue_program(server);
            exchange_once(server);
        }
    }
    note("two clients at once vanish while the server is stopped");
    stop_program(server);
    for (size_t i = 0; i < 2; i++) {
        struct peer *client = connect_to(server);
        send_request(client);
        reset_peer(client);
    }
    continue_program(server);
    exchange_once(server);
    note("the server is stopped and continued while it waits");
    stop_program(server);
    continue_program(server);
    exchange_once(server);
}

TEST(server, every_client_gets_its_turn,
     .promise = "Others wait in the backlog.",
     .cause = "Connections that came while another one was served are lost, or "
              "the server serves one client and ends.",
     .read = CODE)
{
    struct program *server = start_server(NULL);
    struct peer *clients[3]; /* a backlog may be short */
    for (size_t i = 0; i < COUNT(clients); i++)
        clients[i] = connect_to(server);
    for (size_t i = 0; i < COUNT(clients); i++)
        send_request(clients[i]);
    for (size_t i = 0; i < COUNT(clients); i++) {
        expect_answer(clients[i]);
        close_peer(clients[i]);
    }
    expect_running(server);
}

/* ------------------------------------------------------ what it holds */

TEST(server, every_server_is_idle_when_nothing_happens,
     .promise = "A server that has nothing to do uses no CPU.",
     .cause = "The server asks again and again whether something has come, "
              "instead of waiting in accept(), recv() or poll(); or poll() "
              "reports something (an end of file, a writable socket) that "
              "nobody takes care of.",
     .read = CODE, .patient = true)
{
    struct program *server = start_server(NULL);
    exchange_once(server);
    struct peer *silent = connect_to(server);
    expect_idle(server, "while one client is connected and silent");
    close_peer(silent);
    exchange_once(server);
    expect_idle(server, "when its clients have gone");
}

/*
 * Waits until the server holds no more than it did before. A few more it may:
 * a runtime opens a file or starts a thread for itself, a child that has ended
 * is waited for at the next occasion. What is lost once for each connection of
 * a kind is twenty and more.
 */
static void expect_released(struct program *server,
                            const struct holdings *before, size_t connections)
{
    const size_t few = 10;
    double end = now() + patience();
    struct holdings holds = holdings_of(server);
    while ((holds.descriptors > before->descriptors + few ||
            holds.threads > before->threads + few ||
            holds.processes > before->processes + few) &&
           now() < end) {
        let_pass(0.02);
        holds = holdings_of(server);
    }
    if (holds.descriptors > before->descriptors + few)
        fail_test("After %zu more connections, all closed, the server holds "
                  "%zu descriptors, before it held %zu. Each connection's "
                  "descriptor has to be closed on every way out, also when "
                  "something failed.",
                  connections, holds.descriptors, before->descriptors);
    if (holds.threads > before->threads + few)
        fail_test("After %zu more connections, all closed, the server has %zu "
                  "threads, before it had %zu.",
                  connections, holds.threads, before->threads);
    if (holds.processes > before->processes + few)
        fail_test("After %zu more connections, all closed, the server has %zu "
                  "processes, before it had %zu. Children that have ended "
                  "stay until somebody waits for them (waitpid).",
                  connections, holds.processes, before->processes);
}

TEST(server, every_connection_gives_back_what_it_used,
     .promise = "What a connection used, descriptors, threads, processes and "
                "memory, is free again when it has ended.",
     .cause = "Something is opened or allocated for each connection and not "
              "released on every way out.",
     .read = BREAK)
{
    struct program *server = start_server(NULL);
    /* What it keeps for ever it may take with the first few. */
    for (size_t i = 0; i < 5; i++) {
        exchange_once(server);
        reset_peer(connect_to(server));
    }
    exchange_much(connect_to(server));
    expect_running(server);
    let_pass(0.05);
    struct holdings before = holdings_of(server);
    for (size_t i = 0; i < 20; i++) {
        exchange_once(server);
        close_peer(connect_to(server));
        reset_peer(connect_to(server));
        struct peer *client = connect_to(server);
        send_request(client);
        reset_peer(client);
    }
    exchange_once(server);
    expect_released(server, &before, 80);
}

enum { LARGEST_EXCHANGES = 32 };

static void do_the_largest_exchanges(struct program *server)
{
    for (size_t i = 0; i < LARGEST_EXCHANGES; i++)
        exchange_much(connect_to(server));
}

TEST(server, every_connection_gives_back_its_memory,
     .promise = "What a connection used, descriptors, threads, processes and "
                "memory, is free again when it has ended.",
     .cause = "Memory is allocated for each connection and not freed on every "
              "way out.",
     .read = BREAK, .patient = true, .slow = true)
{
    struct program *server = start_server(NULL);
    expect_no_growth(
        server, LARGEST_EXCHANGES * 8192,
        text_of("connections that have ended, %d at a time", LARGEST_EXCHANGES),
        do_the_largest_exchanges);
}

/* Each thread that waits in accept() has the next connection's descriptor
 * already (Linux sets it aside first), and serves one more client. And some
 * systems turn clients away by themselves, and the program never learns of it
 * (node). */
size_t ask_for_descriptors(struct program *server,
                           struct peer *clients[MOST_WAITING])
{
    size_t said = complaint_length(server);
    size_t count = 0;
    ssize_t answer = 1;
    double end = 0;
    while (complaint_length(server) == said) {
        if (answer != 0 && count == MOST_WAITING)
            break;
        if (answer != 0) {
            clients[count] = connect_to(server);
            send_request(clients[count++]);
            end = now() + patience();
        }
        char byte;
        answer = receive_some(clients[count - 1], &byte, 1, 0.002);
        if (answer == 0 && now() >= end)
            fail_test("Expected: the server says on standard error that it has "
                      "no descriptors left.\n"
                      "A client has come whom it cannot serve, and for %.1f s "
                      "it has said nothing.",
                      patience());
    }
    return count;
}

TEST(server, every_server_copes_without_descriptors,
     .promise = "It does not spin either while it has no descriptors left (it "
                "says so, goes on serving those it has, and accepts again when "
                "some are free).",
     .cause = "accept() fails with EMFILE. The connection stays in the queue, "
              "so accept() fails again at once: a server that ends is gone, "
              "one that tries without a pause uses the whole CPU.",
     .read = BREAK, .patient = true)
{
    struct program *server = start_server(NULL);
    exchange_once(server);
    let_pass(0.02);
    size_t descriptors = holdings_of(server).descriptors;
    struct peer *served = connect_and_be_accepted(server);
    exhaust_descriptors(server);
    send_request(served);
    expect_answer(served);
    close_peer(served);
    restore_descriptors(server);
    wait_for_descriptors(server, descriptors);
    exhaust_descriptors(server);

    struct peer *clients[MOST_WAITING];
    size_t count = ask_for_descriptors(server, clients);
    expect_idle(server, "while it has no descriptors left and a client waits");
    restore_descriptors(server);
    /* Whether those that waited are served or were turned away, the next one
     * finds a server. */
    for (size_t i = 0; i < count; i++)
        close_peer(clients[i]);
    exchange_once(server);
}

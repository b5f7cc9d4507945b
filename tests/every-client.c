/*
 * every-client.c - what the contract promises of every client, whatever goes
 * over the wire, in short; lesson-02.c asks the same at length. The lesson's
 * own file supplies what goes over the wire: see every.h.
 */
#include "every.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* The lesson that teaches all of this. */
#define CODE "02-basic-client/README.md, \"The code in reading order\""
#define BREAK "02-basic-client/README.md, \"Break it\""

struct call {
    const char *what;
    const char *arguments[8];
};

#define HERE "127.0.0.1"

static const struct call wrong_calls[] = {
    {"no operand", {NULL}},
    {"no port", {HERE}},
    {"an operand too many", {HERE, "7777", "again"}},
    {"an unknown option", {"-x", HERE, "7777"}},
    {"-t without seconds", {"-t"}},
    {"-r without a number", {"-r"}},
    {"-t 0", {"-t", "0", HERE, "7777"}},
    {"-t -1", {"-t", "-1", HERE, "7777"}},
    {"-t and a word", {"-t", "soon", HERE, "7777"}},
    {"-t and nothing", {"-t", "", HERE, "7777"}},
    {"-t 1s", {"-t", "1s", HERE, "7777"}},
    {"-t nan", {"-t", "nan", HERE, "7777"}},
    {"-t inf", {"-t", "inf", HERE, "7777"}},
    {"-t 0x2", {"-t", "0x2", HERE, "7777"}},
    {"-r -1", {"-r", "-1", HERE, "7777"}},
    {"-r 1.5", {"-r", "1.5", HERE, "7777"}},
    {"-r and a word", {"-r", "often", HERE, "7777"}},
    {"-r and nothing", {"-r", "", HERE, "7777"}},
    {"port 65536", {HERE, "65536"}},
    {"port -1, behind the end of the options", {"--", HERE, "-1"}},
    {"port 4294967297, which is 1 in 32 bits", {HERE, "4294967297"}},
    {"a port that is a word", {HERE, "http"}},
    {"a port with letters behind it", {HERE, "80x"}},
    {"an empty port", {HERE, ""}},
#if LESSON == 4
    {"a kind of frame that there is not", {"-f", "cloud", HERE, "7777"}},
#endif
};

TEST(client, every_wrong_usage,
     .promise = "A wrong option, an operand too many or too few, a port that "
                "is no number from 0 to 65535, seconds that are no decimal "
                "number or below 0 (`-t` must be over 0), retries that are no "
                "whole number from 0: a usage line on standard error, exit 2.",
     .cause = "atoi() and atof() take anything for a number. strtol() and "
              "strtod() tell where the number ended; strtod() also reads "
              "\"nan\" and \"inf\". getopt() takes care of options, nobody "
              "but you of operands.",
     .read = CODE, .patient = true)
{
    for (size_t i = 0; i < COUNT(wrong_calls); i++) {
        note("%s:", wrong_calls[i].what);
        struct program *client = start_client_with(&(struct start){
            .arguments = wrong_calls[i].arguments, .empty_input = true});
        expect_exit(client, 2);
        expect_complaint(client, "how the client is called");
        expect_output_end(client);
    }
}

/* How long a program takes here and at this moment to start and to end. */
static double time_to_start(void)
{
    struct program *client = start_client_with(&(struct start){
        .arguments = wrong_calls[0].arguments, .empty_input = true});
    expect_exit(client, 2);
    return age_of(client);
}

/* The client of this listener does its work. */
static void expect_it_works(struct program *client, struct listener *listener)
{
    give_input(client);
    converse(client, accept_client(listener));
}

TEST(client, every_option_and_address,
     .promise = "client [-t SECONDS] [-r RETRIES] HOST PORT: seconds may be "
                "fractional. An attempt tries every address of HOST in turn. "
                "Every program but lesson 01's knows IPv4 and IPv6.",
     .cause = "Only the first address that getaddrinfo() finds is tried, or "
              "only IPv4 ones: localhost may be ::1 first and 127.0.0.1 "
              "second.",
     .read = CODE)
{
    struct listener *listener = listen_here();
    expect_it_works(start_client_to(listener, "-t", "2.5", NULL), listener);
    expect_it_works(start_client_to(listener, "-r", "0", "-t", "60", NULL),
                    listener);

    /* What localhost is on this machine. */
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    bool ipv4 = false, ipv6 = false;
    if (getaddrinfo("localhost", "7", &hints, &list) == 0) {
        for (struct addrinfo *each = list; each; each = each->ai_next) {
            ipv4 = ipv4 || each->ai_family == AF_INET;
            ipv6 = ipv6 || each->ai_family == AF_INET6;
        }
        freeaddrinfo(list);
    }
    if (ipv4) {
        const char *port = text_of("%d", port_of_listener(listener));
        expect_it_works(start_client("-r", "0", "localhost", port, NULL),
                        listener);
    }
    if (ipv6) {
        struct listener *other = listen_at("::1", 0);
        const char *port = text_of("%d", port_of_listener(other));
        expect_it_works(start_client("-r", "0", "localhost", port, NULL),
                        other);
        expect_it_works(start_client("-r", "0", "::1", port, NULL), other);
    }
}

/*
 * How much longer clients that may try again once and twice run than one that
 * may not, when nobody listens: that is the time of their pauses. Returns by
 * how much two that may not differ: that is this machine's doing.
 */
static double measure_pauses(double *one, double *two)
{
    struct program *clients[4];
    static const char *const retries[] = {"0", "0", "1", "2"};
    for (size_t i = 0; i < COUNT(clients); i++) {
        clients[i] = start_client("-r", retries[i], HERE,
                                  text_of("%d", unused_port()), NULL);
        give_input(clients[i]);
    }
    for (size_t i = 0; i < COUNT(clients); i++) {
        expect_exit(clients[i], 1);
        expect_complaint(clients[i], "that it could not connect");
        expect_output_end(clients[i]);
    }
    *one = age_of(clients[2]) - age_of(clients[1]);
    *two = age_of(clients[3]) - age_of(clients[1]);
    double differs = age_of(clients[0]) - age_of(clients[1]);
    return differs < 0 ? -differs : differs;
}

TEST(client, every_attempt_that_fails,
     .promise = "`-r RETRIES`, 3 without it. When all have failed in a way "
                "that may pass (refused ...) the client pauses and tries "
                "again, at most RETRIES times: every "
                "pause is 0.1 to 1 s, the first at most 0.5 s; `-r 0` is one "
                "attempt. A HOST that does not exist is not retried. Exit 1 "
                "after a run-time failure.",
     .cause = "Retries are not counted, or the wrong failures are retried: "
              "refused may pass, an unknown name (EAI_NONAME) will not.",
     .read = BREAK, .patient = true, .slow = true)
{
    note("a host that cannot be, with 400 retries allowed, whose pauses would "
         "take 40 s");
    struct program *unknown = start_client("-r", "400", "a..b", "7777", NULL);
    give_input(unknown);
    expect_exit(unknown, 1);
    expect_complaint(unknown, "that there is no such host");

    int late = unused_port();
    note("a server that comes up 0.15 s late");
    struct program *early = start_client("-r", "60", HERE, text_of("%d", late),
                                         NULL);
    give_input(early);
    let_pass(0.15);
    expect_running(early);
    usual_cause("The client does not try again, or not as often as -r says: "
                "the server came up 0.15 s late.");
    converse(early, accept_client(listen_at(HERE, late)));
    usual_cause(NULL);

    note("nobody listens, without -r and with -r 0");
    double longer = 0;
    for (int i = 0; i < 3 && longer < 0.25; i++) {
        const char *port = text_of("%d", unused_port());
        struct program *clients[] = {start_client("-r", "0", HERE, port, NULL),
                                     start_client(HERE, port, NULL)};
        for (size_t k = 0; k < COUNT(clients); k++)
            give_input(clients[k]);
        for (size_t k = 0; k < COUNT(clients); k++)
            expect_exit(clients[k], 1);
        longer = age_of(clients[1]) - age_of(clients[0]);
    }
    if (longer < 0.25)
        fail_test("Without -r the client should try again 3 times, with a "
                  "pause of 0.1 s or more before each. It took %.3f s longer "
                  "than with -r 0.",
                  longer);

    note("nobody listens, with -r 0, -r 1 and -r 2");
    double one, two;
    int clear = 0; /* measurements that this machine has not disturbed */
    for (int i = 0; i < 12; i++) {
        clear += measure_pauses(&one, &two) < 0.03;
        if (one > 0.05 && one < 0.8 && two > 0.12 && two < 2.1)
            return;
        if (clear == 4)
            fail_test("With -r 1 the client should pause once, 0.1 to 0.5 s, "
                      "with -r 2 twice, the second time 0.1 to 1 s. It took "
                      "%.3f s and %.3f s longer than with -r 0.",
                      one, two);
    }
    skip_test("this machine is too busy to measure times");
}

TEST(client, every_connect_has_a_deadline,
     .promise = "An attempt tries every address of HOST in turn, each for at "
                "most SECONDS.",
     .cause = "A blocking connect() waits as long as the kernel likes, minutes "
              "on Linux. A deadline takes a non-blocking connect(), poll() "
              "and SO_ERROR.",
     .read = CODE, .patient = true, .slow = true)
{
    /* A machine that is busy with something else may make it late, not three
     * times in a row. */
    double once = 0, twice = 0;
    for (size_t tries = 0; tries < 3; tries++) {
        struct listener *listener = listen_but_never_answer();
        struct program *clients[] = {
            start_client_to(listener, "-t", "0.2", "-r", "0", NULL),
            start_client_to(listener, "-t", "0.2", "-r", "1", NULL)};
        give_input(clients[0]);
        give_input(clients[1]);
        double start = time_to_start();
        expect_exit(clients[0], 1);
        expect_complaint(clients[0], "that it could not connect");
        expect_exit(clients[1], 1);
        close_listener(listener);
        once = age_of(clients[0]);
        twice = age_of(clients[1]);
        if (once < 0.17 || twice < 0.2 + 0.1 + 0.17)
            break;
        if (once < 2 + 2 * start && twice < 3 + 2 * start)
            return;
    }
    fail_test("With -t 0.2 -r 0 the client should give up after 0.2 s, with "
              "-t 0.2 -r 1 after twice that and a pause of 0.1 to 0.5 s. It "
              "took %.3f s and %.3f s.",
              once, twice);
}

TEST(client, every_output_that_cannot_be_written,
     .promise = "Exit status: 1 after a run-time failure (one line on standard "
                "error). No program dies of SIGPIPE.",
     .cause = "printf() and fwrite() put bytes into a buffer and say that all "
              "is well; whether the disk took them shows when the buffer is "
              "flushed. Check fflush() or fclose() at the end.",
     .read = BREAK, .patient = true)
{
    static const enum output outputs[] = {OUTPUT_FULL_DISK, OUTPUT_NO_READER};
    for (size_t i = 0; i < COUNT(outputs); i++) {
        struct listener *listener = listen_here();
        const char *port = text_of("%d", port_of_listener(listener));
        struct program *client = start_client_with(
            &(struct start){.arguments = (const char *[]){HERE, port, NULL},
                            .output = outputs[i]});
        give_input(client);
        struct peer *peer = accept_client(listener);
        answer_and_close(peer);
        end_input(client);
        expect_exit(client, 1);
        expect_complaint(client, "that its output could not be written");
    }
}

/*
 * lesson-05.c - what is lesson 05's own: threads that come and go with their
 * connections, and threads that cannot be made. What a room for many promises
 * is judged in crowd.c, whoever serves it.
 */
#include "guests.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CODE "05-threads/README.md, \"The code in reading order\""
#define BREAK "05-threads/README.md, \"Break it\""

/*
 * How many connections wait in a server's backlog, of `most`, before one of
 * them hangs: no contract says how long a backlog is. The server that is asked
 * ends; the test begins with a fresh one. Skips the test where too few wait to
 * show anything.
 */
static int count_of_waiting(int most)
{
    enum { FEW = 5 };
    int sockets[100], count = 0;
    struct program *server = start_server(NULL);
    struct sockaddr_in there = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons((in_port_t)port_of(server))};
    stop_program(server);
    for (; count < most; count++) {
        int one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct pollfd connecting = {one, POLLOUT, 0};
        fcntl(one, F_SETFL, O_NONBLOCK);
        sockets[count] = one;
        if (connect(one, (struct sockaddr *)&there, sizeof there) < 0 &&
            poll(&connecting, 1, 300) != 1) {
            close(one);
            break;
        }
    }
    for (int i = 0; i < count; i++)
        close(sockets[i]);
    kill_program(server);
    note("%d connections wait in the server's backlog%s", count,
         count < most ? ", and no more" : " or more");
    if (count < FEW)
        skip_test("of connections that come at once only %d wait in the "
                  "server's backlog, and fewer than %d show nothing",
                  count, FEW);
    return count;
}

/* So many come at once and go again, one half of them members. */
static void come_and_go(struct program *server, int count)
{
    struct crowd *crowd = new_crowd();
    for (int i = 0; i < count; i++) {
        struct guest *guest = bring(crowd, server, text_of("m%03d", i));
        tell(guest, i % 2 == 0 ? ping : join_as(guest->name));
        guest->wanted = 1;
    }
    hear_all(crowd, "the answer to its ping, or its welcome");
    for (int i = 0; i < count; i++) {
        if (i % 3 == 0)
            break_off(crowd->guests[i]);
        else
            depart(crowd, crowd->guests[i]);
    }
}

TEST(server, serves_each_of_many_that_come_at_once,
     .promise = "Requests are answered in order, and each gets exactly its "
                "answer.",
     .cause = "A thread is given the address of a variable, the same one for "
              "every client: by the time the thread looks, the next client is "
              "in it. So one is served twice, and another not at all. Each "
              "thread needs memory of its own. Or a member is on the list of "
              "those who hear everything before its welcome is in its queue: "
              "both have to happen under one lock, held all the time.",
     .read = BREAK, .patient = true)
{
    const int at_once = count_of_waiting(100);
    struct program *server = start_server(NULL);
    struct crowd *crowd = new_crowd();
    note("%d connect and join while the server is stopped", at_once);
    stop_program(server);
    for (int i = 0; i < at_once; i++) {
        struct guest *guest = bring(crowd, server, text_of("m%03d", i));
        tell(guest, join_as(guest->name));
        guest->wanted = 1;
    }
    attend_for(crowd, 0.01);
    continue_program(server);
    hear_all(crowd, "its welcome");
    for (int i = 0; i < at_once; i++) {
        const struct guest *guest = crowd->guests[i];
        const char *due = text_of("welcome %s ", guest->name);
        const char *came = guest->heard[0].event;
        if (strncmp(came, due, strlen(due)) != 0)
            fail_test("Expected: the first that %s hears is its welcome.\n"
                      "What came: \"%s\".",
                      guest->name, came);
    }
}

TEST(server, who_goes_does_not_cut_off_who_comes,
     .promise = "Whoever closes or breaks off, nothing that another member "
                "said is lost or reordered for the rest.",
     .cause = "A socket is closed twice, by two threads. In between its number "
              "may have been given to a client that has just come, and that "
              "one is cut off. One thread closes, when no other one uses the "
              "socket any more.",
     .read = CODE, .patient = true)
{
    /* It goes wrong now and then only. */
    const int at_once = count_of_waiting(40);
    const int rounds = hostile_seed() == 0 ? 20 : 5;
    struct program *server = start_server(NULL);
    struct crowd *crowd = new_crowd();
    for (int i = 0; i < at_once; i++) {
        tell(bring(crowd, server, "one who goes"), ping);
        crowd->guests[i]->wanted = 1;
    }
    hear_all(crowd, "the answer to its ping");
    for (int round = 0; round < rounds; round++) {
        note("while the server is stopped, %d close and %d come", at_once,
             at_once);
        stop_program(server);
        struct crowd *next = new_crowd();
        for (int i = 0; i < at_once; i++) {
            walk_out(crowd->guests[i]);
            struct guest *guest = bring(next, server, text_of("new %d", i));
            tell(guest, ping);
            guest->wanted = 1;
        }
        attend_for(next, 0.01);
        continue_program(server);
        hear_all(next, "the answer to its ping");
        for (int i = 0; i < at_once; i++) {
            tell(next->guests[i], ping);
            next->guests[i]->wanted = 2;
        }
        hear_all(next, "the answer to a second ping");
        crowd = next;
    }
}

TEST(server, threads_go_with_their_connections,
     .promise = "What a connection used, descriptors, threads, processes and "
                "memory, is free again when it has ended.",
     .cause = "A thread that has ended keeps its stack until somebody joins "
              "it, or for good when nobody does and it was not detached.",
     .read = CODE, .patient = true, .slow = true)
{
    enum { AT_ONCE = 20, ROUNDS = 15 };
    struct program *server = start_server(NULL);
    for (int i = 0; i < 3; i++)
        come_and_go(server, AT_ONCE);
    let_pass(0.05);
    size_t before = mappings_of(server);
    struct holdings held = holdings_of(server);
    for (int i = 0; i < ROUNDS; i++)
        come_and_go(server, AT_ONCE);
    size_t most = before + AT_ONCE * ROUNDS / 2;
    double until = now() + patience();
    while ((mappings_of(server) > most ||
            holdings_of(server).threads > held.threads + 10) &&
           now() < until)
        let_pass(0.02);
    size_t after = mappings_of(server);
    if (after > most)
        fail_test("Expected: when %d connections have come and gone, their "
                  "memory is free again.\n"
                  "The server's memory has %zu pieces, before it had %zu: the "
                  "stacks of threads that have ended stay.",
                  AT_ONCE * ROUNDS, after, before);
    size_t threads = holdings_of(server).threads;
    if (threads > held.threads + 10)
        fail_test("Expected: when %d connections have come and gone, their "
                  "threads have ended.\n"
                  "The server has %zu threads, before it had %zu.",
                  AT_ONCE * ROUNDS, threads, held.threads);
}

TEST(server, goes_on_when_no_thread_can_be_made,
     .promise = "05: when the thread or the process that is to serve a "
                "connection cannot be made, the server says so, closes that "
                "connection, and goes on serving those it has.",
     .cause = "The result of pthread_create() is not looked at, and the "
              "connection stays open with nobody who serves it; or the whole "
              "server ends; or one of the two threads is made, the other one "
              "is not, and nobody tells the first.",
     .read = BREAK, .patient = true, .slow = true)
{
    enum { MORE = 40 };
    struct program *server = start_server(NULL);
    struct crowd *crowd = new_crowd();
    struct holdings before = holdings_of(server);
    struct guest *ada = enter_room(crowd, server, "ada", 1);
    struct guest *grace = enter_room(crowd, server, "grace", 2);
    expect_heard(crowd, ada, "joined grace");
    tell(ada, say("hello"));
    everybody_hears(crowd, NULL, "said ada: hello");
    struct holdings held = holdings_of(server);
    if (held.threads < before.threads + 2 &&
        held.processes < before.processes + 2)
        skip_test("no thread and no process is made for a connection to this "
                  "server");
    if (!limit_address_space(server, 1 << 20))
        skip_test("a running program cannot be limited here");
    struct guest *others[MORE];
    for (int i = 0; i < MORE; i++) {
        others[i] = bring(crowd, server, text_of("number %d", i + 3));
        tell(others[i], ping);
    }
    note("%d more connect, each with a ping; there is no memory for so many "
         "stacks",
         MORE);
    int served = 0, closed = 0;
    for (int i = 0; i < MORE; i++) {
        double until = now() + patience();
        while (others[i]->count == 0 && !others[i]->is_over && now() < until)
            attend(crowd, until);
        served += others[i]->count > 0;
        closed += others[i]->count == 0 && others[i]->is_over;
        if (others[i]->count == 0 && !others[i]->is_over)
            fail_test("Expected: each connection is served, or closed when no "
                      "thread can be made for it.\n"
                      "Of %d connections %d were served and %d closed; that of "
                      "%s is open, and its ping has not been answered for "
                      "%.1f s.",
                      i + 1, served, closed, others[i]->name, patience());
    }
    note("%d were served, %d closed", served, closed);
    if (closed > 0)
        expect_complaint(server, "that no thread could be made");
    tell(ada, say("still here"));
    expect_heard(crowd, ada, "said ada: still here");
    expect_heard(crowd, grace, "said ada: still here");
    expect_idle(server, "when no more threads can be made");
    for (int i = 0; i < MORE; i++)
        walk_out(others[i]);
    lift_address_space(server);
    now_trying("the limit is lifted");
    struct guest *joan = enter_room(crowd, server, "joan", 3);
    expect_heard(crowd, ada, "joined joan");
    expect_heard(crowd, grace, "joined joan");
    tell(joan, say("at last"));
    everybody_hears(crowd, NULL, "said joan: at last");
    now_trying(NULL);
}

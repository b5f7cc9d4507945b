/*
 * lesson-06.c - what is lesson 06's own: one thread that serves ten thousand
 * connections. What a room for many promises is judged in crowd.c, whoever
 * serves it.
 */
#include "guests.h"

#include <stdio.h>
#include <string.h>

#define IDEA "06-poll/README.md, \"The idea\""

/* How many ports the kernel has for connections to one address. */
static int count_of_ports(void)
{
    int first = 0, last = 0;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    if (file == NULL)
        return 16384;
    if (fscanf(file, "%d %d", &first, &last) != 2)
        first = last = 0;
    fclose(file);
    return last - first;
}

TEST(server, serves_ten_thousand,
     .promise = "`-m CONNECTIONS`, the most at once, joined or not. A server "
                "that has nothing to do uses no CPU.",
     .cause = "A table of fixed size; select(), which knows descriptors up to "
              "1023 alone; a list that is walked from its beginning for every "
              "connection that comes; a thread or a process for each of them, "
              "and no more to be had.",
     .read = IDEA, .patient = true, .slow = true)
{
    enum { CONNECTIONS = 10000, MEMBERS = 300, SPARE = 100 };
    if (hostile_seed() != 0)
        return; /* so many are slow there, and show nothing new */
    if (count_of_ports() < CONNECTIONS + 2000)
        skip_test("%d connections need more ports than the %d in "
                  "net.ipv4.ip_local_port_range",
                  CONNECTIONS, count_of_ports());
    struct program *server = start_server("-m", "10000", "-i", "0", NULL);
    /* A program may need more than one for each of them. */
    if (!allow_descriptors(server, 3 * CONNECTIONS) &&
        !allow_descriptors(server, 2 * CONNECTIONS + SPARE) &&
        !allow_descriptors(server, CONNECTIONS + SPARE))
        skip_test("%d connections need more descriptors than the hard limit "
                  "allows (ulimit -Hn)",
                  CONNECTIONS);
    struct crowd *crowd = new_crowd();
    for (int i = 0; i < MEMBERS; i++)
        enter_room(crowd, server, text_of("m%03d", i), i + 1);
    struct holdings before = holdings_of(server);
    static struct channel *silent[CONNECTIONS];
    double began = now();
    int at_once = 100;
    for (int i = MEMBERS; i < CONNECTIONS; i++) {
        double from = now();
        silent[i] = open_channel(server);
        /* Not more at once than a backlog takes: one that comes when it is full
         * tries again after a second. */
        if (now() - from > 0.9 && at_once > 5)
            at_once /= 2;
        if (i % at_once == 0) {
            send_message(silent[i], ping);
            expect_pong(silent[i]);
        }
    }
    send_message(silent[CONNECTIONS - 1], ping);
    expect_pong(silent[CONNECTIONS - 1]);
    size_t held = holdings_of(server).memory;
    note("%d silent connections came in %.2f s; the server holds %zu bytes "
         "for each of them",
         CONNECTIONS - MEMBERS, now() - began,
         (held > before.memory ? held - before.memory : 0) /
             (CONNECTIONS - MEMBERS));
    expect_idle(server, "while ten thousand are connected and silent");
    for (int i = 0; i < MEMBERS; i++) {
        crowd->guests[i]->wanted = (size_t)(MEMBERS - i) + 20;
        if (i < 20)
            tell(crowd->guests[i], say(text_of("%d", i)));
    }
    note("twenty of the %d members say something", MEMBERS);
    hear_all(crowd, "what twenty of them said");
    expect_one_order(crowd);
    now_trying("one of the silent ones joins");
    send_message(silent[CONNECTIONS - 1], join_as("the last"));
    expect_welcome(silent[CONNECTIONS - 1], "the last", MEMBERS + 1);
    now_trying("one more than -m");
    struct channel *more = open_channel(server);
    expect_error(more);
    expect_end(more, ONLY_THE_END);
    close_channel(more);
    now_trying("all go at once");
    for (int i = MEMBERS; i < CONNECTIONS; i++)
        reset_channel(silent[i]);
    double until = now() + patience();
    size_t descriptors = holdings_of(server).descriptors;
    while (descriptors > before.descriptors + SPARE && now() < until) {
        attend_for(crowd, 0.02);
        size_t fewer = holdings_of(server).descriptors;
        if (fewer < descriptors)
            until = now() + patience();
        descriptors = fewer;
    }
    if (descriptors > before.descriptors + SPARE)
        fail_test("Expected: when all but %d connections have gone, their "
                  "descriptors are free.\n"
                  "The server holds %zu descriptors, and for %.1f s they have "
                  "not become fewer. With the %d alone it held %zu.",
                  MEMBERS, descriptors, patience(), MEMBERS,
                  before.descriptors);
    if (!hears(crowd, crowd->guests[0], 0, "left the last", patience()))
        fail_test("Expected: m000 hears \"left the last\" when all but %d have "
                  "gone.\nIt has not in %.1f s.",
                  MEMBERS, patience());
    tell(crowd->guests[1], say("where is everybody?"));
    if (!hears(crowd, crowd->guests[0], 0, "said m001: where is everybody?",
               patience()))
        fail_test("Expected: m000 hears what m001 says when all others have "
                  "gone.\nIt has not in %.1f s.",
                  patience());
    now_trying(NULL);
}

/*
 * 06-1.c - judges exercise 06-1: epoll in the place of poll.
 */
#include "guests.h"
#include "inside.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ "06-poll/README.md, \"The idea\""
#define CODE "06-poll/README.md, \"The code in reading order\""

/* Waits for so many letters, and no other bytes. */
static void expect_letters(struct peer *client, size_t count)
{
    char *letters = malloc(count);
    if (letters == NULL)
        skip_test("no memory for %zu bytes", count);
    memset(letters, 'x', count);
    expect_bytes(client, letters, count);
    free(letters);
}

/* Whether a process has a descriptor of epoll. */
static bool has_epoll(pid_t process)
{
    char path[64], link[PATH_MAX];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)process);
    DIR *directory = opendir(path);
    if (directory == NULL)
        skip_test("%s cannot be read", path);
    for (struct dirent *entry = readdir(directory); entry != NULL;
         entry = readdir(directory)) {
        ssize_t length = readlinkat(dirfd(directory), entry->d_name, link,
                                    sizeof link - 1);
        link[length < 0 ? 0 : length] = '\0';
        found = found || strstr(link, "[eventpoll]") != NULL;
    }
    closedir(directory);
    return found;
}

TEST(server, waits_with_epoll, .promise = "Put epoll in the place of poll.",
     .cause =
         "To begin with: make an epoll descriptor (epoll_create1), tell it "
         "of the listener and of every new client (epoll_ctl with "
         "EPOLL_CTL_ADD), and let epoll_wait take the place of poll in "
         "`run`. data.ptr comes back with each event: let it point to the "
         "client.",
     .read = READ)
{
#ifndef __linux__
    skip_test("there is epoll on Linux alone");
#endif
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    usual_cause("epoll does not name this client, or not again: tell it of the "
                "listener and of each new client (EPOLL_CTL_ADD), with "
                "EPOLLIN. With EPOLLET what is not received, or not sent, at "
                "once is not reported again.");
    send_text(client, "3\n");
    expect_letters(client, 3);
    usual_cause(NULL);
    if (!has_epoll(server->pid))
        fail_test("Expected: the server has a descriptor of epoll.\n"
                  "None of the links in /proc/%d/fd is "
                  "anon_inode:[eventpoll].",
                  (int)server->pid);
}

TEST(server, answers_requests_in_pieces_and_at_once,
     .promise = "Requests come in pieces, or many at once; each gets its "
                "answer.",
     .cause =
         "With EPOLLET what came is reported once: recv has to go on until "
         "it says EAGAIN. Without it, one recv for each event is enough.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    send_slowly(client, "1", 1, 1, 0.01);
    send_slowly(client, "0\n0\n00", 6, 2, 0.01); /* 002 is going to be 2 */
    expect_letters(client, 10);
    /* More than one recv brings, most of them behind what it brings. */
    enum { REQUESTS = 100000 };
    char *requests = malloc(2 * REQUESTS);
    if (requests == NULL)
        skip_test("no memory");
    requests[0] = '2';
    requests[1] = '\n';
    for (size_t i = 1; i < REQUESTS; i++)
        memcpy(requests + 2 * i, "1\n", 2);
    send_bytes(client, requests, (size_t)2 * REQUESTS);
    expect_letters(client, REQUESTS + 1);
    free(requests);
}

TEST(server, large_answers_hold_up_nobody,
     .promise = "Each request gets its answer, however large it is, and nobody "
                "holds up the others.",
     .cause =
         "When the kernel takes no more, EPOLLOUT has to be asked for "
         "(EPOLL_CTL_MOD), and EPOLLIN as before; with EPOLLET send has to go "
         "on until it says EAGAIN. Whoever waits in send makes all wait.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct connect_options small = {.receive_buffer = 65536};
    struct peer *slow = connect_with(server, &small);
    struct peer *other = connect_to(server);
    send_text(slow, "8000000\n");
    expect_letters(slow, 1000);
    send_text(slow, "7\n");
    send_text(other, "9\n");
    expect_letters(other, 9);
    expect_letters(slow, 8000000 - 1000 + 7);
    send_text(slow, "5\n");
    expect_letters(slow, 5);
}

TEST(server, uses_no_processor_while_all_are_silent,
     .promise = "The server uses no processor while all are silent.",
     .cause = "EPOLLOUT is asked for though nothing waits to be sent: there is "
              "nearly always room to send, so epoll_wait returns at once, for "
              "ever. Take it back (EPOLL_CTL_MOD) when an answer is sent.",
     .read = READ, .patient = true)
{
    struct program *server = start_server(NULL);
    struct peer *clients[3];
    for (int i = 0; i < 3; i++) {
        clients[i] = connect_to(server);
        send_text(clients[i], "5\n");
        expect_letters(clients[i], 5);
    }
    usual_cause("When a large answer had to wait, EPOLLOUT was asked for, and "
                "never taken back (EPOLL_CTL_MOD).");
    send_text(clients[2], "8000000\n");
    expect_letters(clients[2], 8000000);
    usual_cause(NULL);
    expect_idle(server, "while three clients are connected and silent");
}

TEST(server, serves_to_the_end_who_has_ended,
     .promise = "A client that ends its side gets all that it has asked for, "
                "and then the end of the connection. The server uses no "
                "processor while one does not read its answer.",
     .cause = "EPOLLIN is still asked for when recv has returned 0. The end "
              "of a connection can be received again and again, so epoll_wait "
              "returns at once, for ever; or what is left is thrown away.",
     .read = READ, .patient = true)
{
    struct program *server = start_server(NULL);
    struct connect_options small = {.receive_buffer = 65536};
    struct peer *client = connect_with(server, &small);
    send_text(client, "4000000\n4000000\n");
    half_close(client);
    expect_letters(client, 1000);
    expect_idle(server, "while one has ended its side and does not read");
    expect_letters(client, 8000000 - 1000);
    expect_end_of_file(client);
    close_peer(client);

    usual_cause("A client that broke off while its answer waited is still "
                "there: EPOLLHUP and EPOLLERR are reported unasked, and recv "
                "or send find out what they mean.");
    client = connect_with(server, &small);
    struct peer *other = connect_to(server);
    send_text(other, "1\n");
    expect_letters(other, 1);
    send_text(client, "8000000\n");
    half_close(client);
    expect_letters(client, 1000);
    size_t before = holdings_of(server).descriptors;
    reset_peer(client);
    double until = now() + patience();
    while (holdings_of(server).descriptors >= before) {
        if (now() > until)
            fail_test("Expected: when a client has broken off, its descriptor "
                      "is free.\n%.0f s later it is not.",
                      patience());
        let_pass(0.01);
    }
    send_text(other, "1\n");
    expect_letters(other, 1);
}

TEST(server, closes_who_sends_anything_else,
     .promise = "A client that sends anything else is closed.",
     .cause =
         "The client is freed, but its socket is not closed; or the client "
         "is used again behind free.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct peer *good = connect_to(server);
    static const char *const wrong[] = {"\n", "1 2\n", "1000000000\n", "-1\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct peer *client = connect_to(server);
        send_text(client, wrong[i]);
        expect_closed(client);
    }
    send_text(good, "2\n");
    expect_letters(good, 2);
}

/*
 * The client asks and is answered, again and again. One pause in each turn of
 * the server's loop makes all of that slow, a busy machine some of it: so a few
 * exchanges that are quick are enough.
 */
static void expect_quick_answers(struct peer *client)
{
    enum { EXCHANGES = 10 };
    const double slow = 0.4;
    double end = now() + patience(), least = 1e9;
    do {
        double begin = now();
        for (int i = 0; i < EXCHANGES; i++) {
            send_text(client, "1\n");
            expect_letters(client, 1);
        }
        least = now() - begin < least ? now() - begin : least;
    } while (least > slow && now() < end);
    if (least > slow)
        fail_test("Expected: without free descriptors the server serves those "
                  "whom it has as fast as before.\n"
                  "%d short answers took %.1f s, and never less.",
                  EXCHANGES, least);
}

TEST(server, rests_without_descriptors,
     .promise = "Without free descriptors the server serves those whom it has, "
                "as fast as before, and takes others when there are "
                "descriptors again.",
     .cause =
         "A listener at which somebody waits is reported at once, for "
         "ever. Tell epoll to leave it alone for a while (EPOLL_CTL_MOD "
         "with no events), and watch it again when a time has come, by the "
         "clock: on a busy server epoll_wait never returns 0.",
     .read = CODE, .patient = true)
{
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    send_text(client, "3\n");
    expect_letters(client, 3);
    exhaust_descriptors(server);
    struct peer *next = connect_to(server);
    send_text(next, "4\n");
    expect_idle(server, "while a client waits for whom there is no descriptor");
    usual_cause("The server sleeps when there is no descriptor, and all whom "
                "it has wait with it. Leave the listener alone for a while, "
                "and go on with the others.");
    expect_quick_answers(client);
    usual_cause(NULL);
    restore_descriptors(server);
    /* A busy server: there is always something to do. */
    note("Descriptors are free again; client 1 goes on asking.");
    double until = now() + patience();
    while (bytes_waiting(next) < 4) {
        if (now() > until)
            fail_test("Expected: the client that waited is served.\n"
                      "It got nothing in %.0f s, while client 1 got all its "
                      "answers.",
                      patience());
        send_text(client, "1\n");
        expect_letters(client, 1);
    }
    expect_letters(next, 4);
}

/* The server's processor time for one exchange, in microseconds: the least of
 * several stretches, for what else runs on the machine can only add to it. */
static double cost_of_an_exchange(struct program *server, struct peer *client)
{
    enum { STRETCHES = 5, EXCHANGES = 30 };
    double least = 1e9;
    for (int i = 0; i < STRETCHES; i++) {
        double before = cpu_time_of_group(server->pid);
        for (int k = 0; k < EXCHANGES; k++) {
            send_text(client, "1\n");
            expect_letters(client, 1);
        }
        double cost = (cpu_time_of_group(server->pid) - before) / EXCHANGES;
        least = cost < least ? cost : least;
    }
    return least * 1e6;
}

TEST(server, silent_clients_cost_nothing,
     .promise = "What an answer costs does not depend on how many others are "
                "silent.",
     .cause = "Something is done for every client in every turn: poll is given "
              "the whole list, or epoll_ctl is called for each of them, or a "
              "loop looks at all. Tell epoll of a client when it comes, and "
              "again when it waits for something new; after epoll_wait look at "
              "those alone that it names.",
     .read = READ, .patient = true)
{
#ifndef __linux__
    skip_test("there is epoll on Linux alone");
#endif
    enum { SILENT = 1000, TIMES = 4 };
    struct program *server = start_server(NULL);
    if (!allow_descriptors(server, SILENT + 100))
        skip_test("%d connections need more descriptors than the hard limit "
                  "allows (ulimit -Hn)",
                  SILENT);
    struct peer *client = connect_to(server);
    double alone = cost_of_an_exchange(server, client);
    for (int i = 0; i < SILENT; i++) {
        struct peer *silent = connect_to(server);
        if (i % 100 == 99) { /* not more at once than a backlog takes */
            send_text(silent, "1\n");
            expect_letters(silent, 1);
        }
    }
    double beside = cost_of_an_exchange(server, client);
    note("one exchange costs the server %.1f microseconds of processor time, "
         "and %.1f beside %d silent clients",
         alone, beside, SILENT);
    if (beside > TIMES * alone)
        fail_test("Expected: an exchange costs about the same beside %d silent "
                  "clients (at most %d times as much).\n"
                  "It costs %.1f microseconds of processor time alone, and "
                  "%.1f beside them.",
                  SILENT, TIMES, alone, beside);
}

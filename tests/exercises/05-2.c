/*
 * 05-2.c - judges exercise 05-2: a pool of threads with a bounded queue.
 */
#include "messages.h"

#include <stdio.h>
#include <string.h>

#define READ "05-threads/README.md, \"Exercises\""

/* Starts the server with so many threads and places in its queue. */
static struct program *start_pool(int threads, int places)
{
    struct program *server = start_server("-t", text_of("%d", threads), "-q",
                                          text_of("%d", places), NULL);
    size_t held = holdings_of(server).threads;
    if (held > 1)
        usual_cause("There are threads, but fewer than -t says, or some are "
                    "started only behind announce.");
    if (held != 0 && held < (size_t)threads + 1)
        fail_test("Expected: when the server says where it listens, it has "
                  "%d threads and the main thread.\nIt has %zu in all.",
                  threads, held);
    usual_cause(NULL);
    return server;
}

/* Waits until all threads sleep. */
static void let_settle(struct program *server)
{
    double until = now() + patience();
    while (share_of_time_busy(server, 0.02) > 0 && now() < until)
        continue;
}

/* A client that has connected and said a text of its own. */
static struct peer *speaker(struct program *server, int number)
{
    struct peer *client = connect_to(server);
    send_text(client, text_of("from client %d", number));
    return client;
}

static void expect_echo(struct peer *client, int number)
{
    expect_text(client, text_of("from client %d", number));
}

TEST(server, starts_as_many_threads_as_it_is_told,
     .promise = "The server starts THREADS threads before it says where it "
                "listens.",
     .cause = "To begin with: write the queue (an array of sockets, a mutex, "
              "two conditions), a function that takes a socket out of it, and "
              "one for the threads: take, serve, close, again. Start THREADS "
              "of these with pthread_create before announce, and let main put "
              "what it accepts into the queue.",
     .read = READ)
{
    struct program *few = start_pool(2, 1);
    size_t of_few = holdings_of(few).threads;
    kill_program(few);
    struct program *many = start_pool(5, 1);
    usual_cause("There are threads, but not as many as -t says.");
    size_t of_many = holdings_of(many).threads;
    if (of_many != of_few + 3)
        fail_test("Expected: with -t 5 the server has three threads more than "
                  "with -t 2, where it has %zu.\nIt has %zu.",
                  of_few, of_many);
}

TEST(server, serves_as_many_at_a_time_as_it_has_threads,
     .promise = "The server serves as many clients at a time as it has "
                "threads.",
     .cause = "A thread serves its client while it holds the mutex, so that "
              "the others cannot take one. The mutex is for the queue alone: "
              "unlock it before you serve. Or a socket was put into the queue "
              "and no thread was woken.",
     .read = READ)
{
    struct program *server = start_pool(3, 2);
    struct peer *clients[3];
    for (int i = 0; i < 3; i++)
        clients[i] = connect_to(server);
    for (int i = 2; i >= 0; i--) {
        send_text(clients[i], text_of("from client %d", i));
        expect_echo(clients[i], i);
    }
}

TEST(server, first_come_first_served,
     .promise = "The threads take the sockets out of the queue, first come, "
                "first served.",
     .cause = "The last socket that was put in is the first that is taken "
              "out: that is a stack. Or the ring loses its beginning when it "
              "comes round.",
     .read = READ)
{
    enum { WAITING = 7 };
    struct program *server = start_pool(1, 3);
    struct peer *clients[1 + WAITING];
    for (int i = 0; i <= WAITING; i++)
        clients[i] = speaker(server, i);
    expect_idle(server, "while one client is served and seven wait");
    for (int i = 0; i <= WAITING; i++) {
        expect_echo(clients[i], i);
        close_peer(clients[i]);
    }
}

TEST(server, no_thread_is_started_for_a_client,
     .promise = "The server starts THREADS threads, and none afterwards: more "
                "clients than these wait until one goes.",
     .cause = "A thread is started for each client that comes.", .read = READ)
{
    struct program *server = start_pool(2, 8);
    size_t threads = holdings_of(server).threads;
    struct peer *silent = connect_to(server), *other = connect_to(server);
    send_text(silent, "hello");
    expect_text(silent, "hello");
    struct peer *waiting[4];
    for (int i = 0; i < 4; i++)
        waiting[i] = speaker(server, i);
    expect_idle(server, "while two clients are silent and four wait");
    size_t held = holdings_of(server).threads;
    if (held != threads)
        fail_test("Expected: the server has as many threads as before the "
                  "clients came, %zu.\nIt has %zu.",
                  threads, held);
    for (int i = 0; i < 4; i++)
        if (bytes_waiting(waiting[i]) > 0)
            fail_test("Expected: while two clients are silent, they have both "
                      "threads, and nobody else is served.\n"
                      "Client %d of those that wait has its answer.",
                      i);
    close_peer(other);
    for (int i = 0; i < 4; i++) {
        expect_echo(waiting[i], i);
        close_peer(waiting[i]);
    }
    send_text(silent, "still here");
    expect_text(silent, "still here");
}

TEST(server, a_full_queue_holds_up_the_main_thread,
     .promise = "While the queue is full, the main thread waits for a place, "
                "without CPU. At most one client waits in its hand; the "
                "others wait in the kernel's backlog. Nobody is turned away.",
     .cause = "The queue has no bound, or the main thread closes whom it has "
              "no place for, or asks again and again whether there is one. "
              "Let it wait for the condition \"not full\". Or there is no "
              "queue, and the threads accept clients themselves.",
     .read = READ)
{
    enum { THREADS = 2, PLACES = 3, CLIENTS = 12 };
    struct program *server = start_pool(THREADS, PLACES);
    size_t before = holdings_of(server).descriptors;
    struct peer *clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = speaker(server, i);
    expect_idle(server, text_of("while %d clients are silent and %d wait",
                                THREADS, CLIENTS - THREADS));
    size_t held = holdings_of(server).descriptors;
    if (before != 0 && (held < before + THREADS + PLACES ||
                        held > before + THREADS + PLACES + 1))
        fail_test("Expected: %d clients have a thread, %d wait in the queue, "
                  "and one at most in the hand of the main thread: %d or %d "
                  "descriptors more than before.\nThere are %zu more.",
                  THREADS, PLACES, THREADS + PLACES, THREADS + PLACES + 1,
                  held - before);
    note("the server has taken %zu of them", held - before);
    for (int i = 0; i < CLIENTS; i++) {
        expect_echo(clients[i], i);
        close_peer(clients[i]);
    }
}

/* As many clients as there are threads come at the same moment, and again. */
static void serve_bursts(int places)
{
    enum { THREADS = 8, ROUNDS = 20 };
    struct program *server = start_pool(THREADS, places);
    for (int round = 0; round < ROUNDS; round++) {
        struct peer *clients[THREADS];
        let_settle(server);
        note("While the server is stopped, %d clients come.", THREADS);
        stop_program(server);
        for (int i = 0; i < THREADS; i++)
            clients[i] = speaker(server, i);
        continue_program(server);
        for (int i = 0; i < THREADS; i++)
            expect_echo(clients[i], i);
        for (int i = 0; i < THREADS; i++)
            close_peer(clients[i]);
    }
}

TEST(server, a_burst_wakes_all_threads,
     .promise = "The server serves as many clients at a time as it has "
                "threads.",
     .cause = "A thread is woken only when the queue was empty before. When "
              "clients come faster than threads wake up, one thread is woken "
              "for many clients, and the others sleep on. Signal for each "
              "socket that is put in.",
     .read = READ)
{
    serve_bursts(8);
}

TEST(server, a_burst_goes_through_a_small_queue,
     .promise = "While the queue is full, the main thread waits for a place. "
                "The server serves as many clients at a time as it has "
                "threads.",
     .cause = "Nobody tells the main thread that a place is free. Or there is "
              "one condition for \"not empty\" and \"not full\": "
              "pthread_cond_signal wakes one of those who wait there, a thread "
              "without a client where the main thread was meant. Take two "
              "conditions, and signal \"not full\" for each socket that is "
              "taken out.",
     .read = READ)
{
    serve_bursts(1);
}

TEST(server, who_waits_uses_no_cpu,
     .promise = "Who waits, for a client or for a place, uses no CPU.",
     .cause = "A thread goes on after pthread_cond_wait without looking at the "
              "queue again. It may return although nobody has signalled, or "
              "when another thread has taken what was there: then the thread "
              "takes what is not there, and the count goes below zero. Wait in "
              "a loop (while, not if). Or a thread asks again and again.",
     .read = READ)
{
    struct program *server = start_pool(1, 2);
    expect_idle(server, "before anybody has come");
    struct peer *client = speaker(server, 1);
    expect_echo(client, 1);
    close_peer(client);
    expect_idle(server, "when its client has gone");
}

TEST(server, who_goes_while_it_waits_harms_nobody,
     .promise = "Each thread serves its client to the end; then it takes the "
                "next.",
     .cause = "A client that has gone while it waited in the queue ends the "
              "thread, or the server; or a thread that is done does not take "
              "the next client.",
     .read = READ)
{
    struct program *server = start_pool(1, 4);
    struct peer *served = connect_to(server);
    send_text(served, "hello");
    expect_text(served, "hello");
    struct peer *gone = speaker(server, 1);
    struct peer *done = speaker(server, 2);
    struct peer *waiting = speaker(server, 3);
    reset_peer(gone);
    half_close(done);
    reset_peer(served);
    expect_echo(done, 2);
    expect_end_of_file(done);
    expect_echo(waiting, 3);
}

TEST(server, nobody_is_lost_among_many,
     .promise = "Nobody is turned away, and each client is served to the end.",
     .cause = "Two threads take the same socket, or one is overwritten in the "
              "ring: somebody touches the queue without the mutex, or goes on "
              "after pthread_cond_wait without looking at the queue again. It "
              "may return although nobody has signalled.",
     .read = READ)
{
    enum { MANY = 40, LENGTH = 3000 };
    struct program *server = start_pool(3, 4);
    struct holdings before = holdings_of(server);
    struct peer *clients[MANY];
    note("%d clients come, say all they have to say and half-close.", MANY);
    for (int i = 0; i < MANY; i++) {
        clients[i] = connect_to(server);
        send_bytes(clients[i], pattern(LENGTH, (unsigned)i + 1), LENGTH);
        half_close(clients[i]);
    }
    for (int i = 0; i < MANY; i++) {
        expect_bytes(clients[i], pattern(LENGTH, (unsigned)i + 1), LENGTH);
        expect_end_of_file(clients[i]);
    }
    struct holdings after = holdings_of(server);
    double until = now() + patience();
    while (after.descriptors > before.descriptors && now() < until) {
        let_pass(0.005);
        after = holdings_of(server);
    }
    if (after.descriptors > before.descriptors)
        fail_test("Expected: the server has as many descriptors as before, "
                  "%zu.\nIt has %zu.",
                  before.descriptors, after.descriptors);
    if (after.threads != before.threads)
        fail_test("Expected: the server has as many threads as before, %zu.\n"
                  "It has %zu.",
                  before.threads, after.threads);
}

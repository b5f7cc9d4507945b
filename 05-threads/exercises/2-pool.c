/*
 * Exercise 05-2: A pool of threads.
 *
 * This server sends back what a client sends, and serves one client after the
 * other. Let it serve as many at a time as it has threads, so that
 *
 *     - it starts THREADS threads (-t THREADS, 4 by default) before it says
 *       where it listens, and none afterwards,
 *     - the main thread accepts clients and puts their sockets into a queue of
 *       QUEUE places (-q QUEUE, 8 by default); the threads take them out, first
 *       come, first served, and each serves its client to the end,
 *     - while the queue is full, the main thread waits for a place. At most one
 *       client waits in its hand; the others wait in the kernel's backlog.
 *       Nobody is turned away,
 *     - who waits, for a client or for a place, uses no CPU.
 *
 * One mutex guards the queue. Two conditions say what somebody may wait for:
 * that it is not empty, and that it is not full.
 *
 * Beware: pthread_cond_wait may return although nobody has signalled, and
 * between a signal and its return another thread may have taken what was there.
 * And nobody may wait for a client while it holds the mutex.
 *
 * As many silent clients as there are threads hold the whole pool, and all
 * others wait until one goes. That is the price of a pool whose threads block;
 * it stays in this exercise. Lesson 06 does not pay it.
 *
 * Try it:   make exercises/2-pool
 *           exercises/2-pool -p 7777 -t 2 -q 1, then nc
 *           127.0.0.1 7777 from three other terminals
 * Judge it: make exercise-05-2   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "net.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { THREADS_MAX = 1000, QUEUE_MAX = 100000 };

/* Sends back what a client sends, until it ends its side or is gone. The caller
 * closes the socket. */
static void serve(int client)
{
    char piece[16384];
    ssize_t came;
    do
        came = receive(client, piece, sizeof piece);
    while (came > 0 && send_all(client, piece, (size_t)came) == 0);
}

/*
 * YOUR ANSWER goes here and into main: a queue, a function that puts a socket
 * into it and one that takes one out, and the threads. So far the main thread
 * does all the work.
 */

int main(int argc, char *argv[])
{
    const char *port = "7777";
    int threads = 4, places = 8;
    int option;
    while ((option = getopt(argc, argv, "p:t:q:")) != -1) {
        if (option == 'p')
            port = optarg;
        else if (option == 't')
            threads = parse_count(optarg);
        else if (option == 'q')
            places = parse_count(optarg);
        if (option == '?' || threads < 1 || threads > THREADS_MAX ||
            places < 1 || places > QUEUE_MAX)
            goto usage;
    }
    if (optind != argc || !is_port(port))
        goto usage;

    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        perror("2-pool: ignore SIGPIPE");
        return 1;
    }
    char reason[REASON_SIZE];
    int listener = listen_on("127.0.0.1", port, reason);
    if (listener == -1) {
        fprintf(stderr, "2-pool: %s\n", reason);
        return 1;
    }

    if (announce(listener) == -1) {
        perror("2-pool: announce the address");
        return 1;
    }
    for (;;) {
        char address[NAME_SIZE];
        int client = accept_client(listener, address);
        if (client == -1)
            break;
        serve(client);
        close(client);
    }
    perror("2-pool: accept");
    return 1;

usage:
    fprintf(stderr, "usage: 2-pool [-p PORT] [-t THREADS] [-q QUEUE]\n");
    return 2;
}

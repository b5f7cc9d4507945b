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

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* Clients that wait for a thread: a ring of `size` places, of which `count` are
 * taken, from `first` on. Who touches any of it holds the lock. */
struct queue {
    pthread_mutex_t lock;
    pthread_cond_t not_empty, not_full;
    int *sockets;
    size_t size, first, count;
};

/* Puts a socket at the end of the queue, where it belongs to whoever takes it.
 * Waits while the queue is full. */
static void put(struct queue *queue, int socket)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->count == queue->size)
        pthread_cond_wait(&queue->not_full, &queue->lock);
    queue->sockets[(queue->first + queue->count) % queue->size] = socket;
    queue->count++;
    /* One client is work for one thread. A signal for each: who signals only
     * when the queue was empty wakes one thread for many clients. */
    pthread_cond_signal(&queue->not_empty);
    pthread_mutex_unlock(&queue->lock);
}

/* Takes the socket that has waited longest, which the caller closes. Waits
 * while there is none. */
static int take(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->count == 0)
        pthread_cond_wait(&queue->not_empty, &queue->lock);
    int socket = queue->sockets[queue->first];
    queue->first = (queue->first + 1) % queue->size;
    queue->count--;
    pthread_cond_signal(&queue->not_full);
    pthread_mutex_unlock(&queue->lock);
    return socket;
}

/* What each thread of the pool does, until the program ends. */
static void *serve_clients(void *argument)
{
    struct queue *queue = argument;
    for (;;) {
        int client = take(queue);
        serve(client);
        close(client);
    }
    return NULL;
}

/* Returns 0, or the number of an error. */
static int start_threads(struct queue *queue, int threads)
{
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        int error = pthread_create(&thread, NULL, serve_clients, queue);
        if (error != 0)
            return error;
        pthread_detach(thread); /* it never ends, and nobody waits for it */
    }
    return 0;
}

int main(int argc, char *argv[])
{
    static struct queue queue = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                 .not_empty = PTHREAD_COND_INITIALIZER,
                                 .not_full = PTHREAD_COND_INITIALIZER};
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

    queue.size = (size_t)places;
    queue.sockets = calloc(queue.size, sizeof *queue.sockets);
    if (queue.sockets == NULL) {
        perror("2-pool: make a queue");
        return 1;
    }
    int error = start_threads(&queue, threads);
    if (error != 0) {
        fprintf(stderr, "2-pool: start a thread: %s\n", strerror(error));
        return 1; /* and with us end those that did start */
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
        put(&queue, client);
    }
    perror("2-pool: accept");
    return 1;

usage:
    fprintf(stderr, "usage: 2-pool [-p PORT] [-t THREADS] [-q QUEUE]\n");
    return 2;
}

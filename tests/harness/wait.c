/*
 * wait.c - time, and the one place where the harness waits.
 */
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

double moment_in(double seconds)
{
    return now() + seconds;
}

double patience(void)
{
    static double seconds;
    if (seconds <= 0) {
        const char *text = getenv("PATIENCE");
        seconds = text == NULL ? 10 : strtod(text, NULL);
        if (!(seconds > 0))
            seconds = 10;
    }
    return seconds;
}

/* ------------------------------------------------------- the end of a child */

/* SIGCHLD writes a byte into this pipe, so that poll() wakes up for it. */
static int child_ended[2] = {-1, -1};
static volatile double last_child_ended;

static void remember_end_of_child(int signal_number)
{
    int error = errno;
    (void)signal_number;
    last_child_ended = now();
    if (write(child_ended[1], "", 1) < 0) {
        /* the pipe is full of news already */
    }
    errno = error;
}

void start_waiting(void)
{
    if (child_ended[0] >= 0)
        return;
    if (pipe(child_ended) < 0)
        abort();
    for (int i = 0; i < 2; i++) {
        fcntl(child_ended[i], F_SETFL, O_NONBLOCK);
        fcntl(child_ended[i], F_SETFD, FD_CLOEXEC);
    }
    struct sigaction action = {0};
    action.sa_handler = remember_end_of_child;
    action.sa_flags = SA_RESTART | SA_NOCLDSTOP;
    sigemptyset(&action.sa_mask);
    sigaction(SIGCHLD, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    sigset_t unblocked;
    sigemptyset(&unblocked);
    sigaddset(&unblocked, SIGCHLD);
    sigprocmask(SIG_UNBLOCK, &unblocked, NULL);
}

/* ------------------------------------------------------------------ waiting */

/* How many connections are pushed on while something else is waited for. */
enum { MOST_AT_WORK = 512 };

/* What is watched; the list grows, and is kept. */
static struct pollfd *watched;
static size_t watched_size;

static void make_room(size_t entries)
{
    if (entries <= watched_size)
        return;
    watched_size = 2 * entries;
    watched = realloc(watched, watched_size * sizeof *watched);
    if (watched == NULL)
        abort();
}

static void watch(size_t *count, int descriptor, short events)
{
    if (descriptor < 0)
        return;
    make_room(*count + 1);
    watched[(*count)++] = (struct pollfd){descriptor, events, 0};
}

void wait_on_many(struct pollfd *many, size_t how_many, double until)
{
    size_t count = 0;
    watch(&count, child_ended[0], POLLIN);
    for (struct program *each = programs; each != NULL; each = each->next) {
        watch(&count, each->output, POLLIN);
        watch(&count, each->errors, POLLIN);
        if (each->typed_length > 0)
            watch(&count, each->input, POLLOUT);
    }
    size_t ours = count;
    for (size_t i = 0; i < how_many; i++) {
        many[i].revents = 0;
        watch(&count, many[i].fd, many[i].events);
    }

    struct pollfd at_work[MOST_AT_WORK];
    size_t working = connections_at_work(at_work, MOST_AT_WORK);
    for (size_t i = 0; i < working; i++)
        watch(&count, at_work[i].fd, at_work[i].events);

    check_length_of_test();
    double left = until - now();
    int milliseconds = left <= 0 ? 0 : left > 4 ? 4000 : (int)(left * 1e3);
    if (left > 0 && (double)milliseconds < left * 1e3)
        milliseconds++;
    int ready = poll(watched, (nfds_t)count, milliseconds);
    if (ready < 0 && errno != EINTR && errno != EAGAIN)
        abort();
    if (ready <= 0)
        return;

    size_t at = ours;
    for (size_t i = 0; i < how_many; i++) {
        if (many[i].fd >= 0)
            many[i].revents = watched[at++].revents;
    }
    char news[64];
    if (watched[0].revents != 0) {
        double ended_at = last_child_ended;
        while (read(child_ended[0], news, sizeof news) > 0)
            continue;
        look_who_has_ended(ended_at);
    }
    for (struct program *each = programs; each != NULL; each = each->next)
        serve_pipes(each);
    work_on_connections();
}

short wait_on(int descriptor, short events, double until)
{
    struct pollfd one = {descriptor, events, 0};
    wait_on_many(&one, 1, until);
    return one.revents;
}

void let_pass(double seconds)
{
    double until = moment_in(seconds);
    while (now() < until)
        wait_on(-1, 0, until);
}

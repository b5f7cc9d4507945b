/*
 * Exercise 05-1: A process a connection.
 *
 * This server tells each client which process serves it ("process 4711" and a
 * newline), then sends back what it receives. It serves one client after the
 * other, in one process. Let it fork after accept, so that
 *
 *     - each client is served at once, by a process of its own that holds one
 *       socket, its client's; when the client has ended its side, it ends too,
 *     - no zombies are left: what a child leaves behind is taken away at once,
 *       also while no other client comes, and no client waits for that,
 *     - at most CHILDREN are there at a time (-m CHILDREN, 100 by default): who
 *       comes then is closed at once, without a word; and so is a client for
 *       whom fork fails,
 *     - a child that dies, of whatever signal, concerns its own client alone,
 *     - SIGINT and SIGTERM to the parent end the children too; when all of them
 *       have ended, the parent exits with status 0.
 *
 * Beware of what a child inherits. It has a copy of every descriptor: a
 * connection ends when the last copy is closed, and a listener that any child
 * holds keeps the port taken. It has the signal handlers too: one that sets a
 * flag for the main loop makes a child that SIGTERM does not end. And fork
 * returns -1 when it fails: kill(-1, SIGTERM) ends all that you may end.
 *
 * Try it:   make exercises/1-fork
 *           exercises/1-fork -p 7777, then, from two other
 *           terminals: nc 127.0.0.1 7777, kill -SEGV one of the processes, and
 *           ps -o pid,ppid,stat,args, which shows zombies with Z in STAT
 * Judge it: make exercise-05-1   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "net.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Tells a client who serves it, and sends back what it sends, until it ends its
 * side or is gone. The caller closes the socket. */
static void serve(int client)
{
    char piece[16384];
    int length = snprintf(piece, sizeof piece, "process %ld\n", (long)getpid());
    ssize_t came = length;
    while (came > 0 && send_all(client, piece, (size_t)came) == 0)
        came = receive(client, piece, sizeof piece);
}

/* The children that have not been waited for. */
struct children {
    pid_t *ids;
    int count, most;
};

/*
 * SIGINT, SIGTERM and SIGCHLD are blocked everywhere but in pselect and in
 * let_signals_in. So none of them comes between fork and the line that writes
 * down the child, and no handler needs to touch the list.
 */
static sigset_t blocked, open_for_signals;
static volatile sig_atomic_t stopping;

/* For SIGCHLD it is enough that the handler exists: pselect returns. */
static void on_signal(int number)
{
    if (number != SIGCHLD)
        stopping = 1;
}

/* Returns 0, or -1 with errno set. */
static int expect_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGCHLD};
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigemptyset(&blocked);
    for (size_t i = 0; i < 3; i++)
        sigaddset(&blocked, numbers[i]);
    if (sigprocmask(SIG_BLOCK, &blocked, &open_for_signals) == -1)
        return -1;
    for (size_t i = 0; i < 3; i++) {
        sigdelset(&open_for_signals, numbers[i]);
        if (sigaction(numbers[i], &action, NULL) == -1)
            return -1;
    }
    return 0;
}

/* In the child: back to what signals do in a program that knows of none. One
 * that came since fork has been waiting, and ends us here. */
static void forget_signals(void)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_SETMASK, &open_for_signals, NULL);
}

/* pselect lets no signal in when a client is there already, and on a busy day
 * one always is. */
static void let_signals_in(void)
{
    sigprocmask(SIG_SETMASK, &open_for_signals, NULL);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
}

/* Takes away what children have left that have ended, and does not wait for the
 * others. One SIGCHLD may stand for many: a signal that is pending already is
 * not counted. */
static void bury(struct children *children)
{
    pid_t ended;
    int status;
    while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
        if (WIFSIGNALED(status))
            fprintf(stderr, "1-fork: process %ld was ended by signal %d\n",
                    (long)ended, WTERMSIG(status));
        for (int i = 0; i < children->count; i++)
            if (children->ids[i] == ended)
                children->ids[i] = children->ids[--children->count];
    }
}

/* Hands a client to a new process, if there may be one more. The socket stays
 * the caller's, who closes it in any case: the child has a copy. */
static void hand_over(struct children *children, int listener, int client)
{
    if (children->count == children->most) {
        fprintf(stderr, "1-fork: a client too many\n");
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        close(listener);
        forget_signals();
        serve(client);
        _exit(0); /* not exit: what stdio and atexit hold is the parent's */
    }
    if (child == -1)
        perror("1-fork: fork");
    else
        children->ids[children->count++] = child;
}

/* Takes clients until a signal says to stop. Returns 0, or -1 with errno set
 * when the listener is of no more use. */
static int run(int listener, struct children *children)
{
    bool rest = false; /* for a moment: there were no descriptors left */
    if (listener >= FD_SETSIZE) {
        errno = EMFILE;
        return -1;
    }
    for (;;) {
        let_signals_in();
        if (stopping)
            return 0;
        bury(children);
        fd_set wanted;
        FD_ZERO(&wanted);
        if (!rest)
            FD_SET(listener, &wanted);
        struct timespec moment = {.tv_nsec = 100000000};
        int ready = pselect(listener + 1, &wanted, NULL, NULL,
                            rest ? &moment : NULL, &open_for_signals);
        if (ready == -1 && errno != EINTR)
            return -1;
        rest = false;
        if (ready <= 0)
            continue;
        char address[NAME_SIZE];
        int client = accept_now(listener, address);
        if (client != -1) {
            /* On the BSDs and macOS it inherits O_NONBLOCK. */
            if (set_nonblocking(client, false) == 0)
                hand_over(children, listener, client);
            close(client);
        } else if (out_of_resources(errno)) {
            rest = true;
        } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
            return -1;
        }
    }
}

/* Ends all children, and returns when they have ended. */
static void end_all(struct children *children)
{
    for (int i = 0; i < children->count; i++)
        kill(children->ids[i], SIGTERM);
    for (int i = 0; i < children->count; i++)
        while (waitpid(children->ids[i], NULL, 0) == -1 && errno == EINTR)
            continue;
}

int main(int argc, char *argv[])
{
    const char *port = "7777";
    struct children children = {.most = 100};
    int option;
    while ((option = getopt(argc, argv, "p:m:")) != -1) {
        if (option == 'p')
            port = optarg;
        else if (option == 'm')
            children.most = parse_count(optarg);
        if (option == '?' || children.most < 1)
            goto usage;
    }
    if (optind != argc || !is_port(port))
        goto usage;

    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || expect_signals() == -1) {
        perror("1-fork: signals");
        return 1;
    }
    char reason[REASON_SIZE];
    int listener = listen_on("127.0.0.1", port, reason);
    if (listener == -1) {
        fprintf(stderr, "1-fork: %s\n", reason);
        return 1;
    }
    int status = 1;
    children.ids = calloc((size_t)children.most, sizeof *children.ids);
    if (children.ids == NULL || set_nonblocking(listener, true) == -1 ||
        announce(listener) == -1)
        perror("1-fork: start");
    else if (run(listener, &children) == -1)
        perror("1-fork: accept");
    else
        status = 0;
    close(listener);
    end_all(&children);
    free(children.ids);
    return status;

usage:
    fprintf(stderr, "usage: 1-fork [-p PORT] [-m CHILDREN]\n");
    return 2;
}

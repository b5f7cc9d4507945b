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

#include <signal.h>
#include <stdio.h>
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

/*
 * Takes clients for as long as it can, at most `most` at a time. Returns -1,
 * with errno set, when the listener is of no more use.
 *
 * YOUR ANSWER goes here and into main. So far there is one process, which
 * serves one client after the other and dies of any signal.
 */
static int run(int listener, int most)
{
    (void)most; /* not yet */
    for (;;) {
        char address[NAME_SIZE];
        int client = accept_client(listener, address);
        if (client == -1)
            return -1;
        serve(client);
        close(client);
    }
}

int main(int argc, char *argv[])
{
    const char *port = "7777";
    int most = 100;
    int option;
    while ((option = getopt(argc, argv, "p:m:")) != -1) {
        if (option == 'p')
            port = optarg;
        else if (option == 'm')
            most = parse_count(optarg);
        if (option == '?' || most < 1)
            goto usage;
    }
    if (optind != argc || !is_port(port))
        goto usage;

    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
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
    if (announce(listener) == -1)
        perror("1-fork: start");
    else if (run(listener, most) == -1)
        perror("1-fork: accept");
    else
        status = 0;
    close(listener);
    return status;

usage:
    fprintf(stderr, "usage: 1-fork [-p PORT] [-m CHILDREN]\n");
    return 2;
}

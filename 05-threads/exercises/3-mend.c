/*
 * Exercise 05-3: Find and mend.
 *
 * A small bank, with a thread for each client. Eight accounts, 1 to 8, hold
 * 1000 each at the start. A client sends lines and gets an answer to each:
 *
 *     move FROM TO AMOUNT   "moved NUMBER", or "refused" when there is not so
 *                           much. The first move has the number 1.
 *     history ACCOUNT       a line "NUMBER FROM TO AMOUNT" for each move from
 *                           it or to it, then "balance AMOUNT"
 *     anything else         "error"
 *
 * With one client it works. But there are one deadlock and one data race in it:
 * with many clients it stops answering, sooner or later, and some moves get the
 * number of another. Find both, and mend them, so that
 *
 *     - each line is answered, whatever other clients ask at the same time,
 *     - each move has a number of its own, and none is left out,
 *     - the balance in a history is that after the last of its moves,
 *     - nobody waits for a client that does not read.
 *
 * Beware of the big lock. One mutex around all of answer() mends both, and the
 * first client that does not read what it asked for stops everybody: no I/O
 * while a mutex is held.
 *
 * Find them: the thread sanitizer names both, in a run in which neither went
 *            wrong: make CFLAGS='-O1 -g -fsanitize=thread' exercises/3-mend
 *            (make clean before and after). A server that hangs already tells
 *            where: gdb -p PID, then "thread apply all backtrace"
 * Try it:    make exercises/3-mend
 *            exercises/3-mend -p 7777, then, from several
 *            terminals, both of these:
 *                yes 'move 1 2 0' | nc 127.0.0.1 7777 | awk 'NR % 10000 == 0'
 *                yes 'history 1' | nc 127.0.0.1 7777 | awk 'NR % 100 == 0'
 *            As long as answers come, one in so many is shown.
 * Judge it:  make exercise-05-3   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "line.h"
#include "net.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACCOUNTS = 8, AT_THE_START = 1000, MOVES_MAX = 100000 };

struct move {
    int number, from, to, amount;
};

/*
 * YOUR ANSWER goes into move and tell_history: they are all there is to mend.
 * But find it first, with the tools; in a server of your own it will stand
 * among some thousand lines.
 */
static struct {
    pthread_mutex_t lock;
    int balance[ACCOUNTS + 1]; /* of account 1, 2, ... */
} accounts = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct {
    pthread_mutex_t lock;
    struct move moves[MOVES_MAX]; /* in their order */
    int count;
} journal = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int last_number; /* of the moves */

/* Moves an amount from one account to another. Returns the number of the move,
 * or 0 when there is not so much, or no room in the journal. */
static int move(int from, int to, int amount)
{
    int number = last_number + 1;
    bool possible = false;
    pthread_mutex_lock(&accounts.lock);
    pthread_mutex_lock(&journal.lock);
    if (accounts.balance[from] >= amount && journal.count < MOVES_MAX) {
        accounts.balance[from] -= amount;
        accounts.balance[to] += amount;
        possible = true;
        journal.moves[journal.count++] = (struct move){number, from, to,
                                                       amount};
    }
    pthread_mutex_unlock(&journal.lock);
    pthread_mutex_unlock(&accounts.lock);
    if (!possible)
        return 0;
    last_number = number;
    return number;
}

/* Writes all moves of an account, and then its balance. */
static void tell_history(int account, FILE *out)
{
    pthread_mutex_lock(&journal.lock);
    for (int i = 0; i < journal.count; i++) {
        const struct move *made = &journal.moves[i];
        if (made->from == account || made->to == account)
            fprintf(out, "%d %d %d %d\n", made->number, made->from, made->to,
                    made->amount);
        if (i % 256 == 255)
            sched_yield(); /* it is a long list: let the others work too */
    }
    pthread_mutex_lock(&accounts.lock);
    fprintf(out, "balance %d\n", accounts.balance[account]);
    pthread_mutex_unlock(&accounts.lock);
    pthread_mutex_unlock(&journal.lock);
}

static bool is_account(int number)
{
    return number >= 1 && number <= ACCOUNTS;
}

/* Does what a line asks for, and writes the answer. `out` is memory: a write to
 * it does not wait. */
static void do_request(const char *line, size_t length, FILE *out)
{
    int from, to, amount, account, end = 0, number;
    if (sscanf(line, "move %9d %9d %9d%n", &from, &to, &amount, &end) == 3 &&
        (size_t)end == length && is_account(from) && is_account(to) &&
        amount >= 0) {
        number = move(from, to, amount);
        if (number != 0)
            fprintf(out, "moved %d\n", number);
        else
            fprintf(out, "refused\n");
    } else if (sscanf(line, "history %9d%n", &account, &end) == 1 &&
               (size_t)end == length && is_account(account)) {
        tell_history(account, out);
    } else {
        fprintf(out, "error\n");
    }
}

/* Answers one line. Returns 0, or -1 when the answer could not be written or
 * sent. */
static int answer(int client, const struct frame *request)
{
    char line[64] = ""; /* as a C string; what does not fit is no request */
    if (request->length < sizeof line)
        memcpy(line, request->payload, request->length);
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return -1;
    do_request(line, request->length, out);
    bool is_whole = !ferror(out);
    if (fclose(out) == EOF)
        is_whole = false;
    int result = is_whole ? send_all(client, text, length) : -1;
    free(text);
    return result;
}

/* Answers every line that a client sends, until it ends its side or is gone.
 * The caller closes the socket. */
static void serve(int client)
{
    char bytes[FRAME_MAX];
    size_t length = 0;
    for (;;) {
        ssize_t came = receive(client, bytes + length, sizeof bytes - length);
        if (came <= 0)
            return;
        length += (size_t)came;
        struct frame frame;
        enum frame_result result;
        size_t used = 0;
        while ((result = line_read(bytes + used, length - used, &frame)) ==
               FRAME_WHOLE) {
            if (answer(client, &frame) == -1)
                return;
            used += frame.size;
        }
        if (result == FRAME_IMPOSSIBLE)
            return;
        memmove(bytes, bytes + used, length - used);
        length -= used;
    }
}

static void *serve_client(void *argument)
{
    int client = (int)(intptr_t)argument;
    serve(client);
    close(client);
    return NULL;
}

/* Starts a thread for a client, which closes the socket. Returns 0, or the
 * number of an error; then the socket is still the caller's. */
static int start_thread(int client)
{
    int yes = 1; /* for TCP_NODELAY see lesson 04; without it, it is slower */
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, serve_client,
                               (void *)(intptr_t)client);
    if (error == 0)
        pthread_detach(thread);
    return error;
}

int main(int argc, char *argv[])
{
    const char *port = "7777";
    int option;
    while ((option = getopt(argc, argv, "p:")) != -1) {
        if (option == '?')
            goto usage;
        port = optarg;
    }
    if (optind != argc || !is_port(port))
        goto usage;

    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        perror("3-mend: ignore SIGPIPE");
        return 1;
    }
    for (int i = 1; i <= ACCOUNTS; i++)
        accounts.balance[i] = AT_THE_START;
    char reason[REASON_SIZE];
    int listener = listen_on("127.0.0.1", port, reason);
    if (listener == -1) {
        fprintf(stderr, "3-mend: %s\n", reason);
        return 1;
    }
    if (announce(listener) == -1) {
        perror("3-mend: announce the address");
        return 1;
    }
    for (;;) {
        char address[NAME_SIZE];
        int client = accept_client(listener, address);
        if (client == -1)
            break;
        int error = start_thread(client);
        if (error != 0) {
            fprintf(stderr, "3-mend: start a thread: %s\n", strerror(error));
            close(client);
        }
    }
    perror("3-mend: accept");
    return 1;

usage:
    fprintf(stderr, "usage: 3-mend [-p PORT]\n");
    return 2;
}

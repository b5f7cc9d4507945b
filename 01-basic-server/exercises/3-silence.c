/*
 * Exercise 01-3: Close a client that is silent for too long.
 *
 * This server serves one client at a time. Whoever connects and says nothing
 * keeps everybody else out. Change it so that `-i SECONDS` is a limit for each
 * wait:
 *
 *     - a client of which no byte has come for SECONDS is closed,
 *     - a client that has taken none of its echo for SECONDS is closed,
 *
 * and the next one gets its turn. Every byte that comes, and every byte that
 * the kernel takes, begins the time anew: who sends one byte every now and
 * then, sooner than SECONDS, is kept for as long as it likes.
 *
 * Beware of the interrupted wait. A signal ends poll, recv and send with EINTR.
 * Who then waits again for the whole time may wait for ever, if a signal comes
 * every second; a timer is enough. This server gets SIGUSR1 whenever somebody
 * wants to know how many clients there were. What has to last is not a
 * duration but a deadline, a moment on a clock that nobody sets:
 * CLOCK_MONOTONIC. Wait for what is left until then.
 *
 * Try it:   make exercises/3-silence && exercises/3-silence -p 7777 -i 5
 * Judge it: make exercise-01-3   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_MAX 1e6 /* in milliseconds still an int */

/* ------------------------------------------------- how many clients, so far */

static volatile sig_atomic_t clients;

/* SIGUSR1: says how many clients there were. printf is not allowed in a
 * handler, write is. */
static void tell_clients(int number)
{
    (void)number;
    int saved = errno;
    char line[] = "clients: ......\n";
    int left = clients;
    for (size_t i = sizeof line - 3; line[i] == '.'; i--) {
        line[i] = (char)('0' + left % 10);
        left /= 10;
    }
    ssize_t written = write(STDERR_FILENO, line, sizeof line - 1);
    (void)written;
    errno = saved;
}

/* Without SA_RESTART: the call that the signal came into ends with EINTR. */
static int expect_signals(void)
{
    struct sigaction action = {.sa_handler = tell_clients};
    sigemptyset(&action.sa_mask);
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return -1;
    return sigaction(SIGUSR1, &action, NULL);
}

/* --------------------------------------------------------- the conversation */

/* YOUR ANSWER goes here, and into main where the two are called: `seconds` is
 * not used yet. */
static int send_all(int client, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(client, bytes, length, 0);
        if (sent == -1) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        bytes += sent;
        length -= (size_t)sent;
    }
    return 0;
}

/* Sends back what the client sends, until it ends its side or is gone. */
static void echo(int client, double seconds)
{
    (void)seconds;
    char piece[16384];
    for (;;) {
        ssize_t length = recv(client, piece, sizeof piece, 0);
        if (length == -1 && errno == EINTR)
            continue;
        if (length <= 0 || send_all(client, piece, (size_t)length) == -1)
            return;
    }
}

/* --------------------------------------------------------------- the server */

/* Listens on 127.0.0.1 and says where. Returns the listener, or -1 with errno
 * set. */
static int listen_on(unsigned port)
{
    struct sockaddr_in where = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof where;
    int yes = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener == -1)
        return -1;
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
        bind(listener, (struct sockaddr *)&where, size) == 0 &&
        listen(listener, SOMAXCONN) == 0 &&
        getsockname(listener, (struct sockaddr *)&where, &size) == 0 &&
        printf("listening on 127.0.0.1:%u\n", ntohs(where.sin_port)) > 0 &&
        fflush(stdout) == 0)
        return listener;
    int saved = errno;
    close(listener);
    errno = saved;
    return -1;
}

/*
 * Waits for the next client. Returns its socket, which the caller closes.
 *
 * accept may fail because there is no descriptor or memory for the client. It
 * stays in the queue then, and accept would fail again at once: so look ten
 * times a second whether this has passed. All else (EINTR, ECONNABORTED)
 * concerns this call or this client alone.
 */
static int accept_client(int listener)
{
    bool told = false;
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client != -1)
            return client;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
            errno == ENOMEM) {
            if (!told)
                perror("3-silence: accept, waiting");
            told = true;
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        }
    }
}

/* Reads a decimal number of seconds above 0, "5" or "0.2". Returns -1 when the
 * text is none. strtod alone would take "inf", "nan", "0x10" and " 1" too. */
static double parse_seconds(const char *text)
{
    size_t allowed = strspn(text, "0123456789.");
    if (allowed == 0 || text[allowed] != '\0')
        return -1;
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || seconds <= 0)
        return -1;
    return seconds < SECONDS_MAX ? seconds : SECONDS_MAX;
}

int main(int argc, char *argv[])
{
    unsigned long port = 7777;
    double seconds = 30;
    int option;
    while ((option = getopt(argc, argv, "i:p:")) != -1) {
        if (option == 'i')
            seconds = parse_seconds(optarg);
        else if (option == 'p')
            port = strtoul(optarg, NULL, 10);
        if (option == '?' || seconds < 0 || port > 65535) {
            fprintf(stderr, "usage: 3-silence [-i SECONDS] [-p PORT]\n");
            return 2;
        }
    }
    if (expect_signals() == -1) {
        perror("3-silence: signals");
        return 1;
    }
    int listener = listen_on((unsigned)port);
    if (listener == -1) {
        perror("3-silence: listen");
        return 1;
    }
    for (;;) {
        int client = accept_client(listener);
        clients = clients < 999999 ? clients + 1 : 0;
        echo(client, seconds);
        close(client);
    }
}

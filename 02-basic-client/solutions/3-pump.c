/*
 * Exercise 02-3: Send a large file through an echo server.
 *
 *     3-pump ADDRESS PORT <FILE
 *
 * sends its standard input to an echo server, ends its side, and prints what
 * comes back. With a large file it hangs for ever: the server sends back what
 * it has read before it reads on; nobody reads that, so the server waits; and
 * then nobody reads what the client sends. Change it so that
 *
 *     - it sends and receives at the same time, whichever can go on;
 *     - what comes back is printed at once, also while it waits for more input;
 *     - it holds at most some 100 KB, however large the file and however slow
 *       the server: it reads no further than it can send;
 *     - it uses no processor time while nothing can go on;
 *     - the exit status is 0 when all input has been sent, as many bytes have
 *       come back, and the server has closed; 1, with a line on standard error,
 *       when the server closes or resets before that, or standard output
 *       cannot be written.
 *
 * Beware of three calls that wait. send waits for room: the socket must not
 * block. read waits for somebody to type: poll has to watch standard input,
 * too. And a poll that watches what you do not want to hear of never waits:
 * there is always room to send when there is nothing to be sent, and an input
 * that has ended is always ready. (Writing to standard output may wait. Who
 * reads there decides how fast it goes.)
 *
 * Try it:   make exercises/3-pump && exercises/3-pump 127.0.0.1 7777 <client.c
 *           (with lesson 01's server in another terminal)
 * Judge it: make exercise-02-3   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE_SIZE = 32768 };

/* Says on standard error what failed, and why. Returns 1, the exit status. */
static int failed(const char *step, const char *why)
{
    fprintf(stderr, "3-pump: %s: %s\n", step, why);
    return 1;
}

/* Writes all bytes to standard output. Returns 0, or -1 with errno set. */
static int print_all(const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(STDOUT_FILENO, bytes, length);
        if (written == -1) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        bytes += written;
        length -= (size_t)written;
    }
    return 0;
}

/* Whether a call that failed may be called again later. */
static bool is_for_now(int error)
{
    return error == EINTR || error == EAGAIN || error == EWOULDBLOCK;
}

/*
 * Sends standard input to the server and prints what comes back. The caller
 * keeps the socket. Returns the exit status.
 *
 * At most one piece is on its way out: `out` holds what has been read, from
 * `begin` to `end`. Input is read when that is empty, and not before.
 */
static int pump(int server)
{
    static char out[PIECE_SIZE], in[PIECE_SIZE];
    size_t begin = 0, end = 0;
    unsigned long long sent = 0, came = 0;
    bool more_input = true;

    if (fcntl(server, F_SETFL, O_NONBLOCK) == -1)
        return failed("make the socket non-blocking", strerror(errno));
    for (;;) {
        /* What is not wanted is left out: a descriptor below 0, or no POLLOUT.
         * No events would not do, for the end of a pipe is always told. */
        struct pollfd watched[] = {
            {.fd = server, .events = begin < end ? POLLIN | POLLOUT : POLLIN},
            {.fd = more_input && begin == end ? STDIN_FILENO : -1,
             .events = POLLIN}};
        if (poll(watched, 2, -1) == -1) {
            if (errno == EINTR)
                continue;
            return failed("wait", strerror(errno));
        }

        if ((watched[0].revents & ~POLLOUT) != 0) {
            ssize_t length = recv(server, in, sizeof in, 0);
            if (length == -1 && !is_for_now(errno))
                return failed("receive from the server", strerror(errno));
            if (length == 0 && (more_input || begin < end || came != sent))
                return failed("receive from the server",
                              "it closed too early, or sent too much");
            if (length == 0)
                return 0;
            if (length > 0) {
                came += (unsigned long long)length;
                if (print_all(in, (size_t)length) == -1)
                    return failed("write standard output", strerror(errno));
            }
        }

        if (watched[1].revents != 0) {
            ssize_t length = read(STDIN_FILENO, out, sizeof out);
            if (length == -1 && !is_for_now(errno))
                return failed("read standard input", strerror(errno));
            if (length > 0) {
                begin = 0;
                end = (size_t)length;
            }
            if (length == 0) {
                more_input = false;
                if (shutdown(server, SHUT_WR) == -1)
                    return failed("end our side", strerror(errno));
            }
        }

        if (begin < end) {
            ssize_t length = send(server, out + begin, end - begin, 0);
            if (length == -1 && !is_for_now(errno))
                return failed("send to the server", strerror(errno));
            if (length > 0) {
                begin += (size_t)length;
                sent += (unsigned long long)length;
            }
        }
    }
}

/* Connects to an address in digits. Returns a blocking socket, which the caller
 * closes, or -1 after it has said why. */
static int connect_to(const char *address, const char *port)
{
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found;
    int error = getaddrinfo(address, port, &wanted, &found);
    if (error != 0) {
        failed(address, gai_strerror(error));
        return -1;
    }
    int server = socket(found->ai_family, found->ai_socktype, 0);
    int result = server == -1
                     ? -1
                     : connect(server, found->ai_addr, found->ai_addrlen);
    if (result == -1 && server != -1 && errno == EINTR) {
        /* The handshake goes on: wait for its end, and ask how it ended. */
        struct pollfd watched = {.fd = server, .events = POLLOUT};
        while (poll(&watched, 1, -1) == -1 && errno == EINTR)
            continue;
        socklen_t size = sizeof error;
        result = getsockopt(server, SOL_SOCKET, SO_ERROR, &error, &size);
        if (result == 0 && error != 0) {
            errno = error;
            result = -1;
        }
    }
    if (result == -1) {
        failed("connect", strerror(errno));
        if (server != -1)
            close(server);
        server = -1;
    }
    freeaddrinfo(found);
    return server;
}

int main(int argc, char *argv[])
{
    if (argc != 3) {
        fprintf(stderr, "usage: 3-pump ADDRESS PORT\n");
        return 2;
    }
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return failed("ignore SIGPIPE", strerror(errno));
    int server = connect_to(argv[1], argv[2]);
    if (server == -1)
        return 1;
    int status = pump(server);
    close(server);
    return status;
}

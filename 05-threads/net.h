/*
 * net.h - what lessons 01 and 02 taught, as a module.
 *
 * Sockets that the functions return belong to the caller, who closes them.
 * `reason` is room for a sentence that says what failed, where and why.
 */
#ifndef NET_H
#define NET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum {
    NAME_SIZE = 80, /* "[fe80::1ff:fe23:4567:890a%eth0]:65535" */
    REASON_SIZE = 256
};

/* Whether the text is a port number, 0 to 65535, in digits alone. */
bool is_port(const char *text);

/* Reads a decimal number of seconds, "5" or "0.2"; more than a million count
 * as a million. Returns -1 when the text is none. */
double parse_seconds(const char *text);

/* Reads a whole number from 0; more than a million count as a million.
 * Returns -1 when the text is none. */
int parse_count(const char *text);

/* Seconds since some moment in the past, on a clock that nobody sets. */
double now(void);

/*
 * Waits until `events` (POLLIN, POLLOUT, or both) come true for a descriptor,
 * but only until `deadline`, a moment on the clock of now(). An error or a
 * hang-up on the descriptor ends the wait too.
 *
 * Returns 0, or -1 with errno set: ETIMEDOUT when the deadline has passed.
 */
int wait_until(int descriptor, short events, double deadline);

/* Makes a socket return EAGAIN or EINPROGRESS where it would wait, or wait
 * again. Returns 0, or -1 with errno set. */
int set_nonblocking(int socket, bool nonblocking);

/*
 * Makes a socket that listens on `address` (IPv4 or IPv6, numeric) and `port`
 * (in digits; "0": the kernel chooses a free one). Returns the socket, or -1
 * with the reason.
 */
int listen_on(const char *address, const char *port, char reason[REASON_SIZE]);

/*
 * Prints "listening on 127.0.0.1:7777" on standard output, with the port that
 * the kernel really bound, and flushes it. Returns 0, or -1 with errno set.
 */
int announce(int listener);

/*
 * Takes the next client, however long that takes, and writes its address into
 * `name`. Waits while there are no descriptors left, and says so on standard
 * error. Returns the client's socket, or -1 with errno set when the listener
 * itself is of no more use.
 */
int accept_client(int listener, char name[NAME_SIZE]);

/*
 * The same for a server that has other things to do: on a listener that does
 * not block, returns -1 with EAGAIN or EWOULDBLOCK when no client waits; on
 * any, -1 with an errno for which out_of_resources() is true when there is
 * nothing left to take it with; it may be tried again later.
 */
int accept_now(int listener, char name[NAME_SIZE]);
bool out_of_resources(int error);

/*
 * What a client does with a new connection before it is of use: in lesson 07 a
 * handshake. `greet` gets `of` and a blocking socket, which stays its caller's,
 * and is to be done before `deadline`, a moment on the clock of now(). It
 * returns 0, or -1 with errno set: EPROTO when the server is no use at any
 * address. It may write why.
 */
struct greeting {
    int (*greet)(void *of, int socket, double deadline,
                 char reason[REASON_SIZE]);
    void *of;
};

/*
 * Connects to `port` (in digits) of `host` (a name or an address): tries every
 * address, each for at most `seconds`, and after a failure that may pass tries
 * all again, at most `retries` times, with a pause of 0.1 to 1 s before each.
 * A greeting (NULL: none) is part of it. Call srand() once before: the pauses
 * are random.
 *
 * Returns a connected socket (a blocking one, if the greeting left it so), or
 * -1 with the reason.
 */
int connect_to(const char *host, const char *port, double seconds, int retries,
               const struct greeting *greeting, char reason[REASON_SIZE]);

/* Makes every later send and receive on the socket give up after `seconds`
 * (over 0) without progress. Returns 0, or -1 with errno set. */
int limit_waits(int socket, double seconds);

/*
 * Sends all `length` bytes, however many the kernel takes at a time, on a
 * blocking socket. Returns 0 when the kernel has taken all (the peer may not
 * have it yet), or -1 with errno set: ETIMEDOUT when limit_waits() has set a
 * limit and the peer takes nothing more. SIGPIPE must be ignored.
 */
int send_all(int socket, const char *bytes, size_t length);

/*
 * Receives what is there, waiting for the first byte: 1 to `size` bytes.
 * Returns how many, 0 when the peer has ended its side, or -1 with errno set:
 * ETIMEDOUT when limit_waits() has set a limit and nothing came.
 */
ssize_t receive(int socket, char *bytes, size_t size);

#endif

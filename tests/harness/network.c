/*
 * network.c - the test's own ends of TCP connections: as a client of the
 * server that is judged, and as the server of the client that is judged.
 */
#include "inside.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct peer {
    struct peer *next;
    int descriptor; /* -1: closed */
    const char *name;
    struct program *server;    /* NULL: the test is the server */
    struct wrapping *wrapping; /* NULL: TCP carries the bytes as they are */
};

struct listener {
    struct listener *next;
    int descriptor;
    int port;
    struct sockaddr_storage address;
    socklen_t address_length;
    int fillers[16]; /* connections that fill its backlog */
    size_t filler_count;
};

static struct peer *peers;
static struct listener *listeners;
static int peer_count;

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage storage;
};

static socklen_t make_address(union address *made, const char *text, int port)
{
    memset(made, 0, sizeof *made);
    if (inet_pton(AF_INET, text, &made->v4.sin_addr) == 1) {
        made->v4.sin_family = AF_INET;
        made->v4.sin_port = htons((in_port_t)port);
        return sizeof made->v4;
    }
    if (inet_pton(AF_INET6, text, &made->v6.sin6_addr) == 1) {
        made->v6.sin6_family = AF_INET6;
        made->v6.sin6_port = htons((in_port_t)port);
        return sizeof made->v6;
    }
    fail_test("harness: \"%s\" is no numeric address", text);
}

static int new_socket(int family)
{
    int descriptor = socket(family, SOCK_STREAM, 0);
    if (descriptor < 0 && errno == EAFNOSUPPORT)
        skip_test("this machine has no IPv6");
    if (descriptor < 0)
        fail_test("harness: socket: %s", strerror(errno));
    fcntl(descriptor, F_SETFD, FD_CLOEXEC);
    fcntl(descriptor, F_SETFL, O_NONBLOCK);
    return descriptor;
}

static void set_option(int descriptor, int level, int name, int value)
{
    if (setsockopt(descriptor, level, name, &value, sizeof value) < 0)
        fail_test("harness: setsockopt: %s", strerror(errno));
}

static struct peer *new_peer(int descriptor, const char *name)
{
    struct peer *peer = keep(sizeof *peer);
    *peer = (struct peer){
        .next = peers, .descriptor = descriptor, .name = name};
    peers = peer;
    return peer;
}

static const char *other_side(void);
static const char *state_of_others(void);

/* Waits until both sides are ready to speak. */
static void finish_beginning(struct peer *peer)
{
    double from = now();
    double until = from + patience();
    wrapper->work(peer->wrapping);
    while (!wrapper->is_ready(peer->wrapping)) {
        if (now() >= until)
            fail_test("Expected: %s does the TLS handshake with %s.\n"
                      "After %.1f s it is not done%s; %s.",
                      other_side(), peer->name, now() - from,
                      about_the_wrapping(peer), state_of_others());
        wait_on_peer(peer, POLLIN, until);
        wrapper->work(peer->wrapping);
    }
}

static void wrap(struct peer *peer, bool as_server)
{
    if (wrapper == NULL)
        return;
    peer->wrapping = wrapper->begin(peer->descriptor, as_server);
    /* A server that cannot answer now will do it while the test waits for
     * something else. */
    if (peer->server != NULL &&
        (peer->server->stopped || peer->server->without_descriptors))
        wrapper->work(peer->wrapping);
    else
        finish_beginning(peer);
}

/* ----------------------------------------------------- the test as a client */

/* Waits for a connect() under way; 0, or the reason why it failed. */
static int finish_connect(int descriptor, double until)
{
    while (now() < until) {
        if (wait_on(descriptor, POLLOUT, until) == 0)
            continue;
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length);
        return error;
    }
    return ETIMEDOUT;
}

struct peer *connect_with(struct program *server,
                          const struct connect_options *options)
{
    const char *text = options->address != NULL ? options->address
                                                : server->address;
    const char *name = text_of("client %d", ++peer_count);
    if (server->port == 0)
        fail_test("harness: connect_to() needs a server that start_server() "
                  "has started");
    union address address;
    socklen_t length = make_address(&address, text, server->port);
    int descriptor = new_socket(address.any.sa_family);
    struct peer *peer = new_peer(descriptor, name);
    if (options->receive_buffer > 0)
        set_option(descriptor, SOL_SOCKET, SO_RCVBUF, options->receive_buffer);
    if (options->send_buffer > 0)
        set_option(descriptor, SOL_SOCKET, SO_SNDBUF, options->send_buffer);

    const char *about = "";
    if (options->receive_buffer > 0)
        about = text_of(" with a receive buffer of %d bytes",
                        options->receive_buffer);
    double from = now();
    int error = 0;
    if (connect(descriptor, &address.any, length) < 0)
        error = errno;
    if (error == EINPROGRESS || error == EINTR)
        error = finish_connect(descriptor, from + patience());
    if (error != 0) {
        double soon = moment_in(0.2);
        while (!server->has_ended && now() < soon)
            wait_on(-1, 0, soon);
        const char *reason = strerror(error);
        const char *hint = "";
        int turned = exchange_bytes(server->port);
        if (!server->has_ended && accepts_connections(text, turned))
            hint = text_of(" But port %d does accept connections: that is "
                           "%d with its two bytes exchanged (htons(), "
                           "ntohs()).",
                           turned, server->port);
        fail_test("Expected: %s listens on %s, port %d, and %s can connect.\n"
                  "connect() failed after %.3f s: %s; %s %s.%s",
                  server->name, text, server->port, name, now() - from, reason,
                  server->name, state_of(server), hint);
    }
    note("%s connected%s%s%s", name,
         options->address != NULL ? text_of(" to %s", text) : "", about, "");
    peer->server = server;
    if (!options->plain)
        wrap(peer, false);
    return peer;
}

struct peer *connect_to(struct program *server)
{
    return connect_with(server, &(struct connect_options){0});
}

int exchange_bytes(int port)
{
    return (port & 0xff) << 8 | port >> 8;
}

bool accepts_connections(const char *text, int port)
{
    union address address;
    socklen_t length = make_address(&address, text, port);
    int descriptor = new_socket(address.any.sa_family);
    int error = 0;
    if (connect(descriptor, &address.any, length) < 0)
        error = errno;
    if (error == EINPROGRESS || error == EINTR)
        error = finish_connect(descriptor, moment_in(1));
    close(descriptor);
    return error == 0;
}

/* Whether no other test has chosen this port and is about to use it. Who has
 * holds it for UDP, which no program here speaks, until the run has ended. */
static bool claim_port(int port)
{
    union address address;
    socklen_t length = make_address(&address, "127.0.0.1", port);
    int descriptor = socket(AF_INET, SOCK_DGRAM, 0);
    if (descriptor < 0)
        fail_test("harness: socket: %s", strerror(errno));
    fcntl(descriptor, F_SETFD, FD_CLOEXEC);
    if (bind(descriptor, &address.any, length) < 0) {
        close(descriptor);
        return false;
    }
    new_peer(descriptor, text_of("port %d", port));
    return true;
}

int unused_port(void)
{
    /* Below the ports that the kernel gives away, and below those that
     * transcripts.sh takes. Processes that run at the same time have different
     * numbers, and begin to look at different places. */
    enum { FIRST = 10000, COUNT = 20000, EACH = 8 };
    static unsigned used;
    for (int attempt = 0; attempt < 4 * EACH; attempt++) {
        unsigned place = (unsigned)getpid() * EACH + used % EACH +
                         used / EACH * 7919;
        int port = FIRST + (int)(place % COUNT);
        used++;
        if (port >> 8 == (port & 0xFF))
            continue; /* such as 0x4E4E, which hides a missing htons() */
        union address address;
        socklen_t length = make_address(&address, "0.0.0.0", port);
        int descriptor = new_socket(AF_INET);
        int bound = bind(descriptor, &address.any, length);
        close(descriptor);
        if (bound == 0 && claim_port(port))
            return port;
    }
    fail_test("harness: no unused port found");
}

void reserve_port(int port)
{
    const char *folder = getenv("TMPDIR");
    const char *path = text_of("%s/port-%d.lock",
                               folder != NULL ? folder : "/tmp", port);
    /* It may be there already, made by another user: reading is enough. */
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        descriptor = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor < 0)
        skip_test("cannot open %s: %s", path, strerror(errno));
    new_peer(descriptor, path); /* closed when the run has ended */
    double until = moment_in(4 * patience());
    while (flock(descriptor, LOCK_EX | LOCK_NB) < 0) {
        if (now() >= until)
            skip_test("another test uses port %d", port);
        wait_on(-1, 0, moment_in(0.01));
    }
    if (accepts_connections("127.0.0.1", port))
        skip_test("another program listens on port %d", port);
}

/* ----------------------------------------------------- the test as a server */

struct listener *listen_at(const char *text, int port)
{
    struct listener *listener = keep(sizeof *listener);
    *listener = (struct listener){.next = listeners};
    union address address;
    socklen_t length = make_address(&address, text, port);
    listener->descriptor = new_socket(address.any.sa_family);
    listeners = listener;
    set_option(listener->descriptor, SOL_SOCKET, SO_REUSEADDR, 1);
    if (address.any.sa_family == AF_INET6)
        set_option(listener->descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (bind(listener->descriptor, &address.any, length) < 0 ||
        listen(listener->descriptor, 128) < 0) {
        if (errno == EADDRNOTAVAIL && address.any.sa_family == AF_INET6)
            skip_test("this machine has no address %s", text);
        fail_test("harness: cannot listen on %s, port %d: %s", text, port,
                  strerror(errno));
    }
    listener->address_length = sizeof listener->address;
    getsockname(listener->descriptor, (struct sockaddr *)&listener->address,
                &listener->address_length);
    memcpy(&address.storage, &listener->address, sizeof listener->address);
    listener->port = ntohs(address.any.sa_family == AF_INET6
                               ? address.v6.sin6_port
                               : address.v4.sin_port);
    note("the test listens on %s, port %d", text, listener->port);
    return listener;
}

struct listener *listen_here(void)
{
    return listen_at("127.0.0.1", 0);
}

/* As Linux counts; elsewhere a connection has to show it. */
static bool backlog_is_full(const struct listener *listener)
{
#ifdef __linux__
    struct tcp_info queue; /* of a listener: so many wait, and may wait */
    socklen_t size = sizeof queue;
    return getsockopt(listener->descriptor, IPPROTO_TCP, TCP_INFO, &queue,
                      &size) == 0 &&
           queue.tcpi_unacked > queue.tcpi_sacked;
#else
    return listener == NULL;
#endif
}

struct listener *listen_but_never_answer(void)
{
    struct listener *listener = listen_at("127.0.0.1", 0);
    listen(listener->descriptor, 0);

    /* On loopback a connection is made inside connect(); one that is not made
     * soon has found the backlog full. */
    for (int i = 0; i < 16; i++) {
        if (backlog_is_full(listener)) {
            note("its backlog is full: a connection to it hangs");
            return listener;
        }
        int filler = new_socket(AF_INET);
        int error = 0;
        if (connect(filler, (struct sockaddr *)&listener->address,
                    listener->address_length) < 0)
            error = errno;
        if (error == EINPROGRESS)
            error = finish_connect(filler, moment_in(0.5));
        if (error != 0) {
            close(filler);
            note("its backlog is full: a connection to it hangs");
            return listener;
        }
        listener->fillers[listener->filler_count++] = filler;
    }
    skip_test("this machine accepts connections behind a full backlog");
}

static void close_fillers(struct listener *listener)
{
    for (size_t i = 0; i < listener->filler_count; i++)
        close(listener->fillers[i]);
    listener->filler_count = 0;
}

void start_answering(struct listener *listener)
{
    listen(listener->descriptor, 128);
    for (size_t i = 0; i < listener->filler_count; i++) {
        double until = moment_in(1);
        int accepted = -1;
        while (accepted < 0 && now() < until) {
            wait_on(listener->descriptor, POLLIN, until);
            accepted = accept(listener->descriptor, NULL, NULL);
        }
        if (accepted >= 0)
            close(accepted);
    }
    close_fillers(listener);
    note("the listener answers from here on");
}

int port_of_listener(const struct listener *listener)
{
    return listener->port;
}

void close_listener(struct listener *listener)
{
    if (listener->descriptor < 0)
        return;
    close(listener->descriptor);
    listener->descriptor = -1;
    close_fillers(listener);
    note("the test listens no more on port %d", listener->port);
}

void set_receive_buffer(struct listener *listener, int receive_buffer)
{
    if (receive_buffer > 0)
        set_option(listener->descriptor, SOL_SOCKET, SO_RCVBUF, receive_buffer);
}

struct peer *accept_plainly_within(struct listener *listener, double seconds)
{
    double until = moment_in(seconds);
    for (;;) {
        int descriptor = accept(listener->descriptor, NULL, NULL);
        if (descriptor >= 0) {
            fcntl(descriptor, F_SETFD, FD_CLOEXEC);
            fcntl(descriptor, F_SETFL, O_NONBLOCK);
            struct peer *peer = new_peer(
                descriptor, text_of("connection %d", ++peer_count));
            note("%s came in", peer->name);
            return peer;
        }
        if (now() >= until || !any_program_runs())
            return NULL;
        wait_on(listener->descriptor, POLLIN, until);
    }
}

struct peer *accept_client_within(struct listener *listener, double seconds)
{
    struct peer *peer = accept_plainly_within(listener, seconds);
    if (peer != NULL)
        wrap(peer, true);
    return peer;
}

struct peer *accept_client(struct listener *listener)
{
    struct peer *peer = accept_plainly(listener);
    wrap(peer, true);
    return peer;
}

/* A client in a slow interpreter on a busy machine may still be on its way when
 * PATIENCE is over; one that sleeps is not. */
static bool any_program_is_busy(void)
{
    for (struct program *each = programs; each != NULL; each = each->next) {
        if (!each->has_ended && !group_rests(each->pid, 0.5))
            return true;
    }
    return false;
}

struct peer *accept_plainly(struct listener *listener)
{
    double from = now();
    struct peer *peer = accept_plainly_within(listener, patience());
    while (peer == NULL && now() < from + 4 * patience() &&
           any_program_is_busy())
        peer = accept_plainly_within(listener, 0.2);
    if (peer != NULL)
        return peer;
    if (!any_program_runs() && programs != NULL)
        fail_test("Expected: %s connects to port %d.\n"
                  "It did not, and %s.",
                  programs->name, listener->port, state_of(programs));
    fail_test("Expected: the client connects to port %d.\n"
              "Nothing came in %.1f s.",
              listener->port, now() - from);
}

/* -------------------------------------------------- one end of a connection */

static void forget_socket(struct peer *peer)
{
    if (peer->wrapping != NULL)
        wrapper->forget(peer->wrapping);
    peer->wrapping = NULL;
    if (peer->descriptor >= 0)
        close(peer->descriptor);
    peer->descriptor = -1;
}

void close_all_sockets(void)
{
    for (struct peer *each = peers; each != NULL; each = each->next)
        forget_socket(each);
    for (struct listener *each = listeners; each != NULL; each = each->next) {
        if (each->descriptor >= 0)
            close(each->descriptor);
        each->descriptor = -1;
        close_fillers(each);
    }
    peers = NULL;
    listeners = NULL;
    peer_count = 0;
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

ssize_t send_now(struct peer *peer, const void *bytes, size_t length)
{
    ssize_t sent;
    if (peer->wrapping != NULL)
        sent = wrapper->send(peer->wrapping, bytes, length);
    else
        sent = send(peer->descriptor, bytes, length, MSG_NOSIGNAL);
    if (sent > 0)
        bytes_moved();
    if (sent >= 0 || peer->wrapping != NULL)
        return sent;
    return would_block() ? -1 : -2;
}

enum taken take_now(struct peer *peer, void *buffer, size_t size, size_t *taken)
{
    *taken = 0;
    if (peer->wrapping != NULL) {
        enum taken came = wrapper->take(peer->wrapping, buffer, size, taken);
        if (came == TAKEN_SOME)
            bytes_moved();
        return came;
    }
    ssize_t length = recv(peer->descriptor, buffer, size, 0);
    *taken = length > 0 ? (size_t)length : 0;
    if (length > 0) {
        bytes_moved();
        return TAKEN_SOME;
    }
    if (length == 0)
        return TAKEN_END;
    return would_block() ? TAKEN_NOTHING : TAKEN_RESET;
}

bool is_over(enum taken taken)
{
    return taken == TAKEN_END || taken == TAKEN_RESET || taken == TAKEN_CUT;
}

enum ending ending_of(enum taken taken)
{
    return taken == TAKEN_END     ? END_OF_FILE
           : taken == TAKEN_RESET ? RESET
           : taken == TAKEN_CUT   ? CUT_OFF
                                  : STILL_OPEN;
}

static const char *how_it_ended(enum taken taken)
{
    return taken == TAKEN_END     ? "end of file"
           : taken == TAKEN_RESET ? "a reset"
                                  : "the end of TCP without close_notify";
}

short events_for_peer(const struct peer *peer, short events)
{
    return peer->wrapping != NULL ? wrapper->events(peer->wrapping, events)
                                  : events;
}

void wait_on_peer(struct peer *peer, short events, double until)
{
    events = events_for_peer(peer, events);
    if (events == 0)
        wait_on(-1, 0, 0);
    else
        wait_on(peer->descriptor, events, until);
}

const char *about_the_wrapping(const struct peer *peer)
{
    return peer->wrapping != NULL ? wrapper->about(peer->wrapping) : "";
}

size_t connections_at_work(struct pollfd *watched, size_t most)
{
    size_t count = 0;
    for (struct peer *each = wrapper != NULL ? peers : NULL;
         each != NULL && count < most; each = each->next) {
        if (each->wrapping != NULL && wrapper->is_at_work(each->wrapping))
            watched[count++] = (struct pollfd){
                each->descriptor, wrapper->events(each->wrapping, 0), 0};
    }
    return count;
}

void work_on_connections(void)
{
    for (struct peer *each = wrapper != NULL ? peers : NULL; each != NULL;
         each = each->next) {
        if (each->wrapping != NULL && wrapper->is_at_work(each->wrapping))
            wrapper->work(each->wrapping);
    }
}

struct wrapping *wrapping_of(const struct peer *peer)
{
    return peer->wrapping;
}

void wrap_up(struct peer *peer, struct wrapping *wrapping)
{
    peer->wrapping = wrapping;
}

static void end_side(struct peer *peer)
{
    if (peer->wrapping != NULL)
        wrapper->end_side(peer->wrapping);
    else
        shutdown(peer->descriptor, SHUT_WR);
}

/* Adds to `came` what comes within 100 ms, for a report that shows more than
 * the first wrong byte. */
static enum ending collect_rest(struct peer *peer, struct bytes *came,
                                size_t most)
{
    char buffer[65536];
    double until = moment_in(0.1);
    enum taken taken = TAKEN_NOTHING;
    while (came->length < most && now() < until) {
        size_t length;
        taken = take_now(peer, buffer, sizeof buffer, &length);
        append_bytes(came, buffer, length);
        if (is_over(taken))
            break;
        if (taken == TAKEN_NOTHING)
            wait_on_peer(peer, POLLIN, until);
    }
    return ending_of(taken);
}

static const char *other_side(void)
{
    return programs != NULL ? programs->name : "the program";
}

static const char *state_of_others(void)
{
    wait_on(-1, 0, moment_in(0.02));
    return programs != NULL ? state_of_programs() + strlen("; ") : "";
}

_Noreturn static void fail_sending(struct peer *peer, size_t sent,
                                   size_t length, bool has_failed)
{
    const char *reason = strerror(errno);
    if (has_failed)
        fail_test("Expected: %s takes %zu bytes from %s.\n"
                  "After %zu bytes sending failed: %s (%s has closed or reset "
                  "the connection); %s.",
                  other_side(), length, peer->name, sent, reason, other_side(),
                  state_of_others());
    fail_test("Expected: %s takes %zu bytes from %s.\n"
              "After %zu bytes it took no more for %.1f s; %s.",
              other_side(), length, peer->name, sent, patience(),
              state_of_others());
}

static void send_quietly(struct peer *peer, const void *bytes, size_t length)
{
    size_t sent = 0;
    double until = moment_in(patience());
    while (sent < length) {
        ssize_t more = send_now(peer, (const char *)bytes + sent,
                                length - sent);
        if (more >= 0) {
            sent += (size_t)more;
            until = moment_in(patience());
            continue;
        }
        if (more == -2 || now() >= until)
            fail_sending(peer, sent, length, more == -2);
        wait_on_peer(peer, POLLOUT, until);
    }
}

void send_bytes(struct peer *peer, const void *bytes, size_t length)
{
    note("%s sent %s", peer->name, quoted(bytes, length));
    send_quietly(peer, bytes, length);
}

void send_text(struct peer *peer, const char *text)
{
    send_bytes(peer, text, strlen(text));
}

void send_slowly(struct peer *peer, const void *bytes, size_t length,
                 size_t piece, double pause)
{
    note("%s sent %s, %s at a time with %.0f ms between", peer->name,
         quoted(bytes, length), count_of(piece, "byte"), pause * 1e3);
    set_option(peer->descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
    for (size_t sent = 0; sent < length; sent += piece) {
        size_t left = length - sent;
        if (sent > 0)
            let_pass(pause);
        send_quietly(peer, (const char *)bytes + sent,
                     left < piece ? left : piece);
    }
}

size_t send_until_full(struct peer *peer, const void *bytes, size_t length,
                       double seconds)
{
    size_t sent = 0;
    double until = moment_in(seconds);
    /* A slow program takes a little now and then, and is never full. */
    double at_last = moment_in(20 * seconds);
    while (sent < length && now() < until && now() < at_last) {
        ssize_t more = send_now(peer, (const char *)bytes + sent,
                                length - sent);
        if (more == -2)
            break;
        if (more >= 0) {
            sent += (size_t)more;
            until = moment_in(seconds);
            continue;
        }
        wait_on_peer(peer, POLLOUT, until);
    }
    note("%s sent %s, reading nothing%s", peer->name, count_of(sent, "byte"),
         sent < length ? "; then the kernel took no more" : "");
    return sent;
}

void exchange(struct peer *peer, const void *sent, size_t sent_length,
              const void *expected, size_t expected_length)
{
    struct bytes came = {0};
    size_t gone = 0;
    size_t compared = 0;
    bool broken = false;
    double until = moment_in(patience());
    char buffer[65536];

    note("%s sent %s, receiving at the same time", peer->name,
         quoted(sent, sent_length));
    for (;;) {
        bool progress = false;
        if (gone < sent_length && !broken) {
            ssize_t more = send_now(peer, (const char *)sent + gone,
                                    sent_length - gone);
            broken = more == -2;
            progress = more > 0;
            gone += more > 0 ? (size_t)more : 0;
        }
        size_t length;
        enum taken taken = take_now(peer, buffer, sizeof buffer, &length);
        append_bytes(&came, buffer, length);
        progress = progress || length > 0;

        size_t both = came.length < expected_length ? came.length
                                                    : expected_length;
        bool differs = came.length > expected_length ||
                       (both > compared &&
                        memcmp(came.data + compared,
                               (const char *)expected + compared,
                               both - compared) != 0);
        compared = both;
        bool over = is_over(taken);
        bool all = came.length >= expected_length;
        if (all && !differs && gone == sent_length && !over &&
            taken == TAKEN_NOTHING)
            break;
        if (progress)
            until = moment_in(patience());
        if (differs || over || now() >= until) {
            enum ending ending = ending_of(taken);
            if (!over && !all)
                ending = collect_rest(peer, &came, expected_length + 65536);
            struct bytes copy = came; /* freed with the process */
            if (gone < sent_length)
                note("of these, only %s could be sent", count_of(gone, "byte"));
            if (all && !differs && over)
                fail_test("Expected: after %s came back to %s, the connection "
                          "stays open.\nIt ended with %s.",
                          count_of(expected_length, "byte"), peer->name,
                          how_it_ended(taken));
            if (all && !differs)
                fail_sending(peer, gone, sent_length, broken);
            fail_difference(text_of("%s receives", peer->name), expected,
                            expected_length, copy.data, copy.length, ending);
        }
        if (!progress)
            wait_on_peer(
                peer, gone < sent_length && !broken ? POLLIN | POLLOUT : POLLIN,
                until);
    }
    free_bytes(&came);
    note("%s received %s, as expected", peer->name,
         quoted(expected, expected_length));
}

struct received send_and_collect(struct peer *peer, const void *sent,
                                 size_t sent_length, bool half_close_after,
                                 size_t most)
{
    struct bytes came = {0};
    size_t gone = 0;
    bool sending = true;
    double until = moment_in(patience());
    char buffer[65536];
    enum taken taken = TAKEN_NOTHING;

    note("%s sent %s%s, receiving at the same time", peer->name,
         quoted(sent, sent_length),
         half_close_after ? ", then ended its side" : "");
    while (came.length < most && now() < until) {
        bool progress = false;
        if (sending && gone < sent_length) {
            ssize_t more = send_now(peer, (const char *)sent + gone,
                                    sent_length - gone);
            sending = more != -2;
            progress = more > 0;
            gone += more > 0 ? (size_t)more : 0;
        }
        if (sending && gone == sent_length) {
            sending = false;
            if (half_close_after)
                end_side(peer);
        }
        size_t length;
        size_t room = most - came.length;
        taken = take_now(peer, buffer,
                         room < sizeof buffer ? room : sizeof buffer, &length);
        append_bytes(&came, buffer, length);
        if (is_over(taken))
            break;
        if (progress || length > 0)
            until = moment_in(patience());
        else
            wait_on_peer(peer, sending ? POLLIN | POLLOUT : POLLIN, until);
    }
    char *copy = keep(came.length);
    if (came.length > 0)
        memcpy(copy, came.data, came.length);
    copy[came.length] = '\0';
    struct received received = {.bytes = copy,
                                .length = came.length,
                                .was_reset = taken == TAKEN_RESET,
                                .ended = is_over(taken)};
    free_bytes(&came);
    note("%s received %s, then %s", peer->name,
         quoted(received.bytes, received.length),
         received.was_reset ? "a reset"
         : received.ended   ? "end of file"
                            : "no more");
    return received;
}

void expect_bytes(struct peer *peer, const void *bytes, size_t length)
{
    struct bytes came = {0};
    double until = moment_in(patience());
    char buffer[65536];

    while (came.length < length) {
        size_t left = length - came.length;
        size_t taken_length;
        enum taken taken = take_now(peer, buffer,
                                    left < sizeof buffer ? left : sizeof buffer,
                                    &taken_length);
        size_t before = came.length;
        append_bytes(&came, buffer, taken_length);
        bool differs = memcmp(came.data + before, (const char *)bytes + before,
                              taken_length) != 0;
        if (taken == TAKEN_SOME && !differs) {
            until = moment_in(patience());
            continue;
        }
        bool over = is_over(taken);
        if (differs || over || now() >= until) {
            enum ending ending = ending_of(taken);
            if (!over)
                ending = collect_rest(peer, &came, length + 4096);
            fail_difference(text_of("%s receives", peer->name), bytes, length,
                            came.data, came.length, ending);
        }
        wait_on_peer(peer, POLLIN, until);
    }
    free_bytes(&came);
    note("%s received %s, as expected", peer->name, quoted(bytes, length));
}

void expect_text(struct peer *peer, const char *text)
{
    expect_bytes(peer, text, strlen(text));
}

void receive_bytes(struct peer *peer, void *buffer, size_t length)
{
    size_t received = 0;
    double until = moment_in(patience());
    while (received < length) {
        size_t more;
        enum taken taken = take_now(peer, (char *)buffer + received,
                                    length - received, &more);
        received += more;
        if (taken == TAKEN_SOME) {
            until = moment_in(patience());
            continue;
        }
        if (taken != TAKEN_NOTHING || now() >= until)
            fail_test("Expected: %s receives %s.\n"
                      "%s came (%s), then %s; %s.",
                      peer->name, count_of(length, "byte"),
                      count_of(received, "byte"), quoted(buffer, received),
                      is_over(taken)
                          ? how_it_ended(taken)
                          : text_of("nothing for %.1f s", patience()),
                      state_of_others());
        wait_on_peer(peer, POLLIN, until);
    }
    note("%s received %s", peer->name, quoted(buffer, length));
}

ssize_t receive_some(struct peer *peer, void *buffer, size_t size,
                     double seconds)
{
    double until = moment_in(seconds);
    for (;;) {
        size_t length;
        enum taken taken = take_now(peer, buffer, size, &length);
        if (taken == TAKEN_SOME)
            return (ssize_t)length;
        if (taken != TAKEN_NOTHING)
            return -1;
        if (now() >= until)
            return 0;
        wait_on_peer(peer, POLLIN, until);
    }
}

void expect_silence(struct peer *peer, double seconds)
{
    struct bytes came = {0};
    char buffer[4096];
    double until = moment_in(seconds);
    for (;;) {
        size_t length;
        enum taken taken = take_now(peer, buffer, sizeof buffer, &length);
        if (taken == TAKEN_SOME) {
            append_bytes(&came, buffer, length);
            enum ending ending = collect_rest(peer, &came, 4096);
            fail_difference(
                text_of("%s receives, while nothing is due", peer->name), "", 0,
                came.data, came.length, ending);
        }
        if (taken != TAKEN_NOTHING)
            fail_test("Expected: the connection of %s stays open and "
                      "silent.\nIt ended with %s; %s.",
                      peer->name, how_it_ended(taken), state_of_others());
        if (now() >= until)
            break;
        wait_on_peer(peer, POLLIN, until);
    }
    note("%s received nothing for %.0f ms", peer->name, seconds * 1e3);
}

bool may_cut_off(void)
{
    for (struct program *each = programs; each != NULL; each = each->next) {
        if (each->is_server && each->killed)
            return true;
    }
    return false;
}

static void expect_end(struct peer *peer, bool reset_is_fine)
{
    struct bytes came = {0};
    char buffer[4096];
    double until = moment_in(patience());
    for (;;) {
        size_t length;
        enum taken taken = take_now(peer, buffer, sizeof buffer, &length);
        int error = errno;
        if (taken == TAKEN_SOME) {
            append_bytes(&came, buffer, length);
            enum ending ending = collect_rest(peer, &came, 65536);
            fail_difference(text_of("%s receives, where only the end of the "
                                    "connection was due",
                                    peer->name),
                            "", 0, came.data, came.length, ending);
        }
        if (taken == TAKEN_END || (taken == TAKEN_RESET && reset_is_fine)) {
            note("%s received %s", peer->name, how_it_ended(taken));
            return;
        }
        if (taken == TAKEN_CUT && may_cut_off()) {
            note("%s received %s", peer->name, how_it_ended(taken));
            return;
        }
        if (taken == TAKEN_CUT)
            fail_test("Expected: %s receives close_notify, then end of "
                      "file.\nIt received the end of TCP without "
                      "close_notify: so ends a connection that somebody cut "
                      "off; %s.",
                      peer->name, state_of_others());
        if (taken == TAKEN_RESET)
            fail_test("Expected: %s receives end of file.\n"
                      "It received a reset (%s). A reset comes when a program "
                      "closes a socket that still holds bytes it has not "
                      "read, or when the program dies; %s.",
                      peer->name, strerror(error), state_of_others());
        if (now() >= until)
            fail_test("Expected: %s receives end of file: %s closes the "
                      "connection.\nNothing came in %.1f s; %s.",
                      peer->name, other_side(), patience(), state_of_others());
        wait_on_peer(peer, POLLIN, until);
    }
}

void expect_end_of_file(struct peer *peer)
{
    expect_end(peer, false);
}

void expect_closed(struct peer *peer)
{
    expect_end(peer, true);
}

/* What has been taken to be sent goes before the connection does. */
static void finish_end(struct peer *peer)
{
    double until = moment_in(0.2);
    bool is_stopped = peer->server != NULL && peer->server->stopped;
    wrapper->end_side(peer->wrapping);
    while (!is_stopped && wrapper->is_at_work(peer->wrapping) &&
           now() < until) {
        wait_on_peer(peer, 0, until);
        wrapper->work(peer->wrapping);
    }
}

void half_close(struct peer *peer)
{
    note("%s ended its side (%s)", peer->name,
         peer->wrapping != NULL ? "close_notify" : "shutdown");
    end_side(peer);
}

void close_peer(struct peer *peer)
{
    note("%s closed", peer->name);
    if (peer->wrapping != NULL)
        finish_end(peer);
    forget_socket(peer);
}

void reset_peer(struct peer *peer)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    note("%s reset its connection", peer->name);
    setsockopt(peer->descriptor, SOL_SOCKET, SO_LINGER, &at_once,
               sizeof at_once);
    forget_socket(peer);
}

size_t bytes_waiting(struct peer *peer)
{
    int waiting = 0;
    wait_on(-1, 0, 0);
    if (ioctl(peer->descriptor, FIONREAD, &waiting) < 0 || waiting < 0)
        return 0;
    return (size_t)waiting;
}

int descriptor_of(const struct peer *peer)
{
    return peer->descriptor;
}

/*
 * check.c - does the hostile network do what hostile.c says, and no more?
 *
 * Each test opens the library with dlopen and calls its functions by hand:
 * hostile.recv is what a program calls that was started with LD_PRELOAD, recv
 * is the C library's. So one end of a connection can be on the hostile network
 * while the other is on the calm one. The last test starts a real program.
 *
 *     HOSTILE_LIBRARY=$PWD/build/tests/hostile.so build/tests/hostile-check -j8
 */
/* glibc declares the address of connect as a union of all kinds of address. */
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wpedantic"
#endif

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* -------------------------------------------------- the library's functions */

#ifdef __GLIBC__
ssize_t __recv_chk(int, void *, size_t, size_t, int);
ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *,
                       socklen_t *);
ssize_t __read_chk(int, void *, size_t, size_t);
int __poll_chk(struct pollfd *, nfds_t, int, size_t);
int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *,
                const sigset_t *, size_t);
#endif

/* clang-format off */
#define FUNCTIONS(X)                                                           \
    X(recv) X(recvfrom) X(recvmsg) X(read) X(readv)                            \
    X(send) X(sendto) X(sendmsg) X(write) X(writev) X(sendfile)                \
    X(accept) X(accept4) X(connect)                                            \
    X(poll) X(ppoll) X(select) X(pselect)                                      \
    X(epoll_wait) X(epoll_pwait) X(epoll_ctl)                                  \
    X(pthread_cond_wait) X(pthread_cond_timedwait) ONLY_GLIBC(X)
#ifdef __GLIBC__
#define ONLY_GLIBC(X)                                                          \
    X(__recv_chk) X(__recvfrom_chk) X(__read_chk)                              \
    X(__poll_chk) X(__ppoll_chk) X(sendfile64)
#else
#define ONLY_GLIBC(X)
#endif
/* clang-format on */

static struct {
#define MEMBER(name) __typeof__(&name) name;
    FUNCTIONS(MEMBER)
#undef MEMBER
} hostile;

/* Opens the library with this seed (NULL: none), afresh: as if a program had
 * been started. */
static void start_network(const char *seed)
{
    static void *library;
    if (library != NULL)
        dlclose(library);
    if (seed != NULL)
        setenv("HOSTILE_SEED", seed, 1);
    else
        unsetenv("HOSTILE_SEED");
    const char *path = getenv("HOSTILE_LIBRARY");
    cr_assert(path != NULL, "HOSTILE_LIBRARY is not set");
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    cr_assert(library != NULL, "%s", dlerror());
    void *function;
#define FIND(name)                                                             \
    function = dlsym(library, #name);                                          \
    cr_assert(function != NULL, "no " #name);                                  \
    memcpy(&hostile.name, &function, sizeof function);
    FUNCTIONS(FIND)
#undef FIND
}

static void start_network_with(int seed)
{
    char text[12];
    snprintf(text, sizeof text, "%d", seed);
    start_network(text);
}

enum {
    SEEDS = 60, /* each fault must occur for every one of them */
    TEXT = 20   /* bytes of a short exchange */
};
static const char text[TEXT + 1] = "twenty bytes of text";

/* --------------------------------------------------------- calm connections */

static int calm_listener(struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof *address;
    cr_assert(bind(fd, (struct sockaddr *)address, length) == 0 &&
              listen(fd, 128) == 0 &&
              getsockname(fd, (struct sockaddr *)address, &length) == 0);
    return fd;
}

/* Two ends of one connection. The first is for the hostile functions. */
struct pair {
    int troubled, calm;
};

static struct pair connect_pair(void)
{
    struct sockaddr_in address;
    int listener = calm_listener(&address);
    struct pair pair = {.calm = socket(AF_INET, SOCK_STREAM, 0)};
    cr_assert(connect(pair.calm, (struct sockaddr *)&address, sizeof address) ==
              0);
    pair.troubled = accept(listener, NULL, NULL);
    cr_assert(pair.troubled != -1);
    close(listener);
    return pair;
}

static void close_pair(struct pair pair)
{
    close(pair.troubled);
    close(pair.calm);
}

static void calm_send(int fd, const void *bytes, size_t length)
{
    cr_assert(send(fd, bytes, length, MSG_NOSIGNAL) == (ssize_t)length);
}

static void calm_receive(int fd, void *bytes, size_t length)
{
    cr_assert(recv(fd, bytes, length, MSG_WAITALL) == (ssize_t)length);
}

static void make_nonblocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* --------------------------------------------- every way to move some bytes */

typedef ssize_t mover(int fd, char *bytes, size_t length);

static ssize_t by_recv(int fd, char *bytes, size_t length)
{
    return hostile.recv(fd, bytes, length, 0);
}

static ssize_t by_recvfrom(int fd, char *bytes, size_t length)
{
    return hostile.recvfrom(fd, bytes, length, 0, NULL, NULL);
}

static ssize_t by_read(int fd, char *bytes, size_t length)
{
    return hostile.read(fd, bytes, length);
}

/* The vectors have an empty part, a part of one byte, and the rest. */
static ssize_t by_readv(int fd, char *bytes, size_t length)
{
    struct iovec parts[] = {{bytes, 0}, {bytes, 1}, {bytes + 1, length - 1}};
    return hostile.readv(fd, parts, 3);
}

static ssize_t by_recvmsg(int fd, char *bytes, size_t length)
{
    struct iovec parts[] = {{bytes, 0}, {bytes, 1}, {bytes + 1, length - 1}};
    char control[64];
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 3,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t result = hostile.recvmsg(fd, &message, 0);
    cr_assert(message.msg_iov == parts && message.msg_iovlen == 3 &&
              parts[1].iov_len == 1 && parts[2].iov_len == length - 1);
    if (result >= 0)
        cr_assert(message.msg_controllen == 0); /* the kernel's answer */
    return result;
}

static ssize_t by_send(int fd, char *bytes, size_t length)
{
    return hostile.send(fd, bytes, length, MSG_NOSIGNAL);
}

static ssize_t by_sendto(int fd, char *bytes, size_t length)
{
    return hostile.sendto(fd, bytes, length, 0, NULL, 0);
}

static ssize_t by_write(int fd, char *bytes, size_t length)
{
    return hostile.write(fd, bytes, length);
}

static ssize_t by_writev(int fd, char *bytes, size_t length)
{
    struct iovec parts[] = {{bytes, 0}, {bytes, 1}, {bytes + 1, length - 1}};
    return hostile.writev(fd, parts, 3);
}

static ssize_t by_sendmsg(int fd, char *bytes, size_t length)
{
    struct iovec parts[] = {{bytes, 0}, {bytes, 1}, {bytes + 1, length - 1}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
    return hostile.sendmsg(fd, &message, 0);
}

static int file_of(const char *bytes, size_t length)
{
    FILE *file = tmpfile();
    cr_assert(file != NULL);
    int fd = dup(fileno(file));
    fclose(file);
    cr_assert(pwrite(fd, bytes, length, 0) == (ssize_t)length);
    return fd;
}

static ssize_t by_sendfile(int fd, char *bytes, size_t length)
{
    int file = file_of(bytes, length);
    off_t offset = 0;
    ssize_t result = hostile.sendfile(fd, file, &offset, length);
    int error = errno;
    cr_assert(offset == (result < 0 ? 0 : result));
    close(file);
    errno = error;
    return result;
}

#ifdef __GLIBC__
static ssize_t by_recv_chk(int fd, char *bytes, size_t length)
{
    return hostile.__recv_chk(fd, bytes, length, length, 0);
}

static ssize_t by_recvfrom_chk(int fd, char *bytes, size_t length)
{
    return hostile.__recvfrom_chk(fd, bytes, length, length, 0, NULL, NULL);
}

static ssize_t by_read_chk(int fd, char *bytes, size_t length)
{
    return hostile.__read_chk(fd, bytes, length, length);
}

static ssize_t by_sendfile64(int fd, char *bytes, size_t length)
{
    int file = file_of(bytes, length);
    ssize_t result = hostile.sendfile64(fd, file, NULL, length);
    int error = errno;
    close(file);
    errno = error;
    return result;
}
#endif

struct way {
    const char *name;
    mover *move;
};

static const struct way receivers[] = {
    {"recv", by_recv},           {"recvfrom", by_recvfrom},
    {"recvmsg", by_recvmsg},     {"read", by_read},
    {"readv", by_readv},
#ifdef __GLIBC__
    {"__recv_chk", by_recv_chk}, {"__recvfrom_chk", by_recvfrom_chk},
    {"__read_chk", by_read_chk},
#endif
};

static const struct way senders[] = {
    {"send", by_send},
    {"sendto", by_sendto},
    {"sendmsg", by_sendmsg},
    {"write", by_write},
    {"writev", by_writev},
    {"sendfile", by_sendfile},
#ifdef __GLIBC__
    {"sendfile64", by_sendfile64},
#endif
};

enum {
    RECEIVERS = sizeof receivers / sizeof *receivers,
    SENDERS = sizeof senders / sizeof *senders
};

/* Moves the text, as a careful program does, and counts what went wrong. */
struct trouble {
    int interrupted, again, short_moves, most_in_a_row;
    size_t first; /* how many bytes the first successful call moved */
};

static struct trouble move_text(const struct way *way, int fd, char *bytes,
                                size_t length)
{
    struct trouble trouble = {0};
    int in_a_row = 0;
    for (size_t done = 0; done < length;) {
        ssize_t moved = way->move(fd, bytes + done, length - done);
        if (moved < 0) {
            cr_assert(errno == EINTR || errno == EAGAIN, "%s: %s", way->name,
                      strerror(errno));
            if (errno == EINTR)
                trouble.interrupted++;
            else
                trouble.again++;
            if (++in_a_row > trouble.most_in_a_row)
                trouble.most_in_a_row = in_a_row;
            continue;
        }
        in_a_row = 0;
        cr_assert(moved > 0, "%s moved nothing", way->name);
        if (done == 0)
            trouble.first = (size_t)moved;
        if ((size_t)moved < length - done)
            trouble.short_moves++;
        done += (size_t)moved;
    }
    return trouble;
}

/* -------------------------------------------------------------------- tests */

/* Without a seed the library is not there. */
Test(hostile, does_nothing_without_a_seed)
{
    const char *const none[] = {NULL, "", "0", "no number", "12x"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        start_network(none[i]);
        for (int way = 0; way < RECEIVERS; way++) {
            struct pair pair = connect_pair();
            char bytes[TEXT];
            calm_send(pair.calm, text, TEXT);
            struct trouble trouble = move_text(&receivers[way], pair.troubled,
                                               bytes, TEXT);
            cr_assert(trouble.first == TEXT && trouble.interrupted == 0);
            trouble = move_text(&senders[way % SENDERS], pair.troubled, bytes,
                                TEXT);
            cr_assert(trouble.first == TEXT && trouble.interrupted == 0);
            close_pair(pair);
        }
        struct sockaddr_in address;
        int listener = calm_listener(&address);
        int client = socket(AF_INET, SOCK_STREAM, 0);
        cr_assert(hostile.connect(client, (struct sockaddr *)&address,
                                  sizeof address) == 0);
        struct pollfd entry = {.fd = listener, .events = POLLIN};
        cr_assert(hostile.poll(&entry, 1, 5000) == 1);
        int server = hostile.accept(listener, NULL, NULL);
        cr_assert(server != -1);
        close(server);
        close(client);
        close(listener);
    }
}

/* Whichever call receives: with every seed it gets less than is there, is
 * interrupted once at least, and in the end has every byte. */
Test(hostile, reads_come_short_and_are_interrupted)
{
    for (int seed = 1; seed <= SEEDS; seed++) {
        start_network_with(seed);
        const struct way *way = &receivers[seed % RECEIVERS];
        struct pair pair = connect_pair();
        char bytes[TEXT];
        calm_send(pair.calm, text, TEXT);
        struct trouble trouble = move_text(way, pair.troubled, bytes, TEXT);
        cr_assert(memcmp(bytes, text, TEXT) == 0, "%s: wrong bytes", way->name);
        cr_assert(trouble.first < 4, "%s, seed %d: %zu bytes at once",
                  way->name, seed, trouble.first);
        cr_assert(trouble.interrupted > 0, "%s, seed %d: no EINTR", way->name,
                  seed);
        cr_assert(trouble.again == 0, "%s: EAGAIN, but it blocks", way->name);
        close_pair(pair);
    }
}

Test(hostile, writes_come_short_and_are_interrupted)
{
    for (int seed = 1; seed <= SEEDS; seed++) {
        start_network_with(seed);
        const struct way *way = &senders[seed % SENDERS];
        struct pair pair = connect_pair();
        char bytes[TEXT];
        memcpy(bytes, text, TEXT);
        struct trouble trouble = move_text(way, pair.troubled, bytes, TEXT);
        calm_receive(pair.calm, bytes, TEXT);
        cr_assert(memcmp(bytes, text, TEXT) == 0, "%s: wrong bytes", way->name);
        cr_assert(trouble.first < 4, "%s, seed %d: %zu bytes at once",
                  way->name, seed, trouble.first);
        cr_assert(trouble.interrupted > 0, "%s, seed %d: no EINTR", way->name,
                  seed);
        cr_assert(trouble.again == 0, "%s: EAGAIN, but it blocks", way->name);

        /* Nobody waits 40 ms for Nagle's algorithm because of us. */
        int no_delay = 0;
        socklen_t length = sizeof no_delay;
        getsockopt(pair.troubled, IPPROTO_TCP, TCP_NODELAY, &no_delay, &length);
        cr_assert(no_delay != 0);

        /* Two bytes do not go in one piece either. */
        close_pair(pair);
        pair = connect_pair();
        trouble = move_text(way, pair.troubled, bytes, 2);
        cr_assert(trouble.first == 1);
        close_pair(pair);
    }
}

/* Refusals end: a call that is tried again gets through the third time, and of
 * many calls most get through at once. A time limit on the socket changes
 * nothing: EAGAIN would mean that the time is up. */
Test(hostile, who_tries_again_gets_through)
{
    for (int seed = 1; seed <= 10; seed++) {
        start_network_with(seed);
        struct pair pair = connect_pair();
        struct timeval minute = {.tv_sec = 60};
        setsockopt(pair.troubled, SOL_SOCKET, SO_RCVTIMEO, &minute,
                   sizeof minute);
        int interrupted = 0;
        for (int round = 0; round < 200; round++) {
            char bytes[TEXT];
            calm_send(pair.calm, text, 1);
            struct trouble trouble = move_text(&receivers[0], pair.troubled,
                                               bytes, 1);
            cr_assert(trouble.again == 0, "EAGAIN, but it blocks");
            cr_assert(trouble.most_in_a_row <= 2);
            interrupted += trouble.interrupted;
        }
        cr_assert(interrupted > 5 && interrupted < 60, "%d of 200",
                  interrupted);
        close_pair(pair);
    }
}

/* A socket that does not block is never interrupted, but finds nothing where
 * something is. MSG_DONTWAIT is the same for one call. */
Test(hostile, what_does_not_block_says_EAGAIN)
{
    for (int seed = 1; seed <= SEEDS; seed++) {
        start_network_with(seed);
        struct pair pair = connect_pair();
        make_nonblocking(pair.troubled);
        char bytes[TEXT];
        calm_send(pair.calm, text, TEXT);
        const struct way *way = &receivers[seed % RECEIVERS];
        struct trouble trouble = move_text(way, pair.troubled, bytes, TEXT);
        cr_assert(memcmp(bytes, text, TEXT) == 0);
        cr_assert(trouble.interrupted == 0 && trouble.again > 0 &&
                      trouble.most_in_a_row <= 2,
                  "%s, seed %d", way->name, seed);
        way = &senders[seed % SENDERS];
        trouble = move_text(way, pair.troubled, bytes, TEXT);
        calm_receive(pair.calm, bytes, TEXT);
        cr_assert(memcmp(bytes, text, TEXT) == 0);
        cr_assert(trouble.interrupted == 0 && trouble.again > 0 &&
                      trouble.most_in_a_row <= 2,
                  "%s, seed %d", way->name, seed);
        close_pair(pair);

        pair = connect_pair();
        calm_send(pair.calm, text, TEXT);
        int again = 0;
        for (int call = 0; call < 2; call++)
            if (hostile.recv(pair.troubled, bytes, TEXT, MSG_DONTWAIT) == -1) {
                cr_assert(errno == EAGAIN);
                again++;
            }
        cr_assert(again == 1);
        close_pair(pair);
    }
}

/* accept fails once in each way before the first client, later now and then;
 * every client is accepted, in the order in which they came. */
Test(hostile, accept_fails_and_loses_nobody)
{
    for (int seed = 1; seed <= SEEDS; seed++) {
        start_network_with(seed);
        struct sockaddr_in address;
        int listener = calm_listener(&address);
        bool blocks = seed % 2 == 0;
        if (!blocks)
            make_nonblocking(listener);
        enum { CLIENTS = 20 };
        int clients[CLIENTS], failures = 0;
        for (int i = 0; i < CLIENTS; i++) {
            clients[i] = socket(AF_INET, SOCK_STREAM, 0);
            cr_assert(connect(clients[i], (struct sockaddr *)&address,
                              sizeof address) == 0);
        }
        for (int i = 0; i < CLIENTS; i++) {
            int aborted = 0, other = 0, server;
            for (;;) {
                server = seed % 4 < 2
                             ? hostile.accept(listener, NULL, NULL)
                             : hostile.accept4(listener, NULL, NULL, 0);
                if (server != -1)
                    break;
                if (errno == ECONNABORTED)
                    aborted++;
                else if (errno == (blocks ? EINTR : EAGAIN))
                    other++;
                else
                    cr_assert_fail("accept: %s", strerror(errno));
            }
            if (i == 0)
                cr_assert(aborted == 1 && other == 1);
            else
                cr_assert(aborted + other <= 1, "no peace after a failure");
            failures += aborted + other;
            struct sockaddr_in mine, seen;
            socklen_t length = sizeof mine;
            getsockname(clients[i], (struct sockaddr *)&mine, &length);
            getpeername(server, (struct sockaddr *)&seen, &length);
            cr_assert(mine.sin_port == seen.sin_port);
            close(server);
        }
        cr_assert(failures < 15);
        for (int i = 0; i < CLIENTS; i++)
            close(clients[i]);
        close(listener);
    }
}

static int error_of(int fd)
{
    int error = -1;
    socklen_t length = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    return error;
}

/* EINTR from connect: the connection is made all the same, poll and SO_ERROR
 * say so, and a second connect fails. Who begins again gets through. A failure
 * stays the failure that it was. */
Test(hostile, an_interrupted_connect_goes_on)
{
    for (int seed = 1; seed <= SEEDS; seed++) {
        start_network_with(seed);
        struct sockaddr_in address;
        int listener = calm_listener(&address);
        struct sockaddr *to = (struct sockaddr *)&address;

        int fd = socket(AF_INET, SOCK_STREAM, 0);
        cr_assert(hostile.connect(fd, to, sizeof address) == -1 &&
                  errno == EINTR);
        struct pollfd entry = {.fd = fd, .events = POLLOUT};
        cr_assert(poll(&entry, 1, 5000) == 1 && entry.revents == POLLOUT);
        cr_assert(error_of(fd) == 0);
        cr_assert(hostile.connect(fd, to, sizeof address) == -1 &&
                  (errno == EISCONN || errno == EALREADY));
        int server = accept(listener, NULL, NULL);
        calm_send(fd, text, TEXT);
        char bytes[TEXT];
        calm_receive(server, bytes, TEXT);
        close(server);
        close(fd);

        fd = socket(AF_INET, SOCK_STREAM, 0);
        cr_assert(hostile.connect(fd, to, sizeof address) == 0);
        close(fd);
        close(listener);

        /* A port that is taken, but where nobody listens. */
        int silent = socket(AF_INET, SOCK_STREAM, 0);
        socklen_t length = sizeof address;
        address.sin_port = 0;
        cr_assert(bind(silent, to, length) == 0 &&
                  getsockname(silent, to, &length) == 0);
        fd = socket(AF_INET, SOCK_STREAM, 0);
        cr_assert(hostile.connect(fd, to, sizeof address) == -1 &&
                  errno == ECONNREFUSED);
        close(fd);
        close(silent);
    }
}

Test(hostile, a_nonblocking_connect_is_in_progress)
{
    for (int seed = 1; seed <= SEEDS; seed++) {
        start_network_with(seed);
        struct sockaddr_in address;
        int listener = calm_listener(&address);
        struct sockaddr *to = (struct sockaddr *)&address;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        cr_assert(hostile.connect(fd, to, sizeof address) == -1 &&
                  errno == EINPROGRESS);
        /* The one wait of many clients: interrupted once, for certain. */
        struct pollfd entry = {.fd = fd, .events = POLLOUT};
        cr_assert(hostile.poll(&entry, 1, 5000) == -1 && errno == EINTR);
        cr_assert(hostile.poll(&entry, 1, 5000) == 1 &&
                  entry.revents == POLLOUT);
        cr_assert(error_of(fd) == 0);
        /* Some ask by a second connect: done, or done before. */
        cr_assert(hostile.connect(fd, to, sizeof address) == 0 ||
                  errno == EISCONN);
        cr_assert(hostile.connect(fd, to, sizeof address) == -1 &&
                  errno == EISCONN);
        close(fd);
        close(listener);
    }
}

static double seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Waits for `fd` with a limit of `milliseconds`, in one of eight ways. */
static int wait_by(int way, int epoll, int fd, int milliseconds)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    struct epoll_event event;
    struct timespec limit = {.tv_nsec = milliseconds * 1000000L};
    struct timeval old_limit = {.tv_usec = milliseconds * 1000};
    fd_set reads;
    FD_ZERO(&reads);
    FD_SET(fd, &reads);
    switch (way) {
    case 0:
        return hostile.poll(&entry, 1, milliseconds);
    case 1:
        return hostile.ppoll(&entry, 1, &limit, NULL);
    case 2:
        return hostile.select(fd + 1, &reads, NULL, NULL, &old_limit);
    case 3:
        return hostile.pselect(fd + 1, &reads, NULL, NULL, &limit, NULL);
    case 4:
        return hostile.epoll_wait(epoll, &event, 1, milliseconds);
    case 5:
        return hostile.epoll_pwait(epoll, &event, 1, milliseconds, NULL);
#ifdef __GLIBC__
    case 6:
        return hostile.__poll_chk(&entry, 1, milliseconds, sizeof entry);
    case 7:
        return hostile.__ppoll_chk(&entry, 1, &limit, NULL, sizeof entry);
#endif
    default:
        return hostile.poll(&entry, 1, milliseconds);
    }
}

/* Every wait is interrupted, at once and now and then, but never for long; and
 * not at all when it does not wait, or when no TCP socket takes part. */
Test(hostile, waits_are_interrupted)
{
    for (int way = 0; way < 8; way++) {
        start_network_with(way + 1);
        struct pair pair = connect_pair();
        int epoll = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLIN};
        hostile.epoll_ctl(epoll, EPOLL_CTL_ADD, pair.troubled, &event);
        for (int round = 0; round < 10; round++)
            cr_assert(wait_by(way, epoll, pair.troubled, 0) == 0);

        int interrupted = 0, in_a_row = 0;
        for (int round = 0; round < 300; round++) {
            if (round == 20) /* from here on there is something to read */
                calm_send(pair.calm, text, 1);
            int ready = wait_by(way, epoll, pair.troubled, 1);
            if (ready == -1) {
                cr_assert(errno == EINTR);
                cr_assert(++in_a_row <= 2);
                interrupted++;
                continue;
            }
            in_a_row = 0;
            cr_assert(ready == (round < 20 ? 0 : 1));
            cr_assert(round > 0, "way %d: the first wait got through", way);
        }
        cr_assert(interrupted > 5 && interrupted < 80, "way %d: %d of 300", way,
                  interrupted);
        close_pair(pair);
        close(epoll);

        int ends[2];
        cr_assert(pipe(ends) == 0);
        epoll = epoll_create1(0);
        hostile.epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
        cr_assert(write(ends[1], "x", 1) == 1);
        if (way != 4 && way != 5) /* its number was that of the other epoll */
            for (int round = 0; round < 20; round++)
                cr_assert(wait_by(way, epoll, ends[0], 1) == 1);
        close(ends[0]);
        close(ends[1]);
        close(epoll);
    }
}

/* A signal that comes in the gap before the call does not cut the gap short. */
Test(hostile, waits_begin_late_when_asked)
{
    for (int late = 0; late < 2; late++) {
        if (late)
            setenv("HOSTILE_LATE", "30", 1);
        start_network("1");
        struct pair pair = connect_pair();
        int epoll = epoll_create1(0);
        for (int way = 0; way < 8; way++) {
            double best = 1; /* of five: this process may have to wait, too */
            for (int round = 0; round < 5; round++) {
                double start = seconds();
                wait_by(way, epoll, pair.troubled, 0);
                double took = seconds() - start;
                best = took < best ? took : best;
            }
            cr_assert(late ? best >= 0.03 : best < 0.03,
                      "way %d took %.3f s with%s HOSTILE_LATE=30", way, best,
                      late ? "" : "out");
        }
        close_pair(pair);
        close(epoll);
    }
}

/* What epoll(7) promises: with EPOLLET no edge is lost; a short read means that
 * nothing is left. And when POLLHUP is up, also without EPOLLET. */
Test(hostile, no_edge_is_lost)
{
    for (int seed = 1; seed <= 20; seed++) {
        start_network_with(seed);
        int epoll = epoll_create1(0);
        struct sockaddr_in address;
        int listener = calm_listener(&address);
        make_nonblocking(listener);
        struct epoll_event event = {.events = EPOLLIN | EPOLLET};
        hostile.epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
        for (int round = 0; round < 20; round++) {
            struct pair pair = {.calm = socket(AF_INET, SOCK_STREAM, 0)};
            cr_assert(connect(pair.calm, (struct sockaddr *)&address,
                              sizeof address) == 0);
            pair.troubled = hostile.accept(listener, NULL, NULL);
            cr_assert(pair.troubled != -1);
            make_nonblocking(pair.troubled);
            hostile.epoll_ctl(epoll, EPOLL_CTL_ADD, pair.troubled, &event);
            char bytes[2 * TEXT];
            calm_send(pair.calm, text, TEXT);
            cr_assert(hostile.recv(pair.troubled, bytes, sizeof bytes, 0) ==
                      TEXT);
            cr_assert(hostile.send(pair.troubled, bytes, TEXT, 0) == TEXT);
            close_pair(pair);
        }
        close(listener);

        struct pair pair = connect_pair();
        make_nonblocking(pair.troubled);
        event.events = EPOLLIN;
        hostile.epoll_ctl(epoll, EPOLL_CTL_ADD, pair.troubled, &event);
        hostile.epoll_wait(epoll, &event, 1, 0);
        calm_send(pair.calm, text, TEXT);
        shutdown(pair.calm, SHUT_WR);
        shutdown(pair.troubled, SHUT_WR);
        char bytes[2 * TEXT];
        ssize_t length;
        do
            length = hostile.read(pair.troubled, bytes, sizeof bytes);
        while (length == -1 && errno == EAGAIN);
        cr_assert(length == TEXT);
        close_pair(pair);
        close(epoll);
    }
}

/* What a program has asked to have whole, it gets whole. */
Test(hostile, what_must_be_whole_is_whole)
{
    for (int seed = 1; seed <= SEEDS; seed++) {
        start_network_with(seed);
        struct pair pair = connect_pair();
        int fd = pair.troubled;
        char bytes[TEXT];
        for (int round = 0; round < 4; round++) {
            calm_send(pair.calm, text, TEXT);
            cr_assert(hostile.recv(fd, bytes, TEXT, MSG_PEEK) == TEXT);
            cr_assert(hostile.recv(fd, bytes, 0, 0) == 0);
            ssize_t length;
            do
                length = hostile.recv(fd, bytes, TEXT, MSG_WAITALL);
            while (length == -1 && errno == EINTR);
            cr_assert(length == TEXT);
            cr_assert(hostile.send(fd, bytes, 0, 0) == 0);
        }
        int mark = TEXT;
        setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark);
        for (int round = 0; round < 4; round++) {
            calm_send(pair.calm, text, TEXT);
            ssize_t length;
            do
                length = hostile.recv(fd, bytes, TEXT, 0);
            while (length == -1 && errno == EINTR);
            cr_assert(length == TEXT);
        }
        cr_assert(hostile.send(fd, "urgent", 6, MSG_OOB) == 6);
        calm_receive(pair.calm, bytes, 5); /* the sixth goes its own way */

        /* The end stays the end. */
        shutdown(pair.calm, SHUT_WR);
        for (int round = 0; round < 20; round++) {
            ssize_t length = hostile.recv(fd, bytes, TEXT, 0);
            cr_assert(length == 0 || (length == -1 && errno == EINTR));
        }
        close_pair(pair);
    }
}

/* Everything but TCP is left alone, and errno with it. */
Test(hostile, all_else_is_left_alone)
{
    start_network("1");
    int ends[3][2];
    char directory[] = "/tmp/hostile-check-XXXXXX";
    cr_assert(pipe(ends[0]) == 0);
    cr_assert(socketpair(AF_UNIX, SOCK_STREAM, 0, ends[1]) == 0);
    ends[2][0] = ends[2][1] = mkstemp(directory);
    cr_assert(ends[2][0] != -1);
    unlink(directory);
    char bytes[TEXT];
    for (int kind = 0; kind < 3; kind++)
        for (int round = 0; round < 50; round++) {
            errno = ENOTNAM;
            cr_assert(hostile.write(ends[kind][1], text, TEXT) == TEXT);
            if (kind == 2)
                lseek(ends[kind][0], -TEXT, SEEK_CUR);
            cr_assert(hostile.read(ends[kind][0], bytes, TEXT) == TEXT);
            cr_assert(errno == ENOTNAM);
        }

    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    int datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    cr_assert(bind(datagrams, (struct sockaddr *)&address, length) == 0);
    getsockname(datagrams, (struct sockaddr *)&address, &length);
    for (int round = 0; round < 50; round++) {
        cr_assert(hostile.sendto(datagrams, text, TEXT, 0,
                                 (struct sockaddr *)&address, length) == TEXT);
        cr_assert(hostile.recv(datagrams, bytes, TEXT, 0) == TEXT);
    }

    cr_assert(hostile.read(-1, bytes, TEXT) == -1 && errno == EBADF);
    cr_assert(hostile.recv(ends[0][0], bytes, TEXT, 0) == -1 &&
              errno == ENOTSOCK);

    errno = ENOTNAM;
    int closed = dup(ends[0][0]);
    close(closed);
    struct pollfd entry = {.fd = closed, .events = POLLIN};
    cr_assert(hostile.poll(&entry, 1, 5000) == 1 && entry.revents == POLLNVAL);
    cr_assert(errno == ENOTNAM);

    /* A call on a TCP socket that succeeds does not touch errno either. */
    struct pair pair = connect_pair();
    for (int round = 0; round < 50; round++) {
        errno = ENOTNAM;
        ssize_t sent = hostile.send(pair.troubled, text, TEXT, 0);
        cr_assert(sent == -1 ? errno == EINTR : errno == ENOTNAM);
    }
    close_pair(pair);
}

/* Starts the network with a log, and returns the log's descriptor. */
static char log_name[] = "/tmp/hostile-check-XXXXXX";

static int start_logged_network(int seed)
{
    strcpy(log_name + sizeof log_name - 7, "XXXXXX");
    int log = mkstemp(log_name);
    cr_assert(log != -1);
    setenv("HOSTILE_LOG", log_name, 1);
    start_network_with(seed);
    unsetenv("HOSTILE_LOG");
    return log;
}

static void read_log(int log, char *lines, size_t size)
{
    ssize_t length = pread(log, lines, size - 1, 0);
    cr_assert(length >= 0);
    lines[length] = '\0';
    close(log);
    unlink(log_name);
}

static int count(const char *lines, const char *words)
{
    int found = 0;
    for (; (lines = strstr(lines, words)) != NULL; lines++)
        found++;
    return found;
}

/* The same seed does the same again, and writes it down, a line for each fault;
 * another seed does something else. */
static void history_of(int seed, char *lines, size_t size)
{
    int log = start_logged_network(seed);
    struct pair pair = connect_pair();
    int faults = 0;
    char bytes[200] = {0};
    for (int round = 0; round < 10; round++) {
        struct trouble trouble = move_text(&senders[0], pair.troubled, bytes,
                                           sizeof bytes);
        faults += trouble.interrupted + trouble.short_moves;
        calm_receive(pair.calm, bytes, sizeof bytes);
    }
    close_pair(pair);
    read_log(log, lines, size);
    cr_assert(count(lines, "\n") == faults);
    cr_assert(count(lines, " send(") == faults);
    cr_assert(count(lines, "): EINTR\n") + count(lines, " bytes\n") == faults);
}

Test(hostile, a_seed_repeats_itself)
{
    static char first[20000], second[20000], other[20000];
    history_of(7, first, sizeof first);
    history_of(7, second, sizeof second);
    history_of(8, other, sizeof other);
    cr_assert(strcmp(first, second) == 0);
    cr_assert(strcmp(first, other) != 0);
}

/* A condition variable wakes who was not called: with the mutex locked, as
 * after a real wait, and after others could lock it. */
static pthread_mutex_t mutex; /* one that says when it is misused */
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int turn;

static void make_mutex(void)
{
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&mutex, &kind);
}

static bool is_ours(void)
{
    return pthread_mutex_lock(&mutex) == EDEADLK;
}

static void *other_thread(void *nothing)
{
    (void)nothing;
    pthread_mutex_lock(&mutex);
    while (turn < 100) {
        while (turn % 2 == 0) {
            hostile.pthread_cond_wait(&condition, &mutex);
            cr_assert(is_ours());
        }
        turn++;
        pthread_cond_broadcast(&condition);
    }
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static struct timespec in_milliseconds(long milliseconds)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    time.tv_nsec += milliseconds * 1000000L;
    time.tv_sec += time.tv_nsec / 1000000000L;
    time.tv_nsec %= 1000000000L;
    return time;
}

Test(hostile, threads_wake_up_for_nothing)
{
    int log = start_logged_network(1);
    make_mutex();
    pthread_mutex_lock(&mutex);
    int for_nothing = 0;
    for (int round = 0; round < 2; round++) {
        struct timespec until = in_milliseconds(5);
        int result;
        do {
            result = hostile.pthread_cond_timedwait(&condition, &mutex, &until);
            cr_assert(is_ours());
            for_nothing += result == 0;
        } while (result == 0);
        cr_assert(result == ETIMEDOUT);
    }
    cr_assert(for_nothing >= 1 && for_nothing <= 4);

    /* Two threads take turns, a hundred times. */
    pthread_t thread;
    cr_assert(pthread_create(&thread, NULL, other_thread, NULL) == 0);
    while (turn < 100) {
        while (turn % 2 == 1) {
            hostile.pthread_cond_wait(&condition, &mutex);
            cr_assert(is_ours());
        }
        turn++;
        pthread_cond_broadcast(&condition);
    }
    pthread_mutex_unlock(&mutex);
    pthread_join(thread, NULL);
    cr_assert(hostile.pthread_cond_wait(&condition, &mutex) == EPERM);

    char lines[10000];
    read_log(log, lines, sizeof lines);
    cr_assert(count(lines, "cond_timedwait(): spurious") == for_nothing);
    int woken = count(lines, "cond_wait(): spurious");
    cr_assert(woken >= 1 && woken < 50, "%d of 100", woken);
}

/* -------------------------------------------------------------- a real program
 *
 * An echo server as in lesson 01, in this same binary: with HOSTILE_CHECK_ECHO
 * set, it runs before Criterion, serves one connection, and ends.
 */
static void serve(int fd)
{
    static char bytes[65536];
    for (;;) {
        ssize_t length = recv(fd, bytes, sizeof bytes, 0);
        if (length == -1 && errno == EINTR)
            continue;
        if (length <= 0)
            _exit(length == 0 ? 0 : 1);
        for (ssize_t done = 0; done < length;) {
            ssize_t sent = send(fd, bytes + done, (size_t)(length - done), 0);
            if (sent == -1 && errno != EINTR)
                _exit(1);
            if (sent > 0)
                done += sent;
        }
    }
}

__attribute__((constructor)) static void serve_if_asked(void)
{
    const char *fd = getenv("HOSTILE_CHECK_ECHO");
    if (fd != NULL)
        serve(atoi(fd));
}

Test(hostile, every_byte_comes_through_a_program)
{
    cr_assert(getenv("HOSTILE_LIBRARY") != NULL, "HOSTILE_LIBRARY is not set");
    struct pair pair = connect_pair();
    fcntl(pair.calm, F_SETFD, FD_CLOEXEC);
    pid_t program = fork();
    if (program == 0) {
        char fd[12];
        snprintf(fd, sizeof fd, "%d", pair.troubled);
        setenv("HOSTILE_CHECK_ECHO", fd, 1);
        setenv("HOSTILE_SEED", "1", 1);
        setenv("LD_PRELOAD", getenv("HOSTILE_LIBRARY"), 1);
        execl("/proc/self/exe", "echo", (char *)NULL);
        _exit(127);
    }
    cr_assert(program > 0);
    close(pair.troubled);

    enum { SIZE = 10 << 20 };
    static unsigned char sent[SIZE], received[SIZE];
    unsigned state = 1;
    for (size_t i = 0; i < SIZE; i++) {
        state = state * 1664525 + 1013904223;
        sent[i] = (unsigned char)(state >> 24);
    }
    double start = seconds();
    make_nonblocking(pair.calm);
    size_t given = 0, taken = 0;
    bool whole = true;
    while (taken < SIZE) {
        struct pollfd entry = {.fd = pair.calm, .events = POLLIN};
        if (given < SIZE)
            entry.events |= POLLOUT;
        cr_assert(poll(&entry, 1, 10000) == 1, "stuck at %zu bytes", taken);
        ssize_t length = send(pair.calm, sent + given, SIZE - given,
                              MSG_NOSIGNAL);
        if (given < SIZE && length > 0)
            given += (size_t)length;
        length = recv(pair.calm, received + taken, SIZE - taken, 0);
        cr_assert(length != 0, "closed at %zu bytes", taken);
        if (length > 0) {
            whole = whole && (taken > 0 || length < 5);
            taken += (size_t)length;
        }
    }
    double took = seconds() - start;
    cr_assert(memcmp(sent, received, SIZE) == 0);
    /* A tenth of this on an idle machine. */
    cr_assert(took < 5, "10 MiB took %.1f s", took);

    close(pair.calm);
    int status;
    cr_assert(waitpid(program, &status, 0) == program && status == 0);
}

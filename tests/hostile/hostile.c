/*
 * hostile.c - a network that is as unkind as POSIX allows.
 *
 * On one machine a recv brings the whole message, a send takes everything,
 * and no call is ever interrupted. A program that counts on it passes every
 * test, and fails on a real network, on a bad day. This library makes every
 * day a bad one. It is loaded in front of the C library, so that a program
 * that calls recv calls ours, which then asks the kernel for less than the
 * program did, or does not ask at all and says that a signal came:
 *
 *     HOSTILE_SEED=1 LD_PRELOAD=build/tests/hostile.so 01-basic-server/server
 *
 * What it does to TCP sockets, and who allows it, stands above each fault:
 *
 *     recv, read, ...      fewer bytes than asked for     [short reads]
 *     send, write, ...     fewer bytes taken than given   [short writes]
 *     all that block       EINTR                          [interruptions]
 *     non-blocking         EAGAIN, though poll said ready [spurious readiness]
 *     accept               ECONNABORTED                   [aborted connections]
 *     non-blocking connect EINPROGRESS                    [connect]
 *
 * and to threads: pthread_cond_wait returns though nobody signalled
 * [spurious wake-ups].
 *
 * What it never does: lose, change or reorder a byte, end a connection, touch
 * a descriptor that is no TCP socket, or do what a kernel may not do. A correct
 * program does not notice, in whatever language it is written; only a program
 * that is linked statically, or that makes its system calls itself (Go), is
 * out of reach.
 * Installed programs and interpreters are spared two faults (is_installed,
 * below, says which and why).
 *
 * HOSTILE_SEED   a number. It decides everything, so a run can be repeated: the
 *                fate of a call follows from the seed, the descriptor's number,
 *                what kind of call it is and how many of that kind came before.
 *                0, no number or no variable: the library does nothing.
 * HOSTILE_LATE   milliseconds that pass before accept, poll, select and
 *                epoll_wait reach the kernel, as if another process ran just
 *                then. A signal that comes in this gap is handled before the
 *                call waits. No variable: none.
 * HOSTILE_LOG    a file that gets one line for each fault, to see what the
 *                network did.
 */

/* A compiler that hardens programs by default would replace the very functions
 * that are defined below. */
#undef _FORTIFY_SOURCE
#undef _FILE_OFFSET_BITS

/* glibc declares the addresses of accept and connect as unions of all kinds of
 * address, and the entries of poll as write-only. A definition cannot do so. */
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wpedantic"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    DESCRIPTORS = 16384,   /* sockets with higher numbers are left in peace */
    MOST_IN_A_ROW = 2,     /* refusals; then a call gets through */
    FIRST_PIECE = 3,       /* how many bytes pass at first, at most */
    LARGEST_PIECE = 65536, /* and later */
    PARTS = 16,            /* of a vector that is cut */
    EDGE_MARKS = 65536
};

/* ------------------------------------------------- the functions behind ours
 *
 * A program finds our recv because the loader looks into preloaded libraries
 * first. dlsym(RTLD_NEXT) goes on looking from there, and so finds the
 * function that the program would have had without us: the C library's, or a
 * sanitizer's that stands between. kernel.recv(...) calls it.
 */
#ifdef __GLIBC__
/* What gcc -D_FORTIFY_SOURCE puts in the place of recv and the others. No
 * header declares these. */
ssize_t __recv_chk(int fd, void *buffer, size_t length, size_t size, int flags);
ssize_t __recvfrom_chk(int fd, void *buffer, size_t length, size_t size,
                       int flags, struct sockaddr *address,
                       socklen_t *address_length);
ssize_t __read_chk(int fd, void *buffer, size_t length, size_t size);
int __poll_chk(struct pollfd *entries, nfds_t count, int timeout, size_t size);
int __ppoll_chk(struct pollfd *entries, nfds_t count,
                const struct timespec *timeout, const sigset_t *mask,
                size_t size);
/* clang-format off */
#define ONLY_GLIBC(X)                                                          \
    X(__recv_chk) X(__recvfrom_chk) X(__read_chk)                              \
    X(__poll_chk) X(__ppoll_chk) X(sendfile64)
#else
#define ONLY_GLIBC(X)
#endif
#define FUNCTIONS(X)                                                           \
    X(recv) X(recvfrom) X(recvmsg) X(read) X(readv)                            \
    X(send) X(sendto) X(sendmsg) X(write) X(writev) X(sendfile)                \
    X(accept) X(accept4) X(connect)                                            \
    X(poll) X(ppoll) X(select) X(pselect)                                      \
    X(epoll_wait) X(epoll_pwait) X(epoll_ctl)                                  \
    X(pthread_cond_wait) X(pthread_cond_timedwait) X(pthread_cond_clockwait)   \
    ONLY_GLIBC(X)
/* clang-format on */

/* Not in every C library; what nobody calls need not be found. */
int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                           clockid_t clock, const struct timespec *until);

static struct {
#define MEMBER(name) __typeof__(&name) name;
    FUNCTIONS(MEMBER)
#undef MEMBER
} kernel;

static void find(void *function, const char *name)
{
    void *address = NULL;
#ifdef __GLIBC__
    /* On old platforms glibc has two kinds of condition variable, and without
     * its version the name may mean the ancient one. */
    if (strncmp(name, "pthread_cond_", 13) == 0)
        address = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
#endif
    if (address == NULL)
        address = dlsym(RTLD_NEXT, name);
    memcpy(function, &address, sizeof address);
}

static atomic_bool ready;
static uint64_t seed;
static unsigned long late; /* milliseconds: HOSTILE_LATE */
static bool installed;
static char log_path[PATH_MAX];

/*
 * Two faults do not come of themselves on Linux: EINTR takes "a signal that was
 * caught", and a connection that has gone is accepted like any other. Still a
 * program of your own has to expect both: a library of its may catch signals,
 * and it may run on another kernel tomorrow. But perl, bash and socat are as
 * their authors want them on this system, and a script has often no place where
 * it could handle such an error. So a program that is installed here, or that
 * runs scripts, wherever it is installed, is spared these two.
 */
static bool is_installed(void)
{
    static const char *const places[] = {
        "/bin/",           "/sbin/",         "/lib",
        "/usr/bin/",       "/usr/sbin/",     "/usr/lib",
        "/usr/local/bin/", "/usr/local/lib",
    };
    static const char *const interpreters[] = {"java", "node", "perl", "python",
                                               "ruby"};
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    path[length < 0 ? 0 : length] = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (strncmp(path, places[i], strlen(places[i])) == 0)
            return true;

    const char *name = strrchr(path, '/');
    for (size_t i = 0; i < sizeof interpreters / sizeof *interpreters; i++) {
        size_t size = strlen(interpreters[i]);
        if (name != NULL && strncmp(name + 1, interpreters[i], size) == 0 &&
            name[1 + size + strspn(name + 1 + size, "0123456789.")] == '\0')
            return true; /* python3.11 */
    }
    return false;
}

/* Runs when the library is loaded; or earlier, when the first of our functions
 * is called by somebody who was even quicker (a sanitizer, a constructor). */
__attribute__((constructor)) static void prepare(void)
{
    if (atomic_load_explicit(&ready, memory_order_acquire))
        return;
    int saved = errno;
#define FIND(name) find(&kernel.name, #name);
    FUNCTIONS(FIND)
#undef FIND
    /* So early that there is no environment yet: ask again next time. */
    if (environ != NULL) {
        const char *text = getenv("HOSTILE_SEED");
        char *end = NULL;
        if (text != NULL && *text >= '0' && *text <= '9')
            seed = strtoull(text, &end, 10);
        if (end == NULL || *end != '\0')
            seed = 0;
        text = getenv("HOSTILE_LATE");
        if (text != NULL && strspn(text, "0123456789") == strlen(text))
            late = strtoul(text, NULL, 10);
        text = getenv("HOSTILE_LOG");
        if (text != NULL && strlen(text) < sizeof log_path)
            strcpy(log_path, text);
        installed = is_installed();
        atomic_store_explicit(&ready, true, memory_order_release);
    }
    errno = saved;
}

/* Between a program's last look at its flags and a call that waits, any time
 * may pass. HOSTILE_LATE says how much. */
static void be_late(void)
{
    prepare();
    int saved = errno;
    struct timespec left = {.tv_sec = (time_t)(late / 1000),
                            .tv_nsec = (long)(late % 1000) * 1000000};
    while (seed != 0 && late != 0 && nanosleep(&left, &left) == -1 &&
           errno == EINTR)
        continue;
    errno = saved;
}

/* ------------------------------------------------------------------- the log
 *
 * No stdio and no malloc from here on: these functions may be called in a
 * signal handler, or in the child of a fork in a program with threads, where
 * neither is allowed. The file is opened for each line, so that the program's
 * own descriptors keep their numbers.
 */
struct line {
    char text[128];
    size_t length;
};

static void add_text(struct line *line, const char *text)
{
    while (*text != '\0' && line->length < sizeof line->text)
        line->text[line->length++] = *text++;
}

static void add_number(struct line *line, uint64_t number)
{
    char digits[21];
    char *digit = digits + sizeof digits - 1;
    *digit = '\0';
    do {
        *--digit = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    add_text(line, digit);
}

static void write_line(struct line *line)
{
    int saved = errno;
    int file = open(log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (file != -1) {
        ssize_t written = kernel.write(file, line->text, line->length);
        (void)written; /* a log that cannot be written changes nothing */
        close(file);
    }
    errno = saved;
}

/* "4711 recv(5): EINTR" */
static void log_refusal(const char *call, int fd, const char *error)
{
    if (log_path[0] == '\0')
        return;
    struct line line = {.length = 0};
    add_number(&line, (uint64_t)getpid());
    add_text(&line, " ");
    add_text(&line, call);
    add_text(&line, "(");
    if (fd >= 0)
        add_number(&line, (uint64_t)fd);
    add_text(&line, "): ");
    add_text(&line, error);
    add_text(&line, "\n");
    write_line(&line);
}

/* "4711 send(5): 3 of 17 bytes" */
static void log_short(const char *call, int fd, size_t moved, size_t asked)
{
    if (log_path[0] == '\0')
        return;
    struct line line = {.length = 0};
    add_number(&line, (uint64_t)getpid());
    add_text(&line, " ");
    add_text(&line, call);
    add_text(&line, "(");
    add_number(&line, (uint64_t)fd);
    add_text(&line, "): ");
    add_number(&line, moved);
    add_text(&line, " of ");
    add_number(&line, asked);
    add_text(&line, " bytes\n");
    write_line(&line);
}

/* ------------------------------------------------ what is known of a socket */

enum kind {
    RECEIVING,
    SENDING,
    ACCEPTING,
    CONNECTING,
    WAITING,
    WAITING_TO_SEND, /* for that alone; this is how one waits for connect */
    KINDS
};

/* The calls of one kind on one descriptor. Atomic, because one thread may read
 * from a socket while another writes to a second one. */
struct history {
    atomic_uint calls;
    atomic_uint refused; /* in a row, up to now */
    atomic_size_t moved; /* bytes */
};

struct descriptor {
    atomic_ulong socket;  /* which socket this number stands for now */
    atomic_uint sockets;  /* how many it has stood for */
    atomic_uint connects; /* of these, how many connected */
    atomic_bool has_tcp;  /* an epoll descriptor that waits for TCP sockets */
    struct history kinds[KINDS];
};

static struct descriptor descriptors[DESCRIPTORS];

/* Sockets that some epoll instance watches with EPOLLET; see epoll_ctl below.
 * Two sockets may share a mark. Then the second is spared too, no harm done. */
static atomic_bool edge_triggered[EDGE_MARKS];

/* A socket has an inode number of its own, like a file, whatever descriptors
 * stand for it: a number that changes says that this is a new socket, and one
 * that has not changed that nothing else need be asked. */
static bool is_tcp_socket(int fd, unsigned long *inode)
{
    if (fd < 0 || fd >= DESCRIPTORS)
        return false;
    int saved = errno;
    struct stat status;
    int family = 0, type = 0;
    socklen_t length = sizeof family;
    bool tcp = fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
    if (tcp && descriptors[fd].socket != status.st_ino)
        tcp = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length) == 0 &&
              (family == AF_INET || family == AF_INET6) &&
              getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 &&
              type == SOCK_STREAM;
    if (tcp)
        *inode = (unsigned long)status.st_ino;
    errno = saved;
    return tcp;
}

/* The descriptor's record when it is a TCP socket that may be troubled,
 * otherwise NULL. */
static struct descriptor *victim(int fd)
{
    prepare();
    unsigned long inode;
    if (seed == 0 || !is_tcp_socket(fd, &inode))
        return NULL;
    if (edge_triggered[inode % EDGE_MARKS])
        return NULL;
    struct descriptor *descriptor = &descriptors[fd];
    if (atomic_exchange(&descriptor->socket, inode) != inode) {
        descriptor->sockets++;
        for (int kind = 0; kind < KINDS; kind++) {
            descriptor->kinds[kind].calls = 0;
            descriptor->kinds[kind].refused = 0;
            descriptor->kinds[kind].moved = 0;
        }
    }
    return descriptor;
}

/* May this call sleep? Only a call that sleeps can be interrupted, and only one
 * that must not sleep can say EAGAIN. */
static bool may_block(int fd, int flags)
{
    int saved = errno;
    int mode = fcntl(fd, F_GETFL);
    errno = saved;
    return (flags & MSG_DONTWAIT) == 0 && (mode & O_NONBLOCK) == 0;
}

/* Who has asked for SIGIO is told once when bytes come, like an edge. */
static bool is_signal_driven(int fd)
{
    int saved = errno;
    int mode = fcntl(fd, F_GETFL);
    errno = saved;
    return (mode & O_ASYNC) != 0;
}

/* ----------------------------------------------------------------- decisions
 *
 * No random numbers: a hash. Asked the same question it gives the same answer,
 * in whatever order threads and processes ask.
 */
enum question { REFUSE, WHICH_ERROR, HOW_MUCH, A_FEW };

/* The finalizer of splitmix64 (Steele, Lea, Flood: Fast Splittable
 * Pseudorandom Number Generators, 2014): each bit of the input turns about half
 * of the output's. */
static uint64_t stir(uint64_t bits)
{
    bits = (bits ^ bits >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ bits >> 27) * UINT64_C(0x94d049bb133111eb);
    return bits ^ bits >> 31;
}

static uint64_t roll(enum question question, unsigned who, unsigned which,
                     enum kind kind, unsigned call)
{
    uint64_t bits = stir(seed + UINT64_C(0x9e3779b97f4a7c15));
    bits = stir(bits ^ ((uint64_t)who << 32 | which));
    bits = stir(bits ^ ((uint64_t)question << 40 | (uint64_t)kind << 32));
    return stir(bits ^ call);
}

/*
 * Is this call to fail? Of the first two calls of a kind on a socket one does
 * for certain (and of waits, which are few, the first and the third), so that
 * even an exchange of five bytes meets a refusal; later one in eight. Never
 * more than MOST_IN_A_ROW, so that whoever tries again gets on, and who waits
 * for nothing is left to sleep.
 */
static bool refuses(struct descriptor *descriptor, int fd, enum kind kind)
{
    struct history *history = &descriptor->kinds[kind];
    unsigned who = (unsigned)fd, which = descriptor->sockets;
    unsigned call = history->calls++;
    bool refused;
    if (kind >= WAITING && call < 3)
        refused = call != 1;
    else if (call < 2)
        refused = call == roll(REFUSE, who, which, kind, 0) % 2;
    else
        refused = history->refused < MOST_IN_A_ROW &&
                  roll(REFUSE, who, which, kind, call) % 8 == 0;
    history->refused = refused ? history->refused + 1 : 0;
    return refused;
}

/*
 * How many bytes may pass: one to three at first, more and more as bytes have
 * gone by, so that a large transfer takes a moment longer and not a minute;
 * but one call in eight gets no more than at first, however late it comes. So
 * few bytes are never sent in one piece, if they are two; and the second piece
 * received is two at least, so that who sends it back has something to cut.
 */
static size_t piece(struct descriptor *descriptor, int fd, enum kind kind,
                    size_t asked)
{
    struct history *history = &descriptor->kinds[kind];
    unsigned who = (unsigned)fd, which = descriptor->sockets;
    unsigned call = history->calls;
    size_t most = FIRST_PIECE + history->moved / 32;
    if (most > LARGEST_PIECE)
        most = LARGEST_PIECE;
    if (roll(A_FEW, who, which, kind, call) % 8 == 0)
        most = FIRST_PIECE;
    if (most == FIRST_PIECE && asked > 1 && most >= asked)
        most = asked - 1;
    size_t size = 1 + (size_t)(roll(HOW_MUCH, who, which, kind, call) % most);
    if (kind == RECEIVING && size == 1 && history->moved > 0 &&
        history->moved <= FIRST_PIECE)
        size = 2;
    return size < asked ? size : asked;
}

/* ----------------------------------------------------- receiving and sending
 *
 * [short reads] TCP carries a stream of bytes and knows no messages: how the
 * sender cut it up is forgotten on the way. POSIX, recv: "message boundaries
 * shall be ignored. In this case, data shall be returned to the user as soon as
 * it becomes available". So a recv may bring any part of what was sent, if at
 * least a byte.
 *
 * [short writes] send returns "the number of bytes sent", and POSIX says of
 * write, which is the same on a socket: "If write() is interrupted by a signal
 * after it successfully writes some data, it shall return the number of bytes
 * written." A non-blocking socket takes what fits.
 *
 * [interruptions] recv, EINTR: "interrupted by a signal that was caught, before
 * any data was available"; send, EINTR: "A signal interrupted send() before any
 * data was transmitted." A program that catches no signal may think itself
 * safe. But a library of its may catch some, today or in its next release; and
 * signal(7) lists the calls that fail with EINTR on Linux "even in the absence
 * of signal handlers", after SIGSTOP and SIGCONT.
 *
 * [spurious readiness] "select() may report a socket file descriptor as "ready
 * for reading", while nevertheless a subsequent read blocks. This could for
 * example happen when data has arrived but upon examination has the wrong
 * checksum and is discarded" (select(2), BUGS). Where the socket is not to
 * block, EAGAIN says so. It says nothing of the connection, which is as well as
 * ever. A blocking socket never says EAGAIN here, not even one with
 * SO_RCVTIMEO, because there it would mean that the time is up.
 */
struct transfer {
    const char *call;
    int fd;
    struct descriptor *descriptor; /* NULL: not ours to trouble */
    enum kind kind;
    size_t asked; /* bytes: what the program wants */
    size_t most;  /* and what it may get */
};

static atomic_bool uses_epoll;

/* Reads that bring all there is. */
static bool must_be_whole(int fd, int flags)
{
    /* With MSG_WAITALL, and with a low-water mark, the program has asked the
     * kernel to collect the bytes, and may count on it. */
    if ((flags & MSG_WAITALL) != 0)
        return true;
    int saved = errno;
    int mark = 1;
    socklen_t length = sizeof mark;
    getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, &length);

    /* What epoll(7) promises of short reads (see epoll_ctl below) matters once
     * more when both directions have ended and POLLHUP says so: after a short
     * read, libuv, and so Node, then takes it that nothing is left. */
    bool hung_up = false;
    if (uses_epoll && !may_block(fd, flags)) {
        struct pollfd entry = {.fd = fd};
        hung_up = kernel.poll(&entry, 1, 0) == 1 &&
                  (entry.revents & POLLHUP) != 0;
    }
    errno = saved;
    return mark > 1 || hung_up;
}

/*
 * Opens a transfer of up to `asked` bytes. False: it has failed, and errno says
 * how. True: the caller moves up to `most` bytes and calls end_transfer.
 */
static bool begin_transfer(struct transfer *transfer, const char *call, int fd,
                           enum kind kind, size_t asked, int flags)
{
    *transfer = (struct transfer){
        .call = call, .fd = fd, .kind = kind, .asked = asked, .most = asked};

    /* MSG_PEEK, MSG_OOB and all the rarer flags mean something special. A
     * transfer of nothing is a question, not a transfer. */
    const int plain = kind == RECEIVING
                          ? MSG_DONTWAIT | MSG_NOSIGNAL | MSG_WAITALL |
                                MSG_CMSG_CLOEXEC
                          : MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE;
    struct descriptor *descriptor = victim(fd);
    if (descriptor == NULL || asked == 0 || (flags & ~plain) != 0 ||
        is_signal_driven(fd))
        return true;
    transfer->descriptor = descriptor;

    bool interrupted = may_block(fd, flags);
    if (refuses(descriptor, fd, kind) && !(interrupted && installed)) {
        log_refusal(call, fd, interrupted ? "EINTR" : "EAGAIN");
        errno = interrupted ? EINTR : EAGAIN;
        return false;
    }
    if (kind == SENDING || !must_be_whole(fd, flags))
        transfer->most = piece(descriptor, fd, kind, asked);

    /* Nagle's algorithm would keep the rest of a write that we cut until the
     * first piece is acknowledged, up to 40 ms each time. A program would be
     * slow for a reason that lies with us; so it is turned off. That changes
     * when segments leave, and nothing else. */
    if (kind == SENDING && descriptor->kinds[kind].moved == 0) {
        int saved = errno;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        errno = saved;
    }
    return true;
}

/* Takes down what became of it, and passes the result on. */
static ssize_t end_transfer(struct transfer *transfer, ssize_t result)
{
    if (transfer->descriptor == NULL || result <= 0)
        return result;
    transfer->descriptor->kinds[transfer->kind].moved += (size_t)result;
    if ((size_t)result == transfer->most && transfer->most < transfer->asked)
        log_short(transfer->call, transfer->fd, transfer->most,
                  transfer->asked);
    return result;
}

ssize_t recv(int fd, void *buffer, size_t length, int flags)
{
    struct transfer transfer;
    if (!begin_transfer(&transfer, "recv", fd, RECEIVING, length, flags))
        return -1;
    return end_transfer(&transfer,
                        kernel.recv(fd, buffer, transfer.most, flags));
}

ssize_t recvfrom(int fd, void *restrict buffer, size_t length, int flags,
                 struct sockaddr *restrict address,
                 socklen_t *restrict address_length)
{
    struct transfer transfer;
    if (!begin_transfer(&transfer, "recvfrom", fd, RECEIVING, length, flags))
        return -1;
    return end_transfer(&transfer,
                        kernel.recvfrom(fd, buffer, transfer.most, flags,
                                        address, address_length));
}

ssize_t read(int fd, void *buffer, size_t length)
{
    struct transfer transfer;
    if (!begin_transfer(&transfer, "read", fd, RECEIVING, length, 0))
        return -1;
    return end_transfer(&transfer, kernel.read(fd, buffer, transfer.most));
}

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    struct transfer transfer;
    if (!begin_transfer(&transfer, "send", fd, SENDING, length, flags))
        return -1;
    return end_transfer(&transfer,
                        kernel.send(fd, bytes, transfer.most, flags));
}

ssize_t sendto(int fd, const void *bytes, size_t length, int flags,
               const struct sockaddr *address, socklen_t address_length)
{
    struct transfer transfer;
    if (!begin_transfer(&transfer, "sendto", fd, SENDING, length, flags))
        return -1;
    return end_transfer(&transfer,
                        kernel.sendto(fd, bytes, transfer.most, flags, address,
                                      address_length));
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    struct transfer transfer;
    if (!begin_transfer(&transfer, "write", fd, SENDING, length, 0))
        return -1;
    return end_transfer(&transfer, kernel.write(fd, bytes, transfer.most));
}

/* A file sent to a socket; may be "less than requested" like any write:
 * sendfile(2), NOTES. */
ssize_t sendfile(int out, int in, off_t *offset, size_t length)
{
    struct transfer transfer;
    if (!begin_transfer(&transfer, "sendfile", out, SENDING, length, 0))
        return -1;
    return end_transfer(&transfer,
                        kernel.sendfile(out, in, offset, transfer.most));
}

/*
 * Calls with a vector of buffers: the vector is the program's, so a copy of its
 * first parts is what gets shorter.
 */
static size_t size_of_vector(const struct iovec *parts, size_t count)
{
    if (count > IOV_MAX)
        return 0; /* the kernel will say EINVAL */
    size_t size = 0;
    for (size_t part = 0; part < count; part++) {
        if (parts[part].iov_len > SSIZE_MAX - size)
            return 0; /* likewise */
        size += parts[part].iov_len;
    }
    return size;
}

/* Returns how many parts of `copy` are in use: at least one byte's worth, or 0
 * when the vector begins with PARTS empty parts. */
static size_t cut_vector(struct iovec *copy, const struct iovec *parts,
                         size_t count, size_t most)
{
    size_t used = 0, size = 0;
    while (used < count && used < PARTS && size < most) {
        copy[used] = parts[used];
        if (copy[used].iov_len > most - size)
            copy[used].iov_len = most - size;
        size += copy[used++].iov_len;
    }
    return size == 0 ? 0 : used;
}

ssize_t readv(int fd, const struct iovec *parts, int count)
{
    struct transfer transfer;
    size_t size = size_of_vector(parts, count < 0 ? 0 : (size_t)count);
    if (!begin_transfer(&transfer, "readv", fd, RECEIVING, size, 0))
        return -1;
    struct iovec copy[PARTS];
    size_t used = 0;
    if (transfer.most < size)
        used = cut_vector(copy, parts, (size_t)count, transfer.most);
    return end_transfer(&transfer, used > 0 ? kernel.readv(fd, copy, (int)used)
                                            : kernel.readv(fd, parts, count));
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    struct transfer transfer;
    size_t size = size_of_vector(parts, count < 0 ? 0 : (size_t)count);
    if (!begin_transfer(&transfer, "writev", fd, SENDING, size, 0))
        return -1;
    struct iovec copy[PARTS];
    size_t used = 0;
    if (transfer.most < size)
        used = cut_vector(copy, parts, (size_t)count, transfer.most);
    return end_transfer(&transfer, used > 0 ? kernel.writev(fd, copy, (int)used)
                                            : kernel.writev(fd, parts, count));
}

static void cut_message(struct msghdr *message, struct iovec *copy, size_t most)
{
    size_t used = cut_vector(copy, message->msg_iov,
                             (size_t)message->msg_iovlen, most);
    if (used == 0)
        return;
    message->msg_iov = copy;
    message->msg_iovlen = (__typeof__(message->msg_iovlen))used;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    struct transfer transfer;
    size_t size = size_of_vector(message->msg_iov, (size_t)message->msg_iovlen);
    if (!begin_transfer(&transfer, "recvmsg", fd, RECEIVING, size, flags))
        return -1;
    struct iovec copy[PARTS];
    struct msghdr shorter = *message;
    if (transfer.most < size)
        cut_message(&shorter, copy, transfer.most);
    ssize_t result = kernel.recvmsg(fd, &shorter, flags);
    /* What the kernel answers beside the bytes. */
    message->msg_namelen = shorter.msg_namelen;
    message->msg_controllen = shorter.msg_controllen;
    message->msg_flags = shorter.msg_flags;
    return end_transfer(&transfer, result);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct transfer transfer;
    size_t size = size_of_vector(message->msg_iov, (size_t)message->msg_iovlen);
    if (!begin_transfer(&transfer, "sendmsg", fd, SENDING, size, flags))
        return -1;
    struct iovec copy[PARTS];
    struct msghdr shorter = *message;
    /* Ancillary data may speak of the message as a whole (the kind of a TLS
     * record, say): then it goes in one piece. */
    if (transfer.most < size && message->msg_controllen == 0)
        cut_message(&shorter, copy, transfer.most);
    return end_transfer(&transfer, kernel.sendmsg(fd, &shorter, flags));
}

/* ----------------------------------------------------------------- accepting
 *
 * [aborted connections] accept, ECONNABORTED: "A connection has been aborted."
 * A client has connected and gone again before accept came to it. That is that
 * client's affair; the next one is already waiting, and the server has to ask
 * again. [interruptions] EINTR: "interrupted by a signal that was caught before
 * a valid connection arrived". [spurious readiness] EAGAIN: the client that
 * poll saw has gone, or another process of the same server was quicker.
 *
 * We answer without asking the kernel, so no waiting connection is lost.
 */
static bool accept_fails(const char *call, int fd)
{
    struct descriptor *descriptor = victim(fd);
    if (descriptor == NULL || is_signal_driven(fd))
        return false;
    struct history *history = &descriptor->kinds[ACCEPTING];
    unsigned who = (unsigned)fd, which = descriptor->sockets;
    unsigned number = history->calls++;

    /* The first call fails in one way and the second in the other; from then on
     * one in eight. Some servers sleep a little when accept fails, whatever
     * the reason. They must not sleep all day. */
    if (number >= MOST_IN_A_ROW &&
        (history->refused > 0 ||
         roll(REFUSE, who, which, ACCEPTING, number) % 8 != 0)) {
        history->refused = 0;
        return false;
    }
    history->refused++;
    bool aborted = number == 1
                       ? roll(WHICH_ERROR, who, which, ACCEPTING, 0) % 2 == 0
                       : roll(WHICH_ERROR, who, which, ACCEPTING, number) % 2 !=
                             0;
    int error = aborted ? ECONNABORTED : may_block(fd, 0) ? EINTR : EAGAIN;
    if (installed && error != EAGAIN)
        return false;
    log_refusal(call, fd,
                error == EINTR    ? "EINTR"
                : error == EAGAIN ? "EAGAIN"
                                  : "ECONNABORTED");
    errno = error;
    return true;
}

int accept(int fd, struct sockaddr *restrict address,
           socklen_t *restrict length)
{
    if (accept_fails("accept", fd))
        return -1;
    be_late();
    return kernel.accept(fd, address, length);
}

int accept4(int fd, struct sockaddr *restrict address,
            socklen_t *restrict length, int flags)
{
    if (accept_fails("accept4", fd))
        return -1;
    be_late();
    return kernel.accept4(fd, address, length, flags);
}

/* ---------------------------------------------------------------- connecting
 *
 * [connect] POSIX: "If connect() is interrupted by a signal that is caught
 * while blocked waiting to establish a connection, connect() shall fail and set
 * errno to [EINTR], but the connection request shall not be aborted, and the
 * connection shall be established asynchronously." So EINTR from connect does
 * not mean "try again": who does gets EALREADY, or EISCONN. It means "poll
 * until it is writable, then ask SO_ERROR". A socket that does not block says
 * EINPROGRESS "if the connection cannot be established immediately", and how
 * soon is immediately is the kernel's affair.
 *
 * We connect first and tell the program afterwards that it was interrupted: the
 * connection that "shall be established asynchronously" is established already,
 * and poll, SO_ERROR and a second connect answer as they must. Where nobody
 * listens, connect says so as always.
 */
int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    struct descriptor *descriptor = victim(fd);
    /* The first attempt of each socket. A second is a question about the first;
     * AF_UNSPEC means to disconnect. */
    bool first = descriptor != NULL &&
                 descriptor->kinds[CONNECTING].calls++ == 0 &&
                 length >= sizeof address->sa_family &&
                 address->sa_family != AF_UNSPEC && !is_signal_driven(fd);
    int result = kernel.connect(fd, address, length);
    if (result != 0 || !first)
        return result;

    /* The first connection certainly, the second certainly not, so that a
     * program that starts over gets through; later one in four. */
    unsigned number = descriptor->connects++;
    if (number == 1 ||
        (number > 1 &&
         roll(REFUSE, (unsigned)fd, 0, CONNECTING, number) % 4 != 0))
        return 0;
    bool interrupted = may_block(fd, 0);
    if (interrupted && installed)
        return 0;
    log_refusal("connect", fd, interrupted ? "EINTR" : "EINPROGRESS");
    errno = interrupted ? EINTR : EINPROGRESS;
    return -1;
}

/* ------------------------------------------------------------------- waiting
 *
 * [interruptions] poll, EINTR: "A signal was caught during poll()"; select,
 * EINTR: "interrupted before any of the selected events occurred and before the
 * timeout interval expired". These calls fail with EINTR even if the signal's
 * handler was installed with SA_RESTART (signal(7)). A call that does not wait,
 * with a timeout of 0, is not interrupted.
 *
 * Only a wait that a TCP socket takes part in is troubled. Its first one stands
 * for all: it is the one whose calls are counted.
 */
static bool interrupts(const char *call, struct descriptor *descriptor, int fd,
                       bool only_to_send)
{
    if (installed ||
        !refuses(descriptor, fd, only_to_send ? WAITING_TO_SEND : WAITING))
        return false;
    log_refusal(call, fd, "EINTR");
    errno = EINTR;
    return true;
}

static bool interrupts_poll(const char *call, const struct pollfd *entries,
                            nfds_t count)
{
    prepare();
    for (nfds_t entry = 0; seed != 0 && entry < count; entry++) {
        struct descriptor *descriptor = victim(entries[entry].fd);
        if (descriptor != NULL)
            return interrupts(call, descriptor, entries[entry].fd,
                              entries[entry].events == POLLOUT);
    }
    return false;
}

static bool interrupts_select(const char *call, int count, const fd_set *reads,
                              const fd_set *writes, const fd_set *exceptions)
{
    prepare();
    unsigned end = count < 0 || seed == 0 ? 0 : (unsigned)count;
    for (unsigned fd = 0; fd < end && fd < FD_SETSIZE; fd++) {
        if ((reads == NULL || !FD_ISSET(fd, reads)) &&
            (writes == NULL || !FD_ISSET(fd, writes)) &&
            (exceptions == NULL || !FD_ISSET(fd, exceptions)))
            continue;
        struct descriptor *descriptor = victim((int)fd);
        if (descriptor != NULL)
            return interrupts(call, descriptor, (int)fd,
                              reads == NULL || !FD_ISSET(fd, reads));
    }
    return false;
}

static bool interrupts_epoll(const char *call, int epoll, int timeout)
{
    prepare();
    uses_epoll = true;
    return seed != 0 && timeout != 0 && epoll >= 0 && epoll < DESCRIPTORS &&
           descriptors[epoll].has_tcp &&
           interrupts(call, &descriptors[epoll], epoll, false);
}

static bool waits(const struct timespec *timeout)
{
    return timeout == NULL || timeout->tv_sec != 0 || timeout->tv_nsec != 0;
}

int poll(struct pollfd *entries, nfds_t count, int timeout)
{
    if (timeout != 0 && interrupts_poll("poll", entries, count))
        return -1;
    be_late();
    return kernel.poll(entries, count, timeout);
}

int ppoll(struct pollfd *entries, nfds_t count, const struct timespec *timeout,
          const sigset_t *mask)
{
    if (waits(timeout) && interrupts_poll("ppoll", entries, count))
        return -1;
    be_late();
    return kernel.ppoll(entries, count, timeout, mask);
}

int select(int count, fd_set *restrict reads, fd_set *restrict writes,
           fd_set *restrict exceptions, struct timeval *restrict timeout)
{
    if ((timeout == NULL || timeout->tv_sec != 0 || timeout->tv_usec != 0) &&
        interrupts_select("select", count, reads, writes, exceptions))
        return -1;
    be_late();
    return kernel.select(count, reads, writes, exceptions, timeout);
}

int pselect(int count, fd_set *restrict reads, fd_set *restrict writes,
            fd_set *restrict exceptions,
            const struct timespec *restrict timeout,
            const sigset_t *restrict mask)
{
    if (waits(timeout) &&
        interrupts_select("pselect", count, reads, writes, exceptions))
        return -1;
    be_late();
    return kernel.pselect(count, reads, writes, exceptions, timeout, mask);
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    if (interrupts_epoll("epoll_wait", epoll, timeout))
        return -1;
    be_late();
    return kernel.epoll_wait(epoll, events, most, timeout);
}

int epoll_pwait(int epoll, struct epoll_event *events, int most, int timeout,
                const sigset_t *mask)
{
    if (interrupts_epoll("epoll_pwait", epoll, timeout))
        return -1;
    be_late();
    return kernel.epoll_pwait(epoll, events, most, timeout, mask);
}

/*
 * We only watch here. With EPOLLET a program is told once that bytes have come,
 * and not again until more come. If we then said EAGAIN, or handed out a part,
 * it would rightly wait for ever: "if you call read(2) by asking to read a
 * certain amount of data and read(2) returns a lower number of bytes, you can
 * be sure of having exhausted the read I/O space for the file descriptor. The
 * same is true when writing" (epoll(7)). So such a socket is left in peace from
 * here to its end. EPOLLONESHOT alone loses nothing: the program has to arm the
 * descriptor again, and then is told at once if it is still ready.
 */
int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    prepare();
    unsigned long inode;
    if (seed != 0 && operation != EPOLL_CTL_DEL && event != NULL &&
        is_tcp_socket(fd, &inode)) {
        /* Before the call: another thread may be told of the edge at once. */
        if ((event->events & EPOLLET) != 0)
            edge_triggered[inode % EDGE_MARKS] = true;
        if (epoll >= 0 && epoll < DESCRIPTORS)
            descriptors[epoll].has_tcp = true;
    }
    return kernel.epoll_ctl(epoll, operation, fd, event);
}

/* ------------------------------------------------------------------- threads
 *
 * [spurious wake-ups] POSIX: "Spurious wakeups from the
 * pthread_cond_timedwait() or pthread_cond_wait() functions may occur. Since
 * the return [...] does not imply anything about the value of this predicate,
 * the predicate should be re-evaluated upon such return."
 *
 * A wake-up that nobody asked for looks like this to a program: the mutex was
 * free for a while, others could take it, and now it is locked again. That is
 * what we do. A signal that comes in between wakes somebody else or nobody;
 * but its cause was written down under the mutex before, and the caller, who
 * looks at its predicate again, sees it.
 *
 * Each thread counts for itself: the first thread that waits is number 1.
 */
static bool wakes_for_nothing(const char *call, pthread_mutex_t *mutex,
                              int *result)
{
    static atomic_uint threads;
    static _Thread_local struct {
        unsigned number, calls, in_a_row;
    } thread;

    prepare();
    if (seed == 0)
        return false;
    if (thread.number == 0)
        thread.number = ++threads;
    unsigned number = thread.calls++;
    bool spurious = number < 2
                        ? number == roll(REFUSE, thread.number, 0, KINDS, 0) % 2
                        : roll(REFUSE, thread.number, 0, KINDS, number) % 8 ==
                              0;
    if (!spurious || thread.in_a_row >= MOST_IN_A_ROW) {
        thread.in_a_row = 0;
        return false;
    }
    thread.in_a_row++;

    pthread_testcancel(); /* waiting is a cancellation point */
    *result = pthread_mutex_unlock(mutex);
    if (*result != 0)
        return false; /* not the caller's mutex: the real function says so */
    sched_yield();
    *result = pthread_mutex_lock(mutex);
    log_refusal(call, -1, "spurious wake-up");
    return true;
}

int pthread_cond_wait(pthread_cond_t *restrict condition,
                      pthread_mutex_t *restrict mutex)
{
    int result;
    if (wakes_for_nothing("pthread_cond_wait", mutex, &result))
        return result;
    return kernel.pthread_cond_wait(condition, mutex);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition,
                           pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    int result;
    if (wakes_for_nothing("pthread_cond_timedwait", mutex, &result))
        return result;
    return kernel.pthread_cond_timedwait(condition, mutex, until);
}

/* What the wait_for of C++ calls. */
int pthread_cond_clockwait(pthread_cond_t *restrict condition,
                           pthread_mutex_t *restrict mutex, clockid_t clock,
                           const struct timespec *restrict until)
{
    int result;
    if (wakes_for_nothing("pthread_cond_clockwait", mutex, &result))
        return result;
    return kernel.pthread_cond_clockwait(condition, mutex, clock, until);
}

/* --------------------------------------------------------- glibc's own names
 *
 * gcc -D_FORTIFY_SOURCE turns recv(fd, buffer, length, flags) into
 * __recv_chk(fd, buffer, length, sizeof buffer, flags), which ends the program
 * when the length is over the size. It has to see the length that the program
 * gave; only one that is in order is shortened.
 */
#ifdef __GLIBC__
ssize_t __recv_chk(int fd, void *buffer, size_t length, size_t size, int flags)
{
    struct transfer transfer = {.most = length};
    if (length <= size &&
        !begin_transfer(&transfer, "recv", fd, RECEIVING, length, flags))
        return -1;
    prepare();
    return end_transfer(
        &transfer, kernel.__recv_chk(fd, buffer, transfer.most, size, flags));
}

ssize_t __recvfrom_chk(int fd, void *restrict buffer, size_t length,
                       size_t size, int flags,
                       struct sockaddr *restrict address,
                       socklen_t *restrict address_length)
{
    struct transfer transfer = {.most = length};
    if (length <= size &&
        !begin_transfer(&transfer, "recvfrom", fd, RECEIVING, length, flags))
        return -1;
    prepare();
    return end_transfer(&transfer,
                        kernel.__recvfrom_chk(fd, buffer, transfer.most, size,
                                              flags, address, address_length));
}

ssize_t __read_chk(int fd, void *buffer, size_t length, size_t size)
{
    struct transfer transfer = {.most = length};
    if (length <= size &&
        !begin_transfer(&transfer, "read", fd, RECEIVING, length, 0))
        return -1;
    prepare();
    return end_transfer(&transfer,
                        kernel.__read_chk(fd, buffer, transfer.most, size));
}

int __poll_chk(struct pollfd *entries, nfds_t count, int timeout, size_t size)
{
    if (timeout != 0 && count <= size / sizeof *entries &&
        interrupts_poll("poll", entries, count))
        return -1;
    be_late();
    return kernel.__poll_chk(entries, count, timeout, size);
}

int __ppoll_chk(struct pollfd *entries, nfds_t count,
                const struct timespec *timeout, const sigset_t *mask,
                size_t size)
{
    if (waits(timeout) && count <= size / sizeof *entries &&
        interrupts_poll("ppoll", entries, count))
        return -1;
    be_late();
    return kernel.__ppoll_chk(entries, count, timeout, mask, size);
}

/* sendfile in a program that was compiled with -D_FILE_OFFSET_BITS=64. */
ssize_t sendfile64(int out, int in, off64_t *offset, size_t length)
{
    struct transfer transfer;
    if (!begin_transfer(&transfer, "sendfile64", out, SENDING, length, 0))
        return -1;
    return end_transfer(&transfer,
                        kernel.sendfile64(out, in, offset, transfer.most));
}
#endif

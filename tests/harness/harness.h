/*
 * harness.h - what a test needs to judge a program from outside.
 *
 * A test starts a program, speaks to it over a socket or its standard
 * input, and says what must come back. Every call below does three things:
 * it acts, it writes itself down as a step, and, when the program does not
 * do what the contract promises, it ends the test with a report: the steps so
 * far, what was expected, what came (as hex and as text), what the program
 * wrote to standard error, why that usually happens, where to read about it
 * and the command that shows it again.
 *
 * Every wait is bounded: by PATIENCE (environment, seconds, default 10) where a
 * function names no bound of its own. While the harness waits for anything it
 * also collects what the programs print, so that no program ever blocks
 * because nobody reads its output.
 *
 * In lesson 07 every connection goes inside TLS, and what is said here of bytes
 * holds for those inside; tls.h has more for that lesson.
 *
 * The program is judged as a black box. SERVER and CLIENT in the environment
 * name it: a path, or a command of several words ("python3 room.py").
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* ------------------------------------------------------------------ a test */

/* What a report says about a test that failed. */
struct test_info {
    const char *promise; /* the sentence of the contract, word by word */
    const char *cause;   /* why a program usually breaks it */
    const char *read;    /* which heading of which README explains it */
    bool patient;        /* it waits for time to pass: one hostile seed */
    bool slow;           /* it takes half a second or more: see run_test() */
    const char *file;    /* where it stands; TEST fills this in */
    int line;
};

/*
 * TEST(suite, name, .promise = "...", .cause = "...", .read = "...") { ... }
 *
 * The suite is the program that is judged: `server` or `client`. The body runs
 * once on a calm network, or once for each seed in HOSTILE_SEEDS ("1 2 3")
 * with the hostile library loaded into every program it starts; a seed of 0 is
 * the calm network. After the body, whatever it left running is ended and
 * checked: no program may have died of a signal, no sanitizer may have spoken,
 * no server may have printed more than its one line.
 */
#define TEST(suite, name, ...)                                                 \
    static void suite##_##name##_body(void);                                   \
    Test(suite, name, .timeout = 120)                                          \
    {                                                                          \
        static const struct test_info info = {                                 \
            .file = __FILE__, .line = __LINE__, __VA_ARGS__};                  \
        run_test(#suite, #name, &info, suite##_##name##_body);                 \
    }                                                                          \
    static void suite##_##name##_body(void)

/* Runs the body, calm or hostile, as TEST says. With LEAVE_OUT_SLOW in the
 * environment a slow test is skipped: whoever changes a lesson wants a verdict
 * at once, and gets these from `make test`. */
void run_test(const char *suite, const char *name, const struct test_info *info,
              void (*body)(void));

/* Adds a sentence of the test's own to the steps. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* From here on, a failure names this cause (a string literal) instead of the
 * one that TEST gave. NULL: back to that one. */
void usual_cause(const char *cause);

/* Ends the test with a report. The text says what was expected and what
 * happened. */
_Noreturn void fail_test(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Ends the test as skipped, saying why this machine cannot run it. */
_Noreturn void skip_test(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Seconds since some point in the past (CLOCK_MONOTONIC). */
double now(void);

/* Lets time pass, collecting what the programs print. Only where the passing
 * of time is itself what is tested. */
void let_pass(double seconds);

/* Whether this run is on the hostile network, and its seed (0 when calm). */
unsigned hostile_seed(void);

/* How long a wait may take, in seconds: PATIENCE. */
double patience(void);

/* ---------------------------------------------------------------- programs */

struct program;

enum output {
    OUTPUT_COLLECTED, /* a pipe that the harness reads */
    OUTPUT_FULL_DISK, /* /dev/full: every write fails with ENOSPC */
    OUTPUT_NO_READER, /* a pipe whose reader has gone: EPIPE or SIGPIPE */
    OUTPUT_BLOCKED,   /* a pipe that is full until unblock_output() */
    OUTPUT_TERMINAL   /* a terminal, where stdio sends each line at once */
};

struct start {
    const char *const *arguments; /* NULL at the end; without argv[0] */
    enum output output;           /* where standard output goes */
    bool no_privileged_ports;     /* may not bind a port below 1024 */
    bool empty_input;             /* standard input is at its end at once */
    bool folder_input;            /* it is a folder, and cannot be read */
    bool bare;                    /* in 07 too with these arguments alone */
    const char *folder;           /* in which it runs; NULL: in ours */
};

/* Starts SERVER or CLIENT and returns at once. The harness owns what it
 * returns until the end of the test. */
struct program *start_server_with(const struct start *how);
struct program *start_client_with(const struct start *how);

/* Starts SERVER with exactly these arguments, and returns when it has printed
 * its line and the line is what the contract says. */
struct program *start_server_ready(const struct start *how);

/*
 * Starts SERVER with `-p 0` and these arguments (NULL at the end), and returns
 * when it has printed its line and the line is what the contract says.
 */
struct program *start_server(const char *argument, ...);

/* The same with `-p PORT`. */
struct program *start_server_on(int port, const char *argument, ...);

/* Starts CLIENT with these arguments (NULL at the end); its standard input is
 * a pipe that stays open until end_input(). */
struct program *start_client(const char *argument, ...);

/* Starts CLIENT with OPTIONS (NULL at the end; may be NULL) followed by
 * 127.0.0.1 and the port of `listener` (see below). */
struct listener;
struct program *start_client_to(struct listener *listener, const char *option,
                                ...);

/* The port that the server said it listens on. */
int port_of(const struct program *server);

/* Waits until the program has ended; the test fails when it does not within
 * PATIENCE, or when a signal ended it. Returns its exit status. */
int exit_status(struct program *program);

/* The same, and fails unless the status is this one. */
void expect_exit(struct program *program, int status);

/* Waits until the program has ended, which has to be with status 1, and with
 * one line on standard error, which says `about`. */
void expect_told_failure(struct program *program, const char *about);

/* Like expect_exit; fails also when it took more than `seconds` from now. */
void expect_exit_within(struct program *program, int status, double seconds);

/* Fails when the program has ended. */
void expect_running(struct program *program);

/* Empties the pipe that was full, and collects the output from then on. */
void unblock_output(struct program *program);

/* Whether the program has ended. Never waits. */
bool has_ended(struct program *program);

/* Seconds between the program's start and its end (or now). */
double age_of(const struct program *program);

/* All that the program has printed so far; NUL-terminated behind `*length`
 * bytes; valid until the next call of the harness. `length` may be NULL. */
const char *standard_output(struct program *program, size_t *length);
const char *standard_error(struct program *program, size_t *length);

/* Waits until standard output holds these bytes next, behind what an earlier
 * call has accepted; fails when other bytes come or too few. */
void expect_output(struct program *program, const void *bytes, size_t length);
void expect_output_text(struct program *program, const char *text);

/* Waits until the program has ended its output; fails when more bytes come
 * than were accepted. */
void expect_output_end(struct program *program);

/* Waits for one more line of standard output, and returns it without its
 * newline; valid until the next call of the harness. */
const char *next_output_line(struct program *program);

/* Fails when standard output grows within `seconds`. */
void expect_no_output(struct program *program, double seconds);

/* Waits until standard error holds at least one line. `about` says of what:
 * "that the text was too long". */
void expect_complaint(struct program *program, const char *about);

/* How many bytes the program has written to standard error so far. */
size_t complaint_length(struct program *program);

/* Standard input: what a person types. The harness never blocks for ever in
 * it: when the program stops reading, the test fails after PATIENCE. */
void type_bytes(struct program *program, const void *bytes, size_t length);
void type_text(struct program *program, const char *text);
void end_input(struct program *program);

/* Types all bytes in the background: returns at once, and whatever waits
 * afterwards goes on typing. Does not fail when the program stops reading
 * early. What was typed so before must have been read. type_and_end also ends
 * the input, after the last byte. */
void type_in_background(struct program *program, const void *bytes,
                        size_t length);
void type_and_end(struct program *program, const void *bytes, size_t length);

/* Sends a signal to the program (not to its children). */
void signal_program(struct program *program, int signal_number);

/* SIGSTOP and SIGCONT for the program and its children; stop returns when all
 * are stopped. */
void stop_program(struct program *program);
void continue_program(struct program *program);

/* Ends the program and its children with SIGKILL and reaps it. */
void kill_program(struct program *program);

/* What the program and its children hold now. */
struct holdings {
    size_t descriptors;
    size_t threads;
    size_t processes; /* zombies that it has not reaped count */
    size_t memory;    /* resident, anonymous and private, in bytes */
};
struct holdings holdings_of(struct program *program);

/* Has `work` done by the server again and again, until twice in a row its
 * memory was not higher than ever before by `suspicious` bytes or more. One
 * that collects garbage may grow for a while; a leak does not end. Fails after
 * 80 times or 40 s; skips the test when 40 s were enough for fewer than 16.
 * `what` ends the sentence "The memory does not grow with". */
void expect_no_growth(struct program *server, size_t suspicious,
                      const char *what, void (*work)(struct program *));

/*
 * Fails unless the program comes to rest: there must be a stretch of 200 ms,
 * within 4 s, in which it and its children use less than a tenth of a core
 * and are nearly always asleep. `while_what`: "while one client is silent".
 */
void expect_idle(struct program *program, const char *while_what);

/* The same, but it may wake up as often as it likes for a moment. */
void expect_no_spinning(struct program *program, const char *while_what);

/* Fails unless the program, once it has come to rest, sleeps for so many
 * seconds without waking up once. (Three attempts: it may have had something
 * left to do.) */
void expect_sound_sleep(struct program *program, double seconds,
                        const char *while_what);

/*
 * Takes away all free descriptors of a running program (prlimit), so that its
 * next accept or open fails with EMFILE, and gives them back. Linux reserves
 * the descriptor before accept() waits: a server that waits there already
 * takes one more client.
 */
void exhaust_descriptors(struct program *program);
void restore_descriptors(struct program *program);

/* --------------------------------------------------- the test as the client */

struct peer; /* one end of a TCP connection, in the hands of the test */

struct connect_options {
    int receive_buffer;  /* SO_RCVBUF, set before connect; 0: the system's */
    int send_buffer;     /* SO_SNDBUF; 0: the system's */
    const char *address; /* NULL: the one that the server listens on */
    bool plain;          /* TCP alone, in lesson 07 too */
};

/* Connects; fails the test when that takes longer than PATIENCE. The harness
 * closes at the end of the test what the test has not closed. */
struct peer *connect_to(struct program *server);
struct peer *connect_with(struct program *server,
                          const struct connect_options *options);

/* Whether something accepts connections there now. */
bool accepts_connections(const char *address, int port);

/* A port, outside the range that the kernel gives away, that nothing listens
 * on, different at each call and in each process, and another number when its
 * two bytes are exchanged. */
int unused_port(void);

/* Makes sure that no other test uses this port until the run has ended. Skips
 * the test when somebody else listens there. */
void reserve_port(int port);

/* --------------------------------------------------- the test as the server */

/*
 * Listens on 127.0.0.1 (or `address`, "::1") at a port that the kernel
 * chooses, or at `port` when that is not 0.
 */
struct listener *listen_here(void);
struct listener *listen_at(const char *address, int port);

/* A listener that answers no SYN: its backlog is full, a connect hangs
 * (Linux). It can be emptied: afterwards connections come through. */
struct listener *listen_but_never_answer(void);
void start_answering(struct listener *listener);

int port_of_listener(const struct listener *listener);
void close_listener(struct listener *listener);

/* Takes the next connection; `accept_client` fails when none comes within
 * PATIENCE, `accept_client_within` returns NULL then. `receive_buffer` is
 * SO_RCVBUF for connections that come from now on (0: the system's). */
struct peer *accept_client(struct listener *listener);
struct peer *accept_client_within(struct listener *listener, double seconds);
/* The same, and TCP alone in lesson 07 too. */
struct peer *accept_plainly(struct listener *listener);
struct peer *accept_plainly_within(struct listener *listener, double seconds);
void set_receive_buffer(struct listener *listener, int receive_buffer);

/* The local ports of all sockets of this machine that try to connect to `port`
 * at any address now (they are in SYN_SENT), in ports[]; how many, at most
 * `most`. Skips the test where the kernel does not tell (Linux does). */
size_t pending_connects(int port, unsigned ports[], size_t most);

/* -------------------------------------------------- one end of a connection */

/* Sends all of it; fails when the program takes nothing for PATIENCE. */
void send_bytes(struct peer *peer, const void *bytes, size_t length);
void send_text(struct peer *peer, const char *text);

/* Sends `piece` bytes at a time with a pause between, each in a segment of
 * its own (TCP_NODELAY). */
void send_slowly(struct peer *peer, const void *bytes, size_t length,
                 size_t piece, double pause);

/* Sends for as long as the kernel takes more, at most `length`, and returns
 * how many bytes that were. It gives up after `seconds` without progress. */
size_t send_until_full(struct peer *peer, const void *bytes, size_t length,
                       double seconds);

/* Sends and receives at the same time; fails unless exactly `expected` comes
 * back. For everything that may not fit into the kernel's buffers. */
void exchange(struct peer *peer, const void *sent, size_t sent_length,
              const void *expected, size_t expected_length);

/* Sends all while receiving whatever comes, ends the sending side when
 * `half_close_after`, and returns what came until the program closed, or until
 * `most` bytes. The harness owns the bytes until the end of the test. A reset,
 * also in mid-send, counts as closing. */
struct received {
    const char *bytes;
    size_t length;
    bool was_reset; /* the connection ended by a reset */
    bool ended;     /* it ended at all */
};
struct received send_and_collect(struct peer *peer, const void *sent,
                                 size_t sent_length, bool half_close_after,
                                 size_t most);

/* Waits for exactly these bytes; fails when others come, or none for PATIENCE.
 * What comes behind them is left for the next call. */
void expect_bytes(struct peer *peer, const void *bytes, size_t length);
void expect_text(struct peer *peer, const char *text);

/* Waits for exactly `length` bytes, whatever they are; into `buffer`. */
void receive_bytes(struct peer *peer, void *buffer, size_t length);

/* Takes what is there now, at most `size` bytes, waiting at most `seconds` for
 * the first; 0: nothing came; -1: the connection has ended (EOF or reset). */
ssize_t receive_some(struct peer *peer, void *buffer, size_t size,
                     double seconds);

/* Fails when anything comes within `seconds`, or the connection ends. */
void expect_silence(struct peer *peer, double seconds);

/* Waits for end of file; fails on more bytes, a reset, or nothing. */
void expect_end_of_file(struct peer *peer);

/* Waits for end of file or a reset; bytes before it fail the test. */
void expect_closed(struct peer *peer);

void half_close(struct peer *peer); /* shutdown(SHUT_WR); TLS: close_notify */
void close_peer(struct peer *peer); /* close: end of file for the program */
void reset_peer(struct peer *peer); /* SO_LINGER 0, close: a reset */

/* What the peer and the kernel still hold: bytes that have come and not been
 * read (FIONREAD). */
size_t bytes_waiting(struct peer *peer);

/* The raw descriptor, for what is not foreseen here. Stays the harness's. */
int descriptor_of(const struct peer *peer);

/* ----------------------------------------------------------------- material */

/* `length` bytes that look random, always the same for the same seed; all 256
 * values occur. The harness owns them until the end of the test. */
const unsigned char *pattern(size_t length, unsigned seed);

/* One text out of several pieces, printf-like; the harness owns it. */
const char *text_of(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

#endif

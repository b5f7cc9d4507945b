/*
 * inside.h - what the files of the harness share with each other, and a test
 * does not need.
 */
#ifndef INSIDE_H
#define INSIDE_H

#include "harness.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

/* --------------------------------------------------------- bytes that grow */

struct bytes {
    char *data; /* NUL-terminated behind `length` bytes, or NULL */
    size_t length;
    size_t size;
    size_t dropped; /* bytes that came before data[0] and were given up */
};

void append_bytes(struct bytes *bytes, const void *data, size_t length);
void append_format(struct bytes *bytes, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void append_arguments(struct bytes *bytes, const char *format, va_list list);
void free_bytes(struct bytes *bytes);

/* Memory that lives until the end of the run. */
void *keep(size_t length);
void forget_all_kept(void);

/* ----------------------------------------------------------------- waiting */

/*
 * The one place where the harness waits. Returns when `descriptor` (-1: none)
 * is ready for `events`, when a program has printed something, taken some of
 * its input or ended, or when it is `until`; whichever comes first. Returns
 * what `descriptor` is ready for, 0 when it is not. Callers loop.
 */
short wait_on(int descriptor, short events, double until);

/* The same for many descriptors, as poll(2) takes them. */
struct pollfd;
void wait_on_many(struct pollfd *many, size_t how_many, double until);

/* The moment `seconds` from now. */
double moment_in(double seconds);

void start_waiting(void); /* once in a process */

/* ---------------------------------------------------------------- programs */

struct program {
    struct program *next;
    const char *name;    /* "the server", "the second client" */
    const char *command; /* as a person would type it */
    bool is_server;
    pid_t pid; /* also its process group */
    double started;
    double ended_at;
    bool has_ended;
    int exit_status; /* -1: a signal has ended it */
    int ended_by;    /* that signal, or 0 */
    bool killed;     /* by kill_program, or a signal from the test */
    uint64_t sent;   /* which signals these were: bit N - 1 for signal N */
    bool stopped;    /* by stop_program */
    bool without_descriptors;
    bool end_expected;
    bool did_well;             /* ended with the status that was expected */
    bool group_ended;          /* by end_program, its children too */
    int input, output, errors; /* our ends of the pipes, -1: closed */
    int blocked_output;        /* OUTPUT_BLOCKED: not read yet */
    size_t filling;            /* and so many bytes in it are not its own */
    const char *typed;         /* what is still to be typed, in background */
    size_t typed_length;
    bool end_after_typed;
    struct bytes printed;   /* standard output */
    struct bytes complaint; /* standard error */
    size_t accepted;        /* bytes of `printed` that were expected */
    char address[64];       /* where a server listens, to connect to */
    int port;               /* 0: has not said so */
};

extern struct program *programs;

/* Reads what the program's pipes hold, and types what can be typed. */
void serve_pipes(struct program *program);
/* Looks which programs have ended; `ended_at` for those that have. */
void look_who_has_ended(double ended_at);
/* Ends the program's whole process group, waits, and reads what it left. */
void end_program(struct program *program);
void check_end_of_programs(void);
void end_all_programs(void);
void forget_all_programs(void);

/* "is running", "ended with status 1", "was ended by signal 13 (SIGPIPE)" */
const char *state_of(const struct program *program);
/* "; the server is running" and so on, for all of them; kept. */
const char *state_of_programs(void);
/* Whether a signal has ended it that the test did not send. */
bool has_crashed(const struct program *program);
const char *name_of_signal(int signal_number);
bool any_program_runs(void);

void close_descriptors_from(int first);

/* ---------------------------------------------------------------- guardian */

/* Once in a process; then every process group that begins and ends. */
void start_guardian(void);
void guard_group(pid_t group);
void release_group(pid_t group);

/* ----------------------------------------------------------------- network */

/* CUT_OFF: the end of TCP where TLS (lesson 07) had not ended. */
enum ending { STILL_OPEN, END_OF_FILE, RESET, CUT_OFF };

void close_all_sockets(void);

/* A port number with its two bytes exchanged. */
int exchange_bytes(int port);

/* One end of a connection, as network.c and messages.c use it. Sends what can
 * go now; -1 when nothing can, -2 when nothing ever will. */
ssize_t send_now(struct peer *peer, const void *bytes, size_t length);

/* Takes what is there now, at most `size` bytes. */
enum taken { TAKEN_SOME, TAKEN_NOTHING, TAKEN_END, TAKEN_RESET, TAKEN_CUT };
enum taken take_now(struct peer *peer, void *buffer, size_t size,
                    size_t *taken);
bool is_over(enum taken taken);

/* A server that a signal ends need not say that it does. */
bool may_cut_off(void);
enum ending ending_of(enum taken taken);

/* Waits like wait_on() until sending or taking is worth another try. */
void wait_on_peer(struct peer *peer, short events, double until);

/* What it waits for on the descriptor then; 0 when there is no need to. */
short events_for_peer(const struct peer *peer, short events);

/* What a report says of a connection: nothing, or that its handshake is not
 * done, or what was wrong with it. Begins with "; ". */
const char *about_the_wrapping(const struct peer *peer);

/* Connections that have something to do while the test waits for something
 * else: those into the array, at most `most`; and lets them do it. */
struct pollfd;
size_t connections_at_work(struct pollfd *watched, size_t most);
void work_on_connections(void);

/* ---------------------------------------------- what wraps up the bytes
 *
 * In lesson 07 the bytes of a connection go inside TLS (tls.c, linked into that
 * lesson's tests alone); in the others TCP carries them as they are.
 */
struct wrapping; /* of one connection */

struct wrapper {
    struct wrapping *(*begin)(int descriptor, bool as_server);
    void (*forget)(struct wrapping *wrapping);

    /* Goes on with the handshake, and with what waits to be sent. */
    void (*work)(struct wrapping *wrapping);
    bool (*is_at_work)(const struct wrapping *wrapping);
    bool (*is_ready)(const struct wrapping *wrapping); /* or has ended */

    /* As send_now(), take_now() and shutdown(). Sending before the handshake is
     * done, and after the last piece has not gone whole, only remembers. */
    ssize_t (*send)(struct wrapping *wrapping, const void *bytes,
                    size_t length);
    enum taken (*take)(struct wrapping *wrapping, void *buffer, size_t size,
                       size_t *taken);
    void (*end_side)(struct wrapping *wrapping);

    /* What to wait for when somebody wants to wait for `events`; 0 when there
     * is no need to wait. */
    short (*events)(const struct wrapping *wrapping, short events);
    const char *(*about)(const struct wrapping *wrapping);
};

extern const struct wrapper tls_wrapper;

struct wrapping *wrapping_of(const struct peer *peer);
void wrap_up(struct peer *peer, struct wrapping *wrapping);

/* --------------------------------------------------- the lesson (lesson.c) */

extern const int lesson_number;             /* 1 to 7 */
extern const struct wrapper *const wrapper; /* NULL: TCP alone */

/* Puts the options that every program of this lesson gets before the test's own
 * into the array, at most four, and returns how many. */
size_t add_options(const struct start *how, bool is_server, char **arguments);

/* ------------------------------------------------------------- observation */

/* The processes of a process group, zombies too; at most `most`. */
size_t members_of_group(pid_t group, pid_t members[], char states[],
                        size_t most);
/* Whether a process of the group is on the CPU or wants to be. */
bool group_is_busy(pid_t group);
/* Whether none of them wants the CPU for so long. */
bool group_rests(pid_t group, double seconds);
/* CPU time of a process group in seconds. */
double cpu_time_of_group(pid_t group);
size_t count_own_descriptors(void);

/* ------------------------------------------------------------------ report */

/*
 * Ends the test: `what` ("client 1 receives") should have been `expected`,
 * but `came` came. Shows both side by side around the first difference.
 */
_Noreturn void fail_difference(const char *what, const void *expected,
                               size_t expected_length, const void *came,
                               size_t came_length, enum ending ending);

/* What kind of difference that is, in a sentence or two; "" when it is none
 * that has a name. */
void diagnose(struct bytes *text, const unsigned char *expected,
              size_t expected_length, const unsigned char *came,
              size_t came_length, enum ending ending);

/* The index of the first byte that differs, or the shorter length. */
size_t first_difference(const void *one, size_t one_length, const void *other,
                        size_t other_length);

/* The bytes as a C string literal, cut when long; kept. */
const char *quoted(const void *bytes, size_t length);

/* "1 byte", "65,536 bytes"; kept. */
const char *count_of(size_t number, const char *singular);

/* Ends the test when it takes longer than any test may. */
void check_length_of_test(void);

/* Bytes went to a program, or came from one. What it says on standard error
 * does not count: one that waits in vain may complain of it without end. */
void bytes_moved(void);

/* True while a report is being written: nothing may fail then. */
bool is_failing(void);

#endif

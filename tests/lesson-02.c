/*
 * lesson-02.c - what lesson 02's client promises, judged by a test server
 * that misbehaves.
 *
 * Nearly every test has three parts: the client (CLIENT), a person who types
 * to it (its standard input), and the server, which is the test itself: it
 * accepts the connection and then answers, dribbles, stays silent or hangs up.
 *
 * Where time is the promise itself, one measurement says little on a busy
 * machine. Such a test measures up to ROUNDS times, and one good round is
 * enough. It is marked `patient`, even when it takes less than a second: more
 * seeds of the hostile network would only make it longer.
 */
#include "harness.h"
#include "inside.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { KIB = 1024, MIB = 1024 * 1024, ROUNDS = 3 };

/* Where the reports send the reader. */
#define README "02-basic-client/README.md"
#define IDEA README ", \"The idea\""
#define CODE README ", \"The code in reading order\""
#define BREAK_IT README ", \"Break it\""
#define READ_USAGE CODE ": parse_seconds, parse_count, is_port"
#define READ_CONNECT IDEA ": how long"
#define READ_RETRY IDEA ": what then, and how often"
#define READ_ADDRESSES CODE ": try_every_address"
#define READ_DEADLINE CODE ": limit_waits"
#define READ_ECHO CODE ": converse"
#define READ_PIECES BREAK_IT ": count what you sent, not what came back"
#define READ_OUTPUT BREAK_IT ": print into a buffer"

/* The sentences of the contract. */
#define PROMISE_USAGE                                                          \
    "A wrong option, an operand too many or too few, a port that is no "       \
    "number from 0 to 65535, seconds that are no decimal number or below 0 "   \
    "(`-t` must be over 0), retries that are no whole number from 0: a usage " \
    "line on standard error, exit 2."
#define PROMISE_OPTIONS                                                        \
    "Options are read with getopt(3) and come before operands. [...] Seconds " \
    "may be fractional."
#define PROMISE_BYTES                                                          \
    "The client sends its standard input as it is, any bytes, a last line "    \
    "without a newline too, and prints exactly the bytes that come back"
#define PROMISE_FLUSH                                                          \
    "what came back is on standard output before it waits for more input"
#define PROMISE_END                                                            \
    "End of input ends the connection and the program (exit 0) once all has "  \
    "come back."
#define PROMISE_DUE                                                            \
    "A server that closes, resets or stays silent while an echo is due: exit " \
    "1."
#define PROMISE_NOT_DUE                                                        \
    "When nothing is due the client may notice the server's end at once "      \
    "(exit 1) or at the next line, and after end of input it need not wait "   \
    "for it."
#define PROMISE_SECONDS                                                        \
    "In 02 and 03 SECONDS also bounds the wait for an echo that is due, and "  \
    "for a server that takes nothing more."
#define PROMISE_ATTEMPT                                                        \
    "An attempt tries every address of HOST in turn, each for at most "        \
    "SECONDS."
#define PROMISE_RETRY                                                          \
    "When all have failed in a way that may pass (refused, timed out, "        \
    "unreachable, a name server that did not answer) the client pauses and "   \
    "tries again, at most RETRIES times: every pause is 0.1 to 1 s, the "      \
    "first "                                                                   \
    "at most 0.5 s."
#define PROMISE_UNKNOWN "A HOST that does not exist is not retried"
#define PROMISE_ONE "`-r 0` is one attempt."
#define PROMISE_DEFAULTS                                                       \
    "client [-t SECONDS] [-r RETRIES] HOST PORT: defaults 5 s and 3 retries"
#define PROMISE_FAILURE                                                        \
    "Exit status: [...] 1 after a run-time failure (one line on standard "     \
    "error: the program, what it was doing, to whom, and the system's reason)"
#define PROMISE_SIGPIPE "No program dies of SIGPIPE."

/* ----------------------------------------------------------------- material */

/* `length` bytes of text, always the same for the same seed: lines of up to 70
 * characters, or one line alone. For tests that are not about strange bytes.
 * It repeats itself after a number of bytes that is no size of any buffer. */
static const char *letters(size_t length, unsigned seed, bool one_line)
{
    const size_t period = length < 70001 ? length : 70001;
    const unsigned char *random = pattern(period, seed);
    char *text = keep(length);
    size_t column = 0;
    for (size_t i = 0; i < period; i++) {
        bool ends = !one_line && (column == 70 || random[i] < 5);
        text[i] = ends ? '\n' : (char)('a' + random[i] % 26);
        column = ends ? 0 : column + 1;
    }
    for (size_t i = period; i < length; i++)
        text[i] = text[i - period];
    text[length - 1] = '\n';
    return text;
}

/* --------------------------------------------------------------- the server */

/* Sends what the kernel takes now of these bytes, waiting at most 20 ms for it
 * to take any. Returns how many that were, or -1 when the client has closed or
 * reset the connection. */
static ssize_t send_some(struct peer *peer, const void *bytes, size_t length)
{
    ssize_t sent = send(descriptor_of(peer), bytes, length,
                        MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0)
        return sent;
    if (errno != EAGAIN && errno != EINTR)
        return -1;
    wait_on(descriptor_of(peer), POLLOUT, moment_in(0.02));
    return 0;
}

/* Sends all, as part of an echo. */
static void send_back(struct peer *peer, struct program *client,
                      const char *bytes, size_t length, size_t before)
{
    double until = moment_in(patience());
    for (size_t done = 0; done < length;) {
        ssize_t sent = send_some(peer, bytes + done, length - done);
        if (sent < 0)
            fail_test("Expected: the client takes the whole echo.\n"
                      "It has closed or reset the connection after %zu bytes "
                      "of it, while more were due; it %s.",
                      before + done, state_of(client));
        if (sent > 0) {
            done += (size_t)sent;
            until = moment_in(patience());
        } else if (now() >= until) {
            fail_test("Expected: the client takes the echo while it sends.\n"
                      "It sent %zu bytes and took %zu back; then it took no "
                      "more for %.1f s, although the server waits with more "
                      "and reads no further until it can send them; it %s.",
                      before + length, before + done, patience(),
                      state_of(client));
        }
    }
}

/*
 * What the server has received of a text that was typed, and how much of it it
 * has sent back. A client need not send a whole line at once: it may send a
 * piece, wait for its echo, and only then send the next.
 */
struct dialogue {
    struct peer *peer;
    struct program *client;
    const char *text; /* what was typed */
    size_t length;
    size_t came;
    size_t echoed;
};

static struct dialogue dialogue(struct peer *peer, struct program *client,
                                const void *text, size_t length)
{
    /* Without this, a small piece of an echo waits up to 40 ms for the client
     * to acknowledge the piece before it (Nagle's algorithm). */
    int yes = 1;
    setsockopt(descriptor_of(peer), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return (struct dialogue){peer, client, text, length, 0, 0};
}

/* Fails: the server got other bytes than were typed. */
_Noreturn static void fail_input(const struct dialogue *d, const char *piece,
                                 size_t length)
{
    usual_cause("What is sent is not what was typed: the bytes were treated as "
                "a C string, or as text in some encoding; or send took fewer "
                "bytes than it was given, and the rest was left out or sent "
                "twice.");
    size_t room = d->length + length + 4096;
    char *came = keep(room);
    size_t count = d->came + length;
    memcpy(came, d->text, d->came);
    memcpy(came + d->came, piece, length);

    /* A little more, for the report. */
    ssize_t more = 0;
    while (count < room &&
           (more = receive_some(d->peer, came + count, room - count, 0.1)) > 0)
        count += (size_t)more;
    fail_difference("at the server, from the client", d->text, d->length, came,
                    count, more < 0 ? END_OF_FILE : STILL_OPEN);
}

/* Takes at most `most` bytes, waiting at most `seconds` for them. Returns
 * whether any came; fails when they are not what was typed. */
static bool take_piece(struct dialogue *d, size_t most, double seconds)
{
    static char piece[64 * KIB];
    if (most > sizeof piece)
        most = sizeof piece;
    ssize_t taken = receive_some(d->peer, piece, most, seconds);
    if (taken < 0) {
        bool at_once = d->came == 0 && hostile_seed() != 0;
        usual_cause(
            at_once
                ? "On the hostile network connect() may be interrupted "
                  "(EINTR). "
                  "The handshake goes on by itself: who calls connect() again "
                  "gets EALREADY or EISCONN, and has to wait with poll() and "
                  "to ask SO_ERROR. Or EINTR from poll() or send() is taken "
                  "for a failure."
                : "The client has given up, or has taken something for the "
                  "end of its input: a NUL, 0xFF, a short read. If it wrote "
                  "a reason to standard error, that stands above.");
        fail_difference("at the server, from the client", d->text, d->length,
                        d->text, d->came, END_OF_FILE);
    }
    size_t length = (size_t)taken;
    if (length > d->length - d->came ||
        memcmp(d->text + d->came, piece, length) != 0)
        fail_input(d, piece, length);
    d->came += length;
    return length > 0;
}

_Noreturn static void fail_missing(const struct dialogue *d)
{
    bool is_open = d->client->input >= 0 && d->client->typed_length == 0;
    if (is_open && d->came == d->echoed)
        usual_cause("The client waits for more input before it sends what it "
                    "has: fread waits until its buffer is full, and a program "
                    "that reads all of its input first waits for the end of "
                    "it.");
    fail_test("Expected: the client sends all %zu bytes that were typed.\n"
              "It sent %zu bytes, and %zu were sent back; then no more came "
              "for %.1f s; it %s.",
              d->length, d->came, d->echoed, patience(), state_of(d->client));
}

/* Sends back the next `length` bytes of those that have come. */
static void echo_next(struct dialogue *d, size_t length)
{
    send_back(d->peer, d->client, d->text + d->echoed, length, d->echoed);
    d->echoed += length;
}

/*
 * The server takes the text and sends back the first `echo` bytes of it, and
 * no more. Returns when all has come, or when more than `echo` bytes have come
 * and the client waits for their echo.
 */
static void take_text(struct dialogue *d, size_t echo)
{
    while (d->came < d->length) {
        bool is_due = d->came > d->echoed;
        if (!take_piece(d, d->length, is_due ? 0.03 : patience())) {
            if (is_due)
                break;
            fail_missing(d);
        }
        size_t now_due = d->came < echo ? d->came : echo;
        if (now_due > d->echoed)
            echo_next(d, now_due - d->echoed);
    }
    note("the server has received %zu of the %zu bytes that were typed, and "
         "sent %zu back",
         d->came, d->length, d->echoed);
}

/* The server sends back what is still due, and the rest of the text, at most
 * `piece` bytes at a time, as soon as it comes. */
static void echo_rest(struct dialogue *d, size_t piece)
{
    if (d->came > d->echoed)
        echo_next(d, d->came - d->echoed);
    while (d->came < d->length) {
        if (!take_piece(d, piece, patience()))
            fail_missing(d);
        echo_next(d, d->came - d->echoed);
    }
    note("the server has received all %zu bytes, and sent them all back",
         d->length);
}

static void echo_text(struct peer *peer, struct program *client,
                      const char *text)
{
    struct dialogue d = dialogue(peer, client, text, strlen(text));
    echo_rest(&d, d.length);
}

/*
 * Echoes as lesson 01's server does: takes at most `piece` bytes, sends them
 * all back, and only then takes more. What comes must be `expected`, and then
 * the client must end the connection.
 */
static void echo_all(struct peer *peer, struct program *client,
                     const void *expected, size_t length, size_t piece)
{
    struct dialogue d = dialogue(peer, client, expected, length);
    echo_rest(&d, piece);
    usual_cause("After the end of input the client waits for the server to "
                "close first, which waits for the client to end its side; or "
                "it closes with a part of the echo unread; or it sends bytes "
                "that nobody has typed.");
    expect_end_of_file(peer);
    usual_cause(NULL);
    close_peer(peer);
}

/*
 * Echoes what comes, as far as the client lets it: until the client has ended
 * or closed. For clients that must break off on the way.
 */
static void echo_while_it_lasts(struct peer *peer, struct program *client)
{
    static char buffer[64 * KIB];
    double until = moment_in(patience());
    size_t count = 0;
    bool goes_on = true;

    while (goes_on && now() < until && !has_ended(client)) {
        ssize_t taken = receive_some(peer, buffer, sizeof buffer, 0.02);
        goes_on = taken >= 0;
        for (ssize_t done = 0; goes_on && done < taken;) {
            ssize_t sent = send_some(peer, buffer + done,
                                     (size_t)(taken - done));
            goes_on = sent >= 0 && now() < until && !has_ended(client);
            done += goes_on ? sent : 0;
        }
        count += taken > 0 ? (size_t)taken : 0;
    }
    note("the server received %zu bytes and sent them back, as long as the "
         "client lived",
         count);
}

static void set_send_buffer(struct peer *peer, int size)
{
    setsockopt(descriptor_of(peer), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

/* Exit status 0, and nothing more on standard output. */
static void expect_good_end(struct program *client)
{
    expect_output_end(client);
    expect_exit(client, 0);
}

/* Exit status 1, a line on standard error, and on standard output at most a
 * beginning of `echo`, of which the client may have got a part. */
static void expect_failure(struct program *client, const void *echo,
                           size_t length)
{
    expect_exit(client, 1);
    expect_complaint(client, "what failed and why");
    size_t printed;
    const char *output = standard_output(client, &printed);
    if (printed > length || memcmp(output, echo, printed) != 0)
        fail_difference("on the standard output of the client (it may be less, "
                        "but nothing else)",
                        echo, length, output, printed, END_OF_FILE);
}

/* Fails when the client connects once more: retries are for connecting. */
static void expect_no_second_connection(struct listener *listener)
{
    if (accept_client_within(listener, 0) != NULL)
        fail_test("Expected: one connection. Retries are for connecting; once "
                  "bytes have been sent, nobody knows which of them the server "
                  "has had.\n"
                  "The client connected a second time.");
}

/* A new file that holds these bytes; who asked for it removes it. */
static const char *temporary_file(const void *bytes, size_t length)
{
    char path[] = "/tmp/lesson-02-XXXXXX";
    int file = mkstemp(path);
    if (file < 0 || fchmod(file, 0644) < 0 ||
        write(file, bytes, length) != (ssize_t)length)
        skip_test("no file can be written in /tmp");
    close(file);
    return text_of("%s", path);
}

/* Starts CLIENT with words of the shell before and behind its name. The
 * harness gives a command of several words to a shell. */
static struct program *start_by_shell(const char *before, const char *behind,
                                      const char *const *arguments)
{
    const char *given = getenv("CLIENT");
    const char *words = text_of("%s", given != NULL ? given : "");
    const char *quote = access(words, F_OK) == 0 ? "'" : "";
    if (given != NULL)
        setenv("CLIENT",
               text_of("%s%s%s%s%s", before, quote, words, quote, behind), 1);
    struct program *client = start_client_with(
        &(struct start){.arguments = arguments});
    if (given != NULL)
        setenv("CLIENT", words, 1);
    return client;
}

/* ------------------------------------------------------------- command line */

#define NO_RANGE                                                               \
    "The number is not checked against its range after it was read."
#define NOT_WHOLE                                                              \
    "atoi and atof stop at the first character that they do not know, and do " \
    "not say so: \"1x\" is 1, \"x\" is 0. strtol and strtod say where they "   \
    "stopped; the program has to look whether that is the end of the text."
#define NO_DECIMAL                                                             \
    "strtod, and what other languages have in its place, also reads \"nan\", " \
    "\"inf\" and \"0x10\". No comparison holds for nan: it is neither below "  \
    "0 nor over it."

TEST(client, wrong_usage, .promise = PROMISE_USAGE, .cause = NOT_WHOLE,
     .read = READ_USAGE, .patient = true)
{
    struct listener *listener = listen_here();
    const char *port = text_of("%d", port_of_listener(listener));
    static const char address[] = "127.0.0.1";
    static const char counting[] = "Operands are not counted: argc - optind "
                                   "must be 2.";
    static const char unknown[] =
        "getopt returns '?' for an option that it does not know or that lacks "
        "its argument; the program has to end then.";
    const struct {
        const char *wrong;
        const char *cause;
        const char *arguments[8];
    } cases[] = {
        {"0 seconds: -t must be over 0", NO_RANGE, {"-t", "0", address, port}},
        {"0.0 seconds: -t must be over 0",
         NO_RANGE,
         {"-t", "0.0", address, port}},
        {"seconds below 0", NO_RANGE, {"-t", "-1", address, port}},
        {"fractional seconds below 0", NO_RANGE, {"-t", "-0.5", address, port}},
        {"seconds that are no number", NOT_WHOLE, {"-t", "x", address, port}},
        {"seconds with a letter behind",
         NOT_WHOLE,
         {"-t", "1x", address, port}},
        {"seconds with two points", NOT_WHOLE, {"-t", "1.5.2", address, port}},
        {"no digits at all for seconds", NOT_WHOLE, {"-t", "", address, port}},
        {"seconds that are not a number",
         NO_DECIMAL,
         {"-t", "nan", address, port}},
        {"seconds without end", NO_DECIMAL, {"-t", "inf", address, port}},
        {"seconds without end", NO_DECIMAL, {"-t", "Infinity", address, port}},
        {"hexadecimal seconds", NO_DECIMAL, {"-t", "0x10", address, port}},
        {"retries below 0", NO_RANGE, {"-r", "-1", address, port}},
        {"retries that are no whole number",
         NOT_WHOLE,
         {"-r", "1.5", address, port}},
        {"retries that are no number", NOT_WHOLE, {"-r", "x", address, port}},
        {"retries with a letter behind",
         NOT_WHOLE,
         {"-r", "1x", address, port}},
        {"no digits at all for retries", NOT_WHOLE, {"-r", "", address, port}},
        {"no operand", counting, {NULL}},
        {"one operand", counting, {address}},
        {"three operands", counting, {"-r", "0", address, port, "more"}},
        {"a port above 65535",
         NO_RANGE,
         {"-r", "0", "-t", "0.5", address, "65536"}},
        {"a port far above 65535, which is 7 in 32 bits",
         "The number was put into an int before it was compared with 65535, "
         "or strtol's ERANGE was not looked at.",
         {"-r", "0", "-t", "0.5", address, "4294967303"}},
        {"a port below 0", NO_RANGE, {"-r", "0", "--", address, "-7"}},
        {"a port that is no number",
         "getaddrinfo looks a port that is no number up in /etc/services, and "
         "atoi makes it 0; the contract wants a number.",
         {"-r", "0", "-t", "0.5", address, "x"}},
        {"a port with a letter behind",
         NOT_WHOLE,
         {"-r", "0", "-t", "0.5", address, text_of("%sx", port)}},
        {"an empty port",
         "An empty text holds no number; atoi makes it 0.",
         {"-r", "0", "-t", "0.5", address, ""}},
        {"an unknown option", unknown, {"-z", address, port}},
        {"an option without its argument", unknown, {"-t"}},
        {"an option without its argument", unknown, {"-r"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        note("wrong usage: %s", cases[i].wrong);
        usual_cause(cases[i].cause);
        struct program *client = start_client_with(&(struct start){
            .arguments = cases[i].arguments, .empty_input = true});
        expect_exit(client, 2);
        expect_complaint(client, "how it is to be called");
    }
}

TEST(client, right_usage, .promise = PROMISE_OPTIONS,
     .cause = "Arguments are picked apart by hand instead of with getopt, "
              "which also takes \"-t2\" for \"-t 2\" and \"--\" as the end of "
              "the options; or seconds are read as a whole number; or so many "
              "milliseconds do not fit into the type that a timer takes, and "
              "it is over at once.",
     .read = READ_USAGE)
{
    static const char *const cases[][6] = {
        {NULL},
        {"-t", "0.75"},
        {"-t", "2.0", "-r", "0"},
        {"-r", "12", "-t", "30"},
        {"-t2.5", "-r0"},
        {"-r", "1", "--"},
        {"-t", "3000000"},
    };
    struct listener *listener = listen_here();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const *words = cases[i];
        struct program *client = start_client_to(
            listener, words[0], words[1], words[2], words[3], words[4], NULL);
        struct peer *peer = accept_client(listener);
        type_and_end(client, "hello\n", 6);
        echo_all(peer, client, "hello\n", 6, 4096);
        expect_output_text(client, "hello\n");
        expect_good_end(client);
    }
}

TEST(client, smallest_and_largest_port,
     .promise = "A usage line and exit status 2 are the answer to a port that "
                "is no number from 0 to 65535: these two are such numbers. "
                "That nobody listens there is a failure at run time.",
     .cause = "The bounds are one off: < where <= is meant, or 0 is taken for "
              "the sign that no number was there.",
     .read = READ_USAGE)
{
    reserve_port(65535);
    static const char *const ports[] = {"0", "65535"};
    for (int i = 0; i < 2; i++) {
        note("port %s, where nobody listens", ports[i]);
        struct program *client = start_client("-t", "2", "-r", "0", "127.0.0.1",
                                              ports[i], NULL);
        type_and_end(client, "hello\n", 6);
        expect_failure(client, "", 0);
    }
}

/* -------------------------------------------------------------------- bytes */

TEST(client, each_line_comes_back_before_the_next,
     .promise = PROMISE_BYTES "; " PROMISE_FLUSH ". " PROMISE_END,
     .cause = "Output waits in a buffer: towards a pipe, stdio does not write "
              "at each newline, only fflush(stdout) does. Or the program "
              "reads its input with fread, which waits until its buffer is "
              "full, or does not send a line before it has the next one.",
     .read = READ_OUTPUT)
{
    struct listener *listener = listen_here();
    struct program *client = start_client_to(listener, "-t", "20", NULL);
    struct peer *peer = accept_client(listener);
    const char *lines[] = {"hello\n", "\n", "a second line, with more words\n",
                           text_of("%1200d\n", 7), "x\n"};

    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        type_text(client, lines[i]);
        echo_text(peer, client, lines[i]);
        expect_output_text(client, lines[i]);
    }
    usual_cause("Standard output is written line by line (setlinebuf(), "
                "line_buffering): what came back has no newline yet, and waits "
                "in a buffer. Flush it after each recv().");
    static const char halves[] = "half a line, and the rest\n";
    type_bytes(client, halves, 11);
    struct dialogue d = dialogue(peer, client, halves, sizeof halves - 1);
    while (d.came < 11 && take_piece(&d, 11 - d.came, 0.5))
        echo_next(&d, d.came - d.echoed);
    note("a line has been typed as far as its comma; %zu bytes of it have "
         "come, and been sent back",
         d.came);
    size_t half = d.came; /* the client may wait for the rest of the line */
    expect_output(client, halves, half);
    type_text(client, halves + 11);
    echo_rest(&d, d.length);
    expect_output(client, halves + half, d.length - half);
    usual_cause("A last line without a newline is held back, thrown away, or "
                "gets a newline that was not in the input.");
    type_text(client, "no newline at the end");
    end_input(client);
    echo_text(peer, client, "no newline at the end");
    expect_output_text(client, "no newline at the end");
    usual_cause("After the end of input the client waits for the server to "
                "close first; but a server closes when its client has ended "
                "its side, so both wait for ever.");
    expect_end_of_file(peer);
    close_peer(peer);
    expect_good_end(client);
}

TEST(client, input_as_it_is, .promise = PROMISE_BYTES ". " PROMISE_END,
     .cause = "Bytes are treated as a C string (strlen, fgets, printf, fputs "
              "stop at a NUL or take a % for a format), as text in some "
              "encoding, or as lines that all end in a newline.",
     .read = READ_ECHO)
{
    unsigned char every[768];
    for (size_t i = 0; i < sizeof every; i++)
        every[i] = (unsigned char)(i < 256 ? i : i < 512 ? 511 - i : i / 2);
#define BYTES(text) text, sizeof(text) - 1
    const struct {
        const char *what;
        const void *bytes;
        size_t length;
    } inputs[] = {
        {"one letter, no newline", BYTES("x")},
        {"one newline", BYTES("\n")},
        {"lines with \\r\\n, and none at the end", BYTES("a\r\nb\r\n\r\nc")},
        {"what printf takes for a format", BYTES("100%\n%s%s%s%n%d\n")},
        {"three NULs", BYTES("\0\0\0")},
        {"NULs inside and at the end", BYTES("ab\0cd\n\0\nef\0")},
        {"UTF-8",
         BYTES("gr\xc3\xbc\xc3\x9f dich \xe2\x82\xac\xf0\x9f\x98\x80\n")},
        {"bytes that are no UTF-8, and control characters",
         BYTES("caf\xe9\xff\n\xff\xff\n\x1a\x04\x03 after\n")},
        {"all 256 values", every, sizeof every},
        {"many short lines at once", letters(9000, 3, false), 9000},
        {"70,000 bytes in one line", letters(70000, 4, true), 70000},
        {"100,000 bytes of all values", pattern(100000, 5), 100000},
    };
#undef BYTES

    struct listener *listener = listen_here();
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        const void *bytes = inputs[i].bytes;
        size_t length = inputs[i].length;
        note("input: %s", inputs[i].what);
        struct program *client = start_client_to(listener, "-t", "20", NULL);
        struct peer *peer = accept_client(listener);
        type_and_end(client, bytes, length);
        echo_all(peer, client, bytes, length, 64 * KIB);
        expect_output(client, bytes, length);
        expect_good_end(client);
    }
}

TEST(client, empty_input, .promise = PROMISE_END,
     .cause = "No input is taken for a failure, or the client waits for an "
              "echo of nothing, or for the server to close first.",
     .read = READ_ECHO)
{
    struct listener *listener = listen_here();
    const char *arguments[] = {"127.0.0.1",
                               text_of("%d", port_of_listener(listener)), NULL};
    struct program *client = start_client_with(
        &(struct start){.arguments = arguments, .empty_input = true});
    struct peer *peer = accept_client(listener);
    expect_end_of_file(peer);
    close_peer(peer);
    expect_good_end(client);

    note("the same with an input that ends after 50 ms");
    client = start_client_to(listener, NULL, NULL);
    peer = accept_client(listener);
    expect_silence(peer, 0.05);
    end_input(client);
    expect_end_of_file(peer);
    close_peer(peer);
    expect_good_end(client);
}

TEST(client, input_from_a_file,
     .promise = "The client sends its standard input as it is",
     .cause = "A file is always ready to be read; epoll refuses it (EPERM), "
              "and so do event loops that expect a pipe or a terminal. Or the "
              "program looks whether its input is a terminal.",
     .read = READ_ECHO)
{
    const size_t length = 100 * KIB;
    const char *bytes = letters(length, 5, false);
    const char *path = temporary_file(bytes, length);
    struct listener *listener = listen_here();
    const char *arguments[] = {"-t", "20", "127.0.0.1",
                               text_of("%d", port_of_listener(listener)), NULL};
    struct program *client = start_by_shell("", text_of(" <%s", path),
                                            arguments);
    struct peer *peer = accept_client_within(listener, patience());
    unlink(path);
    if (peer == NULL)
        fail_test("Expected: the client connects.\nNo connection came in %.1f "
                  "s; it %s.",
                  patience(), state_of(client));
    echo_all(peer, client, bytes, length, 64 * KIB);
    expect_output(client, bytes, length);
    expect_good_end(client);
}

TEST(client, prints_what_comes_back,
     .promise = "The client [...] prints exactly the bytes that come back",
     .cause = "The client prints its own input, or a buffer that still holds "
              "it, instead of what it received.",
     .read = READ_ECHO)
{
    struct listener *listener = listen_here();
    struct program *client = start_client_to(listener, "-t", "20", NULL);
    struct peer *peer = accept_client(listener);
    static const char line[] = "what I typed\n";
    static const char answer[] = "OTHER\0W\xf6RDS!\n";
    _Static_assert(sizeof answer == sizeof line, "as many bytes");
    type_text(client, line);
    struct dialogue d = dialogue(peer, client, line, sizeof line - 1);
    note("the server answers with as many other bytes");
    while (d.came < d.length) {
        if (!take_piece(&d, d.length, patience()))
            fail_missing(&d);
        send_bytes(peer, answer + d.echoed, d.came - d.echoed);
        d.echoed = d.came;
    }
    expect_output(client, answer, sizeof answer - 1);
    end_input(client);
    expect_end_of_file(peer);
    close_peer(peer);
    expect_good_end(client);
}

TEST(client, ten_mebibytes, .promise = PROMISE_BYTES ". " PROMISE_END,
     .cause = "The client sends all of its input before it reads. A server "
              "that echoes stops reading while nobody takes what it sends; so "
              "each waits for the other. Who sends more than fits into the "
              "kernel's buffers must read meanwhile.",
     .read = READ_ECHO)
{
    size_t length = hostile_seed() == 0 ? 10 * MIB : 512 * KIB;
    const char *bytes = letters(length, 10, true);
    struct listener *listener = listen_here();
    set_receive_buffer(listener, 64 * KIB);
    struct program *client = start_client_to(listener, "-t", "20", NULL);
    struct peer *peer = accept_client(listener);
    set_send_buffer(peer, 64 * KIB);
    type_and_end(client, bytes, length);
    echo_all(peer, client, bytes, length, 64 * KIB);
    expect_output(client, bytes, length);
    expect_good_end(client);
}

TEST(client, a_server_with_tiny_buffers,
     .promise = PROMISE_BYTES ". " PROMISE_END,
     .cause = "send may take fewer bytes than it was given; the rest has to "
              "be sent again from where it stopped, no byte twice and none "
              "left out.",
     .read = READ_ECHO)
{
    size_t length = 200 * KIB;
    const char *bytes = letters(length, 11, false);
    struct listener *listener = listen_here();
    set_receive_buffer(listener, 2 * KIB);
    struct program *client = start_client_to(listener, "-t", "20", NULL);
    struct peer *peer = accept_client(listener);
    set_send_buffer(peer, 2 * KIB);
    type_and_end(client, bytes, length);
    echo_all(peer, client, bytes, length, 700);
    expect_output(client, bytes, length);
    expect_good_end(client);
}

TEST(client, an_echo_in_pieces,
     .promise = "The client [...] prints exactly the bytes that come back",
     .cause = "One recv is taken for one echo. TCP knows no messages: recv "
              "returns what is there, one byte or many; the client has to "
              "call it until as many bytes have come as it sent.",
     .read = READ_PIECES)
{
    static const char line[] = "a line that comes back in pieces\n";
    const size_t length = sizeof line - 1;
    struct listener *listener = listen_here();
    struct program *client = start_client_to(listener, "-t", "20", NULL);
    struct peer *peer = accept_client(listener);

    note("the echo comes one byte at a time");
    type_text(client, line);
    struct dialogue d = dialogue(peer, client, line, length);
    do {
        take_text(&d, d.echoed);
        while (d.echoed < d.came) {
            echo_next(&d, 1);
            let_pass(0.002);
        }
    } while (d.came < d.length);
    expect_output_text(client, line);

    note("half of the echo comes, and 80 ms later the rest");
    type_text(client, line);
    d = dialogue(peer, client, line, length);
    take_text(&d, length / 2);
    let_pass(0.08);
    expect_running(client);
    echo_rest(&d, length);
    expect_output_text(client, line);

    note("the input ends, and the last byte of its echo comes 50 ms after the "
         "others");
    usual_cause("The end of input ends the program at once, although a part of "
                "the echo is still due.");
    type_and_end(client, line, length);
    d = dialogue(peer, client, line, length);
    take_text(&d, length - 1);
    let_pass(0.05);
    expect_running(client);
    echo_rest(&d, length);
    expect_output_text(client, line);
    expect_end_of_file(peer);
    close_peer(peer);
    expect_good_end(client);
}

TEST(client, input_in_pieces, .promise = PROMISE_BYTES,
     .cause = "A read that returns less than a line or a full buffer is taken "
              "for the end of the input, or the rest of it is lost.",
     .read = READ_ECHO)
{
    static const char text[] = "typed in pieces\nwith\0a NUL\n\nand an end";
    static const size_t pieces[] = {1, 1, 5, 9, 2, 8, 1, 1, 10};
    size_t length = sizeof text - 1;
    struct listener *listener = listen_here();
    struct program *client = start_client_to(listener, "-t", "20", NULL);
    struct peer *peer = accept_client(listener);
    size_t typed = 0;
    for (size_t i = 0; typed < length; i++) {
        size_t piece = i < sizeof pieces / sizeof *pieces ? pieces[i] : 1;
        if (piece > length - typed)
            piece = length - typed;
        type_bytes(client, text + typed, piece);
        typed += piece;
        let_pass(0.004);
    }
    end_input(client);
    echo_all(peer, client, text, length, 3);
    expect_output(client, text, length);
    expect_good_end(client);
}

TEST(client, the_end_of_input_while_an_echo_is_due, .promise = PROMISE_END,
     .cause = "The end of input ends the program at once, although an echo is "
              "still due; what comes back then is lost.",
     .read = READ_ECHO)
{
    static const char line[] = "last words\n";
    struct listener *listener = listen_here();
    struct program *client = start_client_to(listener, "-t", "20", NULL);
    struct peer *peer = accept_client(listener);
    type_and_end(client, line, sizeof line - 1);
    struct dialogue d = dialogue(peer, client, line, sizeof line - 1);
    take_text(&d, 0);
    note("the server takes 150 ms for its answer");
    bool half_closed = false;
    if (d.came == d.length) {
        char more;
        ssize_t count = receive_some(peer, &more, 1, 0.15);
        if (count > 0)
            fail_input(&d, &more, 1);
        half_closed = count < 0;
    } else {
        let_pass(0.15);
    }
    expect_running(client);
    echo_rest(&d, d.length);
    if (half_closed) {
        /* A client that ends its side early sees the server's end right
         * behind the last byte that was due. */
        note("the client had ended its side; the server has sent all, and "
             "closes");
        half_close(peer);
        usual_cause("The server's end, behind the last byte that was due, is "
                    "taken for a failure, although all input has come back.");
    }
    expect_output_text(client, line);
    if (!half_closed)
        expect_end_of_file(peer);
    close_peer(peer);
    expect_good_end(client);
}

/* ------------------------------------------------ a server that breaks off */

TEST(client, server_ends_while_an_echo_is_due,
     .promise = PROMISE_DUE " " PROMISE_FAILURE,
     .cause = "recv returning 0 (the server has closed) is taken for the end "
              "of the echo, without counting whether all of it has come; or "
              "-1 is not looked at.",
     .read = READ_ECHO)
{
    static const char line[] = "one two three\n";
    const size_t length = sizeof line - 1;
    enum way { CLOSES, HALF_CLOSES, RESETS };
    static const struct {
        const char *what;
        size_t echoed;
        enum way way;
        bool unread; /* the server does not even take the line */
        bool end_of_input;
    } cases[] = {
        {"closes without an answer", 0, CLOSES, false, false},
        {"closes without an answer, after the end of input", 0, CLOSES, false,
         true},
        {"closes without reading, which resets", 0, CLOSES, true, false},
        {"closes in mid-echo", 5, CLOSES, false, false},
        {"closes in mid-echo, after the end of input", 5, CLOSES, false, true},
        {"closes before the last byte", sizeof line - 2, CLOSES, false, false},
        {"closes before the last byte, after the end of input", sizeof line - 2,
         CLOSES, false, true},
        {"ends its side alone (shutdown), without an answer", 0, HALF_CLOSES,
         false, false},
        {"resets without an answer", 0, RESETS, false, false},
        {"resets in mid-echo", 5, RESETS, false, false},
        {"resets without an answer, after the end of input", 0, RESETS, false,
         true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        note("the server %s", cases[i].what);
        struct listener *listener = listen_here();
        struct program *client = start_client_to(listener, "-t", "2", "-r", "3",
                                                 NULL);
        struct peer *peer = accept_client(listener);
        if (cases[i].end_of_input)
            type_and_end(client, line, length);
        else
            type_text(client, line);
        if (cases[i].unread) {
            double until = moment_in(patience());
            while (bytes_waiting(peer) == 0 && now() < until)
                let_pass(0.001);
        } else {
            struct dialogue d = dialogue(peer, client, line, length);
            take_text(&d, cases[i].echoed);
        }
        if (cases[i].way == CLOSES)
            close_peer(peer);
        else if (cases[i].way == RESETS)
            reset_peer(peer);
        else
            half_close(peer);
        expect_failure(client, line, cases[i].echoed);
        expect_no_second_connection(listener);
        close_listener(listener);
    }
}

TEST(client, server_ends_in_the_middle_of_much,
     .promise = PROMISE_DUE " " PROMISE_SIGPIPE,
     .cause = "send to a connection that the other side has reset raises "
              "SIGPIPE, which ends a program that does not ignore it; or the "
              "failure of send is not looked at; or the server's end in "
              "mid-echo is taken for a normal end.",
     .read = READ_ECHO)
{
    static const char *const ways[] = {"closes, while the client sends",
                                       "resets, while the client sends",
                                       "ends its side, and resets 20 ms later"};
    const size_t length = 4 * MIB;
    const char *bytes = letters(length, 20, false);

    for (int way = 0; way < 3; way++) {
        note("the server echoes 20,000 bytes, and then %s", ways[way]);
        struct listener *listener = listen_here();
        struct program *client = start_client_to(listener, "-t", "2", "-r", "3",
                                                 NULL);
        struct peer *peer = accept_client(listener);
        type_and_end(client, bytes, length);
        struct dialogue d = dialogue(peer, client, bytes, length);
        while (d.echoed < 20000) {
            if (!take_piece(&d, 1000, patience()))
                fail_missing(&d);
            echo_next(&d, d.came - d.echoed);
        }
        if (way == 0) {
            close_peer(peer);
        } else if (way == 1) {
            reset_peer(peer);
        } else {
            half_close(peer);
            let_pass(0.02);
            reset_peer(peer);
        }
        expect_failure(client, bytes, d.echoed);
        expect_no_second_connection(listener);
        close_listener(listener);
    }
}

TEST(client, server_ends_when_nothing_is_due,
     .promise = PROMISE_NOT_DUE " " PROMISE_SIGPIPE,
     .cause = "The server's end is not noticed, or the line that is typed "
              "after it raises SIGPIPE, or is dropped without a word and "
              "with exit status 0.",
     .read = READ_ECHO)
{
    static const char *const ways[] = {
        "closes", "ends its side alone (shutdown)", "resets"};
    for (int i = 0; i < 6; i++) {
        int way = i % 3;
        bool next_line = i < 3;
        note("the server echoes a line and %s; then %s", ways[way],
             next_line ? "more lines are typed" : "the input ends");
        struct listener *listener = listen_here();
        struct program *client = start_client_to(listener, "-t", "1", "-r", "3",
                                                 NULL);
        struct peer *peer = accept_client(listener);
        type_text(client, "first\n");
        echo_text(peer, client, "first\n");
        expect_output_text(client, "first\n");
        if (way == 0)
            close_peer(peer);
        else if (way == 1)
            half_close(peer);
        else
            reset_peer(peer);
        let_pass(0.03);
        if (next_line) {
            type_and_end(client, "second\nthird\nfourth\n", 20);
            expect_failure(client, "first\n", 6);
        } else {
            end_input(client);
            int status = exit_status(client);
            if (status != 0 && status != 1)
                fail_test("Expected: the client ends with exit status 0 (all "
                          "its input has come back) or 1 (it noticed that the "
                          "server has gone).\n"
                          "It ended with exit status %d.",
                          status);
        }
        expect_output_end(client);
        expect_no_second_connection(listener);
        close_listener(listener);
    }
}

/* ------------------------------------------------------------------- limits */

/* What one round of a measurement has found. */
struct outcome {
    bool good;
    const char *text;
    bool unsure; /* the test itself was held up: the round does not count */
};

/* Fails when ROUNDS rounds were bad. `expected`: the promise in numbers. */
static void measure(struct outcome (*round)(void), const char *expected)
{
    const char *found[ROUNDS];
    int unsure = 0;
    for (int bad = 0; bad < ROUNDS;) {
        struct outcome outcome = round();
        if (outcome.good)
            return;
        note("that is not as promised; once more, for this machine may have "
             "been slow");
        if (!outcome.unsure)
            found[bad++] = outcome.text;
        else if (++unsure == 4 * ROUNDS)
            skip_test("this machine is too busy to measure times");
    }
    fail_test("Expected: %s\nMeasured three times:\n1. %s\n2. %s\n3. %s",
              expected, found[0], found[1], found[2]);
}

/* Waits until the program has ended, at most PATIENCE; how long that took. */
static double time_to_end(struct program *program)
{
    double from = now();
    while (!has_ended(program) && now() - from < patience())
        wait_on(-1, 0, moment_in(0.05));
    return now() - from;
}

/* Two clients wait for an echo at the same time, one with -t 0.2 and one with
 * -t 1. Returns how many seconds the first ended before the second; a busy
 * machine holds up both. */
static double how_much_earlier(void)
{
    struct program *clients[2];
    static const char *const limits[] = {"0.2", "1"};
    for (int i = 0; i < 2; i++) {
        struct listener *listener = listen_here();
        clients[i] = start_client_to(listener, "-t", limits[i], NULL);
        accept_client(listener);
    }
    for (int i = 0; i < 2; i++)
        type_text(clients[i], "x\n");
    for (int i = 0; i < 2; i++)
        expect_exit(clients[i], 1);
    return clients[1]->ended_at - clients[0]->ended_at;
}

static struct outcome silent_server_round(void)
{
    static const struct {
        const char *what;
        size_t echoed;
        bool end_of_input;
    } cases[] = {
        {"a silent server", 0, false},
        {"a silent server, after the end of input", 0, true},
        {"a server that is silent after half of the echo", 7, false},
    };
    enum { COUNT = 3 };
    static const char line[] = "anybody there?\n";
    struct program *clients[COUNT];
    struct listener *listeners[COUNT];
    double typed_at[COUNT];
    double took = 0;

    for (int i = 0; i < COUNT; i++) {
        note("%s, with -t 0.2", cases[i].what);
        listeners[i] = listen_here();
        clients[i] = start_client_to(listeners[i], "-t", "0.2", "-r", "9",
                                     NULL);
        struct peer *peer = accept_client(listeners[i]);
        type_text(clients[i], line);
        if (cases[i].end_of_input)
            end_input(clients[i]);
        struct dialogue d = dialogue(peer, clients[i], line, sizeof line - 1);
        take_text(&d, cases[i].echoed);
        typed_at[i] = now();
    }
    for (int i = 0; i < COUNT; i++) {
        time_to_end(clients[i]);
        double waited = now() - typed_at[i];
        if (waited > took)
            took = waited;
        note("now the one with %s", cases[i].what);
        expect_failure(clients[i], line, cases[i].echoed);
        expect_no_second_connection(listeners[i]);
        close_listener(listeners[i]);
    }
    /* Calls that are interrupted now and then may each begin their wait
     * anew; then the hostile network makes it longer. */
    if (took < (hostile_seed() == 0 ? 0.9 : patience()))
        return (struct outcome){.good = true};
    double earlier = how_much_earlier();
    return (struct outcome){
        .good = earlier > 0.4,
        .text = text_of(
            "-t 0.2 took %.2f s, and a client with -t 0.2 ended %.2f s "
            "before one with -t 1",
            took, earlier)};
}

TEST(client, silent_server, .promise = PROMISE_DUE " " PROMISE_SECONDS,
     .cause = "recv waits for ever when no limit is set (SO_RCVTIMEO, or poll "
              "before it). Or the fraction of SECONDS is lost or rounded up: "
              "0.2 s is 0 s and 200,000 us in a struct timeval.",
     .read = READ_DEADLINE)
{
    measure(silent_server_round,
            "with -t 0.2, and an echo that does not come, the client ends "
            "after 0.2 s (0.9 s are granted), and well before one with -t 1.");
}

TEST(client, server_that_takes_nothing_more, .promise = PROMISE_SECONDS,
     .cause = "send waits as long as the server does not read and the "
              "kernel's buffers are full; only SO_SNDTIMEO, or poll for "
              "POLLOUT before it, ends that. Or, in a loop, each send that "
              "takes nothing begins a new wait.",
     .read = READ_DEADLINE, .patient = true)
{
    const size_t length = 8 * MIB;
    const char *bytes = letters(length, 21, false);
    struct listener *listener = listen_here();
    set_receive_buffer(listener, 4 * KIB);
    struct program *client = start_client_to(listener, "-t", "0.3", "-r", "9",
                                             NULL);
    accept_client(listener);
    note("the server reads nothing");
    type_and_end(client, bytes, length);
    expect_failure(client, "", 0);
    expect_no_second_connection(listener);
}

static struct outcome late_answer_round(void)
{
    struct listener *listener = listen_here();
    struct program *client = start_client_to(listener, "-t", "0.9", NULL);
    struct peer *peer = accept_client(listener);
    static const char line[] = "take your time\n";
    const size_t length = sizeof line - 1;
    type_text(client, line);
    struct dialogue d = dialogue(peer, client, line, length);
    take_text(&d, 0);
    double asked = now();
    while (now() - asked < 0.45 && !has_ended(client))
        wait_on(-1, 0, asked + 0.45);
    size_t printed = 0;
    if (!has_ended(client)) {
        note("the server answers after 0.45 s");
        send_some(peer, line, d.came);
        d.echoed = d.came;
        double until = moment_in(patience());
        while (printed < d.came && now() < until && !has_ended(client)) {
            wait_on(-1, 0, moment_in(0.02));
            standard_output(client, &printed);
        }
    }
    if (has_ended(client))
        return (struct outcome){
            .good = false,
            .text = text_of("%.2f s after its line had come, the client %s",
                            now() - asked, state_of(client))};
    echo_rest(&d, length);
    expect_output_text(client, line);
    end_input(client);
    expect_end_of_file(peer);
    close_peer(peer);
    expect_good_end(client);
    return (struct outcome){.good = true};
}

TEST(client, answer_within_the_limit, .promise = PROMISE_SECONDS,
     .cause = "The fraction of SECONDS is lost: atoi, or a conversion to int "
              "before the multiplication, makes 0.9 to 0.",
     .read = READ_DEADLINE, .patient = true)
{
    measure(late_answer_round,
            "with -t 0.9, an echo that comes after 0.45 s is printed.");
}

static struct outcome slow_person_round(void)
{
    struct listener *listener = listen_here();
    struct program *client = start_client_to(listener, "-t", "0.4", NULL);
    struct peer *peer = accept_client(listener);
    note("nobody types for 450 ms");
    let_pass(0.45);
    for (int i = 0; i < 3; i++) {
        if (has_ended(client))
            break;
        type_text(client, "a line\n");
        struct dialogue d = dialogue(peer, client, "a line\n", 7);
        take_text(&d, 0);
        let_pass(0.08);
        if (has_ended(client))
            break;
        note("the answer comes after 80 ms");
        echo_rest(&d, 7);
        expect_output_text(client, "a line\n");
    }
    if (has_ended(client))
        return (struct outcome){
            .good = false,
            .text = text_of("nobody waited for more than 0.1 s for an echo, "
                            "and yet the client %s",
                            state_of(client))};
    end_input(client);
    expect_end_of_file(peer);
    close_peer(peer);
    expect_good_end(client);
    return (struct outcome){.good = true};
}

TEST(client, time_that_does_not_count,
     .promise = "SECONDS also bounds the wait for an echo that is due",
     .cause = "The limit also runs while no echo is due and the client waits "
              "for its input, or it is one limit for the whole conversation "
              "(alarm).",
     .read = READ_DEADLINE, .patient = true, .slow = true)
{
    measure(slow_person_round,
            "with -t 0.4, a client that nobody types to for 0.45 s goes on, "
            "and so does one whose server needs 0.08 s for each of three "
            "answers.");
}

/* ------------------------------------------------------ attempts to connect */

/* An attempt to connect, as seen from outside: a socket in SYN_SENT. */
struct attempt {
    double began, ended; /* on the clock of now() */
    double last_seen;    /* it did not end before */
    unsigned port;       /* the client's own */
    bool open;
};

enum { MOST_ATTEMPTS = 64 };

struct attempts {
    size_t count;
    struct attempt list[MOST_ATTEMPTS];
    double longest_gap; /* between two looks: how precise the times are */
};

/* Takes one look at the attempts to connect to `port` of any address. */
static void look_at_attempts(struct attempts *attempts, int port)
{
    unsigned ports[MOST_ATTEMPTS];
    double before = now();
    size_t count = pending_connects(port, ports, MOST_ATTEMPTS);
    double time = now();

    for (size_t i = 0; i < attempts->count; i++) {
        struct attempt *each = &attempts->list[i];
        bool there = false;
        for (size_t j = 0; j < count; j++) {
            if (each->open && ports[j] == each->port) {
                there = true;
                each->last_seen = before;
                ports[j] = 0;
            }
        }
        if (each->open && !there) {
            each->open = false;
            each->ended = time;
        }
    }
    for (size_t j = 0; j < count; j++) {
        if (ports[j] != 0 && attempts->count < MOST_ATTEMPTS)
            attempts->list[attempts->count++] = (struct attempt){
                time, time, before, ports[j], true};
    }
}

/* Watches until the program has ended, or for `seconds`. */
static struct attempts watch_connects(struct listener *listener,
                                      struct program *program, double seconds)
{
    struct attempts attempts = {0};
    double until = moment_in(seconds);
    double last = now();
    do {
        look_at_attempts(&attempts, port_of_listener(listener));
        double time = now();
        if (time - last > attempts.longest_gap)
            attempts.longest_gap = time - last;
        last = time;
        /* A look costs the kernel up to 3 ms, for it goes through the table of
         * all connections. */
        wait_on(-1, 0, moment_in(0.016));
    } while (!has_ended(program) && now() < until);
    look_at_attempts(&attempts, port_of_listener(listener));
    return attempts;
}

/* "0.200 s, pause 0.150 s, 0.201 s" */
static const char *story_of(const struct attempts *attempts)
{
    const char *text = "";
    for (size_t i = 0; i < attempts->count; i++) {
        const struct attempt *each = &attempts->list[i];
        const char *before = "";
        if (i > 0)
            before = text_of(", pause %.3f s, ",
                             each->began - attempts->list[i - 1].ended);
        text = text_of("%s%sattempt %.3f s%s", text, before,
                       each->ended - each->began,
                       each->open ? " and still going on" : "");
    }
    return attempts->count > 0 ? text : "no attempt was seen";
}

/*
 * Runs the client against a listener that never answers. Judges the number of
 * attempts at once, for that does not depend on time; in the outcome, how long
 * each attempt and each pause took.
 */
static struct outcome hanging_round(const char *seconds, const char *retries,
                                    double limit, size_t expected)
{
    struct listener *listener = listen_but_never_answer();
    struct program *client = retries != NULL
                                 ? start_client_to(listener, "-t", seconds,
                                                   "-r", retries, NULL)
                                 : start_client_to(listener, "-t", seconds,
                                                   NULL);
    type_and_end(client, "hello\n", 6);
    struct attempts attempts = watch_connects(
        listener, client, 2 * patience() + (double)expected * (limit + 1));
    const char *story = story_of(&attempts);
    note("seen: %s", story);
    if (!has_ended(client))
        fail_test("Expected: after %zu attempts of %s s each, the client "
                  "gives up.\nIt still runs; seen: %s.",
                  expected, seconds, story);
    expect_failure(client, "", 0);
    close_listener(listener);

    bool fine = true;
    for (size_t i = 0; i < attempts.count; i++) {
        double took = attempts.list[i].ended - attempts.list[i].began;
        if (took > limit + 0.15) {
            fine = false;
            usual_cause("A blocking connect waits as long as the kernel likes, "
                        "up to two minutes; the limit needs a non-blocking "
                        "connect and poll, or SO_SNDTIMEO. Or the fraction of "
                        "SECONDS is lost, or the socket of an attempt that has "
                        "failed is not closed.");
        }
        if (i == 0)
            continue;
        const struct attempt *before = &attempts.list[i - 1];
        double pause = attempts.list[i].began - before->ended;

        /* A slow machine makes pauses longer, never shorter. So one that is
         * too short is enough, also where pauses are random and most of them
         * are good. */
        double most = attempts.list[i].began - before->last_seen;
        if (most < 0.1 - 0.01 && before->ended - before->began < limit + 0.15) {
            usual_cause("There is no pause, or a random one from 0 on (\"full "
                        "jitter\"): a part of it has to be fixed, at least "
                        "0.1 s.");
            fail_test("Expected: every pause is 0.1 to 1 s.\nPause %zu was "
                      "%.3f s at most; seen: %s.",
                      i, most, story);
        }
        if (pause < 0.1 - 0.02 || pause > (i == 1 ? 0.5 : 1) + 0.1) {
            fine = false;
            usual_cause("There is no pause, or its bounds are others. A pause "
                        "that doubles each time (0.1, 0.2, 0.4, 0.8, 1.6 ...) "
                        "needs an upper bound, and a random part that is added "
                        "behind the bound may exceed it.");
        }
    }
    bool unsure = attempts.longest_gap > 0.05;
    if (attempts.count != expected) {
        fine = false;
        usual_cause("RETRIES is how many attempts come after the first; -r 0 "
                    "is one attempt. A connect that timed out may succeed "
                    "later, and is retried. An attempt that lasts less than a "
                    "few milliseconds, although nothing answers, is not seen: "
                    "then the fraction of SECONDS is lost, and 0.2 is 0.");
        if (!unsure)
            fail_test("Expected: %zu attempt%s to connect (RETRIES + 1).\n"
                      "Seen: %zu (%s).",
                      expected, expected == 1 ? "" : "s", attempts.count,
                      story);
    }
    return (struct outcome){fine, story, unsure};
}

static struct outcome two_attempts(void)
{
    return hanging_round("0.2", "1", 0.2, 2);
}

TEST(client, connect_that_hangs, .promise = PROMISE_ATTEMPT " " PROMISE_RETRY,
     .cause = "A blocking connect waits as long as the kernel likes, more "
              "than two minutes; the limit needs a non-blocking connect and "
              "poll. Or the attempts are counted wrongly: RETRIES is how many "
              "come after the first.",
     .read = READ_CONNECT, .patient = true, .slow = true)
{
    measure(two_attempts,
            "with -t 0.2 -r 1, two attempts of at most 0.2 s each (0.15 s "
            "more are granted), with a pause of 0.1 to 0.5 s between.");
}

static struct outcome one_attempt(void)
{
    return hanging_round("0.3", "0", 0.3, 1);
}

TEST(client, one_attempt_alone, .promise = PROMISE_ATTEMPT " " PROMISE_ONE,
     .cause = "-r 0 is taken for \"no number was given\", or the loop tries "
              "once more than it should.",
     .read = READ_RETRY, .patient = true)
{
    measure(one_attempt, "with -t 0.3 -r 0, one attempt of at most 0.3 s.");
}

static struct outcome default_retries_round(void)
{
    return hanging_round("0.2", NULL, 0.2, 4);
}

TEST(client, default_retries, .promise = PROMISE_DEFAULTS " " PROMISE_RETRY,
     .cause = "The default is not 3 retries, which is 4 attempts.",
     .read = READ_RETRY, .patient = true, .slow = true)
{
    measure(default_retries_round,
            "with -t 0.2, four attempts of at most 0.2 s each, pauses of 0.1 "
            "to 1 s, the first at most 0.5 s.");
}

static struct outcome long_pauses_round(void)
{
    return hanging_round("0.2", "5", 0.2, 6);
}

TEST(client, pauses_do_not_grow_without_end, .promise = PROMISE_RETRY,
     .cause = "A pause that doubles each time has no upper bound: 0.1, 0.2, "
              "0.4, 0.8, 1.6 ... Or the random part is added after the bound "
              "was applied.",
     .read = READ_RETRY, .patient = true, .slow = true)
{
    measure(long_pauses_round,
            "with -t 0.2 -r 5, six attempts of at most 0.2 s each, pauses "
            "of 0.1 to 1 s, the first at most 0.5 s.");
}

/*
 * Files that a client shall see with another content than this machine's: it
 * is started in a mount namespace of its own, with unshare(1) and mount(8).
 */
struct view {
    struct {
        const char *path;
        const char *text;
    } files[2];
};

/* The words of the shell that start a command so. When the view has been made,
 * which takes long on a busy machine, they write into the file `ready`, unless
 * that is NULL. */
static const char *words_of_view(const struct view *view, const char *ready)
{
    const char *steps = "";
    for (int i = 0; i < 2; i++) {
        const char *text = view->files[i].text;
        const char *file = temporary_file(text, strlen(text));
        steps = text_of("%smount --bind %s %s && rm %s && ", steps, file,
                        view->files[i].path, file);
    }
    if (ready != NULL)
        steps = text_of("%secho ready >%s && ", steps, ready);
    return text_of("unshare %s sh -c '%sexec \"$@\"' sh ",
                   geteuid() == 0 ? "-m" : "-rm", steps);
}

/* Starts CLIENT, in a view when `view` is not NULL. */
static struct program *start_in_view(const struct view *view, const char *ready,
                                     const char *const *arguments)
{
    if (view == NULL)
        return start_client_with(&(struct start){.arguments = arguments});
    return start_by_shell(words_of_view(view, ready), "", arguments);
}

/* Asks this machine's resolver for the addresses of a name, in the view: how
 * many lines getent prints for stream sockets, or -1 when that is not possible
 * here, or the resolver takes longer than half a second. (Making the view may
 * take longer than that on a busy machine.) */
static int addresses_in_view(const struct view *view, const char *name)
{
    static const char there[] = "the view is there";
    FILE *command = popen(
        text_of("exec 2>/dev/null; %s sh -c 'echo %s; getent ahosts %s'",
                words_of_view(view, NULL), there, name),
        "re");
    if (command == NULL)
        return -1;
    char line[256];
    bool is_there = fgets(line, sizeof line, command) != NULL &&
                    strncmp(line, there, strlen(there)) == 0;
    double from = now();
    int count = 0;
    while (fgets(line, sizeof line, command) != NULL)
        count += strstr(line, "STREAM") != NULL;
    pclose(command);
    return is_there && now() - from < 0.5 ? count : -1;
}

/* Whether the name has so many addresses in the view. Three questions, for a
 * busy machine may be late with an answer. */
static bool has_addresses_in_view(const struct view *view, const char *name,
                                  int count)
{
    for (int i = 0; i < 3; i++) {
        if (addresses_in_view(view, name) == count)
            return true;
    }
    return false;
}

/* A client that cannot connect. */
struct lonely {
    struct program *client;
    const char *ready; /* written when it has its view; NULL: it needs none */
    struct timespec started;
};

static struct lonely start_without_server(const char *retries, const char *host,
                                          int port, const struct view *view)
{
    const char *arguments[] = {
        "-t", "1", "-r", retries, host, text_of("%d", port), NULL};
    struct lonely lonely = {0};
    if (view != NULL)
        lonely.ready = temporary_file("", 0);
    clock_gettime(CLOCK_REALTIME, &lonely.started);
    lonely.client = start_in_view(view, lonely.ready, arguments);
    type_and_end(lonely.client, "hello\n", 6);
    return lonely;
}

/* It must end with 1, and say why. Returns how long it lived, in its view. */
static double life_without_server(const struct lonely *lonely)
{
    expect_exit_within(lonely->client, 1, patience() + 5);
    expect_complaint(lonely->client, "what failed and why");
    expect_output_end(lonely->client);
    double life = age_of(lonely->client);
    struct stat file;
    if (lonely->ready == NULL || stat(lonely->ready, &file) == -1)
        return life;
    unlink(lonely->ready);
    return life - (double)(file.st_mtim.tv_sec - lonely->started.tv_sec) -
           (double)(file.st_mtim.tv_nsec - lonely->started.tv_nsec) / 1e9;
}

/*
 * What failed at once is retried after a pause: two retries take at least
 * 0.2 s and at most 1.5 s longer than none. A busy machine makes either client
 * late, so the shortest life of each is compared: after many rounds neither was
 * held up much, or nobody can tell here.
 */
static void expect_two_pauses(const char *host, const struct view *view)
{
    enum { MANY = 12 };
    double shortest = 1e9, shortest_with_two = 1e9;
    const char *said = "";
    double at_last = now() + 15;
    int round = 0;
    for (; round < MANY && (round < ROUNDS || now() < at_last); round++) {
        int port = unused_port();
        struct lonely once = start_without_server("0", host, port, view);
        struct lonely thrice = start_without_server("2", host, port, view);
        double life = life_without_server(&once);
        double life_with_two = life_without_server(&thrice);
        if (life < shortest)
            shortest = life;
        if (life_with_two < shortest_with_two)
            shortest_with_two = life_with_two;
        note("the shortest so far: %.3f s with -r 0, %.3f s with -r 2",
             shortest, shortest_with_two);
        double longer = shortest_with_two - shortest;
        if (longer > 0.17 && longer < 1.8)
            return;
        said = text_of("%.*s", (int)thrice.client->complaint.length,
                       (const char *)thrice.client->complaint.data);
    }
    if (shortest > 1 && round < MANY / 2)
        skip_test("this machine is too busy to tell: the fastest of %d clients "
                  "with -r 0, which fail at once, took %.1f s",
                  round, shortest);
    fail_test("Expected: two retries with a pause before each, the first of "
              "0.1 to 0.5 s and the second of 0.1 to 1 s, take 0.2 to 1.5 s "
              "longer than none.\n"
              "The shortest of many clients with -r 2 took %.3f s, the "
              "shortest with -r 0 %.3f s.\n"
              "The last client said: %.200s",
              shortest_with_two, shortest, said);
}

TEST(client, refused_is_retried, .promise = PROMISE_RETRY,
     .cause = "Refused is taken for final, although a server that is being "
              "started again refuses too; or the client tries again without "
              "a pause. With a non-blocking connect the refusal comes from "
              "SO_ERROR, after poll says that the socket is writable.",
     .read = BREAK_IT ": believe poll", .patient = true)
{
    expect_two_pauses("127.0.0.1", NULL);
}

TEST(client, unreachable_is_retried, .promise = PROMISE_RETRY,
     .cause = "Only refused and timed out are retried. While a network is "
              "being plugged in there is no way to the server (ENETUNREACH, "
              "EHOSTUNREACH): that may pass as well.",
     .read = READ_RETRY, .patient = true)
{
    /* TCP has no connections to a group: the kernel refuses on its own. */
    static const char group[] = "224.0.0.1";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7)};
    inet_pton(AF_INET, group, &address.sin_addr);
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                            0);
    bool unreachable = connect(descriptor, (struct sockaddr *)&address,
                               sizeof address) == -1 &&
                       errno == ENETUNREACH;
    close(descriptor);
    if (!unreachable)
        skip_test("on this machine %s is not unreachable", group);
    note("%s is the address of a group, which TCP cannot reach", group);
    expect_two_pauses(group, NULL);
}

TEST(client, server_that_comes_up_late, .promise = PROMISE_RETRY,
     .cause = "Retries use the socket of the attempt that failed. After a "
              "failed connect its state is unspecified: each attempt needs a "
              "new socket.",
     .read = READ_RETRY)
{
    note("how long the client needs to start and to be refused");
    struct lonely refused = start_without_server("0", "127.0.0.1",
                                                 unused_port(), NULL);
    double start = life_without_server(&refused);

    int port = unused_port();
    struct program *client = start_client("-t", "1", "-r", "20", "127.0.0.1",
                                          text_of("%d", port), NULL);
    type_and_end(client, "hello\n", 6);
    let_pass(start + 0.05);
    struct listener *listener = listen_at("127.0.0.1", port);
    struct peer *peer = accept_client(listener);
    echo_all(peer, client, "hello\n", 6, 64);
    expect_output_text(client, "hello\n");
    expect_good_end(client);
}

TEST(client, server_that_answers_late, .promise = PROMISE_RETRY,
     .cause = "Timed out is taken for final; or the retry uses the socket of "
              "the attempt that timed out.",
     .read = READ_RETRY, .patient = true)
{
    struct listener *listener = listen_but_never_answer();
    struct program *client = start_client_to(listener, "-t", "0.2", "-r", "20",
                                             NULL);
    type_and_end(client, "hello\n", 6);

    /* The listener answers once the first attempt has been given up. */
    struct attempts attempts = {0};
    double until = moment_in(patience());
    while ((attempts.count == 0 || attempts.list[0].open) && now() < until &&
           !has_ended(client)) {
        look_at_attempts(&attempts, port_of_listener(listener));
        wait_on(-1, 0, moment_in(0.004));
    }
    if (attempts.count == 0 || attempts.list[0].open)
        fail_test("Expected: an attempt to connect, given up after 0.2 s.\n"
                  "Seen: %s; the client %s.",
                  story_of(&attempts), state_of(client));
    start_answering(listener);
    struct peer *peer;
    do {
        /* What came of an attempt that was given up is at its end. */
        peer = accept_client(listener);
        char byte;
        if (recv(descriptor_of(peer), &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0)
            break;
    } while (now() < until);
    echo_all(peer, client, "hello\n", 6, 64);
    expect_output_text(client, "hello\n");
    expect_good_end(client);
}

TEST(client, unknown_host, .promise = PROMISE_UNKNOWN " " PROMISE_FAILURE,
     .cause = "Every failure of getaddrinfo is retried. EAI_AGAIN may pass; "
              "EAI_NONAME (no such host) does not.",
     .read = READ_RETRY)
{
    struct lonely no_retry = start_without_server("0", "a..b", 7777, NULL);
    struct lonely retries = start_without_server("40", "a..b", 7777, NULL);
    double once = life_without_server(&no_retry);
    double took = life_without_server(&retries);
    if (took - once > 3)
        fail_test("Expected: with -r 40, the client gives up as soon as with "
                  "-r 0: after %.2f s.\n"
                  "It took %.2f s; 40 retries with their pauses take 4 s and "
                  "more.",
                  once, took);
}

/* ---------------------------------------------------------------- addresses */

/* A client that calls the host by this name reaches the listener. */
static void expect_to_reach(struct listener *listener, const char *host,
                            const char *seconds, const struct view *view)
{
    const char *arguments[] = {"-t", seconds,
                               "-r", "0",
                               host, text_of("%d", port_of_listener(listener)),
                               NULL};
    struct program *client = start_in_view(view, NULL, arguments);
    struct peer *peer = accept_client_within(listener, patience());
    if (peer == NULL)
        fail_test("Expected: the client connects to the address of %s that "
                  "answers.\nNo connection came; it %s.",
                  host, state_of(client));
    type_and_end(client, "hello\n", 6);
    echo_all(peer, client, "hello\n", 6, 64);
    expect_output_text(client, "hello\n");
    expect_good_end(client);
}

/* Whether this machine's resolver finds an address of this family. */
static bool has_address(const char *name, int family)
{
    struct addrinfo wanted = {.ai_family = family, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    if (getaddrinfo(name, "1", &wanted, &list) != 0)
        return false;
    freeaddrinfo(list);
    return true;
}

/* Listens on this address alone: the port is none that the kernel may give to
 * another test, which would then answer on another address. */
static struct listener *alone_at(const char *address)
{
    return listen_at(address, unused_port());
}

TEST(client, localhost, .promise = PROMISE_ATTEMPT,
     .cause = "A name is not looked up, or only its first address is tried: "
              "localhost is ::1 and 127.0.0.1 on many machines.",
     .read = READ_ADDRESSES)
{
    if (!has_address("localhost", AF_INET))
        skip_test("localhost is not 127.0.0.1 on this machine");
    note("a server on 127.0.0.1 alone");
    expect_to_reach(alone_at("127.0.0.1"), "localhost", "5", NULL);
    if (has_address("localhost", AF_INET6)) {
        note("a server on ::1 alone");
        expect_to_reach(alone_at("::1"), "localhost", "5", NULL);
    }
}

TEST(client, ipv6,
     .promise = "Lesson 01 knows IPv4 alone, every other program "
                "IPv4 and IPv6.",
     .cause = "struct sockaddr_in, inet_pton(AF_INET) or AF_INET in the hints "
              "of getaddrinfo: IPv4 alone.",
     .read = READ_ADDRESSES)
{
    expect_to_reach(listen_at("::1", 0), "::1", "5", NULL);
}

static const struct view hosts = {
    {{"/etc/nsswitch.conf", "hosts: files\n"},
     {"/etc/hosts", "127.0.0.1 localhost near.test\n"
                    "127.0.0.2 near.test\n"
                    "127.0.0.2 far.test\n"
                    "127.0.0.1 far.test\n"
                    "::1 both.test\n"
                    "127.0.0.1 both.test\n"}}};

TEST(client, every_address, .promise = PROMISE_ATTEMPT,
     .cause = "Only the first address of the list is tried, or a failure "
              "with one of them ends the attempt. With a non-blocking connect "
              "the refusal comes from SO_ERROR, after poll says that the "
              "socket is writable.",
     .read = READ_ADDRESSES, .patient = true, .slow = true)
{
    if (!has_addresses_in_view(&hosts, "near.test", 2))
        skip_test("no name can be given two addresses here: that needs "
                  "unshare(1), mount(8) and getent(1), and the right to use "
                  "them");
    note("near.test and far.test are 127.0.0.1 and 127.0.0.2, both.test is "
         "::1 and 127.0.0.1");
    static const char *const names[] = {"near.test", "far.test"};

    for (int i = 0; i < 2; i++) {
        note("one address of %s refuses, the other answers", names[i]);
        expect_to_reach(alone_at("127.0.0.1"), names[i], "5", &hosts);
        expect_to_reach(alone_at("127.0.0.2"), names[i], "5", &hosts);
    }
    note("127.0.0.1 does not answer at all, 127.0.0.2 does");
    usual_cause("The address that does not answer is not given up after "
                "SECONDS (0.4), or the next one gets what is left of SECONDS, "
                "and nothing is left.");
    struct listener *silent = listen_but_never_answer();
    expect_to_reach(listen_at("127.0.0.2", port_of_listener(silent)),
                    "near.test", "0.4", &hosts);
    note("a name with an IPv6 and an IPv4 address");
    usual_cause("Only the first address of the list is tried, or IPv4 "
                "alone (AF_INET in the hints of getaddrinfo).");
    expect_to_reach(alone_at("127.0.0.1"), "both.test", "5", &hosts);
    expect_to_reach(alone_at("::1"), "both.test", "5", &hosts);
}

TEST(client, name_server_without_answer, .promise = PROMISE_RETRY,
     .cause = "Every failure of getaddrinfo is taken for final. EAI_AGAIN "
              "says that no name server answered; that may pass.",
     .read = READ_RETRY, .patient = true)
{
    static const struct view nobody = {
        {{"/etc/nsswitch.conf", "hosts: files dns\n"},
         {"/etc/resolv.conf", "nameserver 127.0.0.77\n"
                              "options attempts:1 timeout:1\n"}}};
    if (!has_addresses_in_view(&nobody, "server.test", 0))
        skip_test(
            "no other name server can be set here: that needs unshare(1), "
            "mount(8) and getent(1), and the right to use them");
    note("the only name server is 127.0.0.77, where nobody answers");
    expect_two_pauses("server.test", &nobody);
}

/* ------------------------------------------------------------------- output */

static void output_fails(enum output where, size_t length)
{
    const char *bytes = length < 100 ? "hello, is anybody reading this?\n"
                                     : letters(length, 30, false);
    if (length < 100)
        length = strlen(bytes);
    struct listener *listener = listen_here();
    const char *arguments[] = {"-t", "5", "127.0.0.1",
                               text_of("%d", port_of_listener(listener)), NULL};
    struct program *client = start_client_with(
        &(struct start){.arguments = arguments, .output = where});
    struct peer *peer = accept_client(listener);
    type_and_end(client, bytes, length);
    echo_while_it_lasts(peer, client);
    close_peer(peer);
    expect_exit(client, 1);
    expect_complaint(client, "that its output could not be written");
}

TEST(client, output_to_a_full_disk, .promise = PROMISE_FAILURE,
     .cause = "Nobody looks at what write, or fwrite and fflush, return. With "
              "stdio a write fails as late as in fflush or fclose; at exit() "
              "nobody asks any more.",
     .read = READ_OUTPUT)
{
    output_fails(OUTPUT_FULL_DISK, 1);
    output_fails(OUTPUT_FULL_DISK, 300 * KIB);
}

TEST(client, output_that_nobody_reads,
     .promise = PROMISE_FAILURE " " PROMISE_SIGPIPE,
     .cause = "Writing to a pipe whose reader has gone raises SIGPIPE, which "
              "ends the program unless it ignores it; then write fails with "
              "EPIPE, and that has to be looked at.",
     .read = READ_OUTPUT)
{
    output_fails(OUTPUT_NO_READER, 1);
    output_fails(OUTPUT_NO_READER, 300 * KIB);
}

/* --------------------------------------------------------- rest and signals */

TEST(client, rests_while_it_waits,
     .promise = "(of servers:) A server that has nothing to do uses no CPU. "
                "The same is asked of a client that waits.",
     .cause = "A loop asks again and again without waiting: a non-blocking "
              "socket that is read in a loop, poll or select with a limit of "
              "0, or for POLLOUT while there is nothing to send.",
     .read = READ_DEADLINE, .patient = true)
{
    struct listener *listener = listen_here();
    struct program *client = start_client_to(listener, "-t", "60", NULL);
    struct peer *peer = accept_client(listener);
    expect_idle(client, "while nobody types");
    type_text(client, "hello\n");
    struct dialogue d = dialogue(peer, client, "hello\n", 6);
    take_text(&d, 0);
    expect_idle(client, "while the server takes its time");
    echo_rest(&d, 6);
    expect_output_text(client, "hello\n");
    end_input(client);
    expect_end_of_file(peer);
    close_peer(peer);
    expect_good_end(client);
}

TEST(client, rests_while_it_is_held_up,
     .promise = "(of servers:) A server that has nothing to do uses no CPU. "
                "The same is asked of a client that waits.",
     .cause = "A loop asks again and again without waiting: send on a "
              "non-blocking socket, connect, or poll for an input that is "
              "ready but not read.",
     .read = READ_DEADLINE, .patient = true)
{
    struct listener *full = listen_but_never_answer();
    struct program *connecting = start_client_to(full, "-t", "60", "-r", "0",
                                                 NULL);
    type_and_end(connecting, "hello\n", 6);

    const size_t length = 8 * MIB;
    struct listener *listener = listen_here();
    set_receive_buffer(listener, 4 * KIB);
    struct program *sending = start_client_to(listener, "-t", "60", NULL);
    accept_client(listener);
    note("the server reads nothing");
    type_and_end(sending, letters(length, 22, false), length);
    expect_idle(sending, "while the server takes nothing more");
    expect_running(sending);

    expect_idle(connecting, "while its connect gets no answer");
    expect_running(connecting);
}

TEST(client, stopped_and_continued, .promise = PROMISE_BYTES,
     .cause = "A program that is stopped (Ctrl-Z) and continued may find its "
              "call interrupted: poll, and recv or send with SO_RCVTIMEO or "
              "SO_SNDTIMEO, then fail with EINTR, which is no failure of the "
              "connection.",
     .read = READ_ECHO)
{
    struct listener *listener = listen_here();
    struct program *client = start_client_to(listener, "-t", "20", NULL);
    struct peer *peer = accept_client(listener);

    note("stopped while it waits for input");
    let_pass(0.02);
    stop_program(client);
    continue_program(client);
    type_text(client, "first\n");
    struct dialogue d = dialogue(peer, client, "first\n", 6);
    take_text(&d, 0);

    note("stopped while it waits for an echo");
    let_pass(0.02);
    stop_program(client);
    continue_program(client);
    let_pass(0.02);
    expect_running(client);
    echo_rest(&d, 6);
    expect_output_text(client, "first\n");

    note("stopped while input and echo arrive");
    type_text(client, "second\n");
    d = dialogue(peer, client, "second\nthird", 12);
    take_text(&d, 0);
    stop_program(client);
    echo_next(&d, d.came);
    type_and_end(client, "third", 5);
    continue_program(client);
    echo_rest(&d, 12);
    expect_output_text(client, "second\nthird");
    expect_end_of_file(peer);
    close_peer(peer);
    expect_good_end(client);
}

TEST(client, stopped_while_it_connects, .promise = PROMISE_ATTEMPT,
     .cause = "poll, or connect with SO_SNDTIMEO, fails with EINTR when the "
              "program was stopped and continued. The handshake goes on "
              "meanwhile; it is the wait that has to be taken up again.",
     .read = READ_CONNECT, .patient = true, .slow = true)
{
    struct listener *listener = listen_but_never_answer();
    struct program *client = start_client_to(listener, "-t", "20", "-r", "0",
                                             NULL);
    type_and_end(client, "hello\n", 6);
    struct attempts attempts = {0};
    double until = moment_in(patience());
    while (attempts.count == 0 && now() < until && !has_ended(client)) {
        look_at_attempts(&attempts, port_of_listener(listener));
        wait_on(-1, 0, moment_in(0.004));
    }
    stop_program(client);
    continue_program(client);
    let_pass(0.05);
    expect_running(client);
    start_answering(listener);

    /* The kernel asks again about a second after the first time. */
    struct peer *peer = accept_client(listener);
    echo_all(peer, client, "hello\n", 6, 64);
    expect_output_text(client, "hello\n");
    expect_good_end(client);
}

TEST(client, default_seconds, .promise = PROMISE_DEFAULTS ". " PROMISE_SECONDS,
     .cause = "The default of -t is not 5 s, or no limit is set when the "
              "option is not given.",
     .read = READ_DEADLINE, .patient = true, .slow = true)
{
    struct listener *listener = listen_here();
    struct program *silent = start_client_to(listener, NULL, NULL);
    accept_client(listener);
    type_text(silent, "hello\n");
    double from = now();
    struct program *late = start_client_to(listener, NULL, NULL);
    struct peer *peer = accept_client(listener);
    type_text(late, "hello\n");
    struct dialogue d = dialogue(peer, late, "hello\n", 6);
    take_text(&d, 0);
    note("the first client gets no answer, the second gets its after 4 s");
    let_pass(4);
    expect_running(late);
    echo_rest(&d, 6);
    expect_output_text(late, "hello\n");
    end_input(late);
    expect_end_of_file(peer);
    close_peer(peer);
    expect_good_end(late);
    expect_exit_within(silent, 1, patience() + 5);
    double took = now() - from;
    if (took > 9)
        fail_test("Expected: without -t, the client waits 5 s for an echo.\n"
                  "It waited %.1f s.",
                  took);
    expect_complaint(silent, "what failed and why");
}

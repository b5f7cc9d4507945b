/*
 * client.c - sends a text, prints it as the server understood it.
 *
 * New in this lesson: `\u{1F600}` in the text stands for a code point, which
 * the client encodes; with -v it shows each code point of the answer and its
 * bytes. And it sends and receives at the same time: lesson 02 waited for as
 * many bytes as it had sent, but here other bytes come back than went out.
 *
 * Run it, with this lesson's server in another terminal:
 *
 *     make
 *     echo 'na\u{EF}ve' | ./client -v 127.0.0.1 7777
 */
#define _POSIX_C_SOURCE 200809L

#include "net.h"
#include "utf8.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    PIECE_SIZE = 16384,
    TEXT_LIMIT = 16 * 1024 * 1024 /* bytes that the client keeps at most */
};

/* A text that grows. Whoever made it frees `bytes`. */
struct text {
    char *bytes;
    size_t length;
    size_t size; /* how many bytes there is room for */
};

/* Says on standard error what failed, and why. Always returns 1, the exit
 * status of a program that failed. */
static int failed(const char *step, const char *why)
{
    fprintf(stderr, "client: %s: %s\n", step, why);
    return 1;
}

/*
 * Makes room for PIECE_SIZE more bytes. The room doubles each time, so that a
 * long text is not copied again for every piece. Returns 0, or -1 with errno
 * set: EFBIG when the text would pass TEXT_LIMIT.
 */
static int make_room(struct text *text)
{
    if (text->size - text->length >= PIECE_SIZE)
        return 0;
    if (text->length > TEXT_LIMIT - PIECE_SIZE) {
        errno = EFBIG;
        return -1;
    }
    size_t size = 2 * text->size + PIECE_SIZE;
    char *bytes = realloc(text->bytes, size);
    if (bytes == NULL)
        return -1;
    text->bytes = bytes;
    text->size = size;
    return 0;
}

/* Reads all of standard input. Returns 0, or -1 with errno set. */
static int read_input(struct text *text)
{
    for (;;) {
        if (make_room(text) == -1)
            return -1;
        ssize_t length = read(STDIN_FILENO, text->bytes + text->length,
                              PIECE_SIZE);
        if (length == 0)
            return 0;
        if (length > 0)
            text->length += (size_t)length;
        else if (errno != EINTR)
            return -1;
    }
}

/* What a hexadecimal digit is worth, or -1. strchr would find the '\0' that
 * ends the list as well, so that is asked first. */
static int digit_value(char digit)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *found = digit == '\0' ? NULL : strchr(digits, digit);
    return found == NULL ? -1 : (int)((found - digits) % 16);
}

/*
 * Reads `\u{` one to six hexadecimal digits `}` at the beginning of `bytes`.
 * Returns how many bytes that are and writes the number into `code_point`;
 * returns 0 when something else stands there.
 */
static size_t read_escape(const char *bytes, size_t length,
                          uint32_t *code_point)
{
    if (length < 5 || memcmp(bytes, "\\u{", 3) != 0)
        return 0;
    *code_point = 0;
    size_t i = 3;
    while (i < length && i < 9 && digit_value(bytes[i]) != -1) {
        *code_point = *code_point * 16 + (uint32_t)digit_value(bytes[i]);
        i++;
    }
    return i > 3 && i < length && bytes[i] == '}' ? i + 1 : 0;
}

/*
 * Replaces every escape in the text by the UTF-8 of its code point, in place:
 * an escape is never shorter than what it stands for. Bytes that are no UTF-8
 * stay as they are; to judge them is the server's work.
 *
 * Returns 0, or -1 when an escape names no character; that is told here, with
 * its line and its column (from 1, in code points, as an editor counts).
 */
static int replace_escapes(struct text *text)
{
    struct utf8_decoder decoder = {0}; /* it counts the code points */
    uint32_t code_points[2];
    size_t line = 1, column = 0;
    size_t length = 0;
    size_t i = 0;
    while (i < text->length) {
        unsigned char byte = (unsigned char)text->bytes[i];
        column += (size_t)utf8_decode(&decoder, byte, code_points);
        uint32_t code_point;
        size_t escape = read_escape(text->bytes + i, text->length - i,
                                    &code_point);
        if (escape == 0) {
            text->bytes[length++] = text->bytes[i++];
            if (byte == '\n') {
                line++;
                column = 0;
            }
            continue;
        }
        size_t size = utf8_encode(code_point, text->bytes + length);
        if (size == 0) {
            fprintf(stderr,
                    "client: line %zu, column %zu: \\u{%lX} is no character\n",
                    line, column, (unsigned long)code_point);
            return -1;
        }
        length += size;
        i += escape;
        column += escape - 1; /* its first byte has been counted */
    }
    text->length = length;
    return 0;
}

/* Whether a call on a non-blocking socket failed only because there was
 * nothing to do: wait and try again. */
static bool would_wait(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/*
 * Sends as much of the text as the kernel takes, from `*sent` on. When all has
 * been sent it ends our side: the half-close, "that was all". It goes out as
 * a FIN, and the other direction stays open for the answer.
 *
 * Returns 0, or -1 after it has told what failed.
 */
static int send_more(int server, const struct text *text, size_t *sent)
{
    if (*sent < text->length) {
        ssize_t taken = send(server, text->bytes + *sent, text->length - *sent,
                             0);
        if (taken == -1 && !would_wait(errno)) {
            failed("send to the server", strerror(errno));
            return -1;
        }
        if (taken > 0)
            *sent += (size_t)taken;
    }
    if (*sent == text->length && shutdown(server, SHUT_WR) == -1) {
        failed("end the text", strerror(errno));
        return -1;
    }
    return 0;
}

/*
 * Adds to `answer` what has come. Returns 1, 0 when the server has ended its
 * side, or -1 after it has told what failed.
 */
static int receive_more(int server, struct text *answer)
{
    if (make_room(answer) == -1) {
        failed("keep the answer", strerror(errno));
        return -1;
    }
    ssize_t came = recv(server, answer->bytes + answer->length, PIECE_SIZE, 0);
    if (came == 0)
        return 0;
    if (came > 0) {
        answer->length += (size_t)came;
    } else if (!would_wait(errno)) {
        failed("receive from the server", strerror(errno));
        return -1;
    }
    return 1;
}

/*
 * Sends the text and receives the answer, both at the same time: a server may
 * answer while it reads. If we only sent, its answer could fill the buffers
 * between us; it would wait for us to read, and we for it. On a non-blocking
 * socket send and recv take what they can and never wait; poll waits for
 * either. Lesson 06 lives on this.
 *
 * Returns 0, or -1 after it has told what failed.
 */
static int exchange(int server, const struct text *text, double seconds,
                    struct text *answer)
{
    size_t sent = 0;
    bool ended = false; /* our side */
    for (;;) {
        short events = ended ? POLLIN : POLLIN | POLLOUT;
        if (wait_until(server, events, now() + seconds) == -1) {
            failed("wait for the server", strerror(errno));
            return -1;
        }
        int open = receive_more(server, answer);
        if (open == -1)
            return -1;
        if (open == 0 && ended)
            return 0;
        if (open == 0) {
            failed("send", "the server closed before it had taken all");
            return -1;
        }
        if (!ended) {
            if (send_more(server, text, &sent) == -1)
                return -1;
            ended = sent == text->length;
        }
    }
}

/* Prints one code point, its bytes and itself: `U+00E9  c3 a9  é`. A control
 * character would move the cursor or worse; it is shown as `\u{1B}`. */
static void print_code_point(uint32_t code_point)
{
    char bytes[UTF8_SIZE];
    size_t size = utf8_encode(code_point, bytes);
    printf("U+%04lX ", (unsigned long)code_point);
    for (size_t i = 0; i < size; i++)
        printf(" %02x", (unsigned)(unsigned char)bytes[i]);
    if (code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0))
        printf("  \\u{%lX}\n", (unsigned long)code_point);
    else
        printf("  %.*s\n", (int)size, bytes);
}

static void print_code_points(const struct text *text)
{
    struct utf8_decoder decoder = {0};
    uint32_t code_points[2];
    for (size_t i = 0; i < text->length; i++) {
        int count = utf8_decode(&decoder, (unsigned char)text->bytes[i],
                                code_points);
        for (int k = 0; k < count; k++)
            print_code_point(code_points[k]);
    }
    if (utf8_finish(&decoder, code_points) == 1)
        print_code_point(code_points[0]);
}

int main(int argc, char *argv[])
{
    double seconds = 5;
    int retries = 3;
    bool verbose = false;
    int option;
    while ((option = getopt(argc, argv, "t:r:v")) != -1) {
        if (option == 't')
            seconds = parse_seconds(optarg);
        else if (option == 'r')
            retries = parse_count(optarg);
        else if (option == 'v')
            verbose = true;
        if (option == '?' || seconds <= 0 || retries < 0)
            goto usage;
    }
    if (argc - optind != 2 || !is_port(argv[optind + 1]))
        goto usage;

    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return failed("ignore SIGPIPE", strerror(errno));
    srand((unsigned)getpid() ^ (unsigned)time(NULL)); /* for the pauses */

    int status = 1;
    int server = -1;
    struct text text = {0};
    struct text answer = {0};
    char reason[REASON_SIZE];
    if (read_input(&text) == -1) {
        failed("read standard input", strerror(errno));
        goto done;
    }
    if (replace_escapes(&text) == -1) {
        status = 2;
        goto done;
    }
    server = connect_to(argv[optind], argv[optind + 1], seconds, retries, NULL,
                        reason);
    if (server == -1) {
        fprintf(stderr, "client: %s\n", reason);
        goto done;
    }
    if (set_nonblocking(server, true) == -1) {
        failed("make the socket non-blocking", strerror(errno));
        goto done;
    }
    if (exchange(server, &text, seconds, &answer) == -1)
        goto done;
    if (text.length > 0 && answer.length == 0) {
        failed("receive from the server", "it closed without an answer");
        goto done;
    }

    fwrite(answer.bytes, 1, answer.length, stdout);
    if (verbose && answer.length > 0) {
        if (answer.bytes[answer.length - 1] != '\n')
            putchar('\n');
        print_code_points(&answer);
    }
    /* Standard output collects in memory; whether the disk or the pipe took it
     * shows only when it is flushed. */
    if (fflush(stdout) == EOF || ferror(stdout))
        failed("write standard output", strerror(errno));
    else
        status = 0;

done:
    if (server != -1)
        close(server);
    free(text.bytes);
    free(answer.bytes);
    return status;

usage:
    fprintf(stderr, "usage: client [-v] [-t SECONDS] [-r RETRIES] HOST PORT\n");
    return 2;
}

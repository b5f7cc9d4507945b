/*
 * Exercise 03-2: Cut a text.
 *
 * A column of a database, a field of a message, a line of a display: places
 * for a text have a size in bytes. This program prints the beginning of its
 * standard input, at most N bytes, and cuts no character in two:
 *
 *     $ printf 'caf\303\251s' | exercises/2-cut -n 4
 *     caf
 *
 * main is there. Write cut, which says how many bytes to print:
 *
 *     - A text of at most N bytes stays as it is, whatever its bytes are.
 *     - Of a longer text as many bytes stay as N allows, but never a part of a
 *       UTF-8 character: the one that would be cut goes.
 *     - The bytes may be no UTF-8. There, too, at least N - 3 bytes stay, for a
 *       character has four at most and a cut costs three.
 *
 * cut reads nothing but the `length` bytes that it gets. N may be 0.
 *
 * Beware of two places. Byte N, the first that goes, says whether the cut is
 * in the middle of a character; but a text of N bytes has none. And who walks
 * back over bytes that continue a character must know when to stop: somebody
 * will send a thousand of them.
 *
 * (A reader may take two code points for one character: e and U+0301 look like
 * an é. A cut between them is not judged here. Look up "grapheme cluster"
 * before you promise more to a user.)
 *
 * Try it:   make exercises/2-cut
 *           printf 'caf\303\251s' | exercises/2-cut -n 4
 * Judge it: make exercise-03-2   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "net.h"
#include "utf8.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 65536, GUARD = 4 };

/*
 * Returns how many of the `length` bytes of a text to keep, at most `most`, so
 * that no character is cut in two.
 *
 * YOUR ANSWER goes here. Now the text is cut where the bytes end.
 */
static size_t cut(const char *text, size_t length, size_t most)
{
    (void)text;
    return length < most ? length : most;
}

/* Reads standard input, at most `size` bytes of it. Returns how many bytes that
 * are, or -1 with errno set. */
static ssize_t read_input(char *bytes, size_t size)
{
    size_t length = 0;
    while (length < size) {
        ssize_t came = read(STDIN_FILENO, bytes + length, size - length);
        if (came == 0)
            break;
        if (came == -1 && errno != EINTR)
            return -1;
        if (came > 0)
            length += (size_t)came;
    }
    return (ssize_t)length;
}

int main(int argc, char *argv[])
{
    int most = -1;
    int option;
    while ((option = getopt(argc, argv, "n:")) != -1) {
        most = option == 'n' ? parse_count(optarg) : -1;
        if (most < 0 || most > MOST)
            break;
    }
    if (optind != argc || most < 0 || most > MOST) {
        fprintf(stderr, "usage: 2-cut -n BYTES   (at most %d)\n", MOST);
        return 2;
    }

    /* A whole character more than is needed, so that cut can look at the one
     * that it may have to leave out. */
    static char text[MOST + UTF8_SIZE + GUARD];
    ssize_t length = read_input(text, (size_t)most + UTF8_SIZE);
    if (length == -1) {
        perror("2-cut: read standard input");
        return 1;
    }
    /* Behind the text stand bytes that continue a character: who reads there
     * believes that he is inside one. */
    memset(text + length, 0x80, GUARD);

    size_t kept = cut(text, (size_t)length, (size_t)most);
    if (kept > (size_t)length || kept > (size_t)most) {
        fprintf(stderr, "2-cut: cut kept %zu of %zd bytes; %d are allowed\n",
                kept, length, most);
        return 1;
    }
    if (fwrite(text, 1, kept, stdout) < kept || fflush(stdout) == EOF) {
        perror("2-cut: write standard output");
        return 1;
    }
    return 0;
}

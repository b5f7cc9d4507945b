/*
 * Exercise 03-3: UTF-16 to UTF-8.
 *
 * A filter: UTF-16 comes in on standard input, UTF-8 goes out on standard
 * output. UTF-16 writes a code point as one unit of 16 bits or as two, and a
 * unit has two bytes, in one order or the other. Windows, Java and JavaScript
 * keep texts in this way.
 *
 *     - The first two bytes may be a byte order mark: FE FF says that the
 *       byte worth more comes first (big-endian), FF FE that it comes last
 *       (little-endian). It is not printed. Without a mark the text is
 *       big-endian (RFC 2781, section 4.3).
 *     - Only the first unit can be a mark. Later, FEFF and FFFE are code points
 *       like any other.
 *     - D800 to DBFF and then DC00 to DFFF are two surrogates, and make one
 *       code point: 10000 + (first - D800) * 400 + (second - DC00), all in
 *       hexadecimal.
 *     - A surrogate without the other becomes U+FFFD. What stands behind it is
 *       looked at as if nothing had been: it may begin a pair itself.
 *     - One byte left over at the end becomes U+FFFD.
 *     - What can be printed is printed before the program waits for more
 *       input. However long the text is, the memory stays the same.
 *
 * main is there; read(2) gives it pieces, and to_utf8 gets them one after the
 * other. utf8_encode of the lesson writes UTF-8.
 *
 * Beware of the end of a piece. It may be in the middle of the mark, of a unit,
 * or between two surrogates. What has come so far must be remembered until the
 * next piece, and it is not much: struct utf16 is the place.
 *
 * Try it:   make exercises/3-utf16
 *           printf '\377\376h\0i\0\n\0' | exercises/3-utf16
 *           (iconv -t UTF-16 makes more of it)
 * Judge it: make exercise-03-3   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "utf8.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

/* A piece of input, and room for what it may become: at most three bytes for
 * each unit, and as many for a surrogate that was remembered. */
enum { PIECE_SIZE = 4096, ROOM = 2 * PIECE_SIZE + 8 };

/* What is remembered between two pieces. All zero is the beginning. */
struct utf16 {
    bool little; /* the byte that is worth more comes last */
    /* YOUR ANSWER: what else has to be remembered? */
};

/*
 * Takes the next piece of the text, at most PIECE_SIZE bytes, cut anywhere, and
 * writes the UTF-8 of all that is complete into `utf8`. Returns how many bytes
 * that are.
 *
 * YOUR ANSWER goes here. Now every text is big-endian, every unit a code point,
 * and every piece ends with a whole unit.
 */
static size_t to_utf8(struct utf16 *state, const char *piece, size_t length,
                      char utf8[ROOM])
{
    (void)state;
    size_t made = 0;
    for (size_t i = 0; i + 1 < length; i += 2) {
        uint32_t unit = (uint32_t)(unsigned char)piece[i] << 8 |
                        (unsigned char)piece[i + 1];
        made += utf8_encode(unit, utf8 + made);
    }
    return made;
}

/*
 * Hears that the text has ended. Writes what is still to be said into `utf8`,
 * and returns how many bytes that are.
 *
 * YOUR ANSWER goes here too.
 */
static size_t finish(struct utf16 *state, char utf8[ROOM])
{
    (void)state;
    (void)utf8;
    return 0;
}

/* Returns 0, or -1 with errno set. */
static int print(const char *bytes, size_t length)
{
    if (fwrite(bytes, 1, length, stdout) < length || fflush(stdout) == EOF)
        return -1;
    return 0;
}

int main(void)
{
    struct utf16 state = {0};
    char piece[PIECE_SIZE], utf8[ROOM];
    ssize_t length;
    while ((length = read(STDIN_FILENO, piece, sizeof piece)) != 0) {
        if (length == -1 && errno == EINTR)
            continue;
        if (length == -1) {
            perror("3-utf16: read standard input");
            return 1;
        }
        if (print(utf8, to_utf8(&state, piece, (size_t)length, utf8)) == -1)
            goto failed;
    }
    if (print(utf8, finish(&state, utf8)) == -1)
        goto failed;
    return 0;

failed:
    perror("3-utf16: write standard output");
    return 1;
}

/*
 * Exercise 03-1: Decode one code point.
 *
 * This program lists the code points of its standard input, one a line, each
 * with the number of bytes that it takes:
 *
 *     $ printf 'n\303\251e' | exercises/1-decode
 *     U+006E 1
 *     U+00E9 2
 *     U+0065 1
 *
 * main is there. Write decode_one, which looks at the beginning of some bytes
 * and remembers nothing between two calls. The bytes are a complete text, so
 * there is nothing to wait for. It returns
 *
 *     - for a character: its code point, and how many bytes it has, 1 to 4,
 *     - for bytes that are none: U+FFFD, and how many bytes that one U+FFFD
 *       stands for,
 *     - for no bytes at all: 0.
 *
 * Which bytes are a character says Table 3-7 of the Unicode Standard:
 *
 *     first     second    third     fourth
 *     00 to 7F
 *     C2 to DF  80 to BF
 *     E0        A0 to BF  80 to BF            fewer: it fits into two bytes
 *     E1 to EC  80 to BF  80 to BF
 *     ED        80 to 9F  80 to BF            more: a surrogate
 *     EE to EF  80 to BF  80 to BF
 *     F0        90 to BF  80 to BF  80 to BF  fewer: it fits into three bytes
 *     F1 to F3  80 to BF  80 to BF  80 to BF
 *     F4        80 to 8F  80 to BF  80 to BF  more: above U+10FFFF
 *
 * One U+FFFD stands for a maximal subpart: as many bytes as fit the beginning
 * of a row; when not even the first fits any, that one byte. The byte that
 * does not fit is not part of it, for a character may begin there: F0 9F 98 41
 * is U+FFFD of three bytes, then U+0041. Where the text ends, nothing fits.
 *
 * Beware of the end. A first byte promises up to three more, and whoever
 * believes it reads what is not there. And beware of char: it may be signed,
 * and then the byte C3 is -61, which is less than 0x80.
 *
 * Try it:   make exercises/1-decode && printf 'caf\303' | exercises/1-decode
 * Judge it: make exercise-03-1   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "utf8.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_MAX = 65536, GUARD = 3 };

/* What a byte allows the next one to be, and how many are to come. */
struct expected {
    unsigned char lowest, highest;
    size_t missing;
};

/* Table 3-7 by its first column. `missing` is 0 for a byte that stands alone:
 * ASCII, or one that begins no character. */
static struct expected after(unsigned char first)
{
    struct expected next = {.lowest = 0x80, .highest = 0xBF};
    if (first >= 0xC2 && first <= 0xDF)
        next.missing = 1;
    else if (first >= 0xE0 && first <= 0xEF)
        next.missing = 2;
    else if (first >= 0xF0 && first <= 0xF4)
        next.missing = 3;
    if (first == 0xE0)
        next.lowest = 0xA0;
    else if (first == 0xED)
        next.highest = 0x9F;
    else if (first == 0xF0)
        next.lowest = 0x90;
    else if (first == 0xF4)
        next.highest = 0x8F;
    return next;
}

/*
 * Decodes what stands at the beginning of `length` bytes. Returns how many
 * bytes that takes, at most `length`, and fills in `code_point`: U+FFFD for a
 * maximal subpart of what is no character. Returns 0 when `length` is 0.
 */
static size_t decode_one(const char *bytes, size_t length, uint32_t *code_point)
{
    if (length == 0)
        return 0;
    unsigned char first = (unsigned char)bytes[0];
    struct expected next = after(first);
    *code_point = UTF8_REPLACEMENT;
    if (next.missing == 0) {
        if (first <= 0x7F)
            *code_point = first;
        return 1;
    }

    /* Of the first byte the bits below its mark count: five of two bytes, four
     * of three, three of four. */
    uint32_t bits = first & (0x3Fu >> next.missing);
    size_t size = 1 + next.missing;
    for (size_t i = 1; i < size; i++) {
        if (i == length)
            return i; /* cut off */
        unsigned char byte = (unsigned char)bytes[i];
        if (byte < next.lowest || byte > next.highest)
            return i; /* this byte belongs to what follows */
        bits = bits << 6 | (byte & 0x3Fu);
        next.lowest = 0x80; /* only the second byte is restricted further */
        next.highest = 0xBF;
    }
    *code_point = bits;
    return size;
}

/* Reads standard input to its end, at most `size` bytes of it. Returns how many
 * bytes that are, or -1 with errno set. */
static ssize_t read_all(char *bytes, size_t size)
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

int main(void)
{
    static char text[TEXT_MAX + 1 + GUARD]; /* one more shows it is too long */
    ssize_t length = read_all(text, TEXT_MAX + 1);
    if (length == -1) {
        perror("1-decode: read standard input");
        return 1;
    }
    if (length > TEXT_MAX) {
        fprintf(stderr, "1-decode: more than %d bytes\n", TEXT_MAX);
        return 1;
    }
    /* Behind the text stand bytes that fit nearly everywhere: who reads there
     * finds a character that nobody sent. */
    memset(text + length, 0x80, GUARD);

    size_t at = 0, end = (size_t)length, size;
    uint32_t code_point;
    while ((size = decode_one(text + at, end - at, &code_point)) != 0) {
        if (size > end - at) {
            fprintf(stderr,
                    "1-decode: decode_one took %zu bytes at byte %zu; "
                    "%zu were left\n",
                    size, at, end - at);
            return 1;
        }
        printf("U+%04X %zu\n", (unsigned)code_point, size);
        at += size;
    }
    if (at != end) {
        fprintf(stderr, "1-decode: decode_one took 0 bytes at byte %zu\n", at);
        return 1;
    }
    if (fflush(stdout) == EOF || ferror(stdout)) {
        perror("1-decode: write standard output");
        return 1;
    }
    return 0;
}

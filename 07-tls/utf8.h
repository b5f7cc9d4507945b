/*
 * utf8.h - from code points to bytes and back, as UTF-8 (RFC 3629; the Unicode
 * Standard, chapter 3).
 *
 * The decoder is fed one byte at a time and keeps what it needs to know between
 * two bytes, so it does not matter where the network cut the text.
 */
#ifndef UTF8_H
#define UTF8_H

#include <stddef.h>
#include <stdint.h>

#define UTF8_REPLACEMENT 0xFFFD /* U+FFFD, for what is no character */

/* A code point takes at most so many bytes. */
enum { UTF8_SIZE = 4 };

/*
 * Writes a code point as UTF-8 into `bytes`. Returns how many bytes it takes,
 * 1 to 4, or 0 for a number that UTF-8 cannot say: a surrogate (U+D800 to
 * U+DFFF) or one above U+10FFFF.
 */
size_t utf8_encode(uint32_t code_point, char bytes[UTF8_SIZE]);

/* What a decoder keeps between two bytes. All zero is the beginning. */
struct utf8_decoder {
    uint32_t code_point;   /* the bits that have come so far */
    int missing;           /* how many bytes of the character are to come */
    unsigned char lowest;  /* what the next of them may be, at least */
    unsigned char highest; /* and at most */
};

/*
 * Takes the next byte of a text, and writes into `code_points` what it
 * completes. Returns how many that are: 0 when more bytes are needed, 1, or 2
 * when the byte cuts off an unfinished character (U+FFFD) and is one itself.
 * Every ill-formed sequence gives one U+FFFD for each maximal subpart.
 */
int utf8_decode(struct utf8_decoder *decoder, unsigned char byte,
                uint32_t code_points[2]);

/*
 * Says that the text has ended. Returns 1 and writes U+FFFD into `code_point`
 * when it ended in the middle of a character, else 0. Afterwards the decoder
 * is at the beginning again.
 */
int utf8_finish(struct utf8_decoder *decoder, uint32_t *code_point);

#endif

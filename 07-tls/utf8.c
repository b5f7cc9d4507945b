/*
 * utf8.c - from code points to bytes and back. utf8.h says how to use it.
 *
 * New in this lesson. A code point is a number, U+0000 to U+10FFFF; UTF-8
 * writes it as one to four bytes. The first byte tells how many:
 *
 *     code points          bytes
 *     U+0000  - U+007F     0xxxxxxx
 *     U+0080  - U+07FF     110xxxxx 10xxxxxx
 *     U+0800  - U+FFFF     1110xxxx 10xxxxxx 10xxxxxx
 *     U+10000 - U+10FFFF   11110xxx 10xxxxxx 10xxxxxx 10xxxxxx
 *
 * Not every sequence of that shape is a character. Forbidden are longer forms
 * than needed (C0 80 in place of 00: a check for '\0' or "../" would not see
 * it), surrogates (ED A0 80 to ED BF BF), and numbers above U+10FFFF. All
 * three can be told from the first two bytes: Table 3-7 of the Unicode
 * Standard lists, for each first byte, what the second may be.
 */
#include "utf8.h"

size_t utf8_encode(uint32_t code_point, char bytes[UTF8_SIZE])
{
    if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF))
        return 0;

    /* How many bytes, and the bits that say so in the first one. */
    size_t size = 1;
    uint32_t mark = 0x00;
    if (code_point > 0xFFFF) {
        size = 4;
        mark = 0xF0;
    } else if (code_point > 0x7FF) {
        size = 3;
        mark = 0xE0;
    } else if (code_point > 0x7F) {
        size = 2;
        mark = 0xC0;
    }

    /* Six bits a byte from the end; what is left goes into the first. */
    for (size_t i = size - 1; i > 0; i--) {
        bytes[i] = (char)(0x80 | (code_point & 0x3F));
        code_point >>= 6;
    }
    bytes[0] = (char)(mark | code_point);
    return size;
}

/*
 * Takes a byte that begins a character: Table 3-7, first column, and what the
 * second byte may be. Returns as utf8_decode.
 */
static int decode_first(struct utf8_decoder *decoder, unsigned char byte,
                        uint32_t *code_point)
{
    decoder->lowest = 0x80;
    decoder->highest = 0xBF;
    if (byte <= 0x7F) {
        *code_point = byte;
        return 1;
    }
    if (byte >= 0xC2 && byte <= 0xDF) {
        decoder->missing = 1;
        decoder->code_point = byte & 0x1Fu;
        return 0;
    }
    if (byte >= 0xE0 && byte <= 0xEF) {
        decoder->missing = 2;
        decoder->code_point = byte & 0x0Fu;
        if (byte == 0xE0)
            decoder->lowest = 0xA0; /* below: fits into two bytes */
        if (byte == 0xED)
            decoder->highest = 0x9F; /* above: a surrogate */
        return 0;
    }
    if (byte >= 0xF0 && byte <= 0xF4) {
        decoder->missing = 3;
        decoder->code_point = byte & 0x07u;
        if (byte == 0xF0)
            decoder->lowest = 0x90; /* below: fits into three bytes */
        if (byte == 0xF4)
            decoder->highest = 0x8F; /* above: beyond U+10FFFF */
        return 0;
    }
    /* 80 to BF continue a character that nobody began; C0, C1 and F5 to FF
     * begin none. */
    *code_point = UTF8_REPLACEMENT;
    return 1;
}

int utf8_decode(struct utf8_decoder *decoder, unsigned char byte,
                uint32_t code_points[2])
{
    if (decoder->missing == 0)
        return decode_first(decoder, byte, &code_points[0]);

    if (byte < decoder->lowest || byte > decoder->highest) {
        /*
         * The character breaks off here. What has come of it was right so
         * far: that is the maximal subpart, and one U+FFFD stands for all of
         * it. The byte itself belongs to what follows.
         */
        decoder->missing = 0;
        code_points[0] = UTF8_REPLACEMENT;
        return 1 + decode_first(decoder, byte, &code_points[1]);
    }

    decoder->code_point = decoder->code_point << 6 | (byte & 0x3Fu);
    decoder->lowest = 0x80;
    decoder->highest = 0xBF;
    decoder->missing--;
    if (decoder->missing > 0)
        return 0;
    code_points[0] = decoder->code_point;
    return 1;
}

int utf8_finish(struct utf8_decoder *decoder, uint32_t *code_point)
{
    if (decoder->missing == 0)
        return 0;
    decoder->missing = 0;
    *code_point = UTF8_REPLACEMENT;
    return 1;
}

/*
 * 03-utf8.c - fuzzes lesson 03's utf8.c.
 *
 * The fuzzer's bytes are a text, and the first three of them a number. A second
 * opinion comes from jansson, which has a decoder of its own.
 */
#include "utf8.h"

#include "fuzz.h"

#include <jansson.h>
#include <string.h>

/* Decodes a text into `code_points`, which has room for one more than the text
 * has bytes. Returns how many came. */
static size_t decode(const uint8_t *text, size_t length, uint32_t *code_points)
{
    struct utf8_decoder decoder = {0};
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        uint32_t came[2];
        int number = utf8_decode(&decoder, text[i], came);
        check(number >= 0 && number <= 2,
              "a byte completes 0, 1 or 2 code points");
        for (int k = 0; k < number; k++)
            code_points[count++] = came[k];
        check(count <= i + 1, "no text has more code points than bytes");
    }
    count += (size_t)utf8_finish(&decoder, &code_points[count]);
    check(count <= length, "no text has more code points than bytes");
    check(utf8_finish(&decoder, &code_points[count]) == 0,
          "a finished decoder is at the beginning");
    return count;
}

/* Encodes code points. Returns how many bytes that are. */
static size_t encode(const uint32_t *code_points, size_t count, char *text)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        size_t size = utf8_encode(code_points[i], text + length);
        check(size >= 1 && size <= UTF8_SIZE,
              "what was decoded can be encoded: no surrogate, nothing above "
              "U+10FFFF");
        length += size;
    }
    return length;
}

/* Encodes any number, and says what must be true of it. */
static void check_number(uint32_t number)
{
    char bytes[UTF8_SIZE];
    uint32_t again[UTF8_SIZE + 1];
    size_t size = utf8_encode(number, bytes);
    bool surrogate = number >= 0xD800 && number <= 0xDFFF;
    check((size == 0) == (surrogate || number > 0x10FFFF),
          "a surrogate and what is above U+10FFFF cannot be encoded, all else "
          "can");
    check(size == 0 || (decode((const uint8_t *)bytes, size, again) == 1 &&
                        again[0] == number),
          "what was encoded is decoded to the same code point");
}

/* Bytes below 80 are characters by themselves, whatever stands around them:
 * all of them come through, in their order, and no others come about. */
static void check_ascii(const uint8_t *text, size_t length,
                        const uint32_t *code_points, size_t count)
{
    size_t next = 0;
    for (size_t i = 0; i < count; i++) {
        if (code_points[i] >= 0x80)
            continue;
        while (next < length && text[next] >= 0x80)
            next++;
        check(next < length && text[next] == code_points[i],
              "an ASCII character comes through what is ill-formed around it");
        next++;
    }
    while (next < length)
        check(text[next++] >= 0x80, "no ASCII character is swallowed");
}

static bool has_replacement(const uint32_t *code_points, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (code_points[i] == UTF8_REPLACEMENT)
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct input input = {bytes, length};
    check_number(
        (uint32_t)(choose(&input, 0x12) << 16 | choose(&input, 0x10000)));

    uint32_t *first = allocate((length + 1) * sizeof *first);
    size_t count = decode(bytes, length, first);
    check_ascii(bytes, length, first, count);

    char *text = allocate(count * UTF8_SIZE);
    size_t text_length = encode(first, count, text);

    /* An ill-formed sequence comes back as U+FFFD, so as other bytes. */
    bool well_formed = text_length == length &&
                       (length == 0 || memcmp(text, bytes, length) == 0);
    json_t *second_opinion = json_stringn((const char *)bytes, length);
    check(well_formed == (second_opinion != NULL),
          "a well-formed text comes back byte for byte, an ill-formed one does "
          "not (jansson says which it is)");
    check(well_formed || has_replacement(first, count),
          "what is ill-formed gives U+FFFD");
    json_decref(second_opinion);

    /* What was put right stays as it is. */
    uint32_t *again = allocate((text_length + 1) * sizeof *again);
    check(decode((const uint8_t *)text, text_length, again) == count &&
              (count == 0 || memcmp(again, first, count * sizeof *first) == 0),
          "what was decoded and encoded is decoded to the same code points");

    free(again);
    free(text);
    free(first);
    return 0;
}

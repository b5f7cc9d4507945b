/*
 * 03-1.c - judges exercise 03-1: the first code point of a text.
 *
 * What is right this file finds out from the rows of Table 3-7, by trying each
 * of them: not as a decoder would do it.
 */
#include "harness.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ "03-encoding/README.md, \"Exercises\""

enum { LIMIT = 65536 };

static const struct row {
    size_t size;
    unsigned char from[4], to[4];
} table[] = {{1, {0x00}, {0x7F}},
             {2, {0xC2, 0x80}, {0xDF, 0xBF}},
             {3, {0xE0, 0xA0, 0x80}, {0xE0, 0xBF, 0xBF}},
             {3, {0xE1, 0x80, 0x80}, {0xEC, 0xBF, 0xBF}},
             {3, {0xED, 0x80, 0x80}, {0xED, 0x9F, 0xBF}},
             {3, {0xEE, 0x80, 0x80}, {0xEF, 0xBF, 0xBF}},
             {4, {0xF0, 0x90, 0x80, 0x80}, {0xF0, 0xBF, 0xBF, 0xBF}},
             {4, {0xF1, 0x80, 0x80, 0x80}, {0xF3, 0xBF, 0xBF, 0xBF}},
             {4, {0xF4, 0x80, 0x80, 0x80}, {0xF4, 0x8F, 0xBF, 0xBF}}};

enum { ROWS = sizeof table / sizeof *table };

/* How many bytes at the beginning of `length` fit the beginning of a row. */
static size_t fits(const struct row *row, const unsigned char *bytes,
                   size_t length)
{
    size_t i = 0;
    while (i < row->size && i < length && bytes[i] >= row->from[i] &&
           bytes[i] <= row->to[i])
        i++;
    return i;
}

/* What decode_one has to say of these bytes, at least one. */
static size_t decode(const unsigned char *bytes, size_t length, uint32_t *code)
{
    size_t longest = 1;
    *code = 0xFFFD;
    for (size_t i = 0; i < ROWS; i++) {
        size_t fit = fits(&table[i], bytes, length);
        if (fit == table[i].size) {
            static const unsigned mask[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
            *code = bytes[0] & mask[fit];
            for (size_t j = 1; j < fit; j++)
                *code = *code * 64 + (bytes[j] - 0x80u);
            return fit;
        }
        if (fit > longest)
            longest = fit;
    }
    return longest;
}

/* A few bytes as hex. */
static const char *hex_of(const unsigned char *bytes, size_t length)
{
    static char text[3 * 9];
    size_t most = length < 8 ? length : 8;
    text[0] = '\0';
    for (size_t i = 0; i < most; i++)
        sprintf(text + 3 * i, "%02X ", bytes[i]);
    return text;
}

/* Gives the program a text, and compares what it prints line by line. */
static void check(const void *text, size_t length)
{
    const unsigned char *bytes = text;
    struct program *program = start_client(NULL);
    type_and_end(program, bytes, length);
    int status = exit_status(program);
    const char *line = standard_output(program, NULL);
    for (size_t at = 0; at < length;) {
        uint32_t code;
        size_t size = decode(bytes + at, length - at, &code);
        char wanted[32];
        int columns = sprintf(wanted, "U+%04X %zu\n", (unsigned)code, size);
        if (strncmp(line, wanted, (size_t)columns) != 0) {
            int printed = (int)strcspn(line, "\n");
            fail_test("Expected: \"U+%04X %zu\", for at byte %zu of %zu begins "
                      "%s%s.\n%s%.*s%s.",
                      (unsigned)code, size, at, length,
                      hex_of(bytes + at, length - at),
                      length - at > 8 ? "and so on" : "and the text ends",
                      printed == 0 ? "The program printed no more lines"
                                   : "The program printed \"",
                      printed < 40 ? printed : 40, line,
                      printed == 0 ? "" : "\"");
        }
        line += columns;
        at += size;
    }
    if (*line != '\0')
        fail_test("Expected: no line behind the last code point.\n"
                  "The program printed \"%.40s\".",
                  line);
    if (status != 0)
        fail_test("Expected: exit status 0.\nIt ended with %d.", status);
}

static void check_text(const char *text)
{
    check(text, strlen(text));
}

TEST(client, ascii_is_one_byte_each,
     .promise = "For a character: its code point, and how many bytes it has.",
     .cause = "U+0000 is a character like any other: the length says where a "
              "text ends, not a byte of zero. For no bytes at all the answer "
              "is 0.",
     .read = READ)
{
    check_text("");
    check("plain text\n\0\x7F", 13);
}

TEST(client, characters_of_two_to_four_bytes,
     .promise = "For a character: its code point, and how many bytes it has, "
                "1 to 4.",
     .cause = "To begin with: the first byte tells how many bytes there are. "
              "From it take the bits below the mark (five, four or three of "
              "them), from each that follows six more. Read bytes through "
              "unsigned char.",
     .read = READ)
{
    check_text("na\xC3\xAFve");
    usual_cause("Characters of two bytes come right. Of the first of three "
                "bytes the lower four bits count, of the first of four the "
                "lower three; each byte that follows gives six more.");
    check_text("\xE2\x82\xAC 5");
    check_text("\xF0\x9F\x98\x80!");
    check_text("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
}

TEST(client, the_first_and_the_last_of_each_row,
     .promise = "Which bytes are a character says Table 3-7 of the Unicode "
                "Standard.",
     .cause = "A boundary is off by one, or a row is missing: between "
              "two rows lie U+007F and U+0080, U+07FF and U+0800, U+D7FF and "
              "U+E000, U+FFFF and U+10000; the last of all is U+10FFFF.",
     .read = READ)
{
    for (size_t i = 0; i < ROWS; i++) {
        char text[8];
        memcpy(text, table[i].from, table[i].size);
        memcpy(text + table[i].size, table[i].to, table[i].size);
        check(text, 2 * table[i].size);
    }
}

TEST(client, a_longer_form_than_needed,
     .promise = "C0, C1, and 80 to 9F after E0, 80 to 8F after F0 are no "
                "character: fewer bits need fewer bytes.",
     .cause = "The bits are put together without a look at the table. C0 80 "
              "is no zero, and E0 80 AF no slash: a check for '/' that "
              "looks at bytes does not see it.",
     .read = READ)
{
    check_text("\xC0\x80\xC1\xBF"
               "A");
    check_text("\xE0\x80\xAF\xE0\x9F\xBF"
               "A");
    check_text("\xF0\x80\x80\xAF\xF0\x8F\xBF\xBF"
               "A");
}

TEST(client, surrogates_and_what_lies_above,
     .promise = "U+D800 to U+DFFF are no characters, nor is anything above "
                "U+10FFFF.",
     .cause = "After ED only 80 to 9F can follow, after F4 only 80 to 8F, and "
              "F5 to FF begin nothing.",
     .read = READ)
{
    check_text("\xED\xA0\x80\xED\xBF\xBF"
               "A");
    check_text("\xF4\x90\x80\x80\xF5\x80\x80\x80\xFF\xFE"
               "A");
}

TEST(client, what_does_not_fit_is_left,
     .promise = "One U+FFFD stands for a maximal subpart. The byte that does "
                "not fit is not part of it.",
     .cause = "decode_one returns as many bytes as the first one promised, and "
              "swallows a character; or it returns 1, and one broken "
              "character becomes two U+FFFD or three. Return how many bytes "
              "were right.",
     .read = READ)
{
    check_text("\xF0\x9F\x98"
               "A");
    check_text("\xE2\x82\xC3\xA9");
    check_text("\xC3\xE2\x82\xAC");
    check_text("\xF0\x9F"
               "AB");
    check_text("\xC3"
               "A\x80\x80");
}

TEST(client, the_text_ends_in_a_character,
     .promise = "Where the text ends, nothing fits.",
     .cause = "decode_one reads a byte before it has compared its place with "
              "the length. Behind the text stands something, here 80: often "
              "it looks like the rest of a character.",
     .read = READ)
{
    check_text("caf\xC3");
    check_text("\xE2");
    check_text("\xE2\x82");
    check_text("\xF0");
    check_text("\xF0\x9F");
    check_text("\xF0\x9F\x98");
    check_text("\xE0");
}

TEST(client, every_first_with_every_second,
     .promise = "Which bytes are a character says Table 3-7 of the Unicode "
                "Standard; one U+FFFD stands for a maximal subpart.",
     .cause = "One first byte is treated wrongly. The line above says which: "
              "look at its row.",
     .read = READ)
{
    static unsigned char text[64 * 256 * 4];
    size_t length = 0;
    for (unsigned first = 0xC0; first <= 0xFF; first++) {
        for (unsigned second = 0; second <= 0xFF; second++) {
            text[length++] = (unsigned char)first;
            text[length++] = (unsigned char)second;
            text[length++] = 0xA5;
            if (first >= 0xF0)
                text[length++] = 0x85;
        }
    }
    check(text, length);
}

TEST(client, whatever_the_bytes_are,
     .promise = "Any bytes at all are decoded, none twice, none left out.",
     .cause = "The line above says where yours differs, and which bytes stand "
              "there. Find them in the table, row by row.",
     .read = READ)
{
    /* Any bytes; and any of those that stand at a boundary of the table. */
    check(pattern(LIMIT / 2, 1), LIMIT / 2);
    static const unsigned char edges[] = {
        0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2,
        0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4,
        0xF5, 0xFF, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xBF, 0x80};
    static unsigned char text[LIMIT];
    memcpy(text, pattern(LIMIT, 2), LIMIT);
    for (size_t i = 0; i < LIMIT; i++)
        text[i] = edges[text[i] % sizeof edges];
    check(text, LIMIT);
}

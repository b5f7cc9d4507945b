/*
 * 03-3.c - judges exercise 03-3: from UTF-16 to UTF-8, piece by piece.
 */
#include "harness.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define READ "03-encoding/README.md, \"Exercises\""

/* Gives the program all of its input, and waits for exactly this output. */
static void converts(const void *utf16, size_t length, const char *utf8)
{
    struct program *program = start_client(NULL);
    type_and_end(program, utf16, length);
    expect_output_text(program, utf8);
    expect_output_end(program);
    expect_exit(program, 0);
}

/* The bytes of a string literal, '\0' among them. */
#define BYTES(literal) literal, sizeof(literal) - 1

static size_t encode(uint32_t code, unsigned char *utf8)
{
    if (code < 0x80) {
        utf8[0] = (unsigned char)code;
        return 1;
    }
    size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char mark[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = size; i-- > 0; code >>= 6)
        utf8[i] = (unsigned char)(i > 0 ? 0x80 | (code & 0x3F)
                                        : mark[size] | code);
    return size;
}

/* What becomes of `count` units behind the mark. Returns how many bytes. */
static size_t convert(const uint16_t *units, size_t count, unsigned char *utf8)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t code = units[i];
        bool is_first = code >> 10 == 0x36;
        if (is_first && i + 1 < count && units[i + 1] >> 10 == 0x37) {
            code = 0x10000 + (code & 0x3FF) * 0x400 + (units[i + 1] & 0x3FF);
            i++;
        } else if (code >> 11 == 0x1B) {
            code = 0xFFFD;
        }
        length += encode(code, utf8 + length);
    }
    return length;
}

/* Gives the program a mark and these units, and compares. */
static void check_units(const uint16_t *units, size_t count, bool little)
{
    unsigned char *utf16 = malloc(2 * count + 2);
    unsigned char *utf8 = malloc(3 * count);
    if (utf16 == NULL || utf8 == NULL)
        abort();
    for (size_t i = 0; i <= count; i++) {
        unsigned unit = i == 0 ? 0xFEFF : units[i - 1];
        utf16[2 * i + little] = (unsigned char)(unit >> 8);
        utf16[2 * i + !little] = (unsigned char)unit;
    }
    struct program *program = start_client(NULL);
    type_and_end(program, utf16, 2 * count + 2);
    expect_output(program, utf8, convert(units, count, utf8));
    expect_output_end(program);
    expect_exit(program, 0);
    free(utf16);
    free(utf8);
}

TEST(client, without_a_mark_it_is_big_endian,
     .promise = "Without a mark the text is big-endian.",
     .cause = "The order of the machine is taken for that of the text, or the "
              "first unit is left out though it is no mark.",
     .read = READ)
{
    converts("", 0, "");
    converts(BYTES("\0h\0i\0\n"), "hi\n");
    converts(BYTES("\0\xE9\x20\xAC"), "\xC3\xA9\xE2\x82\xAC");
}

TEST(client, the_mark_tells_the_order,
     .promise = "FE FF says big-endian, FF FE little-endian. It is not "
                "printed.",
     .cause = "To begin with: look at the first unit. When it is FEFF, leave "
              "it out; when it is FFFE, leave it out and take every later "
              "unit with its bytes the other way round. That the first unit "
              "has come must be remembered for the next piece: put it into "
              "struct utf16.",
     .read = READ)
{
    converts(BYTES("\xFE\xFF\0h\0i\x20\xAC"), "hi\xE2\x82\xAC");
    usual_cause("The mark FE FF is understood. After FF FE the second byte of "
                "each unit is worth more, in this piece and in all that "
                "follow; and neither mark is printed when nothing follows.");
    converts(BYTES("\xFF\xFEh\0i\0\xAC\x20"), "hi\xE2\x82\xAC");
    converts(BYTES("\xFE\xFF"), "");
    converts(BYTES("\xFF\xFE"), "");
}

TEST(client, only_the_first_unit_is_a_mark,
     .promise = "Only the first unit can be a mark. Later, FEFF and FFFE are "
                "code points like any other.",
     .cause = "Every FEFF is left out, or an FFFE in the text turns the order "
              "round.",
     .read = READ)
{
    converts(BYTES("\xFE\xFF\xFE\xFF\0a"), "\xEF\xBB\xBF"
                                           "a");
    converts(BYTES("\0a\xFE\xFF\0b\xFF\xFE\0c"), "a\xEF\xBB\xBF"
                                                 "b\xEF\xBF\xBE"
                                                 "c");
    converts(BYTES("\xFF\xFE\xFF\xFE"
                   "a\0"),
             "\xEF\xBB\xBF"
             "a");
}

TEST(client, two_surrogates_are_one_code_point,
     .promise = "D800 to DBFF and then DC00 to DFFF are two surrogates, and "
                "make one code point.",
     .cause = "Each surrogate is encoded by itself (utf8_encode refuses it), "
              "or the 10000 is not added.",
     .read = READ)
{
    converts(BYTES("\xD8\x3D\xDE\0"), "\xF0\x9F\x98\x80");
    converts(BYTES("\xFF\xFE\x3D\xD8\0\xDE!\0"), "\xF0\x9F\x98\x80!");
    converts(BYTES("\xD8\0\xDC\0\xDB\xFF\xDF\xFF"),
             "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF");
}

TEST(client, a_surrogate_without_the_other,
     .promise = "A surrogate without the other becomes U+FFFD. What stands "
                "behind it is looked at as if nothing had been.",
     .cause = "The unit behind a lone first surrogate is swallowed with it; or "
              "it is not taken for the first of a pair of its own; or a lone "
              "second surrogate is printed as it is, or not at all.",
     .read = READ)
{
    converts(BYTES("\0a\xD8\x3D\0b"), "a\xEF\xBF\xBD"
                                      "b");
    converts(BYTES("\0a\xDE\0\0b"), "a\xEF\xBF\xBD"
                                    "b");
    converts(BYTES("\xD8\x3D\xD8\x3D\xDE\0"), "\xEF\xBF\xBD\xF0\x9F\x98\x80");
    converts(BYTES("\xDE\0\xD8\x3D"), "\xEF\xBF\xBD\xEF\xBF\xBD");
    converts(BYTES("\xD8\x3D\xDE\0\xDE\0!!"), "\xF0\x9F\x98\x80\xEF\xBF\xBD"
                                              "\xE2\x84\xA1");
}

TEST(client, the_end_in_the_middle,
     .promise = "One byte left over at the end becomes U+FFFD.",
     .cause = "What is still remembered when the input ends is forgotten: "
              "finish has to say it.",
     .read = READ)
{
    converts(BYTES("\0a\0"), "a\xEF\xBF\xBD");
    converts(BYTES("\xFE"), "\xEF\xBF\xBD");
    converts(BYTES("\xFF\xFE"
                   "a\0b"),
             "a\xEF\xBF\xBD");
    converts(BYTES("\0a\xD8\x3D"), "a\xEF\xBF\xBD");
    usual_cause("A surrogate without the other becomes U+FFFD, and one byte "
                "left over does. Where the text ends with both, finish has to "
                "say two.");
    converts(BYTES("\0a\xD8\x3D\xDE"), "a\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(client, cut_anywhere,
     .promise = "What can be printed is printed before the program waits for "
                "more input.",
     .cause = "A piece ended in the middle, of a unit or between two "
              "surrogates, and the next one was taken for a new beginning: "
              "keep the odd byte and the first surrogate in struct utf16. Or "
              "the program prints only when it has a certain amount, or at "
              "the end.",
     .read = READ)
{
    struct program *program = start_client(NULL);
    /* What has been printed shows that the program has read so far. */
    type_bytes(program, BYTES("\xFF\xFE"
                              "A\0\xAC"));
    expect_output_text(program, "A");
    type_bytes(program, BYTES("\x20\x3D\xD8"));
    expect_output_text(program, "\xE2\x82\xAC");
    type_bytes(program, BYTES("\0\xDE"
                              "B\0\x3D"));
    expect_output_text(program, "\xF0\x9F\x98\x80"
                                "B");
    type_bytes(program, BYTES("\xD8\0\xDE"
                              "C\0\x3D\xD8\x01"));
    expect_output_text(program, "\xF0\x9F\x98\x80"
                                "C");
    type_bytes(program, BYTES("\xDE\x3D\xD8"));
    expect_output_text(program, "\xF0\x9F\x98\x81");
    type_bytes(program, BYTES("D\0"));
    expect_output_text(program, "\xEF\xBF\xBD"
                                "D");
    end_input(program);
    expect_output_end(program);
    expect_exit(program, 0);

    /* The mark in two pieces: nothing shows when the first has been read. */
    struct program *other = start_client(NULL);
    type_bytes(other, BYTES("\xFF"));
    let_pass(0.05);
    type_bytes(other, BYTES("\xFE"));
    let_pass(0.05);
    type_bytes(other, BYTES("A\0"));
    expect_output_text(other, "A");
}

TEST(client, every_unit_in_any_order,
     .promise = "Every unit is a code point, a half of one, or becomes U+FFFD.",
     .cause = "The first difference says which: read its bytes as UTF-8 and "
              "find the unit.",
     .read = READ)
{
    static uint16_t units[65536];
    for (size_t i = 0; i < 65536; i++)
        units[i] = (uint16_t)i;
    check_units(units, 65536, false);

    /* Many surrogates, in any order. */
    const unsigned char *dice = pattern(sizeof units, 7);
    for (size_t i = 0; i < 65536; i++) {
        static const unsigned char tops[] = {0xD8, 0xDB, 0xDC, 0xDF,
                                             0xD7, 0xE0, 0x00, 0xD8};
        units[i] = (uint16_t)(tops[dice[2 * i] % 8] << 8 | dice[2 * i + 1]);
    }
    check_units(units, 65536, true);
}

TEST(client, megabytes_in_little_memory,
     .promise = "However long the text is, the memory stays the same.",
     .cause = "The program keeps the text, or what became of it.", .read = READ)
{
    enum { PART = 65536, PARTS = 48 };
    struct program *program = start_client(NULL);
    static char utf16[PART], utf8[PART / 2];
    for (size_t i = 0; i < PART / 2; i++) {
        utf8[i] = (char)('a' + i % 26);
        utf16[2 * i + 1] = utf8[i];
    }
    size_t memory = 0;
    for (int i = 0; i < PARTS; i++) {
        type_bytes(program, utf16, PART);
        expect_output(program, utf8, PART / 2);
        if (i == 0)
            memory = holdings_of(program).memory;
    }
    size_t held = holdings_of(program).memory;
    if (held > memory + (1 << 20))
        fail_test("Expected: after 3 MB the program holds as much memory as "
                  "at the beginning.\nIt holds %zu KiB more.",
                  (held - memory) >> 10);
    end_input(program);
    expect_output_end(program);
    expect_exit(program, 0);
}

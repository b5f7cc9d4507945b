/*
 * 03-2.c - judges exercise 03-2: a text cut to so many bytes.
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#define READ "03-encoding/README.md, \"Exercises\""

/* Gives the program a text and -n `most`; waits for its end. Returns what it
 * printed. */
static const char *cut(const void *text, size_t length, size_t most,
                       size_t *printed)
{
    struct program *program = start_client("-n", text_of("%zu", most), NULL);
    type_and_end(program, text, length);
    expect_exit(program, 0);
    const char *output = standard_output(program, printed);
    if (*printed > most)
        fail_test("Expected: at most %zu bytes.\nThe program printed %zu.",
                  most, *printed);
    return output;
}

/* Expects the first `kept` bytes of the text. */
static void expect_cut(const char *text, size_t length, size_t most,
                       size_t kept)
{
    size_t printed;
    const char *output = cut(text, length, most, &printed);
    size_t same = 0;
    while (same < printed && same < kept && output[same] == text[same])
        same++;
    if (printed != kept || same != kept)
        fail_test("Expected: of the %zu bytes, with -n %zu, the first %zu.\n"
                  "The program printed %zu bytes; %zu of them are the "
                  "text's.",
                  length, most, kept, printed, same);
}

/* Expects a beginning of the text that is at most three bytes too short. */
static void expect_near(const void *text, size_t length, size_t most)
{
    size_t printed;
    const char *output = cut(text, length, most, &printed);
    size_t least = most > 3 ? most - 3 : 0;
    if (printed < least || memcmp(output, text, printed) != 0)
        fail_test("Expected: of the %zu bytes, which are no UTF-8, with -n %zu "
                  "the first %zu to %zu.\nThe program printed %zu bytes%s.",
                  length, most, least, most, printed,
                  memcmp(output, text, printed) != 0
                      ? ", and they are not the first of the text"
                      : "");
}

/* How much of a well-formed text stays: whole characters, from the front. */
static size_t whole(const char *text, size_t length, size_t most)
{
    size_t at = 0;
    while (at < length) {
        unsigned char first = (unsigned char)text[at];
        size_t size = first < 0x80   ? 1
                      : first < 0xE0 ? 2
                      : first < 0xF0 ? 3
                                     : 4;
        if (at + size > most)
            break;
        at += size;
    }
    return at;
}

TEST(client, ascii_is_cut_at_n,
     .promise = "Of a longer text as many bytes stay as N allows.",
     .cause = "Where each byte is a character, N bytes stay.", .read = READ)
{
    expect_cut("plain text", 10, 5, 5);
    expect_cut("plain text", 10, 0, 0);
    expect_cut("plain text", 10, 9, 9);
}

TEST(client, the_character_that_would_be_cut_goes,
     .promise = "Of a longer text as many bytes stay as N allows, but never a "
                "part of a UTF-8 character.",
     .cause = "To begin with: look at byte N (text[most]), the first that "
              "goes. When it continues a character (10xxxxxx), the cut is in "
              "the middle of one: go back to the byte that begins it.",
     .read = READ)
{
    expect_cut("caf\xC3\xA9s", 6, 4, 3);
    usual_cause("Two bytes are not cut any more. Three or four may be cut "
                "behind the second or the third, too: go back until the first "
                "byte that goes is one that begins a character.");
    expect_cut("a\xE2\x82\xAC.", 5, 2, 1);
    expect_cut("a\xE2\x82\xAC.", 5, 3, 1);
    expect_cut("\xF0\x9F\x98\x80.", 5, 1, 0);
    expect_cut("a\xF0\x9F\x98\x80.", 6, 3, 1);
    expect_cut("a\xF0\x9F\x98\x80.", 6, 4, 1);
}

TEST(client, a_character_that_fits_stays,
     .promise = "Of a longer text as many bytes stay as N allows.",
     .cause = "The last character goes though it is whole: the program looks "
              "at the last byte that stays, which continues a character here, "
              "and not at the first that goes.",
     .read = READ)
{
    expect_cut("caf\xC3\xA9s", 6, 5, 5);
    expect_cut("a\xE2\x82\xAC\xE2\x82\xAC", 7, 4, 4);
    expect_cut("\xF0\x9F\x98\x80.", 5, 4, 4);
}

TEST(client, a_short_text_stays,
     .promise = "A text of at most N bytes stays as it is, whatever its bytes "
                "are.",
     .cause = "The program looks at a byte N that the text does not have. "
              "Compare the length first: when the text is not longer than N, "
              "nothing is cut.",
     .read = READ)
{
    expect_cut("caf\xC3\xA9", 5, 5, 5);
    expect_cut("caf\xC3\xA9", 5, 6, 5);
    expect_cut("abc", 3, 3, 3);
    expect_cut("a\xE2\x82", 3, 3, 3);
    expect_cut("caf\xC3", 4, 65536, 4);
    expect_cut("", 0, 10, 0);
    expect_cut("", 0, 0, 0);
}

TEST(client, bytes_that_only_continue,
     .promise = "The bytes may be no UTF-8. There, too, at least N - 3 bytes "
                "stay.",
     .cause = "The program goes back for as long as bytes continue a "
              "character. Here all do, and it runs to the beginning of the "
              "text, or past it. A character began at most three bytes "
              "earlier, or there is none.",
     .read = READ)
{
    char text[1000];
    memset(text, 0x80, sizeof text);
    expect_near(text, sizeof text, 500);
    expect_near(text, sizeof text, 4);
    expect_near(text, sizeof text, 1);
    text[0] = 'a';
    expect_near(text, sizeof text, 996);
    expect_near(text, sizeof text, 2);
    expect_cut("\x80\x80\x80\xC3\xA9.", 6, 4, 3);
}

TEST(client, whatever_the_bytes_are,
     .promise = "The bytes may be no UTF-8. There, too, at least N - 3 bytes "
                "stay.",
     .cause = "The program goes back over more than one character that is "
              "broken, or prints something that is not in the text.",
     .read = READ)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned char text[64];
        memcpy(text, pattern(sizeof text, i + 1), sizeof text);
        for (size_t j = 0; j < sizeof text; j++)
            text[j] |= 0x80;
        expect_near(text, sizeof text, 17 + 5 * i);
    }
}

TEST(client, every_place_in_a_text,
     .promise = "Of a longer text as many bytes stay as N allows, but never a "
                "part of a UTF-8 character.",
     .cause = "One of the cuts inside a character is not seen, or costs more "
              "than this character. Try this text with this -n by hand.",
     .read = READ)
{
    static const char text[] = "\xF0\x9F\x98\x80\xE2\x82\xAC\xC3\xA9!"
                               "\xE2\x82\xAC\xF4\x8F\xBF\xBF\xDF\xBF";
    size_t length = sizeof text - 1;
    for (size_t most = 0; most <= length + 1; most++)
        expect_cut(text, length, most, whole(text, length, most));
    /* In a long text N is far from the beginning. */
    static char long_text[65536 + 3];
    for (size_t i = 0; i < sizeof long_text; i += 3)
        memcpy(long_text + i, "\xE2\x82\xAC", 3);
    expect_cut(long_text, 65535 + 3, 65536, 65535);
}

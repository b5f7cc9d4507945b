/*
 * diagnose.c - says what kind of difference there is between the bytes that
 * were expected and those that came.
 */
#include "inside.h"

#include <ctype.h>
#include <string.h>

enum { NEEDLE = 12 }; /* so many equal bytes are no chance */

struct difference {
    const unsigned char *expected, *came; /* both from the first difference */
    size_t expected_left, came_left;
    const unsigned char *all; /* what was expected, from its beginning */
    size_t at;                /* where the first difference is */
};

static size_t find(const unsigned char *in, size_t length,
                   const unsigned char *what, size_t what_length)
{
    const unsigned char *found = memmem(in, length, what, what_length);
    return found == NULL ? (size_t)-1 : (size_t)(found - in);
}

/* "bytes 4,096 to 4,099" */
static const char *stretch(size_t from, size_t length)
{
    if (length == 1)
        return text_of("byte %zu", from);
    return text_of("bytes %zu to %zu", from, from + length - 1);
}

static const char *round_number(size_t number)
{
    if (number < 64 || (number & (number - 1)) != 0) {
        if (number >= 1000 && number % 1000 == 0)
            return " That is a round number: the size of a buffer?";
        if (number < 256 || number % 256 != 0)
            return "";
    }
    return " That is a round number: the size of a buffer, or of what one "
           "call takes?";
}

/* All that came is right, but it is too little. */
static void diagnose_missing_end(struct bytes *text, const struct difference *d,
                                 enum ending ending)
{
    append_format(text,
                  "What came is right as far as it goes: %s. The last %s of "
                  "%zu %s missing.",
                  count_of(d->at, "byte"), count_of(d->expected_left, "byte"),
                  d->at + d->expected_left,
                  d->expected_left == 1 ? "is" : "are");
    unsigned char next = d->expected[0];
    if (next == 0)
        append_format(text, " The next byte would have been a NUL: the bytes "
                            "were treated as a C string, which ends there.");
    else if (next == '\n' && d->expected_left == 1)
        append_format(text, " It is the newline at the end.");
    else if (next == '\n' || next == '\r')
        append_format(text, " The next byte would have been the end of a "
                            "line.");
    else if (next == 0xff)
        append_format(text, " The next byte would have been 0xFF, which in a "
                            "char is -1, the same as EOF.");
    else if (next == 0x1a || next == 0x04)
        append_format(text,
                      " The next byte would have been 0x%02X, which "
                      "some take for the end of a text.",
                      next);
    else
        append_format(text, "%s", round_number(d->at));
    if (d->at > 0 && d->all[d->at - 1] == '\n' && next != 0 &&
        memchr(d->expected, '\n', d->expected_left) == NULL)
        append_format(text, " It stops behind a newline: what has no newline "
                            "behind it does not come.");
    if (ending == RESET)
        append_format(text, " The connection ended with a reset: the program "
                            "closed while bytes for it were unread (or with "
                            "SO_LINGER at 0), or it died.");
}

/* All that was expected came, and then more. */
static void diagnose_more(struct bytes *text, const struct difference *d)
{
    append_format(text, "All that was expected came, and then %s too many.",
                  count_of(d->came_left, "byte"));
    if (d->came_left == 1 && d->came[0] == 0)
        append_format(text, " It is a NUL: the terminator of a C string was "
                            "sent too.");
    else if (d->came[0] == '\n' && d->came_left == 1)
        append_format(text, " It is a newline.");
    else if (d->came[0] == '\r' || d->came[0] == '\n')
        append_format(text, " A line end was added.");
    else if (d->at > 0 && d->came_left >= d->at &&
             memcmp(d->came, d->all, d->at) == 0)
        append_format(text, " They are the same bytes again, from the first "
                            "on.");
    else if (d->came_left <= d->at &&
             memcmp(d->came, d->all + d->at - d->came_left, d->came_left) == 0)
        append_format(text, " They are the last bytes once more.");
    else if (d->came_left >= 4 &&
             find(d->all, d->at, d->came,
                  d->came_left < NEEDLE ? d->came_left : NEEDLE) != (size_t)-1)
        append_format(
            text, " They repeat what came before: %s.",
            stretch(find(d->all, d->at, d->came,
                         d->came_left < NEEDLE ? d->came_left : NEEDLE),
                    d->came_left));
    else {
        bool all_zero = true;
        for (size_t i = 0; i < d->came_left; i++)
            all_zero = all_zero && d->came[i] == 0;
        if (all_zero)
            append_format(text, " All of them are NUL: a whole buffer was "
                                "sent, not the part that was filled.");
    }
}

/* From the first difference on, the same bytes go on somewhere else. */
static bool diagnose_moved(struct bytes *text, const struct difference *d)
{
    size_t needle = NEEDLE;
    if (d->came_left < needle)
        needle = d->came_left;
    if (d->expected_left < needle)
        needle = d->expected_left;
    if (needle < 4)
        return false;

    size_t skipped = find(d->expected, d->expected_left, d->came, needle);
    if (skipped != (size_t)-1 && needle >= 4) {
        append_format(text,
                      "Up to byte %zu all is right; then %s missing "
                      "(%s), and behind them it goes on.",
                      d->at,
                      text_of("%s %s", count_of(skipped, "byte"),
                              skipped == 1 ? "is" : "are"),
                      stretch(d->at, skipped));
        const unsigned char *gone = d->expected;
        bool all_nul = true, all_cr = true, all_high = true;
        for (size_t i = 0; i < skipped; i++) {
            all_nul = all_nul && gone[i] == 0;
            all_cr = all_cr && gone[i] == '\r';
            all_high = all_high && gone[i] >= 0x80;
        }
        append_format(text, "%s",
                      all_nul    ? " What is missing is NUL."
                      : all_cr   ? " What is missing is a carriage return."
                      : all_high ? " What is missing are bytes from 0x80 on."
                                 : " A call that took only a part of what it "
                                   "was given leaves such a hole.");
        return true;
    }

    size_t inserted = find(d->came, d->came_left, d->expected, needle);
    if (inserted != (size_t)-1) {
        append_format(text,
                      "Up to byte %zu all is right; then %s came that "
                      "do not belong there, and behind them it goes "
                      "on.",
                      d->at, count_of(inserted, "byte"));
        if (inserted <= d->at &&
            memcmp(d->came, d->all + d->at - inserted, inserted) == 0)
            append_format(text, " They are the bytes just before, sent "
                                "twice.");
        else if (d->came[0] == '\r')
            append_format(text, " A carriage return was put before the "
                                "newline.");
        else if (d->came[0] == 0)
            append_format(text, " They are NUL: more was sent than had been "
                                "received.");
        return true;
    }

    if (needle >= 8) {
        size_t before = find(d->all, d->at, d->came, needle);
        if (before != (size_t)-1) {
            append_format(text,
                          "Up to byte %zu all is right; then the bytes "
                          "from %zu on come again. Bytes that were "
                          "there before are sent once more: a buffer "
                          "is sent from its beginning, or further "
                          "than it was filled.",
                          d->at, before);
            return true;
        }
    }
    return false;
}

static void diagnose_changed(struct bytes *text, const struct difference *d)
{
    unsigned char wanted = d->expected[0];
    unsigned char got = d->came[0];

    append_format(text,
                  "Byte %zu (counted from 0) should be 0x%02X and is "
                  "0x%02X.",
                  d->at, wanted, got);
    if (wanted == '\n' && got == '\r')
        append_format(text, " A newline became carriage return and newline.");
    else if (wanted == '\r')
        append_format(text, " A carriage return is gone or changed.");
    else if (wanted == 0)
        append_format(text, " A NUL is gone or changed: the bytes were "
                            "treated as text.");
    else if (wanted >= 0x80 && (got == '?' || got == 0xef))
        append_format(text, " A byte from 0x80 on became a replacement "
                            "character: the bytes were decoded as text.");
    else if (wanted >= 0x80 && (got == 0xc2 || got == 0xc3))
        append_format(text, " A byte from 0x80 on became two: it was taken "
                            "for Latin-1 and encoded as UTF-8.");
    else if (wanted >= 0x80 && got == (wanted & 0x7f))
        append_format(text, " The highest bit is gone: seven bits were kept.");
    else if (isalpha(wanted) && got == (wanted ^ 0x20))
        append_format(text, " Upper and lower case were exchanged.");
    else if (d->at > 0 && d->at < 64 && got == d->all[0])
        append_format(text, " That is the first byte again: was the rest "
                            "sent from the beginning of the buffer, and not "
                            "from where the last call stopped?");
    else if (got == 0)
        append_format(text, " A NUL stands where a byte should be: memory "
                            "that was not filled was sent.");
}

void diagnose(struct bytes *text, const unsigned char *expected,
              size_t expected_length, const unsigned char *came,
              size_t came_length, enum ending ending)
{
    size_t at = first_difference(expected, expected_length, came, came_length);
    struct difference d = {expected + at,    came + at, expected_length - at,
                           came_length - at, expected,  at};

    if (expected_length == 0)
        return;
    if (came_length == 0)
        append_format(
            text, "Nothing came at all%s.",
            ending == END_OF_FILE ? ": the program closed without a byte"
            : ending == CUT_OFF ? ": the connection was cut off without a byte"
            : ending == RESET
                ? ": the program reset the connection"
                : ", and nothing was closed: the program waits, or "
                  "holds the bytes back");
    else if (d.came_left == 0)
        diagnose_missing_end(text, &d, ending);
    else if (d.expected_left == 0)
        diagnose_more(text, &d);
    else if (!diagnose_moved(text, &d))
        diagnose_changed(text, &d);
}

/*
 * report.c - a test from its first step to its verdict: the runs on a calm and
 * on a hostile network, the steps, and the report when it fails.
 */
#include "inside.h"

#include <criterion/new/assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    WIDTH = 76,           /* columns of a report */
    FIRST_STEPS = 24,     /* of a long list of steps, so many are shown from */
    LAST_STEPS = 20,      /* its beginning and from its end */
    MOST_ERRORS = 12,     /* lines of a program's standard error */
    ROW = 16,             /* bytes in a row of a dump */
    ROWS_BEFORE = 2,      /* rows shown before the first difference */
    ROWS_SHOWN = 6,       /* rows shown of each side */
    LONGEST_CALM = 100,   /* seconds that a test may take */
    LONGEST_HOSTILE = 30, /* and with hostile seeds (or 3 times PATIENCE) */
    AT_LAST = 115         /* when nothing moves; Criterion ends it at 120 */
};

struct step {
    double when;
    const char *text;
};

/* The test that runs in this process. */
static struct {
    const char *suite, *name;
    const struct test_info *info;
    const char *cause;
    unsigned seed;
    double started;
    double process_started;
    double moved; /* when bytes went to a program last, or came from one */
    struct step *steps;
    size_t step_count, step_size;
    bool is_failing;
    bool is_over; /* too long: it is being ended */
} test;

unsigned hostile_seed(void)
{
    return test.seed;
}

bool is_failing(void)
{
    return test.is_failing;
}

void usual_cause(const char *cause)
{
    test.cause = cause;
}

void note(const char *format, ...)
{
    struct bytes text = {0};
    va_list list;
    va_start(list, format);
    append_arguments(&text, format, list);
    va_end(list);
    if (test.step_count == test.step_size) {
        test.step_size = test.step_size == 0 ? 64 : test.step_size * 2;
        test.steps = realloc(test.steps, test.step_size * sizeof test.steps[0]);
        if (test.steps == NULL)
            abort();
    }
    test.steps[test.step_count++] = (struct step){now() - test.started,
                                                  text_of("%s", text.data)};
    free_bytes(&text);
}

/* ---------------------------------------------------------- words for bytes */

const char *count_of(size_t number, const char *singular)
{
    char digits[32];
    char grouped[48];
    int length = snprintf(digits, sizeof digits, "%zu", number);
    size_t to = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            grouped[to++] = ',';
        grouped[to++] = digits[i];
    }
    grouped[to] = '\0';
    return text_of("%s %s%s", grouped, singular, number == 1 ? "" : "s");
}

const char *quoted(const void *bytes, size_t length)
{
    enum { MOST = 48, MOST_STRANGE = 8 };
    const unsigned char *data = bytes;
    struct bytes text = {0};
    size_t shown = 0, strange = 0;
    bool escaped_hex = false;

    while (shown < length && shown < MOST && strange < MOST_STRANGE) {
        strange += data[shown] >= 0x7f ||
                   (data[shown] < 0x20 && data[shown] != '\n');
        shown++;
    }

    if (length > 4)
        append_format(&text, "%s, ", count_of(length, "byte"));
    append_bytes(&text, "\"", 1);
    for (size_t i = 0; i < shown; i++) {
        unsigned char byte = data[i];
        bool is_hex_digit = (byte >= '0' && byte <= '9') ||
                            (byte >= 'a' && byte <= 'f') ||
                            (byte >= 'A' && byte <= 'F');
        if (escaped_hex && is_hex_digit)
            append_bytes(&text, "\"\"", 2);
        escaped_hex = false;
        if (byte == '\n')
            append_bytes(&text, "\\n", 2);
        else if (byte == '\r')
            append_bytes(&text, "\\r", 2);
        else if (byte == '\t')
            append_bytes(&text, "\\t", 2);
        else if (byte == '"' || byte == '\\')
            append_format(&text, "\\%c", byte);
        else if (byte >= 0x20 && byte < 0x7f)
            append_bytes(&text, &byte, 1);
        else {
            append_format(&text, "\\x%02x", byte);
            escaped_hex = true;
        }
    }
    append_bytes(&text, "\"", 1);
    if (shown < length)
        append_bytes(&text, "...", 3);
    const char *kept = text_of("%s", text.data);
    free_bytes(&text);
    return kept;
}

/* -------------------------------------------------------------- paragraphs */

/* Criterion leaves out lines that are empty: a line between two sections
 * holds a blank. */

/* Appends text, broken between words into lines of at most WIDTH columns that
 * begin with `indent` blanks; a newline in the text is kept. */
static void append_wrapped(struct bytes *report, int indent, const char *text)
{
    while (*text != '\0') {
        size_t room = (size_t)(WIDTH - indent);
        size_t line = strcspn(text, "\n");
        size_t length = line;
        if (length > room) {
            length = room;
            while (length > 0 && text[length] != ' ')
                length--;
            if (length == 0)
                length = strcspn(text, " \n");
        }
        append_format(report, "%*s%.*s\n", indent, "", (int)length, text);
        text += length;
        if (length == line && *text == '\n')
            text++;
        while (*text == ' ')
            text++;
    }
}

static void append_section(struct bytes *report, const char *heading,
                           const char *text)
{
    if (text == NULL || text[0] == '\0')
        return;
    append_format(report, " \n%s\n", heading);
    append_wrapped(report, 4, text);
}

/* Whether exercises.sh runs the test; it says by which command. */
static bool is_exercise(void)
{
    return getenv("AGAIN") != NULL;
}

static void append_steps(struct bytes *report)
{
    append_format(report, " \nWhat was done (time in ms)\n");
    for (size_t i = 0; i < test.step_count; i++) {
        size_t hidden_until = test.step_count - LAST_STEPS;
        if (test.step_count > FIRST_STEPS + LAST_STEPS + 2 &&
            i == FIRST_STEPS) {
            append_format(report, "      ...        (%zu steps left out)\n",
                          hidden_until - i);
            i = hidden_until;
        }
        struct bytes wrapped = {0};
        append_wrapped(&wrapped, 14, test.steps[i].text);
        append_format(report, "%4zu. %6.0f  %s", i + 1,
                      test.steps[i].when * 1e3,
                      wrapped.data != NULL ? wrapped.data + 14 : "\n");
        free_bytes(&wrapped);
    }
}

/* ------------------------------------------------------------------ dumps */

static void append_dump(struct bytes *report, const unsigned char *bytes,
                        size_t length, size_t from, size_t difference)
{
    if (length == 0) {
        append_format(report, "        (no byte)\n");
        return;
    }
    if (from > 0)
        append_format(report, "    ...\n");
    size_t row = from;
    for (int i = 0; i < ROWS_SHOWN && row < length; i++, row += ROW) {
        append_format(report, "    %06zx ", row);
        for (size_t j = row; j < row + ROW; j++) {
            if (j < length)
                append_format(report, "%s%02x", j == difference ? ">" : " ",
                              bytes[j]);
            else
                append_format(report, "%s", j == difference ? ">  " : "   ");
        }
        append_format(report, "  |");
        for (size_t j = row; j < row + ROW && j < length; j++)
            append_format(report, "%c",
                          bytes[j] >= 0x20 && bytes[j] < 0x7f ? bytes[j] : '.');
        append_format(report, "|\n");
    }
    if (row < length)
        append_format(report, "    ...\n");
}

size_t first_difference(const void *one, size_t one_length, const void *other,
                        size_t other_length)
{
    const unsigned char *a = one, *b = other;
    size_t both = one_length < other_length ? one_length : other_length;
    size_t i = 0;
    while (i + 4096 <= both && memcmp(a + i, b + i, 4096) == 0)
        i += 4096;
    while (i < both && a[i] == b[i])
        i++;
    return i;
}

static void append_comparison(struct bytes *report, const char *what,
                              const unsigned char *expected,
                              size_t expected_length, const unsigned char *came,
                              size_t came_length, enum ending ending)
{
    size_t difference = first_difference(expected, expected_length, came,
                                         came_length);
    size_t row = difference / ROW;
    size_t from = row > ROWS_BEFORE ? (row - ROWS_BEFORE) * ROW : 0;
    struct bytes diagnosis = {0};

    append_format(report, " \nExpected %s: %s\n", what,
                  count_of(expected_length, "byte"));
    append_dump(report, expected, expected_length, from, difference);
    append_format(report, "Came: %s%s\n", count_of(came_length, "byte"),
                  ending == END_OF_FILE ? ", then the end"
                  : ending == RESET     ? ", then a reset"
                  : ending == CUT_OFF
                      ? ", then the end of TCP without close_notify"
                      : ", and no more while the test waited");
    append_dump(report, came, came_length, from, difference);
    diagnose(&diagnosis, expected, expected_length, came, came_length, ending);
    if (diagnosis.length > 0)
        append_section(report, "What that looks like", diagnosis.data);
    free_bytes(&diagnosis);
}

/* ---------------------------------------------------------------- programs */

/* Where in a program's standard error to begin: at a sanitizer's report, or
 * so that the last lines are seen. */
static const char *telling_part(const struct bytes *complaint)
{
    static const char *const words[] = {"Sanitizer", "runtime error:"};
    const char *start = complaint->data;
    const char *end = start + complaint->length;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *found = memmem(start, complaint->length, words[i],
                                   strlen(words[i]));
        if (found == NULL)
            continue;
        while (found > start && found[-1] != '\n')
            found--;
        return found;
    }
    int lines = 0;
    const char *from = end;
    while (from > start && lines <= MOST_ERRORS) {
        from--;
        if (*from == '\n' && from + 1 < end && ++lines == MOST_ERRORS)
            return from + 1;
    }
    return from;
}

static void append_complaint(struct bytes *report,
                             const struct bytes *complaint)
{
    const char *at = telling_part(complaint);
    const char *end = complaint->data + complaint->length;
    if (at > complaint->data || complaint->dropped > 0)
        append_format(
            report, "        ... (%s before)\n",
            count_of((size_t)(at - complaint->data) + complaint->dropped,
                     "byte"));
    for (int i = 0; i < 2 * MOST_ERRORS && at < end; i++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((newline != NULL ? newline : end) - at);
        append_format(report, "        ");
        for (size_t j = 0; j < length && j < 300; j++)
            append_format(report, "%c",
                          (unsigned char)at[j] < 0x20 && at[j] != '\t' ? '?'
                                                                       : at[j]);
        append_format(report, "\n");
        at += newline != NULL ? length + 1 : length;
    }
}

static void append_programs(struct bytes *report)
{
    for (struct program *each = programs; each != NULL; each = each->next) {
        bool many = each != programs || each->next != NULL;
        if (many && (each->did_well || (each->killed && !has_crashed(each) &&
                                        each->complaint.length == 0)))
            continue;
        append_format(report, " \nAbout %s%s%s%s\n", each->name,
                      many ? " (" : "", many ? each->command : "",
                      many ? ")" : "");
        if (each->ended_by != SIGKILL)
            append_wrapped(report, 4, text_of("It %s.", state_of(each)));
        if (each->complaint.length == 0) {
            append_format(report, "    It wrote nothing to standard error.\n");
            continue;
        }
        append_format(report, "    It wrote to standard error:\n");
        append_complaint(report, &each->complaint);
    }
}

/* The program that a person named, as the word that make wants. */
static const char *setting(const char *variable)
{
    const char *value = getenv(variable);
    const char *lesson = text_of("/%02d-", lesson_number);
    if (value == NULL || value[0] == '\0' || strstr(value, lesson) != NULL)
        return "";
    if (strchr(value, ' ') != NULL)
        return text_of(" %s='%s'", variable, value);
    return text_of(" %s=%s", variable, value);
}

static void append_ending(struct bytes *report)
{
    const char *cause = test.cause != NULL ? test.cause : test.info->cause;
    const char *variable = strcmp(test.suite, "client") == 0 ? "CLIENT"
                                                             : "SERVER";
    append_section(report, "Usual cause", cause);
    append_section(report, "Read", test.info->read);
    const char *again = getenv("AGAIN"); /* an exercise has its own command */
    append_format(
        report, " \nSee it again\n    %s ONLY=%s%s%s\n",
        again != NULL ? again : text_of("make test-%02d", lesson_number),
        test.name,
        test.seed != 0 ? text_of(" HOSTILE_SEED=%u", test.seed) : " CALM=1",
        setting(variable));
}

/* ----------------------------------------------------------------- failing */

static void begin_report(struct bytes *report)
{
    test.is_failing = true;
    /* What the programs said last is perhaps still on its way. */
    double until = moment_in(0.1);
    while (now() < until)
        wait_on(-1, 0, until);

    append_format(report, "%s / %s, ", test.suite, test.name);
    if (test.seed != 0)
        append_format(report, "on the hostile network, HOSTILE_SEED=%u\n",
                      test.seed);
    else
        append_format(report, "on the calm network\n");
    append_section(report, is_exercise() ? "The task" : "The contract promises",
                   test.info->promise);
    append_steps(report);
}

_Noreturn static void finish_report(struct bytes *report)
{
    append_programs(report);
    append_ending(report);
    end_all_programs();
    cr_assert_fail_user(test.info->file, (size_t)test.info->line,
                        criterion_abort_test, "%s", report->data);
    abort();
}

_Noreturn void fail_test(const char *format, ...)
{
    struct bytes text = {0}, report = {0};
    va_list list;
    va_start(list, format);
    append_arguments(&text, format, list);
    va_end(list);
    if (test.is_failing) {
        fprintf(stderr, "harness: while reporting: %s\n", text.data);
        abort();
    }
    begin_report(&report);
    append_section(&report, "What went wrong", text.data);
    finish_report(&report);
}

_Noreturn void fail_difference(const char *what, const void *expected,
                               size_t expected_length, const void *came,
                               size_t came_length, enum ending ending)
{
    struct bytes report = {0}, copy = {0};
    /* While begin_report waits, more may come, and what came may be moved. */
    append_bytes(&copy, came, came_length);
    came = copy.data;
    begin_report(&report);
    append_comparison(&report, what, expected, expected_length, came,
                      came_length, ending);
    finish_report(&report);
}

_Noreturn void skip_test(const char *format, ...)
{
    struct bytes text = {0};
    va_list list;
    va_start(list, format);
    append_arguments(&text, format, list);
    va_end(list);
    end_all_programs();
    criterion_skip_test("%s", text.data);
    abort();
}

void bytes_moved(void)
{
    test.moved = now();
}

/*
 * Slowness breaks no promise: socat, for one, sleeps for a second whenever a
 * write takes fewer bytes than it gave, and a machine may have much else to do.
 * So a test that takes too long is skipped, but only in a moment in which bytes
 * move. Where none do, each wait has its own bound, PATIENCE for the most part,
 * and the test fails there, with a report that says what was waited for.
 */
void check_length_of_test(void)
{
    double seconds = now() - test.process_started;
    double still = now() - test.moved;
    int longest = LONGEST_CALM;
    if (test.seed != 0 && 3 * patience() < LONGEST_CALM)
        longest = 3 * patience() > LONGEST_HOSTILE ? (int)(3 * patience())
                                                   : LONGEST_HOSTILE;
    const char *name = programs != NULL ? programs->name : "it";
    if (test.is_failing || test.is_over || seconds <= longest)
        return;
    if (still < 1) {
        test.is_over = true;
        skip_test("on %s %s makes progress, but would take longer than %d s",
                  test.seed != 0 ? "the hostile network" : "this machine", name,
                  longest);
    }
    if (seconds > AT_LAST)
        fail_test("The test takes longer than %d s, and for %.0f s nothing "
                  "has gone to %s or come from it.",
                  AT_LAST, still, name);
}

/* ------------------------------------------------------------------ running */

static void run_once(void (*body)(void), unsigned seed)
{
    test.seed = seed;
    test.started = now();
    test.step_count = 0;
    test.cause = NULL;
    start_guardian();
    size_t descriptors = count_own_descriptors();

    body();
    test.cause = NULL;
    note("the test's own steps are done");
    check_end_of_programs();
    forget_all_programs();
    close_all_sockets();
    size_t left_open = count_own_descriptors();
    if (left_open != descriptors)
        fail_test("harness: %zu descriptors were open before the test, %zu "
                  "after it",
                  descriptors, left_open);
    forget_all_kept();
}

void run_test(const char *suite, const char *name, const struct test_info *info,
              void (*body)(void))
{
    test.suite = suite;
    test.name = name;
    test.info = info;
    test.process_started = test.moved = now();
    const char *leave_out = getenv("LEAVE_OUT_SLOW");
    if (info->slow && leave_out != NULL && leave_out[0] != '\0')
        criterion_skip_test("slow");
    start_waiting();

    const char *seeds = getenv("HOSTILE_SEEDS");
    if (seeds == NULL || seeds[strspn(seeds, " ")] == '\0') {
        run_once(body, 0);
        return;
    }
    const char *library = getenv("HOSTILE_LIBRARY");
    if (library == NULL || access(library, R_OK) != 0)
        fail_test("harness: HOSTILE_LIBRARY does not name the library of the "
                  "hostile network");
    for (const char *at = seeds; *at != '\0';) {
        char *end;
        unsigned long seed = strtoul(at, &end, 10);
        if (end == at || seed > 4294967295u)
            fail_test("harness: HOSTILE_SEEDS holds \"%s\"; seeds are whole "
                      "numbers, with blanks between",
                      seeds);
        run_once(body, (unsigned)seed);
        if (info->patient && seed != 0)
            return;
        at = end + strspn(end, " ");
    }
}

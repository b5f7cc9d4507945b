/*
 * 06-2.c - judges exercise 06-2: many timers.
 */
#include "inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ "06-poll/README.md, \"Exercises\""

/* Steps that grow with log n cost two or three times as much with many timers,
 * most of that for memory; steps that grow with n cost a hundred times as much,
 * with TIMES in between. */
enum { FEW = 100, MANY = 20000, TIMES = 12 };

/* A text that grows by lines. */
static struct bytes new_text(void)
{
    return (struct bytes){0};
}

/* Numbers that look random, the same in every run. */
static unsigned roll(unsigned below)
{
    static unsigned long long state = 88172645463325252ULL;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state % below);
}

static struct program *start(void)
{
    return start_client_with(&(struct start){.arguments = NULL});
}

TEST(client, keeps_what_the_task_says,
     .promise = "`until` prints the timers that are due at its time or before, "
                "and the time of the first that is left.",
     .cause = "The commands worked at the beginning: something of them was "
              "changed. A timer that is set again is moved; one that is due is "
              "not set any more.",
     .read = READ)
{
    struct program *timers = start();
    type_text(timers, "set 7 30\nset 8 20\nuntil 19\n");
    expect_output_text(timers, "next 20\n");
    type_text(timers, "until 25\n");
    expect_output_text(timers, "due 8\nnext 30\n");
    type_text(timers, "cancel 8\nset 7 50\nset 9 30\ncancel 9\nuntil 49\n");
    expect_output_text(timers, "next 50\n");
    type_text(timers, "set 99999 999999999999\nset 0 0\nuntil 50\n");
    expect_output_text(timers, "due 0\ndue 7\nnext 999999999999\n");
    type_text(timers, "until 999999999999\nuntil 0\n");
    expect_output_text(timers, "due 99999\nnext never\nnext never\n");
    end_input(timers);
    expect_output_end(timers);
    expect_exit(timers, 0);
}

TEST(client, of_equal_times_the_smallest_id_first,
     .promise = "`until` prints the earliest first, of equal times the "
                "smallest ID first.",
     .cause = "Times are compared, and IDs are not. A heap keeps equals in no "
              "order of its own.",
     .read = READ)
{
    struct program *timers = start();
    for (int i = 0; i < 10; i++)
        type_text(timers, text_of("set %d 5\n", i * 7 % 10));
    type_text(timers, "set 50 4\nuntil 5\n");
    expect_output_text(timers, "due 50\n");
    for (int i = 0; i < 10; i++)
        expect_output_text(timers, text_of("due %d\n", i));
    expect_output_text(timers, "next never\n");
}

TEST(client, what_takes_the_place_goes_where_it_belongs,
     .promise = "`cancel ID`: it is not due any more. `until` prints the "
                "earliest first.",
     .cause = "The last timer of the heap takes the place of one that is "
              "cancelled, and is let down only. It may come from another "
              "branch, and be earlier than the one above its new place: then "
              "it has to go up.",
     .read = READ)
{
    /* As a heap: on the left late ones, on the right early ones. */
    static const int times[] = {1,   100, 2,   101, 102, 3, 4, 103,
                                104, 105, 106, 5,   6,   7, 8};
    struct program *timers = start();
    for (int i = 0; i < 15; i++)
        type_text(timers, text_of("set %d %d\n", times[i], times[i]));
    type_text(timers, "cancel 103\ncancel 104\n");
    for (int i = 201; i < 205; i++)
        type_text(timers, text_of("set %d %d\n", i, i));
    type_text(timers, "until 50\n");
    for (int i = 1; i <= 8; i++)
        expect_output_text(timers, text_of("due %d\n", i));
    expect_output_text(timers, "next 100\n");
    usual_cause("A timer that is moved goes up if it has become earlier, and "
                "down if it has become later.");
    type_text(timers, "set 100 203\nset 204 1\nset 105 60\nuntil 150\n");
    expect_output_text(timers, "due 204\ndue 105\ndue 101\ndue 102\ndue 106\n"
                               "next 201\n");
    type_text(timers, "until 300\n");
    expect_output_text(timers, "due 201\ndue 202\ndue 100\ndue 203\n"
                               "next never\n");
}

/* What the program has to print, found in the plainest way. */
struct model {
    long time[500]; /* -1: not set */
};

static void print_until(struct model *model, long time, struct bytes *expected)
{
    for (;;) {
        int first = -1;
        for (int id = 0; id < 500; id++)
            if (model->time[id] != -1 &&
                (first == -1 || model->time[id] < model->time[first]))
                first = id;
        if (first == -1) {
            append_format(expected, "next never\n");
            return;
        }
        if (model->time[first] > time) {
            append_format(expected, "next %ld\n", model->time[first]);
            return;
        }
        append_format(expected, "due %d\n", first);
        model->time[first] = -1;
    }
}

TEST(client, ten_thousand_commands_at_random,
     .promise = "`set` moves a timer that is set, `cancel` takes it out, "
                "`until` prints those that are due, in their order.",
     .cause = "A timer stands in another place than `place` says: each time "
              "one is written into the heap, its place has to be written down, "
              "also of the one that is moved out of the way. Or the heap is "
              "out of order after a timer in its middle was moved or "
              "cancelled.",
     .read = READ)
{
    struct model model;
    memset(&model, -1, sizeof model);
    struct bytes typed = new_text(), expected = new_text();
    long clock = 0;
    for (int i = 0; i < 10000; i++) {
        unsigned id = roll(500), what = roll(100);
        if (what < 60) {
            model.time[id] = clock + roll(300);
            append_format(&typed, "set %u %ld\n", id, model.time[id]);
        } else if (what < 90) {
            model.time[id] = -1;
            append_format(&typed, "cancel %u\n", id);
        } else {
            clock += roll(30);
            append_format(&typed, "until %ld\n", clock);
            print_until(&model, clock, &expected);
        }
    }
    struct program *timers = start();
    type_and_end(timers, typed.data, typed.length);
    expect_output(timers, expected.data, expected.length);
    expect_output_end(timers);
    expect_exit(timers, 0);
    free_bytes(&typed);
    free_bytes(&expected);
}

TEST(client, all_ids_are_set_at_once,
     .promise = "An ID is a number from 0 to 99,999.",
     .cause =
         "All timers may be set at the same time, and there is no room for "
         "the last: whoever counts the places of the heap from 1 needs "
         "one more. Or a number is too small for 99,999.",
     .read = READ)
{
    enum { IDS = 100000, KEPT = 50 };
    struct bytes typed = new_text(), expected = new_text();
    for (int id = 0; id < IDS; id++) /* in this order a heap has little to do */
        append_format(&typed, "set %d %d\n", id, id);
    for (int id = IDS - KEPT - 1; id >= KEPT; id--) /* the last places first */
        append_format(&typed, "cancel %d\n", id);
    append_format(&typed, "until %d\n", IDS);
    for (int id = 0; id < IDS; id++)
        if (id < KEPT || id >= IDS - KEPT)
            append_format(&expected, "due %d\n", id);
    append_format(&expected, "next never\n");
    struct program *timers = start();
    type_and_end(timers, typed.data, typed.length);
    expect_output(timers, expected.data, expected.length);
    expect_output_end(timers);
    expect_exit(timers, 0);
    free_bytes(&typed);
    free_bytes(&expected);
}

TEST(client, refuses_what_is_no_command,
     .promise = "Any other line: a line on standard error, exit status 1.",
     .cause = "The commands worked at the beginning: something of them was "
              "changed.",
     .read = READ)
{
    static const char *const wrong[] = {"set 100000 1\n", "set 1\n",
                                        "set 1 1000000000000\n", "cancel -1\n",
                                        "until\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct program *timers = start();
        type_and_end(timers, wrong[i], strlen(wrong[i]));
        expect_exit(timers, 1);
        expect_complaint(timers, "that this is no command");
    }
}

/*
 * Types it all, and a question whose answer is a new one each time, and waits
 * for that. Returns the processor time that the program has used, in seconds.
 * The question is the timer 99999, due before all others.
 */
static double cost_of(struct program *timers, const struct bytes *typed)
{
    static int questions;
    const char *question = text_of("set 99999 %d\nuntil 0\n", ++questions);
    const char *answer = text_of("next %d\n", questions);
    size_t size = strlen(answer), length;
    double before = cpu_time_of_group(timers->pid);
    type_bytes(timers, typed->data, typed->length);
    type_text(timers, question);
    double until = moment_in(patience());
    for (;;) {
        const char *printed = standard_output(timers, &length);
        if (length >= size &&
            memcmp(printed + length - size, answer, size) == 0)
            return cpu_time_of_group(timers->pid) - before;
        expect_running(timers);
        if (now() > until)
            fail_test("Expected: an answer to \"until 0\" within %.0f s.\n"
                      "None has come.",
                      patience());
        wait_on(-1, 0, until);
    }
}

/*
 * Compares what two texts cost, of which one has few timers set and the other
 * many. What else runs on the machine can only make them dearer: the second is
 * tried again when it seems too dear.
 */
static void compare(const char *what, struct program *timers_few,
                    const struct bytes *few, struct program *timers_many,
                    const struct bytes *many)
{
    double with_few = cost_of(timers_few, few), with_many = 1e9;
    for (int i = 0; i < 3 && with_many > TIMES * with_few; i++) {
        double cost = cost_of(timers_many, many);
        with_many = cost < with_many ? cost : with_many;
    }
    note("%d %s cost %.1f ms of processor time with %d timers set, and "
         "%.1f ms with %d",
         MANY, what, 1e3 * with_few, FEW, 1e3 * with_many, MANY);
    if (with_many > TIMES * with_few)
        fail_test("Expected: %d %s cost about the same with %d timers set and "
                  "with %d (at most %d times as much).\n"
                  "They cost %.1f ms of processor time with %d, and %.1f ms "
                  "with %d.",
                  MANY, what, FEW, MANY, TIMES, 1e3 * with_few, FEW,
                  1e3 * with_many, MANY);
}

/* Whether the first of many timers is found without a look at all of them. It
 * only decides which cause a report names. */
static bool finds_the_first(struct program *timers)
{
    enum { QUESTIONS = 1000 };
    struct bytes few = new_text(), more = new_text(), questions = new_text();
    append_format(&few, "set 0 1000\n");
    for (int i = 0; i < MANY; i++)
        append_format(&more, "set %d %d\n", i, 1000 + i);
    for (int i = 0; i < QUESTIONS; i++)
        append_format(&questions, "until 0\n");
    cost_of(timers, &few);
    double with_few = cost_of(timers, &questions);
    cost_of(timers, &more);
    double with_many = cost_of(timers, &questions);
    free_bytes(&few);
    free_bytes(&more);
    free_bytes(&questions);
    return with_many < 4 * with_few;
}

TEST(client, a_timer_that_is_due_costs_little,
     .promise = "With n timers set, each timer that is due takes O(log n) "
                "steps.",
     .cause = "To begin with: keep `timers` as a heap. timers[0] is the first "
              "of all, and no timer is later than its children, which stand at "
              "2 * i + 1 and 2 * i + 2. Then first_timer has nothing to look "
              "for, and set_timer and cancel_timer keep the order.",
     .read = READ, .patient = true)
{
    struct program *timers = start();
    struct bytes few = new_text(), many = new_text();
    for (int round = 0; round < MANY / FEW; round++) {
        for (int i = 0; i < FEW; i++)
            append_format(&few, "set %d %u\n", 1000 + i, 1000 + roll(90000));
        append_format(&few, "until 100000\n");
    }
    for (int i = 0; i < MANY; i++)
        append_format(&many, "set %d %u\n", 1000 + i, 1000 + roll(90000));
    append_format(&many, "until 100000\n");
    if (finds_the_first(start()))
        usual_cause("The first timer is found at once, but setting one, or "
                    "taking out the first, goes through all the others, as in "
                    "a sorted list or array. In a heap a timer goes up or down "
                    "one branch.");
    compare("timers that are set and due", timers, &few, timers, &many);
    free_bytes(&few);
    free_bytes(&many);
}

/* Sets so many timers. */
static struct program *start_with(int count)
{
    struct program *timers = start();
    struct bytes typed = new_text();
    for (int i = 0; i < count; i++)
        append_format(&typed, "set %d %u\n", i, 1000 + roll(90000));
    cost_of(timers, &typed);
    free_bytes(&typed);
    return timers;
}

TEST(client, moving_a_timer_costs_little,
     .promise = "With n timers set, moving one takes O(log n) steps.",
     .cause = "The timer is looked for, from the first on; or the timers are "
              "kept sorted, so that all that stand behind it have to be moved. "
              "In a heap a timer goes up or down a branch; `place` says where "
              "it stands.",
     .read = READ, .patient = true)
{
    struct bytes few = new_text(), many = new_text();
    for (int i = 0; i < MANY; i++) {
        append_format(&few, "set %u %u\n", roll(FEW), 1000 + roll(90000));
        append_format(&many, "set %u %u\n", roll(MANY), 1000 + roll(90000));
    }
    compare("moves", start_with(FEW), &few, start_with(MANY), &many);
    free_bytes(&few);
    free_bytes(&many);
}

TEST(client, cancelling_a_timer_costs_little,
     .promise = "With n timers set, cancelling one takes O(log n) steps.",
     .cause = "The timer is looked for, from the first on. `place` has to say "
              "where it stands.",
     .read = READ, .patient = true)
{
    struct bytes few = new_text(), many = new_text();
    for (int i = 0; i < MANY / 2; i++) {
        unsigned id = roll(FEW);
        append_format(&few, "cancel %u\nset %u %u\n", id, id,
                      1000 + roll(90000));
        id = roll(MANY);
        append_format(&many, "cancel %u\nset %u %u\n", id, id,
                      1000 + roll(90000));
    }
    compare("timers that are cancelled and set again", start_with(FEW), &few,
            start_with(MANY), &many);
    free_bytes(&few);
    free_bytes(&many);
}

TEST(client, a_timer_that_moves_takes_no_more_memory,
     .promise = "A timer that is moved a hundred thousand times takes no more "
                "memory than one that is never moved.",
     .cause = "set_timer puts the timer in once more, and leaves the old one "
              "in the heap, to be passed over when its time comes. A "
              "connection over which bytes come all day then fills the memory.",
     .read = READ, .patient = true)
{
    enum { MOVES = 100000 };
    struct program *timers = start();
    struct bytes typed = new_text();
    for (int i = 0; i < MOVES; i++)
        append_format(&typed, "set %d %d\n", i % 50, 1000 + i);
    cost_of(timers, &typed); /* what is made once is there now */
    size_t before = holdings_of(timers).memory;
    for (int round = 0; round < 2; round++)
        cost_of(timers, &typed);
    size_t after = holdings_of(timers).memory;
    free_bytes(&typed);
    note("50 timers were moved %d times more; the program holds %zu KiB, and "
         "held %zu before",
         2 * MOVES, after >> 10, before >> 10);
    if (after > before + (1 << 20))
        fail_test("Expected: 50 timers that are moved %d times more take no "
                  "more memory than before.\n"
                  "The program held %zu KiB, and holds %zu KiB now.",
                  2 * MOVES, before >> 10, after >> 10);
}

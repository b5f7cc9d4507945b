/*
 * 02-1.c - judges exercise 02-1: backoff with jitter, as a function.
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#define READ "02-basic-client/README.md, \"Exercises\""

/* Ends the test when the answer is another than `pause`, by more than what is
 * lost when six digits behind the point are printed. */
static void expect_pause(const char *question, double answer, double pause)
{
    double off = answer - pause;
    if (!(off < 2e-6 && off > -2e-6))
        fail_test("Expected: the question \"%s\" is answered with %.6f.\n"
                  "The answer was %.6f.",
                  question, pause, answer);
}

/* The program's next line of output, as a number. */
static double next_answer(struct program *client)
{
    const char *line = next_output_line(client);
    char *end;
    double answer = strtod(line, &end);
    if (end == line || *end != '\0')
        fail_test("Expected: a pause in seconds.\nIt is \"%s\".", line);
    return answer;
}

struct question {
    const char *text;
    double pause;
};

static void ask(const struct question questions[], size_t count)
{
    struct program *client = start_client(NULL);
    for (size_t i = 0; i < count; i++)
        type_text(client, text_of("%s\n", questions[i].text));
    end_input(client);
    for (size_t i = 0; i < count; i++)
        expect_pause(questions[i].text, next_answer(client),
                     questions[i].pause);
    expect_output_end(client);
    expect_exit(client, 0);
}

#define ASK(...)                                                               \
    static const struct question questions[] = {__VA_ARGS__};                  \
    ask(questions, sizeof questions / sizeof *questions)

TEST(client, pauses_double_up_to_the_longest,
     .promise = "The first pause is 0.2 s, and each is twice as long as the "
                "one before, up to 1 s.",
     .cause = "To begin with: let pause_before start with PAUSE_FIRST, double "
              "it retry - 1 times, and stop at PAUSE_LONGEST.",
     .read = READ)
{
    static const struct question one_and_two[] = {{"1 0", 0.2}, {"2 0", 0.4}},
                                 three[] = {{"3 0", 0.8}};
    usual_cause("Retry 1 pauses for PAUSE_FIRST, which is doubled from retry 2 "
                "on; and the random number 0 takes off nothing.");
    ask(one_and_two, 2);
    usual_cause(NULL);
    ask(three, 1);
    usual_cause("The third doubling makes 1.6 s. That, and what would come "
                "later, is cut to 1 s.");
    ASK({"4 0", 1}, {"5 0", 1}, {"6 0", 1}, {"7 0", 1}, {"8 0", 1});
}

TEST(client, random_part_is_taken_off,
     .promise = "The random number takes off up to half of the pause: 0 takes "
                "off nothing, 0.5 a quarter, and with nearly 1 half of the "
                "pause is left.",
     .cause = "The random part is added, or it is the whole pause, or a part "
              "of the first pause instead of this one.",
     .read = READ)
{
    ASK({"1 0.5", 0.15}, {"1 0.999999", 0.1000001}, {"2 0.5", 0.3},
        {"2 0.25", 0.35}, {"3 0.5", 0.6}, {"3 0.999999", 0.4000004});
}

TEST(client, cap_before_jitter,
     .promise = "Every retry from 4 on pauses 0.5 to 1 s: cap first, then "
                "jitter.",
     .cause = "The random part is taken off before the pause is cut to 1 s. "
              "Then late pauses are nearly always 1 s exactly.",
     .read = READ)
{
    ASK({"4 0.5", 0.75}, {"5 0.5", 0.75}, {"8 0.5", 0.75}, {"8 0.9", 0.55},
        {"20 0.999999", 0.5000005}, {"20 0.1", 0.95});
}

TEST(client, late_retries_do_not_overflow,
     .promise = "(as before) for retry 1000 too, and for any other number.",
     .cause = "2 to the power of retry - 1 does not fit into an int from retry "
              "32 on, and a shift by 32 or more is not defined. Stop doubling "
              "when the longest pause is reached. (A double overflows too, "
              "from retry 1026 on, to infinity.)",
     .read = READ)
{
    ASK({"31 0", 1}, {"32 0", 1}, {"33 0", 1}, {"34 0.5", 0.75}, {"64 0", 1},
        {"65 0", 1}, {"66 0", 1}, {"1000 0", 1}, {"1100 0.5", 0.75},
        {"1000000 0.5", 0.75}, {"2147483647 0.5", 0.75});
}

TEST(client, same_question_same_answer,
     .promise = "The same question always has the same answer, whatever was "
                "asked before.",
     .cause = "The function remembers the last pause (a static variable) and "
              "doubles it, whatever retry it is asked for.",
     .read = READ)
{
    ASK({"3 0.5", 0.6}, {"1 0.5", 0.15}, {"1 0.5", 0.15}, {"9 0", 1},
        {"2 0", 0.4}, {"1 0", 0.2}, {"3 0.5", 0.6});
}

static int compare(const void *a, const void *b)
{
    double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

/* Lets a client draw `count` random numbers: returns them, from the pauses
 * before retry 1. */
static double *drawn_by(struct program *client, int count)
{
    static double numbers[1000];
    for (int i = 0; i < count; i++) {
        double pause = next_answer(client);
        numbers[i] = (0.2 - pause) * 10;
        if (pause < 0.1 - 1e-6 || pause > 0.2 + 1e-6)
            fail_test("Expected: before retry 1 a pause of 0.1 to 0.2 s.\n"
                      "It is %.6f.",
                      pause);
    }
    return numbers;
}

static void ask_for_random(struct program *client, int count)
{
    char *questions = calloc((size_t)count + 1, 2);
    if (questions == NULL)
        fail_test("harness: no memory");
    for (int i = 0; i < count; i++)
        strcat(questions + 2 * i, "1\n");
    type_and_end(client, questions, 2 * (size_t)count);
    free(questions);
}

TEST(client, draws_all_numbers_from_0_to_1,
     .promise = "Where the random number is left out, the program draws one, "
                "from 0 to less than 1, one of many thousands.",
     .cause = "The number is a whole one: an integer divided by an integer is "
              "an integer. Or random() is divided by something else than how "
              "many values it has.",
     .read = READ)
{
    enum { COUNT = 1000, PARTS = 10 };
    struct program *client = start_client(NULL);
    ask_for_random(client, COUNT);
    double *numbers = drawn_by(client, COUNT);
    int in_part[PARTS + 1] = {0};
    for (int i = 0; i < COUNT; i++)
        in_part[(int)(numbers[i] * PARTS + 1e-6)]++;
    for (int i = 0; i < PARTS; i++) {
        note("%d of them from %.1f to %.1f", in_part[i], i / 10.0,
             (i + 1) / 10.0);
        /* 100 are expected; 40 or fewer come once in ten thousand million. */
        if (in_part[i] <= 40)
            fail_test("Expected: of %d random numbers about %d are from %.1f "
                      "to %.1f.\nThere are %d.",
                      COUNT, COUNT / PARTS, i / 10.0, (i + 1) / 10.0,
                      in_part[i]);
    }
    expect_exit(client, 0);

    /* Of 32768, as few as rand() may have, 985 are expected. */
    usual_cause("There are only so many numbers: rand() % 100 has a hundred. "
                "Divide rand() by RAND_MAX + 1.0, and do not cut it before.");
    int different = 1;
    qsort(numbers, COUNT, sizeof *numbers, compare);
    for (int i = 1; i < COUNT; i++)
        different += numbers[i] > numbers[i - 1];
    if (different < COUNT * 9 / 10)
        fail_test("Expected: of %d random numbers nearly all are different.\n"
                  "There are %d different ones.",
                  COUNT, different);
}

TEST(client, no_two_clients_draw_the_same,
     .promise = "Two clients that start in the same moment do not draw the "
                "same numbers.",
     .cause = "The generator begins at the second on the clock (or always at "
              "the same place, without a seed). All clients that start in "
              "this second pause for the same time. Mix the process number "
              "and the nanoseconds into the seed.",
     .read = READ)
{
    /* Some of them begin in the same second, unless the machine is very busy;
     * hence three rounds. */
    enum { CLIENTS = 4, COUNT = 5, ROUNDS = 3 };
    for (int round = 0; round < ROUNDS; round++) {
        struct program *clients[CLIENTS];
        double drawn[CLIENTS][COUNT];
        for (int i = 0; i < CLIENTS; i++) {
            clients[i] = start_client(NULL);
            ask_for_random(clients[i], COUNT);
        }
        for (int i = 0; i < CLIENTS; i++) {
            memcpy(drawn[i], drawn_by(clients[i], COUNT), sizeof drawn[i]);
            expect_exit(clients[i], 0);
        }
        for (int i = 0; i < CLIENTS; i++) {
            for (int j = 0; j < i; j++) {
                if (memcmp(drawn[i], drawn[j], sizeof drawn[i]) == 0)
                    fail_test("Expected: clients that start in the same "
                              "moment draw different random numbers.\n"
                              "Two of %d drew the same %d numbers, %.5f first.",
                              CLIENTS, COUNT, drawn[i][0]);
            }
        }
    }
}

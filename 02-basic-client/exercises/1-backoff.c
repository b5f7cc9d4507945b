/*
 * Exercise 02-1: Backoff with jitter, as a function.
 *
 * How long does a client pause before it tries again? This program answers
 * questions about that. Each line of its input holds the number of a retry,
 * from 1 on, and a random number from 0 to less than 1; the answer is the pause
 * in seconds. The numbers are those of lesson 02:
 *
 *     - the first pause is 0.2 s, and each is twice as long as the one before,
 *       up to 1 s: 0.2, 0.4, 0.8, 1, 1, ...;
 *     - the random number takes off up to half of that: 0 takes off nothing,
 *       0.5 a quarter, and with nearly 1 half of the pause is left.
 *
 * So retry 1 pauses 0.1 to 0.2 s, and every retry from 4 on 0.5 to 1 s. The
 * same question always has the same answer, whatever was asked before: the
 * function keeps no state, and can be tested without waiting.
 *
 * Where the random number is left out, the program draws one itself, one of
 * many thousands. Two clients that start in the same moment must not draw the
 * same: they lost the same server, and would come back at the same time.
 *
 * Beware of large numbers. Retry 1000 is one a night later: 2 to the power of
 * 999 is no int, and 1 << 999 is not defined at all. And beware of the order:
 * cap first, then jitter. The other way round all late clients pause 1 s
 * exactly, and all come at once.
 *
 * Try it:   make exercises/1-backoff && echo 9 0.9 | exercises/1-backoff
 * Judge it: make exercise-02-1   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE_SIZE = 256 };

#define PAUSE_FIRST 0.2
#define PAUSE_LONGEST 1.0

/*
 * How many seconds to pause before a retry: `retry` is its number, from 1 on,
 * `random` at least 0 and less than 1.
 *
 * YOUR ANSWER goes here, and into the two functions below.
 */
static double pause_before(int retry, double random)
{
    (void)random;
    return retry < 4 ? PAUSE_FIRST * retry : PAUSE_LONGEST;
}

/* Sets the generator to a place of this process's own. */
static void begin_random(void)
{
    srand((unsigned)time(NULL));
}

/* A random number from 0 to less than 1. rand() returns 0 to RAND_MAX. */
static double random_number(void)
{
    return rand() % 2;
}

/* Reads a line, "RETRY" or "RETRY RANDOM". Returns 0, or -1 when it is neither.
 * Without RANDOM it draws one. */
static int parse_question(char *line, int *retry, double *random)
{
    char *end;
    if (strlen(line) == LINE_SIZE - 1 || /* perhaps not all of it */
        line[strspn(line, "0123456789. \n")] != '\0' ||
        strspn(line, "0123456789") == 0)
        return -1;
    long number = strtol(line, &end, 10);
    if (number < 1 || (*end != ' ' && *end != '\n' && *end != '\0'))
        return -1;
    *retry = number < INT_MAX ? (int)number : INT_MAX;
    line = end + strspn(end, " ");
    if (*line == '\n' || *line == '\0') {
        *random = random_number();
        return 0;
    }
    *random = strtod(line, &end);
    if (end == line || end[strspn(end, " \n")] != '\0' || *random >= 1)
        return -1;
    return 0;
}

int main(void)
{
    char line[LINE_SIZE];
    begin_random();
    while (fgets(line, sizeof line, stdin) != NULL) {
        int retry;
        double random;
        if (parse_question(line, &retry, &random) == -1) {
            fprintf(stderr, "1-backoff: a line is RETRY [RANDOM], a number "
                            "from 1 on and one from 0 to less than 1\n");
            return 1;
        }
        if (printf("%.6f\n", pause_before(retry, random)) < 0)
            break;
    }
    if (ferror(stdin) || fflush(stdout) == EOF || ferror(stdout)) {
        perror("1-backoff: read the questions and print the answers");
        return 1;
    }
    return 0;
}

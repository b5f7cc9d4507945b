/*
 * Exercise 06-2: Many timers.
 *
 * A server whose ten thousand clients may each be silent for so long has ten
 * thousand deadlines. Each byte that comes moves one of them, and before every
 * wait the loop has to know the first. This program is the part of such a loop
 * that keeps the deadlines. It takes its orders from standard input, so that
 * you can see what it does:
 *
 *     set ID TIME   the timer ID is due at TIME; if it was set, it is moved
 *     cancel ID     it is not due any more; if it was not set, nothing happens
 *     until TIME    the clock says TIME. Prints `due ID` for each timer that is
 *                   due at TIME or before, the earliest first, of equal times
 *                   the smallest ID first; these are not set any more. Then
 *                   `next TIME`, the time of the first that is left, or `next
 *                   never`: until then poll could wait.
 *
 * An ID is a number from 0 to 99,999, a TIME from 0 to 999,999,999,999 (say,
 * milliseconds). Any other line: a line on standard error, exit status 1. At
 * the end of the input the exit status is 0. What `until` prints is printed
 * before the next line is read.
 *
 * All of this works. But `first_timer` looks at every timer there is, as
 * look_at_the_clock does in ../server.c. Change the three functions below so
 * that with n timers set
 *
 *     - set, cancel, and each timer that is due take O(log n) steps: a thousand
 *       of them cost about the same with 100 timers set and with 20,000,
 *     - a timer that is moved a hundred thousand times takes no more memory
 *       than one that is never moved.
 *
 * Beware of the timer in the middle. Taking out the first of a heap is in every
 * textbook. Moving and cancelling need two things more: to know where a timer
 * stands without looking for it, and to see that what takes its place may have
 * to go down or up.
 *
 * Try it:   make exercises/2-timers
 *           printf 'set 7 30\nset 8 20\nuntil 25\n' | exercises/2-timers
 * Judge it: make exercise-06-2   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMERS_MAX 100000
#define TIME_MAX INT64_C(999999999999)

struct timer {
    int64_t time;
    size_t id;
};

/*
 * The timers that are set, as a heap: timers[i] is never later than its two
 * children, timers[2 * i + 1] and timers[2 * i + 2]. So timers[0] is the first,
 * and from there to the end of a branch it is about log2(count) steps.
 */
static struct timer timers[TIMERS_MAX];
static size_t count;

/* Where in `timers` the timer ID stands, so that nobody has to look for it. */
#define NOWHERE SIZE_MAX
static size_t place[TIMERS_MAX];

static bool is_earlier(const struct timer *one, const struct timer *other)
{
    return one->time != other->time ? one->time < other->time
                                    : one->id < other->id;
}

/* The only place where something is written into `timers`: `place` agrees with
 * it at all times. */
static void put(size_t i, struct timer timer)
{
    timers[i] = timer;
    place[timer.id] = i;
}

/*
 * Puts a timer at i, which is free, or above or below where it belongs. It may
 * come from anywhere in the heap: it goes up past whoever is later, and if it
 * did not, down past whoever is earlier.
 */
static void settle(size_t i, struct timer timer)
{
    while (i > 0 && is_earlier(&timer, &timers[(i - 1) / 2])) {
        put(i, timers[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < count && is_earlier(&timers[child + 1], &timers[child]))
            child++;
        if (child >= count || !is_earlier(&timers[child], &timer))
            break;
        put(i, timers[child]);
        i = child;
    }
    put(i, timer);
}

/* Sets the timer `id`, or moves it if it is set. */
static void set_timer(size_t id, int64_t time)
{
    size_t i = place[id] == NOWHERE ? count++ : place[id];
    settle(i, (struct timer){.time = time, .id = id});
}

/* The timer `id` is not set any more; it need not be set. The last one takes
 * its place, and goes from there to where it belongs. */
static void cancel_timer(size_t id)
{
    size_t i = place[id];
    if (i == NOWHERE)
        return;
    place[id] = NOWHERE;
    count--;
    if (i < count)
        settle(i, timers[count]);
}

/* Returns the first of all timers, which is good until the next change, or NULL
 * when none is set. */
static const struct timer *first_timer(void)
{
    return count == 0 ? NULL : &timers[0];
}

/* ------------------------------------------------------------ the commands */

/*
 * Reads a number, of digits alone, from 0 to `most`, with a blank before it.
 * Returns what stands behind it, or NULL when this is none.
 */
static const char *read_number(const char *text, int64_t most, int64_t *number)
{
    if (*text++ != ' ' || *text < '0' || *text > '9')
        return NULL;
    for (*number = 0; *text >= '0' && *text <= '9'; text++) {
        *number = 10 * *number + (*text - '0');
        if (*number > most)
            return NULL;
    }
    return text;
}

/* One turn of the loop. Returns 0, or -1 when it cannot be printed. */
static int until(int64_t time)
{
    const struct timer *first;
    while ((first = first_timer()) != NULL && first->time <= time) {
        size_t id = first->id;
        cancel_timer(id);
        if (printf("due %zu\n", id) < 0)
            return -1;
    }
    if (first == NULL)
        printf("next never\n");
    else
        printf("next %" PRId64 "\n", first->time);
    return ferror(stdout) || fflush(stdout) == EOF ? -1 : 0;
}

/* Does what a line says. Returns 0, or -1 with errno set: EINVAL when it is no
 * command. */
static int obey(const char *line)
{
    int64_t id, time;
    const char *end;
    if (strncmp(line, "set ", 4) == 0) {
        end = read_number(line + 3, TIMERS_MAX - 1, &id);
        if (end != NULL && (end = read_number(end, TIME_MAX, &time)) != NULL &&
            *end == '\0') {
            set_timer((size_t)id, time);
            return 0;
        }
    } else if (strncmp(line, "cancel ", 7) == 0) {
        end = read_number(line + 6, TIMERS_MAX - 1, &id);
        if (end != NULL && *end == '\0') {
            cancel_timer((size_t)id);
            return 0;
        }
    } else if (strncmp(line, "until ", 6) == 0) {
        end = read_number(line + 5, TIME_MAX, &time);
        if (end != NULL && *end == '\0')
            return until(time);
    }
    errno = EINVAL;
    return -1;
}

int main(void)
{
    char line[64]; /* longer than any command */
    for (size_t i = 0; i < TIMERS_MAX; i++)
        place[i] = NOWHERE;
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *end = strchr(line, '\n');
        if (end == NULL) {
            fprintf(stderr, "2-timers: a line without an end: %s\n", line);
            return 1;
        }
        *end = '\0';
        if (obey(line) == -1) {
            fprintf(stderr, "2-timers: %s: %s\n", line, strerror(errno));
            return 1;
        }
    }
    if (ferror(stdin)) {
        perror("2-timers: read");
        return 1;
    }
    return 0;
}

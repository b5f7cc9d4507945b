/*
 * guardian.c - nothing that a test started outlives it.
 *
 * A test ends its programs itself, but it may be ended first: by its timeout,
 * by Ctrl-C. So each test process has a small child that knows the process
 * groups of the programs, and waits for the end of a pipe which only the test
 * holds open. When that end comes, however it came, the guardian ends what is
 * left.
 */
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST_GROUPS = 4096 };

static int to_guardian = -1;

_Noreturn static void guard(int news)
{
    static pid_t groups[MOST_GROUPS];
    size_t count = 0;
    pid_t group;

    setsid();
    for (int i = 1; i < NSIG; i++) {
        if (i != SIGKILL && i != SIGSTOP)
            signal(i, SIG_IGN);
    }
    dup2(news, 0);
    close_descriptors_from(1);
    for (;;) {
        ssize_t length = read(0, &group, sizeof group);
        if (length < 0 && errno == EINTR)
            continue;
        if (length != sizeof group)
            break;
        /* A group comes when it begins, and negative when it has ended. */
        if (group > 0 && count < MOST_GROUPS)
            groups[count++] = group;
        for (size_t i = 0; group < 0 && i < count; i++) {
            if (groups[i] == -group)
                groups[i] = groups[--count];
        }
    }
    for (size_t i = 0; i < count; i++)
        kill(-groups[i], SIGKILL);
    _exit(0);
}

static void tell_guardian(pid_t group)
{
    if (write(to_guardian, &group, sizeof group) != sizeof group)
        abort();
}

void start_guardian(void)
{
    int ends[2];
    if (to_guardian >= 0)
        return;
    if (pipe(ends) < 0)
        abort();
    pid_t guardian = fork();
    if (guardian < 0)
        abort();
    if (guardian == 0)
        guard(ends[0]);
    close(ends[0]);
    to_guardian = ends[1];
    fcntl(to_guardian, F_SETFD, FD_CLOEXEC);
}

void guard_group(pid_t group)
{
    tell_guardian(group);
}

void release_group(pid_t group)
{
    tell_guardian(-group);
}

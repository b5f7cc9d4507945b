/*
 * observe.c - what the system knows about a program: its descriptors,
 * threads, memory, CPU time. All of it is Linux's /proc; elsewhere the tests
 * that need it are skipped and say so.
 */
#include "inside.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__

#include <dirent.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { MOST_PROCESSES = 4096 };

/* Reads a small file of /proc whole; false when the process has gone. */
static bool read_file(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t length = fread(text, 1, size - 1, file);
    text[length] = '\0';
    fclose(file);
    return length > 0;
}

/* The state of a process, out of /proc/N/stat; false when it has gone. */
static bool read_state(pid_t process, char *state)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)process);
    if (!read_file(path, text, sizeof text))
        return false;
    const char *behind_name = strrchr(text, ')');
    return behind_name != NULL && sscanf(behind_name + 1, " %c", state) == 1;
}

size_t members_of_group(pid_t group, pid_t members[], char states[],
                        size_t most)
{
    size_t count = 0;
    DIR *directory = opendir("/proc");
    if (directory == NULL)
        return 0;
    for (struct dirent *entry = readdir(directory);
         entry != NULL && count < most; entry = readdir(directory)) {
        pid_t process = (pid_t)atoi(entry->d_name); /* 0: not a process */
        if (process <= 0 || getpgid(process) != group ||
            !read_state(process, &states[count]))
            continue;
        members[count] = process;
        count++;
    }
    closedir(directory);
    return count;
}

/* The number after "NAME:" in a file such as /proc/N/status. */
static size_t number_after(const char *text, const char *name)
{
    const char *found = strstr(text, name);
    return found == NULL ? 0 : strtoul(found + strlen(name), NULL, 10);
}

static size_t count_entries(const char *path)
{
    size_t count = 0;
    DIR *directory = opendir(path);
    if (directory == NULL)
        return 0;
    for (struct dirent *entry = readdir(directory); entry != NULL;
         entry = readdir(directory))
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

size_t count_own_descriptors(void)
{
    return count_entries("/proc/self/fd");
}

struct holdings holdings_of(struct program *program)
{
    pid_t members[MOST_PROCESSES];
    char states[MOST_PROCESSES];
    char path[64], text[8192];
    struct holdings held = {0};

    size_t count = members_of_group(program->pid, members, states,
                                    MOST_PROCESSES);
    for (size_t i = 0; i < count; i++) {
        /* Once the program has ended, zombies are not its own: it waits for
         * end_program(), and the children that it left wait for the process 1
         * of the machine, which in a container may never look. */
        if (states[i] == 'Z' && program->has_ended)
            continue;
        held.processes++;
        if (states[i] == 'Z')
            continue;
        snprintf(path, sizeof path, "/proc/%d/fd", (int)members[i]);
        held.descriptors += count_entries(path);
        snprintf(path, sizeof path, "/proc/%d/status", (int)members[i]);
        if (!read_file(path, text, sizeof text))
            continue;
        held.threads += number_after(text, "\nThreads:");
        /* The number in status may be some pages off; the kernel counts the
         * one in smaps_rollup when it is read. */
        size_t memory = number_after(text, "\nRssAnon:");
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)members[i]);
        if (read_file(path, text, sizeof text))
            memory = number_after(text, "\nAnonymous:");
        held.memory += memory * 1024;
    }
    return held;
}

/* ----------------------------------------------------------------- at rest */

static double cpu_time_of(pid_t process)
{
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(process, &clock) != 0 ||
        clock_gettime(clock, &time) != 0)
        return 0;
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

double cpu_time_of_group(pid_t group)
{
    pid_t members[MOST_PROCESSES];
    char states[MOST_PROCESSES];
    size_t count = members_of_group(group, members, states, MOST_PROCESSES);
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += cpu_time_of(members[i]);
    return sum;
}

/* How often the threads of a process have gone to sleep. */
static size_t sleeps_of(pid_t process)
{
    char path[320], text[8192];
    size_t sum = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)process);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return 0;
    for (struct dirent *entry = readdir(directory); entry != NULL;
         entry = readdir(directory)) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/status", (int)process,
                 entry->d_name);
        if (read_file(path, text, sizeof text))
            sum += number_after(text, "\nvoluntary_ctxt_switches:");
    }
    closedir(directory);
    return sum;
}

/* Whether a thread of the process is on the CPU, or wants to be, or waits for
 * a disk. */
static bool is_busy(pid_t process)
{
    char path[320], text[1024];
    bool busy = false;
    snprintf(path, sizeof path, "/proc/%d/task", (int)process);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return false;
    for (struct dirent *entry = readdir(directory); entry != NULL && !busy;
         entry = readdir(directory)) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/stat", (int)process,
                 entry->d_name);
        if (!read_file(path, text, sizeof text))
            continue;
        const char *behind_name = strrchr(text, ')');
        busy = behind_name != NULL && (strncmp(behind_name, ") R", 3) == 0 ||
                                       strncmp(behind_name, ") D", 3) == 0);
    }
    closedir(directory);
    return busy;
}

bool group_is_busy(pid_t group)
{
    pid_t members[MOST_PROCESSES];
    char states[MOST_PROCESSES];
    size_t count = members_of_group(group, members, states, MOST_PROCESSES);
    for (size_t i = 0; i < count; i++) {
        if (states[i] != 'Z' && is_busy(members[i]))
            return true;
    }
    return false;
}

bool group_rests(pid_t group, double seconds)
{
    double until = moment_in(seconds);
    double used = cpu_time_of_group(group);
    while (now() < until) {
        if (group_is_busy(group))
            return false;
        let_pass(0.02);
    }
    return cpu_time_of_group(group) - used < 0.01 * seconds;
}

struct activity {
    double seconds;   /* how long was watched */
    double cpu;       /* CPU time used */
    size_t sleeps;    /* how often it went to sleep again */
    size_t looks;     /* how often was looked */
    size_t seen_busy; /* and how often it was on the CPU or wanted to be */
};

static struct activity watch_activity(struct program *program, double seconds)
{
    pid_t members[MOST_PROCESSES];
    char states[MOST_PROCESSES];
    struct activity activity = {0};
    double from = now();
    size_t count = members_of_group(program->pid, members, states,
                                    MOST_PROCESSES);
    double cpu = 0;
    size_t sleeps = 0;

    for (size_t i = 0; i < count; i++) {
        cpu += cpu_time_of(members[i]);
        sleeps += sleeps_of(members[i]);
    }
    while (now() < from + seconds || activity.looks < 10) {
        let_pass(seconds / 20);
        activity.looks++;
        bool busy = false;
        for (size_t i = 0; i < count; i++)
            busy = busy || is_busy(members[i]);
        activity.seen_busy += busy;
    }
    for (size_t i = 0; i < count; i++) {
        activity.cpu += cpu_time_of(members[i]);
        activity.sleeps += sleeps_of(members[i]);
    }
    activity.cpu -= cpu;
    activity.sleeps -= activity.sleeps < sleeps ? activity.sleeps : sleeps;
    activity.seconds = now() - from;
    return activity;
}

static void expect_rest(struct program *program, const char *while_what,
                        double most_sleeps)
{
    struct activity activity = {0};
    double from = now();
    double cpu = 0;
    bool is_starved = false;
    do {
        activity = watch_activity(program, 0.2);
        expect_running(program); /* who has ended uses no CPU either */
        if (activity.cpu < 0.1 * activity.seconds &&
            activity.seen_busy * 4 <= activity.looks &&
            (double)activity.sleeps < most_sleeps * activity.seconds) {
            note("%s came to rest, %s", program->name, while_what);
            return;
        }
        /* On a machine that is busy with other things, a program gets little
         * of the CPU: it may have something to do for longer. */
        cpu += activity.cpu;
        is_starved = activity.seen_busy * 4 > activity.looks &&
                     cpu < 0.25 * (now() - from);
    } while (now() < from + (is_starved ? 20 : 4));
    fail_test("Expected: %s uses no CPU, %s.\n"
              "In the last %.2f s of %.1f s it used %.0f %% of a core, was "
              "busy at %zu of %zu looks, and went to sleep and woke up %zu "
              "times.",
              program->name, while_what, activity.seconds, now() - from,
              100 * activity.cpu / activity.seconds, activity.seen_busy,
              activity.looks, activity.sleeps);
}

void expect_idle(struct program *program, const char *while_what)
{
    expect_rest(program, while_what, 500);
}

void expect_no_spinning(struct program *program, const char *while_what)
{
    expect_rest(program, while_what, 1e9);
}

void expect_sound_sleep(struct program *program, double seconds,
                        const char *while_what)
{
    enum { ATTEMPTS = 3 };
    double slept = 0;
    for (int i = 0; i < ATTEMPTS; i++) {
        double rest_until = moment_in(patience());
        while (!group_rests(program->pid, 0.1) && now() < rest_until)
            expect_running(program);
        double from = now();
        size_t sleeps = sleeps_of(program->pid);
        slept = 0;
        while (slept < seconds && sleeps_of(program->pid) == sleeps) {
            let_pass(0.05);
            expect_running(program);
            slept = now() - from;
        }
        if (sleeps_of(program->pid) == sleeps) {
            note("%s slept for %.1f s, %s", program->name, slept, while_what);
            return;
        }
        note("%s woke up after %.2f s, %s", program->name, slept, while_what);
    }
    fail_test("Expected: %s sleeps for %.1f s, %s; nothing happens that it "
              "has to wake up for.\nIt woke up after %.2f s or less, %d times.",
              program->name, seconds, while_what, slept, ATTEMPTS);
}

/* -------------------------------------------------------- stop and continue */

void stop_program(struct program *program)
{
    pid_t members[MOST_PROCESSES];
    char states[MOST_PROCESSES];
    double until = moment_in(patience());
    note("stopped %s (SIGSTOP)", program->name);
    kill(-program->pid, SIGSTOP);
    program->stopped = true;
    while (now() < until) {
        size_t count = members_of_group(program->pid, members, states,
                                        MOST_PROCESSES);
        size_t stopped = 0;
        for (size_t i = 0; i < count; i++)
            stopped += states[i] == 'T' || states[i] == 'Z' || states[i] == 't';
        if (stopped == count)
            return;
        wait_on(-1, 0, moment_in(0.001));
    }
    fail_test("harness: %s does not stop", program->name);
}

void continue_program(struct program *program)
{
    note("let %s go on (SIGCONT)", program->name);
    program->stopped = false;
    kill(-program->pid, SIGCONT);
}

/* -------------------------------------------------------------- descriptors */

/* valgrind keeps descriptors of its own directly below the limit. */
enum { VALGRIND_KEEPS = 12 };

/* The lowest descriptor that a process has not in use. Skips the test where it
 * lies so low that poll() would not even take those that are: more than the
 * limit is EINVAL there. */
static rlim_t lowest_free_descriptor(pid_t process, rlim_t limit)
{
    char path[64];
    bool used[65536] = {false};
    rlim_t own = 0; /* besides standard input, output and error */
    snprintf(path, sizeof path, "/proc/%d/fd", (int)process);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return 0;
    for (struct dirent *entry = readdir(directory); entry != NULL;
         entry = readdir(directory)) {
        if (entry->d_name[0] == '.')
            continue;
        unsigned long number = strtoul(entry->d_name, NULL, 10);
        if (number < sizeof used)
            used[number] = true;
        own += number > 2 && number + VALGRIND_KEEPS < limit;
    }
    closedir(directory);
    rlim_t lowest = 0;
    while (lowest < sizeof used && used[lowest])
        lowest++;
    if (lowest < own)
        skip_test("the program has %d other descriptors open, and not number "
                  "%d: they cannot be taken away from it",
                  (int)own, (int)lowest);
    return lowest;
}

static void limit_descriptors(struct program *program, bool exhaust)
{
    pid_t members[MOST_PROCESSES];
    char states[MOST_PROCESSES];
    size_t count = members_of_group(program->pid, members, states,
                                    MOST_PROCESSES);
    for (size_t i = 0; i < count; i++) {
        struct rlimit limit;
        if (states[i] == 'Z' ||
            prlimit(members[i], RLIMIT_NOFILE, NULL, &limit) < 0)
            continue;
        if (exhaust)
            limit.rlim_cur = lowest_free_descriptor(members[i], limit.rlim_cur);
        else
            limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
        if (prlimit(members[i], RLIMIT_NOFILE, &limit, NULL) < 0 &&
            errno != ESRCH)
            skip_test("prlimit is not permitted here: %s", strerror(errno));
    }
}

void exhaust_descriptors(struct program *program)
{
    program->without_descriptors = true;
    limit_descriptors(program, true);
    note("took all free descriptors away from %s: the next call that needs "
         "one fails with EMFILE",
         program->name);
}

void restore_descriptors(struct program *program)
{
    limit_descriptors(program, false);
    program->without_descriptors = false;
    note("gave %s its free descriptors back", program->name);
}

/* ------------------------------------------------------ attempts to connect */

/* One question to the kernel: which sockets of a family are in SYN_SENT? Adds
 * the local ports of those that go to `port`. (/proc/net/tcp says the same,
 * and takes twenty times as long.) */
static size_t ask_for_pending(int family, int port, unsigned ports[],
                              size_t count, size_t most)
{
    enum { SYN_SENT = 2 };
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 question;
    } request = {.header = {.nlmsg_len = sizeof request,
                            .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                            .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
                 .question = {.sdiag_family = (unsigned char)family,
                              .sdiag_protocol = IPPROTO_TCP,
                              .idiag_states = 1 << SYN_SENT}};
    union {
        struct nlmsghdr header;
        char bytes[32 * 1024];
    } answer;

    int kernel = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC,
                        NETLINK_SOCK_DIAG);
    if (kernel < 0 || send(kernel, &request, sizeof request, 0) < 0)
        skip_test("attempts to connect cannot be seen here (NETLINK_SOCK_DIAG: "
                  "%s)",
                  strerror(errno));
    bool more = true;
    while (more) {
        ssize_t length = recv(kernel, answer.bytes, sizeof answer.bytes, 0);
        if (length < 0 && errno == EINTR)
            continue;
        unsigned left = length > 0 ? (unsigned)length : 0;
        more = left > 0;
        for (struct nlmsghdr *each = &answer.header;
             more && NLMSG_OK(each, left); each = NLMSG_NEXT(each, left)) {
            more = each->nlmsg_type != NLMSG_DONE;
            if (each->nlmsg_type == NLMSG_ERROR)
                skip_test("attempts to connect cannot be seen here "
                          "(NETLINK_SOCK_DIAG answers with an error)");
            const struct inet_diag_msg *found = NLMSG_DATA(each);
            if (more && ntohs(found->id.idiag_dport) == port && count < most)
                ports[count++] = ntohs(found->id.idiag_sport);
        }
    }
    close(kernel);
    return count;
}

size_t pending_connects(int port, unsigned ports[], size_t most)
{
    size_t count = ask_for_pending(AF_INET, port, ports, 0, most);
    return ask_for_pending(AF_INET6, port, ports, count, most);
}

#else /* not Linux */

size_t members_of_group(pid_t group, pid_t members[], char states[],
                        size_t most)
{
    (void)members;
    (void)states;
    (void)most;
    return group < 0;
}

double cpu_time_of_group(pid_t group)
{
    return group < 0;
}

bool group_is_busy(pid_t group)
{
    return group < 0;
}

bool group_rests(pid_t group, double seconds)
{
    let_pass(seconds);
    return group > 0;
}

size_t count_own_descriptors(void)
{
    return 0;
}

struct holdings holdings_of(struct program *program)
{
    skip_test("what %s holds can be seen on Linux alone", program->name);
}

void expect_idle(struct program *program, const char *while_what)
{
    skip_test("whether %s is idle %s can be seen on Linux alone", program->name,
              while_what);
}

void expect_no_spinning(struct program *program, const char *while_what)
{
    expect_idle(program, while_what);
}

void expect_sound_sleep(struct program *program, double seconds,
                        const char *while_what)
{
    let_pass(seconds);
    expect_idle(program, while_what);
}

void stop_program(struct program *program)
{
    note("stopped %s (SIGSTOP)", program->name);
    kill(-program->pid, SIGSTOP);
    program->stopped = true;
    let_pass(0.05);
}

void continue_program(struct program *program)
{
    note("let %s go on (SIGCONT)", program->name);
    program->stopped = false;
    kill(-program->pid, SIGCONT);
}

void exhaust_descriptors(struct program *program)
{
    skip_test("the descriptors of %s can be taken away on Linux alone",
              program->name);
}

void restore_descriptors(struct program *program)
{
    exhaust_descriptors(program);
}

size_t pending_connects(int port, unsigned ports[], size_t most)
{
    (void)port;
    (void)ports;
    (void)most;
    skip_test("attempts to connect can be seen on Linux alone");
}

#endif

void expect_no_growth(struct program *server, size_t suspicious,
                      const char *what, void (*work)(struct program *))
{
    enum { MOST = 80, ENOUGH = 16 };
    size_t threads = holdings_of(server).threads;
    double at_last = now() + 40;
    size_t most = 0, held[MOST], times = 0;
    int without = 0;
    while (times < MOST && now() < at_last) {
        work(server);
        /* The last connections may be on their way out. */
        double until = now() + 0.5;
        while (holdings_of(server).threads > threads && now() < until)
            let_pass(0.01);
        let_pass(0.02);
        size_t memory = holdings_of(server).memory;
        bool grew = times == 0 || memory >= most + suspicious;
        without = grew ? 0 : without + 1;
        most = memory > most ? memory : most;
        held[times++] = memory;
        if (without == 2)
            return;
    }
    if (times < ENOUGH)
        skip_test("this machine is too busy to tell whether memory grows");
    fail_test("Expected: the server's memory does not grow with %s.\n"
              "It holds %zu KiB after the first of them, %zu KiB after the "
              "second, %zu KiB after number %zu.",
              what, held[0] >> 10, held[1] >> 10, held[times - 1] >> 10, times);
}

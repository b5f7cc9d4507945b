/*
 * program.c - starts the programs that are judged, reads what they print,
 * types what they read, and sees how they end.
 */
#include "inside.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

extern char **environ;

struct program *programs;
static int server_count, client_count;

/* No program may print without end and take the machine's memory. */
enum { MOST_PRINTED = 256 << 20, MOST_COMPLAINT = 4 << 20 };
enum { LONGEST_LINE = 1 << 20 }; /* no client prints one nearly as long */

/* ----------------------------------------------------------------- starting */

/* What the child needs, made before vfork(): until it is another program it
 * lives in our memory, and may change nothing there. */
struct launch {
    const char *path;
    char **arguments;
    char **environment;
    int input, output, errors;
    bool no_privileged_ports;
    const char *folder;
};

void close_descriptors_from(int first)
{
#if defined(__linux__) && defined(SYS_close_range)
    if (syscall(SYS_close_range, (unsigned)first, ~0u, 0u) == 0)
        return;
#endif
    long most = sysconf(_SC_OPEN_MAX);
    if (most < 0 || most > 65536)
        most = 65536;
    for (int i = first; i < most; i++)
        close(i);
}

_Noreturn static void become_program(const struct launch *launch)
{
    setpgid(0, 0);
#ifdef __linux__
    if (launch->no_privileged_ports)
        prctl(PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE, 0, 0, 0);
#endif
    for (int i = 1; i < NSIG; i++) {
        if (i != SIGKILL && i != SIGSTOP)
            signal(i, SIG_DFL);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    /* First above 2, so that none of the three overwrites another. */
    int input = fcntl(launch->input, F_DUPFD, 3);
    int output = fcntl(launch->output, F_DUPFD, 3);
    int errors = fcntl(launch->errors, F_DUPFD, 3);
    dup2(input, 0);
    dup2(output, 1);
    dup2(errors, 2);
    close_descriptors_from(3);

    if (launch->folder != NULL && chdir(launch->folder) < 0)
        _exit(126);
    execve(launch->path, launch->arguments, launch->environment);
    static const char text[] = "harness: cannot execute ";
    const char *reason = strerror(errno);
    if (write(2, text, sizeof text - 1) < 0 ||
        write(2, launch->path, strlen(launch->path)) < 0 ||
        write(2, ": ", 2) < 0 || write(2, reason, strlen(reason)) < 0 ||
        write(2, "\n", 1) < 0)
        _exit(126);
    _exit(127);
}

static bool is_setting(const char *entry, const char *name)
{
    size_t length = strlen(name);
    return strncmp(entry, name, length) == 0 && entry[length] == '=';
}

/* The environment of a program: the caller's, with the hostile library in it
 * when the network is hostile, without what concerns the harness alone. */
static char **make_environment(void)
{
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    char **environment = keep((count + 8) * sizeof *environment);
    size_t length = 0;
    static const char *const left_out[] = {
        "HOSTILE_SEED", "HOSTILE_SEEDS", "HOSTILE_LIBRARY", "SERVER", "CLIENT",
        "PATIENCE",     "AGAIN"};
    const char *preload = getenv("LD_PRELOAD");
    const char *options = getenv("ASAN_OPTIONS");

    for (size_t i = 0; i < count; i++) {
        bool leave_out = false;
        for (size_t j = 0; j < sizeof left_out / sizeof *left_out; j++)
            leave_out = leave_out || is_setting(environ[i], left_out[j]);
        if (hostile_seed() != 0)
            leave_out = leave_out || is_setting(environ[i], "LD_PRELOAD") ||
                        is_setting(environ[i], "ASAN_OPTIONS");
        if (!leave_out)
            environment[length++] = environ[i];
    }
    if (hostile_seed() != 0) {
        const char *library = getenv("HOSTILE_LIBRARY");
        environment[length++] = (char *)(size_t)text_of(
            "LD_PRELOAD=%s%s%s", library, preload != NULL ? ":" : "",
            preload != NULL ? preload : "");
        environment[length++] = (char *)(size_t)text_of("HOSTILE_SEED=%u",
                                                        hostile_seed());
        /* The sanitizer wants to be the first library; here it is not. */
        environment[length++] = (char *)(size_t)text_of(
            "ASAN_OPTIONS=%s%sverify_asan_link_order=0",
            options != NULL ? options : "", options != NULL ? ":" : "");
    }
    environment[length] = NULL;
    return environment;
}

/* A word as the shell wants it. */
static void append_word(struct bytes *text, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789-_./:,+=@%";
    if (text->length > 0)
        append_bytes(text, " ", 1);
    if (word[0] != '\0' && word[strspn(word, plain)] == '\0')
        append_format(text, "%s", word);
    else
        append_format(text, "'%s'", word);
}

static const char *ordinal(int number)
{
    static const char *const words[] = {"first", "second", "third",  "fourth",
                                        "fifth", "sixth",  "seventh"};
    if (number >= 1 && number <= 7)
        return words[number - 1];
    return text_of("%dth", number);
}

static void keep_for_us(int descriptor)
{
    fcntl(descriptor, F_SETFL, O_NONBLOCK);
    fcntl(descriptor, F_SETFD, FD_CLOEXEC);
}

/* A terminal: our end of it and the program's. It passes bytes unchanged. */
static void open_terminal(int *ours, int *theirs)
{
    struct termios settings;
    *ours = posix_openpt(O_RDWR | O_NOCTTY);
    if (*ours < 0 || grantpt(*ours) < 0 || unlockpt(*ours) < 0)
        skip_test("this machine has no pseudo-terminals: %s", strerror(errno));
    *theirs = open(ptsname(*ours), O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*theirs < 0 || tcgetattr(*theirs, &settings) < 0)
        skip_test("this machine has no pseudo-terminals: %s", strerror(errno));
    settings.c_oflag &= ~(tcflag_t)OPOST;
    settings.c_lflag &= ~(tcflag_t)(ECHO | ICANON);
    tcsetattr(*theirs, TCSANOW, &settings);
    keep_for_us(*ours);
}

static void open_output(struct program *program, enum output where, int *theirs)
{
    int ends[2];
    if (where == OUTPUT_FULL_DISK) {
        *theirs = open("/dev/full", O_WRONLY | O_CLOEXEC);
        if (*theirs < 0)
            skip_test("this machine has no /dev/full");
        return;
    }
    if (where == OUTPUT_TERMINAL) {
        open_terminal(&program->output, theirs);
        return;
    }
    if (pipe(ends) < 0)
        fail_test("harness: pipe: %s", strerror(errno));
    *theirs = ends[1];
    if (where == OUTPUT_NO_READER) {
        close(ends[0]);
        return;
    }
    keep_for_us(ends[0]);
    if (where == OUTPUT_BLOCKED) {
        /* The write of whoever comes next has to wait. */
        int flags = fcntl(ends[1], F_GETFL);
        fcntl(ends[1], F_SETFL, flags | O_NONBLOCK);
        while (write(ends[1], "", 1) == 1)
            program->filling++;
        fcntl(ends[1], F_SETFL, flags);
        program->blocked_output = ends[0];
        return;
    }
    program->output = ends[0];
}

void unblock_output(struct program *program)
{
    char filling[4096];
    note("took what filled the standard output of %s", program->name);
    while (program->filling > 0) {
        size_t most = program->filling < sizeof filling ? program->filling
                                                        : sizeof filling;
        ssize_t length = read(program->blocked_output, filling, most);
        if (length <= 0)
            break;
        program->filling -= (size_t)length;
    }
    program->output = program->blocked_output;
    program->blocked_output = -1;
}

static void open_errors(struct program *program, int *theirs)
{
    int ends[2];
    if (pipe(ends) < 0)
        fail_test("harness: pipe: %s", strerror(errno));
    keep_for_us(ends[0]);
    program->errors = ends[0];
    *theirs = ends[1];
}

static void open_input(bool empty, bool folder, int *ours, int *theirs)
{
    int ends[2];
    if (folder) {
        *ours = -1;
        *theirs = open("/", O_RDONLY | O_CLOEXEC);
        if (*theirs < 0)
            fail_test("harness: open /: %s", strerror(errno));
        return;
    }
    if (pipe(ends) < 0)
        fail_test("harness: pipe: %s", strerror(errno));
    *theirs = ends[0];
    *ours = ends[1];
    if (empty) {
        close(*ours);
        *ours = -1;
        return;
    }
    keep_for_us(*ours);
}

static void forbid_privileged_ports(void)
{
#ifdef __linux__
    int first = 1024;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "r");
    if (file != NULL) {
        if (fscanf(file, "%d", &first) != 1)
            first = 1024;
        fclose(file);
    }
    if (first < 1024)
        skip_test("this machine lets everybody bind the ports from %d on",
                  first);
#else
    if (geteuid() == 0)
        skip_test("root may bind every port");
#endif
}

static struct program *start(const char *variable, const struct start *how)
{
    bool is_server = strcmp(variable, "SERVER") == 0;
    const char *words = getenv(variable);
    if (words == NULL || words[0] == '\0')
        fail_test("%s is not set: the environment must name the program that "
                  "is judged",
                  variable);
    if (how->no_privileged_ports)
        forbid_privileged_ports();

    size_t count = 0;
    while (how->arguments != NULL && how->arguments[count] != NULL)
        count++;
    char **arguments = keep((count + 10) * sizeof *arguments);
    size_t length = 0;
    struct launch launch = {.arguments = arguments,
                            .environment = make_environment(),
                            .no_privileged_ports = how->no_privileged_ports,
                            .folder = how->folder};
    if (access(words, F_OK) == 0) {
        launch.path = words;
        arguments[length++] = (char *)(size_t)words;
    } else {
        launch.path = "/bin/sh";
        arguments[length++] = (char *)(size_t) "/bin/sh";
        arguments[length++] = (char *)(size_t) "-c";
        arguments[length++] = (char *)(size_t)text_of("exec %s \"$@\"", words);
        arguments[length++] = (char *)(size_t) "/bin/sh";
    }
    struct bytes command = {0};
    append_format(&command, "%s", words);
    size_t first = length;
    length += add_options(how, is_server, arguments + length);
    for (size_t i = 0; i < count; i++)
        arguments[length++] = (char *)(size_t)how->arguments[i];
    for (size_t i = first; i < length; i++)
        append_word(&command, arguments[i]);
    arguments[length] = NULL;

    struct program *program = keep(sizeof *program);
    *program = (struct program){.is_server = is_server,
                                .input = -1,
                                .output = -1,
                                .errors = -1,
                                .blocked_output = -1};
    int *number = is_server ? &server_count : &client_count;
    *number += 1;
    if (*number == 1)
        program->name = is_server ? "the server" : "the client";
    else
        program->name = text_of("the %s %s", ordinal(*number),
                                is_server ? "server" : "client");
    program->command = text_of("%s", command.data);
    free_bytes(&command);

    open_output(program, how->output, &launch.output);
    open_errors(program, &launch.errors);
    open_input(how->empty_input || is_server, how->folder_input,
               &program->input, &launch.input);

    static const char *const outputs[] = {
        [OUTPUT_COLLECTED] = "",
        [OUTPUT_FULL_DISK] = " > /dev/full",
        [OUTPUT_NO_READER] = ", its standard output a pipe without reader",
        [OUTPUT_BLOCKED] = ", its standard output a pipe that is full",
        [OUTPUT_TERMINAL] = ", its standard output a terminal"};
    note("started %s: %s%s%s%s%s", program->name, program->command,
         outputs[how->output],
         how->folder != NULL ? text_of(", in %s", how->folder) : "",
         how->folder_input                ? " < /"
         : how->empty_input && !is_server ? " < /dev/null"
                                          : "",
         how->no_privileged_ports
             ? ", without the right to bind a privileged port"
             : "");
    fflush(NULL);
    program->started = now();
    /* vfork() copies no memory: fork(), and the pages that it makes both sides
     * copy later, took up to a quarter of a short test's processor time. */
    pid_t child = vfork();
    if (child == 0)
        become_program(&launch);
    int error = errno;
    program->pid = child;
    close(launch.input);
    close(launch.output);
    close(launch.errors);
    if (program->pid < 0)
        fail_test("harness: vfork: %s", strerror(error));
    setpgid(program->pid, program->pid);
    guard_group(program->pid);

    /* In the order of their starts, as a report tells of them. */
    struct program **end = &programs;
    while (*end != NULL)
        end = &(*end)->next;
    *end = program;
    return program;
}

struct program *start_server_with(const struct start *how)
{
    return start("SERVER", how);
}

struct program *start_client_with(const struct start *how)
{
    return start("CLIENT", how);
}

/* The arguments of a variadic function as an array; kept. */
static const char **collect_arguments(const char *first, va_list list,
                                      size_t before)
{
    enum { MOST = 64 };
    const char **arguments = keep((MOST + 8) * sizeof *arguments);
    size_t count = before;
    for (const char *each = first; each != NULL && count < MOST;
         each = va_arg(list, const char *))
        arguments[count++] = each;
    arguments[count] = NULL;
    return arguments;
}

struct program *start_client(const char *argument, ...)
{
    va_list list;
    va_start(list, argument);
    const char **arguments = collect_arguments(argument, list, 0);
    va_end(list);
    return start_client_with(&(struct start){.arguments = arguments});
}

struct program *start_client_to(struct listener *listener, const char *option,
                                ...)
{
    va_list list;
    va_start(list, option);
    const char **arguments = collect_arguments(option, list, 0);
    va_end(list);
    size_t count = 0;
    while (arguments[count] != NULL)
        count++;
    arguments[count++] = "127.0.0.1";
    arguments[count++] = text_of("%d", port_of_listener(listener));
    arguments[count] = NULL;
    return start_client_with(&(struct start){.arguments = arguments});
}

/* ------------------------------------------------------- the listening line */

static bool same_address(const char *one, const char *other)
{
    unsigned char a[16], b[16];
    if (inet_pton(AF_INET, one, a) == 1 && inet_pton(AF_INET, other, b) == 1)
        return memcmp(a, b, 4) == 0;
    if (inet_pton(AF_INET6, one, a) == 1 && inet_pton(AF_INET6, other, b) == 1)
        return memcmp(a, b, 16) == 0;
    return false;
}

/* Reads "listening on ADDRESS:PORT", what has been printed up to the newline at
 * `end`; false when it is not that. */
static bool read_listening_line(struct program *server, const char *end,
                                const char *address, int port)
{
    static const char start_of_line[] = "listening on ";
    const char *line = server->printed.data;
    size_t length = sizeof start_of_line - 1;
    if (strncmp(line, start_of_line, length) != 0)
        return false;
    const char *colon = memrchr(line, ':', (size_t)(end - line));
    if (colon == NULL || colon <= line + length)
        return false;
    const char *from = line + length;
    const char *to = colon;
    bool in_brackets = *from == '[';
    if (in_brackets && (to - from < 2 || to[-1] != ']'))
        return false;
    if (in_brackets) {
        from++;
        to--;
    }
    char said[64];
    if ((size_t)(to - from) >= sizeof said)
        return false;
    memcpy(said, from, (size_t)(to - from));
    said[to - from] = '\0';
    if (in_brackets != (strchr(said, ':') != NULL) ||
        !same_address(said, address))
        return false;
    int number = 0;
    for (const char *digit = colon + 1; digit < end; digit++) {
        if (*digit < '0' || *digit > '9' || number > 65535)
            return false;
        number = number * 10 + (*digit - '0');
    }
    if (colon + 1 == end || colon[1] == '0' || number < 1 || number > 65535 ||
        (port != 0 && number != port))
        return false;
    server->port = number;
    if (strcmp(said, "0.0.0.0") == 0)
        strcpy(server->address, "127.0.0.1");
    else if (strcmp(said, "::") == 0)
        strcpy(server->address, "::1");
    else
        strcpy(server->address, said);
    return true;
}

/*
 * A program in a slow interpreter on a busy machine may take longer than
 * PATIENCE to start, to print or to end; one that sleeps will not do it any
 * more. Whether to wait on: until `*until`, and, while the program is busy, a
 * little longer, until `at_last`: a test may not take much more, and one that
 * spins would be taken for one that goes on slowly.
 */
static bool may_take_longer(struct program *program, double at_last,
                            double *until)
{
    if (now() < *until)
        return true;
    if (now() >= at_last || program->has_ended)
        return false;
    if (group_rests(program->pid, 0.5))
        return false;
    *until = moment_in(0.2);
    return true;
}

static void wait_for_listening_line(struct program *server)
{
    /* A dozen interpreters at once load all that they need. */
    double at_last = moment_in(4 * patience());
    double until = moment_in(patience());
    while (server->printed.length == 0 ||
           memchr(server->printed.data, '\n', server->printed.length) == NULL) {
        if ((server->has_ended && server->output < 0) ||
            !may_take_longer(server, at_last, &until))
            return;
        wait_on(-1, 0, until);
    }
}

/* The value of an option: "-p 7" or "-p7"; NULL when it is not there. */
static const char *value_of_option(const char *const *arguments, char letter)
{
    for (size_t i = 0; arguments != NULL && arguments[i] != NULL; i++) {
        if (arguments[i][0] == '-' && arguments[i][1] == letter)
            return arguments[i][2] != '\0' ? &arguments[i][2]
                                           : arguments[i + 1];
    }
    return NULL;
}

struct program *start_server_ready(const struct start *how)
{
    const char *address = value_of_option(how->arguments, 'a');
    const char *port_text = value_of_option(how->arguments, 'p');
    int port = port_text != NULL ? atoi(port_text) : 7777;
    if (address == NULL)
        address = "127.0.0.1";
    struct program *server = start_server_with(how);
    wait_for_listening_line(server);

    bool is_ipv6 = strchr(address, ':') != NULL;
    const char *wanted = text_of(
        "\"listening on %s%s%s:%s\", one line with a newline at its end, on "
        "standard output",
        is_ipv6 ? "[" : "", address, is_ipv6 ? "]" : "",
        port == 0 ? "PORT" : text_of("%d", port));
    size_t length = server->printed.length;
    const char *newline = length == 0
                              ? NULL
                              : memchr(server->printed.data, '\n', length);
    if (newline == NULL && server->has_ended)
        fail_test("Expected: %s.\n"
                  "Instead the server %s, and had printed %s.",
                  wanted, state_of(server),
                  length == 0 ? "nothing"
                              : quoted(server->printed.data, length));
    if (newline == NULL && length > 0)
        fail_test("Expected: %s.\n"
                  "It printed only %s, and no newline in %.1f s.",
                  wanted, quoted(server->printed.data, length),
                  now() - server->started);
    if (newline == NULL)
        fail_test("Expected: %s.\n"
                  "Nothing came in %.1f s; the server %s. Either it never got "
                  "as far as listening, or the line still waits in a buffer "
                  "of the program: towards a pipe, output is not sent at each "
                  "newline; only fflush(stdout), or a full buffer, sends it.",
                  wanted, now() - server->started, state_of(server));
    const char *hint = "";
    int turned = exchange_bytes(port);
    if (port != 0 && strstr(server->printed.data, text_of(":%d\n", turned)))
        hint = text_of("\nThat is %d with its two bytes exchanged: htons() or "
                       "ntohs() is missing, or one too many.",
                       port);
    if (!read_listening_line(server, newline, address, port))
        fail_test("Expected: %s%s.\nThe first line that came: %s%s", wanted,
                  port == 0 ? ", where PORT is the port that the kernel chose"
                            : "",
                  quoted(server->printed.data,
                         (size_t)(newline + 1 - server->printed.data)),
                  hint);
    server->accepted = (size_t)(newline + 1 - server->printed.data);
    note("%s printed %s", server->name,
         quoted(server->printed.data, server->accepted));
    return server;
}

struct program *start_server(const char *argument, ...)
{
    va_list list;
    va_start(list, argument);
    const char **arguments = collect_arguments(argument, list, 2);
    va_end(list);
    arguments[0] = "-p";
    arguments[1] = "0";
    return start_server_ready(&(struct start){.arguments = arguments});
}

struct program *start_server_on(int port, const char *argument, ...)
{
    va_list list;
    va_start(list, argument);
    const char **arguments = collect_arguments(argument, list, 2);
    va_end(list);
    arguments[0] = "-p";
    arguments[1] = text_of("%d", port);
    return start_server_ready(&(struct start){.arguments = arguments});
}

int port_of(const struct program *server)
{
    return server->port;
}

/* -------------------------------------------------------------------- pipes */

static void read_pipe(int *descriptor, struct bytes *into, size_t most)
{
    char buffer[65536];
    /* At most a megabyte a turn: a program may print faster than we read. */
    for (int i = 0; i < 16 && *descriptor >= 0; i++) {
        ssize_t length = read(*descriptor, buffer, sizeof buffer);
        if (length > 0) {
            append_bytes(into, buffer, (size_t)length);
        } else if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        } else {
            close(*descriptor);
            *descriptor = -1;
        }
        if (into->length > most) {
            size_t excess = into->length - most / 2;
            memmove(into->data, into->data + excess, most / 2 + 1);
            into->length = most / 2;
            into->dropped += excess;
        }
    }
}

static void close_input(struct program *program)
{
    if (program->input >= 0)
        close(program->input);
    program->input = -1;
    program->typed_length = 0;
}

static void type_what_is_left(struct program *program)
{
    while (program->typed_length > 0 && program->input >= 0) {
        ssize_t length = write(program->input, program->typed,
                               program->typed_length);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0 && errno == EAGAIN)
            return;
        if (length < 0) {
            close_input(program);
            return;
        }
        program->typed += length;
        program->typed_length -= (size_t)length;
        bytes_moved();
    }
    if (program->end_after_typed && program->typed_length == 0)
        close_input(program);
}

void serve_pipes(struct program *program)
{
    size_t had = program->printed.dropped + program->printed.length;
    if (program->output >= 0)
        read_pipe(&program->output, &program->printed, MOST_PRINTED);
    if (program->printed.dropped + program->printed.length > had)
        bytes_moved();
    if (program->errors >= 0)
        read_pipe(&program->errors, &program->complaint, MOST_COMPLAINT);
    if (program->typed_length > 0)
        type_what_is_left(program);
}

const char *standard_output(struct program *program, size_t *length)
{
    wait_on(-1, 0, 0);
    serve_pipes(program);
    if (length != NULL)
        *length = program->printed.length;
    return program->printed.data != NULL ? program->printed.data : "";
}

const char *standard_error(struct program *program, size_t *length)
{
    wait_on(-1, 0, 0);
    serve_pipes(program);
    if (length != NULL)
        *length = program->complaint.length;
    return program->complaint.data != NULL ? program->complaint.data : "";
}

size_t complaint_length(struct program *program)
{
    wait_on(-1, 0, 0);
    serve_pipes(program);
    return program->complaint.dropped + program->complaint.length;
}

/* ------------------------------------------------------------------- output */

static bool output_is_over(const struct program *program)
{
    return program->output < 0;
}

static enum ending ending_of_output(const struct program *program)
{
    return output_is_over(program) ? END_OF_FILE : STILL_OPEN;
}

/* Lets a little more come, so that a report shows more than the first byte
 * that is wrong. */
static void let_output_settle(struct program *program, size_t enough)
{
    double until = moment_in(0.1);
    while (now() < until && !output_is_over(program) &&
           program->printed.length - program->accepted < enough)
        wait_on(-1, 0, until);
}

void expect_output(struct program *program, const void *bytes, size_t length)
{
    double at_last = moment_in(2 * patience());
    double until = moment_in(patience());
    size_t had = program->printed.length;

    for (;;) {
        size_t came = program->printed.length - program->accepted;
        size_t compared = came < length ? came : length;
        const char *data = program->printed.data != NULL
                               ? program->printed.data + program->accepted
                               : "";
        bool same = memcmp(data, bytes, compared) == 0;
        if (same && came >= length)
            break;
        if (program->printed.length > had) {
            had = program->printed.length;
            until = moment_in(patience());
        }
        if (!same || output_is_over(program) ||
            !may_take_longer(program, at_last, &until)) {
            if (!same)
                let_output_settle(program, length + 64);
            fail_difference(
                text_of("on the standard output of %s", program->name), bytes,
                length,
                program->printed.data == NULL
                    ? ""
                    : program->printed.data + program->accepted,
                program->printed.length - program->accepted,
                ending_of_output(program));
        }
        wait_on(-1, 0, until);
    }
    program->accepted += length;
    note("%s printed %s", program->name, quoted(bytes, length));
}

void expect_output_text(struct program *program, const char *text)
{
    expect_output(program, text, strlen(text));
}

void expect_output_end(struct program *program)
{
    double until = moment_in(patience());
    while (!output_is_over(program) &&
           program->printed.length == program->accepted && now() < until)
        wait_on(-1, 0, until);
    size_t more = program->printed.length - program->accepted;
    if (more > 0) {
        let_output_settle(program, 4096);
        more = program->printed.length - program->accepted;
        fail_difference(text_of("on the standard output of %s, where nothing "
                                "more was due",
                                program->name),
                        "", 0, program->printed.data + program->accepted, more,
                        ending_of_output(program));
    }
    if (!output_is_over(program))
        fail_test("Expected: %s ends, and with it its output.\n"
                  "In %.1f s it did not; it %s.",
                  program->name, patience(), state_of(program));
}

const char *next_output_line(struct program *program)
{
    double until = moment_in(patience());
    size_t had = program->printed.length;
    for (;;) {
        size_t came = program->printed.length - program->accepted;
        const char *data = came == 0
                               ? NULL
                               : program->printed.data + program->accepted;
        const char *newline = came == 0 ? NULL : memchr(data, '\n', came);
        if (newline != NULL) {
            size_t length = (size_t)(newline - data);
            char *line = keep(length);
            memcpy(line, data, length);
            line[length] = '\0';
            program->accepted += length + 1;
            note("%s printed the line %s", program->name, quoted(line, length));
            return line;
        }
        if (program->printed.length > had) {
            had = program->printed.length;
            until = moment_in(patience());
        }
        if (output_is_over(program) || now() >= until || came > LONGEST_LINE)
            fail_test("Expected: one more line on the standard output of %s.\n"
                      "What came: %s%s; %s",
                      program->name, came == 0 ? "nothing" : quoted(data, came),
                      came == 0 ? "" : ", and no newline",
                      output_is_over(program) || came > LONGEST_LINE
                          ? text_of("the program %s.", state_of(program))
                          : text_of("the program %s, and %.1f s have passed.",
                                    state_of(program), patience()));
        wait_on(-1, 0, until);
    }
}

void expect_no_output(struct program *program, double seconds)
{
    double until = moment_in(seconds);
    serve_pipes(program);
    while (now() < until && program->printed.length == program->accepted)
        wait_on(-1, 0, until);
    size_t more = program->printed.length - program->accepted;
    if (more > 0) {
        let_output_settle(program, 4096);
        more = program->printed.length - program->accepted;
        fail_difference(text_of("on the standard output of %s, where nothing "
                                "was due",
                                program->name),
                        "", 0, program->printed.data + program->accepted, more,
                        ending_of_output(program));
    }
    note("%s printed nothing for %.0f ms", program->name, seconds * 1e3);
}

void expect_complaint(struct program *program, const char *about)
{
    double until = moment_in(patience());
    while (program->complaint.length == 0 ||
           memchr(program->complaint.data, '\n', program->complaint.length) ==
               NULL) {
        if (program->errors < 0 && program->complaint.length > 0)
            return;
        if (program->errors < 0 || now() >= until)
            fail_test("Expected: %s says on standard error %s.\n"
                      "It wrote %s there%s.",
                      program->name, about,
                      program->complaint.length == 0
                          ? "nothing"
                          : quoted(program->complaint.data,
                                   program->complaint.length),
                      program->errors < 0
                          ? text_of(", and %s", state_of(program))
                          : text_of(" in %.1f s", patience()));
        wait_on(-1, 0, until);
    }
    note("%s wrote to standard error", program->name);
}

void expect_told_failure(struct program *program, const char *about)
{
    size_t length, lines = 0;
    expect_exit(program, 1);
    expect_complaint(program, about);
    const char *text = standard_error(program, &length);
    for (size_t i = 0; i < length; i++)
        lines += text[i] == '\n';
    if (lines > 1)
        fail_test("Expected: one line on standard error, which says %s.\n"
                  "%s wrote %zu lines there.",
                  about, program->name, lines);
}

/* -------------------------------------------------------------------- input */

void type_bytes(struct program *program, const void *bytes, size_t length)
{
    note("typed to %s: %s", program->name, quoted(bytes, length));
    const char *from = bytes;
    size_t left = length;
    double until = moment_in(patience());
    while (left > 0) {
        ssize_t taken = -1;
        errno = EPIPE;
        if (program->input >= 0 && program->typed_length == 0)
            taken = write(program->input, from, left);
        else if (program->input >= 0)
            errno = EAGAIN;
        if (taken > 0) {
            bytes_moved();
            from += taken;
            left -= (size_t)taken;
            until = moment_in(patience());
            continue;
        }
        if (errno != EAGAIN && errno != EINTR) {
            double soon = moment_in(0.2);
            while (!program->has_ended && now() < soon)
                wait_on(-1, 0, soon);
            fail_test("Expected: %s reads its standard input.\n"
                      "It has closed it, %zu of %zu bytes were left; it %s.",
                      program->name, left, length, state_of(program));
        }
        if (now() >= until)
            fail_test("Expected: %s reads its standard input.\n"
                      "It took no more of it for %.1f s, %zu of %zu bytes "
                      "were left; it %s.",
                      program->name, patience(), left, length,
                      state_of(program));
        wait_on(program->input, POLLOUT, until);
    }
}

void type_text(struct program *program, const char *text)
{
    type_bytes(program, text, strlen(text));
}

void end_input(struct program *program)
{
    note("ended the standard input of %s", program->name);
    if (program->typed_length > 0)
        program->end_after_typed = true;
    else
        close_input(program);
}

static void type_later(struct program *program, const void *bytes,
                       size_t length, bool end)
{
    note("typed to %s: %s%s", program->name, quoted(bytes, length),
         end ? ", and ended its standard input" : "");
    char *copy = keep(length);
    memcpy(copy, bytes, length);
    program->typed = copy;
    program->typed_length = length;
    program->end_after_typed = end;
    type_what_is_left(program);
}

void type_in_background(struct program *program, const void *bytes,
                        size_t length)
{
    type_later(program, bytes, length, false);
}

void type_and_end(struct program *program, const void *bytes, size_t length)
{
    type_later(program, bytes, length, true);
}

/* ---------------------------------------------------------------------- end */

const char *name_of_signal(int signal_number)
{
    switch (signal_number) {
    case SIGPIPE:
        return "SIGPIPE: it wrote to a connection or pipe whose other end "
               "has gone";
    case SIGSEGV:
        return "SIGSEGV: it touched memory that is not its own";
    case SIGABRT:
        return "SIGABRT: it called abort(), or a check in the library did";
    case SIGBUS:
        return "SIGBUS: it touched memory that is not there";
    case SIGFPE:
        return "SIGFPE: it divided by zero";
    case SIGALRM:
        return "SIGALRM: an alarm() of its own";
    case SIGTERM:
        return "SIGTERM";
    case SIGINT:
        return "SIGINT";
    case SIGKILL:
        return "SIGKILL";
    default:
        return strsignal(signal_number);
    }
}

const char *state_of(const struct program *program)
{
    if (!program->has_ended)
        return text_of("is running (%s)", group_is_busy(program->pid)
                                              ? "it uses the CPU"
                                              : "asleep, it waits");
    double age = program->ended_at - program->started;
    if (program->ended_by != 0)
        return text_of("was ended by signal %d (%s) after %.3f s",
                       program->ended_by, name_of_signal(program->ended_by),
                       age);
    return text_of("ended with exit status %d after %.3f s",
                   program->exit_status, age);
}

/* A program that has ended stays a zombie until end_program(): until then its
 * process ID, which is that of its group too, cannot become another's. */
void look_who_has_ended(double ended_at)
{
    for (struct program *each = programs; each != NULL; each = each->next) {
        if (each->has_ended || each->pid <= 0)
            continue;
        siginfo_t end = {0};
        if (waitid(P_PID, (id_t)each->pid, &end, WEXITED | WNOHANG | WNOWAIT) ==
                -1 ||
            end.si_pid != each->pid)
            continue;
        each->has_ended = true;
        each->exit_status = end.si_code == CLD_EXITED ? end.si_status : -1;
        each->ended_by = end.si_code == CLD_EXITED ? 0 : end.si_status;
        each->ended_at = ended_at > each->started ? ended_at : now();
    }
}

const char *state_of_programs(void)
{
    const char *text = "";
    for (struct program *each = programs; each != NULL; each = each->next)
        text = text_of("%s; %s %s", text, each->name, state_of(each));
    return text;
}

bool has_crashed(const struct program *program)
{
    return program->ended_by != 0 &&
           (program->sent >> (program->ended_by - 1) & 1) == 0;
}

bool any_program_runs(void)
{
    for (struct program *each = programs; each != NULL; each = each->next) {
        if (!each->has_ended)
            return true;
    }
    return false;
}

bool has_ended(struct program *program)
{
    wait_on(-1, 0, 0);
    if (program->has_ended)
        program->end_expected = true;
    return program->has_ended;
}

double age_of(const struct program *program)
{
    return (program->has_ended ? program->ended_at : now()) - program->started;
}

static int status_within(struct program *program, double seconds)
{
    double from = now();
    double until = from + seconds;
    program->end_expected = true;
    double at_last = from + 2 * patience();
    while (!program->has_ended && may_take_longer(program, at_last, &until))
        wait_on(-1, 0, until);
    if (!program->has_ended)
        fail_test("Expected: %s ends.\n"
                  "It did not in %.1f s; it %s.",
                  program->name, now() - from, state_of(program));

    /* What it printed last is still in the pipes. */
    double soon = moment_in(0.5);
    while ((program->output >= 0 || program->errors >= 0) && now() < soon)
        wait_on(-1, 0, soon);
    if (has_crashed(program))
        fail_test("Expected: %s ends by itself, with an exit status.\n"
                  "It %s.",
                  program->name, state_of(program));
    return program->ended_by != 0 ? 128 + program->ended_by
                                  : program->exit_status;
}

int exit_status(struct program *program)
{
    int status = status_within(program, patience());
    note("%s %s", program->name, state_of(program));
    return status;
}

static const char *meaning_of_status(int status)
{
    switch (status) {
    case 0:
        return "0 (a normal end)";
    case 1:
        return "1 (a failure at run time)";
    case 2:
        return "2 (wrong usage)";
    default:
        return text_of("%d", status);
    }
}

static void compare_status(struct program *program, int came, int status)
{
    if (came != status && program->ended_by != 0)
        fail_test("Expected: %s ends with exit status %s.\n"
                  "It %s: it does not handle that signal.",
                  program->name, meaning_of_status(status), state_of(program));
    if (came != status)
        fail_test("Expected: %s ends with exit status %s.\n"
                  "It ended with exit status %s.",
                  program->name, meaning_of_status(status),
                  meaning_of_status(came));
    program->did_well = true;
    note("%s %s", program->name, state_of(program));
}

void expect_exit(struct program *program, int status)
{
    compare_status(program, status_within(program, patience()), status);
}

void expect_exit_within(struct program *program, int status, double seconds)
{
    double from = now();
    double bound = seconds > patience() ? seconds : patience();
    compare_status(program, status_within(program, bound), status);
    double took = program->ended_at - from;
    if (took > seconds)
        fail_test("Expected: %s ends within %.2f s.\n"
                  "It took %.2f s.",
                  program->name, seconds, took);
}

void expect_running(struct program *program)
{
    wait_on(-1, 0, 0);
    if (program->has_ended) {
        program->end_expected = true;
        fail_test("Expected: %s still runs.\nIt %s.", program->name,
                  state_of(program));
    }
}

void signal_program(struct program *program, int signal_number)
{
    note("sent signal %d (%s) to %s", signal_number, strsignal(signal_number),
         program->name);
    if (signal_number != SIGCONT && signal_number != SIGSTOP) {
        program->killed = true;
        program->sent |= UINT64_C(1) << (signal_number - 1);
        program->end_expected = true;
    }
    if (!program->has_ended)
        kill(program->pid, signal_number);
}

void end_program(struct program *program)
{
    if (program->pid <= 0 || program->group_ended)
        return;
    program->group_ended = true;
    if (!program->has_ended) {
        program->killed = true;
        program->sent |= UINT64_C(1) << (SIGKILL - 1);
        program->end_expected = true;
    }
    kill(-program->pid, SIGKILL);
    double until = moment_in(10);
    while (!program->has_ended && now() < until)
        wait_on(-1, 0, until);

    /* Children of the program are not ours to reap: wait until none of them
     * lives, so that nothing holds its sockets any more. While one is there,
     * the number of the group cannot become another's. */
    waitpid(program->pid, NULL, WNOHANG);
    until = moment_in(2);
    while (kill(-program->pid, 0) == 0 && now() < until) {
        pid_t members[64];
        char states[64];
        size_t count = members_of_group(program->pid, members, states, 64);
        size_t alive = 0;
        for (size_t i = 0; i < count; i++)
            alive += states[i] != 'Z';
        if (alive == 0)
            break;
        wait_on(-1, 0, moment_in(0.002));
    }
    release_group(program->pid);
    serve_pipes(program);
    close_input(program);
}

void kill_program(struct program *program)
{
    note("ended %s with SIGKILL", program->name);
    end_program(program);
}

/* ------------------------------------------------------ the end of the test */

static const char *sanitizer_in(const struct program *program)
{
    static const char *const words[] = {"AddressSanitizer", "LeakSanitizer",
                                        "ThreadSanitizer", "MemorySanitizer",
                                        "runtime error:"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (program->complaint.data != NULL &&
            memmem(program->complaint.data, program->complaint.length, words[i],
                   strlen(words[i])) != NULL)
            return words[i];
    }
    return NULL;
}

static void check_end_of_program(struct program *program)
{
    bool died = has_crashed(program);
    bool left = program->has_ended && !program->end_expected &&
                program->is_server && program->port != 0;
    end_program(program);
    program->end_expected = true;

    const char *sanitizer = sanitizer_in(program);
    if (sanitizer != NULL)
        fail_test("Expected: no sanitizer finds anything in %s.\n"
                  "On its standard error stands \"%s\".",
                  program->name, sanitizer);
    if (died)
        fail_test("Expected: nothing that its peers do ends %s.\n"
                  "It %s.",
                  program->name, state_of(program));
    if (left)
        fail_test("Expected: %s runs until somebody ends it.\n"
                  "It %s, although nobody had told it to.",
                  program->name, state_of(program));
    if (program->is_server && program->port != 0 &&
        program->printed.length > program->accepted)
        fail_test("Expected: a server prints one line to standard output and "
                  "nothing more; all else goes to standard error.\n"
                  "After its line it also printed %s",
                  quoted(program->printed.data + program->accepted,
                         program->printed.length - program->accepted));
}

void check_end_of_programs(void)
{
    wait_on(-1, 0, 0);
    for (struct program *each = programs; each != NULL; each = each->next)
        check_end_of_program(each);
}

void end_all_programs(void)
{
    for (struct program *each = programs; each != NULL; each = each->next)
        end_program(each);
}

void forget_all_programs(void)
{
    for (struct program *each = programs; each != NULL; each = each->next) {
        if (each->output >= 0)
            close(each->output);
        if (each->blocked_output >= 0)
            close(each->blocked_output);
        if (each->errors >= 0)
            close(each->errors);
        close_input(each);
        free_bytes(&each->printed);
        free_bytes(&each->complaint);
    }
    programs = NULL;
    server_count = 0;
    client_count = 0;
}

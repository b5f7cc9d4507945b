/*
 * 05-1.c - judges exercise 05-1: a server with a process for each client.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ "05-threads/README.md, \"Exercises\""

/* A client, and the process that said it serves it. */
struct served {
    struct peer *peer;
    pid_t process;
};

/* Waits for the line that tells which process serves a client. False when the
 * connection ends before one byte of it. */
static bool greets(struct peer *peer, pid_t *process)
{
    char line[40] = "";
    size_t length = 0;
    while (length < sizeof line - 1 && memchr(line, '\n', length) == NULL) {
        ssize_t came = receive_some(peer, line + length,
                                    sizeof line - 1 - length, patience());
        if (came == -1 && length == 0)
            return false;
        if (came <= 0)
            fail_test("Expected: the client is told which process serves it, "
                      "\"process 4711\" and a newline.\n%s after \"%s\".",
                      came == 0 ? "Nothing came" : "The connection ended",
                      line);
        length += (size_t)came;
    }
    long number = 0;
    char newline = '\0';
    /* Only a child of the program, which has its process group, is believed:
     * signals will be sent to it. */
    if (sscanf(line, "process %ld%c", &number, &newline) != 2 ||
        newline != '\n' || number <= 1 || getpgid((pid_t)number) <= 1 ||
        getpgid((pid_t)number) == getpgrp())
        fail_test("Expected: the client is told which process serves it, "
                  "\"process 4711\" and a newline.\nWhat came: \"%s\".",
                  line);
    note("the client is served by process %ld", number);
    if (getpgid((pid_t)number) == (pid_t)number)
        fail_test("Expected: a process of its own serves each client.\n"
                  "Process %ld is the server itself, which waits for clients.",
                  number);
    *process = (pid_t)number;
    return true;
}

static struct served served_by(struct program *server)
{
    struct served client = {.peer = connect_to(server)};
    if (!greets(client.peer, &client.process))
        fail_test("Expected: the client is served.\n"
                  "Its connection was closed at once.");
    return client;
}

static void speak(const struct served *client, const char *text)
{
    send_text(client->peer, text);
    expect_text(client->peer, text);
}

static void expect_processes(struct program *server, size_t processes,
                             const char *when)
{
    double until = now() + patience();
    size_t held;
    while ((held = holdings_of(server).processes) != processes && now() < until)
        let_pass(0.005);
    expect_running(server);
    if (held != processes)
        fail_test("Expected: %s, there %s %zu process%s.\nThere %s %zu%s.",
                  when, processes == 1 ? "is" : "are", processes,
                  processes == 1 ? ", the parent" : "es",
                  held == 1 ? "is" : "are", held,
                  holdings_of(server).threads < held
                      ? ", some of them zombies: they have ended, and nobody "
                        "has waited for them"
                      : ", and they live");
    note("%s, there %s %zu process%s", when, processes == 1 ? "is" : "are",
         processes, processes == 1 ? "" : "es");
}

TEST(server, each_client_has_a_process_of_its_own,
     .promise = "Each client is served at once, by a process of its own.",
     .cause = "To begin with: call fork behind accept_client. In the child, "
              "close the listener, serve the client and call _exit. In the "
              "parent, close the client and take the next one. Who waits for "
              "the child there (waitpid without WNOHANG) serves one client at "
              "a time.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct served ada = served_by(server);
    usual_cause("The first client has a process of its own. The parent must "
                "not wait for its end (waitpid without WNOHANG): it closes its "
                "copy of the socket and takes the next client at once. And a "
                "child that does not call _exit goes on as a second parent.");
    struct served grace = served_by(server);
    if (ada.process == grace.process)
        fail_test("Expected: a process of its own serves each client.\n"
                  "Process %ld serves two.",
                  (long)ada.process);
    speak(&grace, "from grace");
    speak(&ada, "from ada");
    speak(&grace, "from grace again");
}

/* How many sockets a process holds. */
static size_t sockets_of(pid_t process)
{
    size_t sockets = 0;
    char path[64], what[64];
    snprintf(path, sizeof path, "/proc/%ld/fd", (long)process);
    DIR *directory = opendir(path);
    if (directory == NULL)
        skip_test("%s cannot be read: %s", path, strerror(errno));
    for (struct dirent *entry = readdir(directory); entry != NULL;
         entry = readdir(directory)) {
        ssize_t length = readlinkat(dirfd(directory), entry->d_name, what,
                                    sizeof what);
        sockets += length > 7 && strncmp(what, "socket:", 7) == 0;
    }
    closedir(directory);
    return sockets;
}

TEST(server, the_end_of_a_client_is_the_end,
     .promise = "When the client has ended its side, its process ends too.",
     .cause = "The parent has not closed its copy of the client's socket. The "
              "connection ends when the last copy is closed.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct served client = served_by(server);
    size_t length = 300000;
    exchange(client.peer, pattern(length, 1), length, pattern(length, 1),
             length);
    half_close(client.peer);
    expect_end_of_file(client.peer);
    speak(&(struct served){.peer = served_by(server).peer}, "the next");
}

TEST(server, a_process_holds_its_client_alone,
     .promise = "A process that serves a client holds one socket, its "
                "client's.",
     .cause = "A child has a copy of every descriptor of its parent: the "
              "listener, which it has to close (the port stays taken as long "
              "as anybody holds it), and each client that the parent has not "
              "closed when it was handed over.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct served clients[3];
    for (size_t i = 0; i < 3; i++) {
        clients[i] = served_by(server);
        speak(&clients[i], "hello");
    }
    for (size_t i = 0; i < 3; i++) {
        size_t sockets = sockets_of(clients[i].process);
        if (sockets != 1)
            fail_test("Expected: a process holds one socket, its client's.\n"
                      "Process %ld, which serves client %zu of 3, holds %zu "
                      "(ls -l /proc/%ld/fd shows them).",
                      (long)clients[i].process, i + 1, sockets,
                      (long)clients[i].process);
    }
}

TEST(server, no_zombies_are_left,
     .promise = "No zombies are left: what a child leaves behind is taken "
                "away at once, also while no other client comes.",
     .cause = "Nobody waits for the children, or only when the next client "
              "has come. Let SIGCHLD end the wait for clients, and call "
              "waitpid with WNOHANG. Or a child goes on to the next accept "
              "when its client has gone: let it call _exit.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    for (int i = 0; i < 3; i++) {
        struct served client = served_by(server);
        speak(&client, "hello");
        close_peer(client.peer);
    }
    expect_processes(server, 1, "when all clients have gone");
    speak(&(struct served){.peer = served_by(server).peer}, "the next");
}

TEST(server, many_that_end_at_once_are_all_buried,
     .promise = "No zombies are left: what a child leaves behind is taken "
                "away at once.",
     .cause = "waitpid is called once for each SIGCHLD. Signals are not "
              "counted: one that comes while the same one is pending is lost, "
              "and one handler then stands for five children. Call waitpid "
              "with WNOHANG until it returns 0 or -1.",
     .read = READ)
{
    enum { MANY = 5 };
    struct program *server = start_server(NULL);
    size_t threads = holdings_of(server).threads;
    struct served clients[MANY];
    for (size_t i = 0; i < MANY; i++)
        clients[i] = served_by(server);
    note("While the parent is stopped, %d clients go, and their processes end.",
         MANY);
    signal_program(server, SIGSTOP);
    for (size_t i = 0; i < MANY; i++)
        close_peer(clients[i].peer);
    double until = now() + patience();
    while (holdings_of(server).threads > threads && now() < until)
        let_pass(0.002);
    signal_program(server, SIGCONT);
    expect_processes(server, 1, "when all clients have gone");
}

TEST(server, a_child_that_dies_concerns_its_client_alone,
     .promise = "A child that dies, of whatever signal, concerns its own "
                "client alone.",
     .cause = "The parent takes EINTR, or what a dead child leaves behind, "
              "for a reason to end, or sends the others after it.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct served ada = served_by(server);
    struct served eve = served_by(server);
    struct served grace = served_by(server);
    note("Process %ld gets SIGKILL.", (long)eve.process);
    kill(eve.process, SIGKILL);
    expect_closed(eve.peer);
    expect_processes(server, 3, "when one of three children has been killed");
    speak(&ada, "from ada");
    speak(&grace, "from grace");
    speak(&(struct served){.peer = served_by(server).peer}, "the next");
}

TEST(server, one_client_too_many_is_closed,
     .promise = "At most CHILDREN are there at a time (-m): who comes then is "
                "closed at once, without a word. When one has gone, the next "
                "may come.",
     .cause = "Children are counted when they begin, and not when they end; or "
              "not at all.",
     .read = READ)
{
    struct program *server = start_server("-m", "2", NULL);
    for (int round = 0; round < 2; round++) {
        struct served ada = served_by(server);
        struct served grace = served_by(server);
        expect_closed(connect_to(server));
        speak(&ada, "from ada");
        speak(&grace, "from grace");
        close_peer(ada.peer);
        expect_processes(server, 2, "when one of two clients has gone");
        struct served linus = served_by(server);
        speak(&linus, "from linus");
        close_peer(linus.peer);
        close_peer(grace.peer);
        expect_processes(server, 1, "when all clients have gone");
    }
}

TEST(server, a_hundred_come_and_go,
     .promise = "Each client is served at once, by a process of its own; no "
                "zombies are left.",
     .cause = "A call that a signal interrupts (EINTR) is taken for the end, "
              "or SIGCHLD comes at a moment that nobody has thought of: "
              "between fork and the line that writes down the child.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    size_t descriptors = holdings_of(server).descriptors;
    for (int i = 0; i < 100; i++) {
        struct served client = served_by(server);
        speak(&client, "quick");
        if (i % 3 == 0)
            reset_peer(client.peer);
        else
            close_peer(client.peer);
    }
    expect_processes(server, 1, "when a hundred clients have gone");
    size_t held = holdings_of(server).descriptors;
    if (held > descriptors)
        fail_test("Expected: the server has as many descriptors as before a "
                  "hundred clients came and went, %zu.\nIt has %zu.",
                  descriptors, held);
}

/* Both signals end the parent and its children. */
static void end_with(int number)
{
    struct program *server = start_server(NULL);
    struct served clients[3];
    for (size_t i = 0; i < 3; i++)
        clients[i] = served_by(server);
    speak(&clients[1], "hello");
    send_until_full(clients[2].peer, pattern(1 << 24, 1), 1 << 24, 0.05);
    note("One client is silent, one has spoken, one does not read.");
    signal_program(server, number);
    expect_exit(server, 0);
    expect_closed(clients[0].peer);
    expect_closed(clients[1].peer);
    for (size_t i = 0; i < 3; i++)
        if (kill(clients[i].process, 0) == 0)
            fail_test("Expected: when the parent ends, all of its children "
                      "have ended.\nProcess %ld is still there.",
                      (long)clients[i].process);
}

TEST(server, a_signal_ends_the_children_too,
     .promise = "SIGINT and SIGTERM to the parent end the children too; when "
                "all of them have ended, the parent exits with status 0.",
     .cause = "The parent ends and leaves its children alone, or does not wait "
              "until they have ended (waitpid). Or it sends them "
              "SIGTERM, and they have inherited its handler, which sets a flag "
              "that they never look at, or the mask that blocks the signal: "
              "in the child, set SIGTERM back to SIG_DFL and unblock it.",
     .read = READ)
{
    end_with(SIGTERM);
    end_with(SIGINT);
}

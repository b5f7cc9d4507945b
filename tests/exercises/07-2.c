/*
 * 07-2.c - judges exercise 07-2: a server that reads its certificate again.
 *
 * The server's two files lie in a folder of this test's own, where others are
 * moved into their place. Which certificate the server shows is seen in the
 * handshake.
 */
#include "tls.h"

#include <openssl/pem.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define READ "07-tls/README.md, \"Exercises\""

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

/* --------------------------------------------------------------- the files */

enum file { CERTIFICATE, KEY };
static char folder[4096]; /* empty: there is none yet */

static const char *path_of(const char *name)
{
    return text_of("%s/%s", folder, name);
}

static const char *const names[] = {[CERTIFICATE] = "pem", [KEY] = "key"};

static void remove_folder(void)
{
    char path[sizeof folder + 8];
    for (size_t i = 0; i < COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

/* Moves a copy of a file of build/certs into the place of one of the server's;
 * with its mode, for that of a key counts. NULL: takes the server's away. */
static void put(enum file which, const char *name)
{
    if (folder[0] == '\0') {
        snprintf(folder, sizeof folder, "%s", certificate("swap.XXXXXX"));
        if (mkdtemp(folder) == NULL)
            fail_test("harness: cannot make a folder %s", folder);
        atexit(remove_folder);
    }
    if (name == NULL) {
        unlink(path_of(names[which]));
        return;
    }
    struct stat about;
    char bytes[65536];
    FILE *from = fopen(certificate(name), "r");
    FILE *to = fopen(path_of("new"), "w");
    size_t length = from != NULL ? fread(bytes, 1, sizeof bytes, from) : 0;
    if (from == NULL || to == NULL || fstat(fileno(from), &about) != 0 ||
        fwrite(bytes, 1, length, to) != length ||
        fchmod(fileno(to), about.st_mode) != 0 || fclose(to) != 0 ||
        rename(path_of("new"), path_of(names[which])) != 0)
        fail_test("harness: cannot copy %s: run make again", certificate(name));
    fclose(from);
}

static void put_both(const char *pem, const char *key)
{
    put(CERTIFICATE, pem);
    put(KEY, key);
    note("the server's files are now %s and %s",
         pem != NULL ? pem : "no certificate", key != NULL ? key : "no key");
}

static struct program *start(void)
{
    put_both("server.pem", "server.key");
    const char *const arguments[] = {
        "-p", "0", "-c", path_of("pem"), "-k", path_of("key"), NULL};
    return start_server_ready(
        &(struct start){.arguments = arguments, .bare = true});
}

/* ------------------------------------------------------------- connections */

/* The server sends back what this peer sends. */
static void expect_echo(struct peer *peer)
{
    send_text(peer, "are you there?");
    expect_text(peer, "are you there?");
}

/* Whether the server has shown this certificate. */
static bool was_shown(const struct peer *peer, const char *name)
{
    FILE *file = fopen(certificate(name), "r");
    X509 *one = file != NULL ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    X509 *other = SSL_get_peer_certificate(session_of(peer));
    bool is_same = one != NULL && other != NULL && X509_cmp(one, other) == 0;
    X509_free(one);
    X509_free(other);
    if (file != NULL)
        fclose(file);
    return is_same;
}

/* Somebody new, who is served. */
static struct peer *come(struct program *server)
{
    struct peer *peer = connect_to(server);
    expect_echo(peer);
    return peer;
}

static void expect_shown(struct program *server, const char *name)
{
    struct peer *peer = come(server);
    if (!was_shown(peer, name))
        fail_test("Expected: who comes now is shown %s.\n"
                  "It was another certificate.",
                  name);
    close_peer(peer);
}

/* The server needs a moment to see a signal; sooner or later this certificate
 * is shown. */
static void wait_until_shown(struct program *server, const char *name)
{
    double until = now() + patience();
    for (;;) {
        struct peer *peer = come(server);
        usual_cause("The server has survived SIGHUP and shows the old "
                    "certificate still: the handler's byte is not seen by "
                    "poll, the files are read and the new context is not "
                    "taken, or those who come are given the old one.");
        bool is_shown = was_shown(peer, name);
        close_peer(peer);
        if (is_shown)
            break;
        if (now() > until)
            fail_test("Expected: after SIGHUP, who comes is shown %s.\n"
                      "After %.1f s it was another certificate still.",
                      name, patience());
        let_pass(0.01);
    }
    usual_cause(NULL);
    note("who comes is shown %s", name);
    expect_shown(server, name);
}

/* Sends SIGHUP; the server has to write one more line to standard error. */
static void expect_told(struct program *server)
{
    size_t had = complaint_length(server);
    signal_program(server, SIGHUP);
    double until = now() + patience();
    while (complaint_length(server) == had && now() < until &&
           !has_ended(server))
        let_pass(0.002);
    usual_cause("SIGHUP has no handler and ends the program; or the program "
                "ends with wrong files, as it does at the start.");
    expect_running(server);
    usual_cause(NULL);
    if (complaint_length(server) == had)
        fail_test("Expected: a line on standard error that says what is wrong "
                  "with the files.\nNothing came there in %.1f s.",
                  patience());
    note("the server wrote to standard error");
}

/* ------------------------------------------------------------------- tests */

TEST(server, shows_the_new_certificate_after_sighup,
     .promise = "On SIGHUP it reads both files once more: connections that "
                "come after that get the new certificate.",
     .cause = "To begin with: SIGHUP ends a program that has no handler. Give "
              "it one (sigaction) that writes a byte into a pipe, let poll "
              "watch the other end, and when the byte comes make a new context "
              "of both files (tls_server_context) in place of the old one.",
     .read = READ)
{
    struct program *server = start();
    usual_cause("Nobody has sent a signal yet: the server shows what it read "
                "at its start.");
    expect_shown(server, "server.pem");
    put_both("next.pem", "next.key");
    expect_shown(server, "server.pem");
    usual_cause(NULL);
    signal_program(server, SIGHUP);
    wait_until_shown(server, "next.pem");
    now_trying("a second time");
    usual_cause("The first SIGHUP was obeyed, the second was not. signal() may "
                "put the default action back when the handler is called: glibc "
                "does so under -std=c17. sigaction does not.");
    put_both("only-name.pem", "server.key");
    signal_program(server, SIGHUP);
    wait_until_shown(server, "only-name.pem");
    now_trying(NULL);
}

TEST(server, nobody_is_disconnected,
     .promise = "Nobody who is there is disconnected, and nobody's handshake "
                "fails.",
     .cause = "The clients are closed, or begin anew, with the context; or the "
              "old context goes while its sessions need it. SSL_CTX_free "
              "alone is right: each session counts as a user of its context, "
              "which stays until the last one has gone.",
     .read = READ)
{
    const size_t length = 100000;
    struct program *server = start();
    struct peer *there[COUNT(versions)];
    for (size_t i = 0; i < COUNT(versions); i++) {
        struct tls_options options = {.lowest = versions[i],
                                      .highest = versions[i]};
        there[i] = connect_plainly(server);
        begin_tls(there[i], false, &options);
        expect_echo(there[i]);
    }
    struct peer *silent = connect_plainly(server);
    struct peer *begun = connect_plainly(server);
    begin_tls(begun, false, NULL);
    for (int i = 0; i < 2; i++) {
        put_both(i == 0 ? "next.pem" : "server.pem",
                 i == 0 ? "next.key" : "server.key");
        signal_program(server, SIGHUP);
        wait_until_shown(server, i == 0 ? "next.pem" : "server.pem");
        expect_echo(there[0]);
    }
    now_trying("who was there before");
    for (size_t i = 0; i < COUNT(versions); i++)
        exchange(there[i], pattern(length, 1), length, pattern(length, 1),
                 length);
    now_trying("who was in the middle of the handshake");
    expect_echo(begun);
    now_trying("who was there and had said nothing yet");
    begin_tls(silent, false, NULL);
    expect_echo(silent);
    now_trying("the end of one who was there before");
    half_close(there[1]);
    expect_end_of_file(there[1]);
    now_trying(NULL);
}

static const struct {
    const char *what, *pem, *key;
} wrong[] = {
    {"a new certificate with the old key", "next.pem", "server.key"},
    {"the old certificate with a new key", "server.pem", "next.key"},
    {"no key", "next.pem", NULL},
    {"no certificate", NULL, "next.key"},
    {"half a certificate", "cut.pem", "next.key"},
    {"half a key", "next.pem", "cut.key"},
    {"an empty file for a certificate", "empty.pem", "next.key"},
    {"a key that its group may read", "next.pem", "open-to-group.key"},
};

TEST(server, keeps_what_it_had_when_the_files_are_wrong,
     .promise = "When something is wrong with the files a line on standard "
                "error says so, and the server goes on with what it had.",
     .cause = "The files are given to the context that is in use "
              "(SSL_CTX_use_certificate_chain_file, ...), the first before "
              "anybody has looked at the second: what was good is lost. Make a "
              "whole new context, and take it when it is complete.",
     .read = READ)
{
    struct program *server = start();
    struct peer *there = come(server);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        now_trying(wrong[i].what);
        put_both(wrong[i].pem, wrong[i].key);
        expect_told(server);
        expect_shown(server, "server.pem");
        expect_echo(there);
    }
    now_trying("then both are right");
    put_both("next.pem", "next.key");
    signal_program(server, SIGHUP);
    wait_until_shown(server, "next.pem");
    expect_echo(there);
    now_trying(NULL);
}

TEST(server, reads_the_files_though_nobody_comes,
     .promise = "It reads them at once, also when no client comes and none "
                "speaks.",
     .cause =
         "The handler sets a flag, and the program looks at it and then "
         "calls poll. A signal between the two sets the flag, and poll "
         "waits for a client all the same. Let the handler write into a "
         "pipe that poll watches, or block the signal and let pselect open "
         "it while it waits.",
     .read = READ)
{
    /* The hostile network holds the program up before each poll; whatever it
     * does for the signal, it does at the latest then. */
    setenv("HOSTILE_LATE", "250", 1);
    struct program *server = start();
    put_both("server.pem", NULL);
    for (int i = 0; i < 2; i++) {
        note("nobody is connected; the signal comes 0.1 s later%s",
             hostile_seed() != 0 ? ", while the program is held up between its "
                                   "last look and its next call"
                                 : "");
        let_pass(0.1);
        expect_told(server);
    }
}

TEST(server, many_signals_while_clients_come,
     .promise = "Nobody who is there is disconnected, and nobody's handshake "
                "fails.",
     .cause = "The work is done in the handler. It runs between any two "
              "instructions of the program, in the middle of malloc or of "
              "OpenSSL too, and may call hardly any function "
              "(signal-safety(7)). Or SSL_CTX_free is called once too often.",
     .read = READ)
{
    enum { ROUNDS = 12, SIGNALS = 5 };
    struct program *server = start();
    struct peer *there = come(server);
    for (int i = 0; i < ROUNDS; i++) {
        struct peer *peer = connect_to(server);
        for (int k = 0; k < SIGNALS; k++)
            signal_program(server, SIGHUP);
        expect_echo(peer);
        close_peer(peer);
    }
    put_both("next.pem", "next.key");
    signal_program(server, SIGHUP);
    wait_until_shown(server, "next.pem");
    expect_echo(there);
}

TEST(server, nothing_of_the_old_ones_stays,
     .promise = "And nothing of the old ones stays when nobody uses it any "
                "more.",
     .cause = "For fear of those who use it, the old context is never freed. "
              "SSL_CTX_free takes away one user; the sessions of those who "
              "are there are users of their own. Or a file is not closed.",
     .read = READ, .patient = true)
{
    enum { ROUNDS = 40, RELOADS = 10 };
    struct program *server = start();
    struct peer *there = come(server);
    struct holdings first = {0}, before = {0}, held = {0};
    size_t without = 0;
    int round = 0;
    for (; round < ROUNDS && without < 2; round++) {
        for (int i = 0; i < RELOADS; i++) {
            signal_program(server, SIGHUP);
            close_peer(come(server));
        }
        held = holdings_of(server);
        if (round == 0) {
            first = held;
        } else {
            bool grew = held.memory >= before.memory + 65536;
            without = grew ? 0 : without + 1;
        }
        before = held;
    }
    if (without < 2)
        fail_test("Expected: the server's memory does not grow with each "
                  "SIGHUP.\n"
                  "It holds %zu KiB after %d of them, and %zu KiB after %d.",
                  first.memory >> 10, RELOADS, held.memory >> 10,
                  round * RELOADS);
    /* One for each SIGHUP would be 2 * RELOADS more, at least. */
    if (held.descriptors > first.descriptors + RELOADS)
        fail_test("Expected: the server holds no more descriptors with each "
                  "SIGHUP.\n"
                  "It holds %zu after %d of them, and %zu after %d. A file "
                  "that was opened has to be closed.",
                  first.descriptors, RELOADS, held.descriptors,
                  round * RELOADS);
    expect_echo(there);
}

/*
 * Exercise 07-3: Resume a session, and measure what it saves.
 *
 * This client of the room pings one server or several, each N times, over a new
 * connection each time, and says how long that took. Each connection makes a
 * full handshake: certificates, signatures, all over again. Change it so that
 * it resumes: it keeps the session of a connection and hands it to the next one
 * to the same server.
 *
 *     3-resume [-n N] [-C CA] [-t SECONDS] HOST PORT [HOST PORT]...
 *
 *     - In each of N rounds (default 10) it visits every server once, in the
 *       order given. Each visit is a line: "full 2.417" or "resumed 1.288", and
 *       the milliseconds from before the connection to the pong.
 *     - At the end two lines, how many and the mean of their times:
 *       "full 1 mean 2.417" and "resumed 9 mean 1.293" (of none: mean 0.000).
 *     - A session is for the server that it comes from, HOST and PORT, and for
 *       no other one: a server that resumes proves no name any more.
 *     - A server that does not resume, or gives no session, is fine: a full
 *       handshake, and the server is verified as always. One that fails: a line
 *       on standard error, and exit status 1.
 *     - A session of TLS 1.3 is used once (RFC 8446, appendix C.4): whoever
 *       listens sees it in clear, and would know the client by it. Each visit
 *       brings a new one, or the next is full. In TLS 1.2 one serves on.
 *
 * Beware of the moment. In TLS 1.3 the server sends its sessions (tickets) when
 * the handshake is over: who asks for one then gets one that cannot be resumed.
 * And beware of the end: OpenSSL spoils the session of a connection that is
 * freed without SSL_shutdown, as if somebody had cut it off.
 *
 * Try it:   ./certs.sh; make; make exercises/3-resume; ./server &
 *           exercises/3-resume localhost 7777
 * Judge it: make exercise-07-3   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "message.h"
#include "net.h"
#include "tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A server, and what we keep of the last visit. */
struct server {
    const char *host, *port;
    SSL_SESSION *ticket; /* NULL: the next handshake is a full one */
};

/* How many visits of a kind there were, and how long they took in all. */
struct tally {
    int count;
    double seconds;
};

static SSL_CTX *context;
static double limit = 5; /* -t: seconds for one visit */

/* Tells OpenSSL who the server has to be, and asks it for this one (SNI).
 * Returns whether that went well. */
static bool expect_host(SSL *session, const char *host)
{
    X509_VERIFY_PARAM *verify = SSL_get0_param(session);
    X509_VERIFY_PARAM_set_hostflags(verify,
                                    X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
                                        X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (X509_VERIFY_PARAM_set1_ip_asc(verify, host) == 1)
        return true;
    return X509_VERIFY_PARAM_set1_host(verify, host, 0) == 1 &&
           SSL_set_tlsext_host_name(session, host) == 1;
}

/*
 * After a call of OpenSSL that returned `result`: waits until it can be made
 * again, and returns true; or returns false when it failed for good or the
 * deadline has passed.
 */
static bool again(SSL *session, int result, double deadline)
{
    short events;
    switch (SSL_get_error(session, result)) {
    case SSL_ERROR_WANT_READ:
        events = POLLIN;
        break;
    case SSL_ERROR_WANT_WRITE:
        events = POLLOUT;
        break;
    default:
        return false;
    }
    return wait_until(SSL_get_fd(session), events, deadline) == 0;
}

/* Sends a ping and waits for the pong. Returns whether it came. */
static bool ping(SSL *session, double deadline)
{
    static const char payload[] = "{\"type\":\"ping\"}";
    static char bytes[FRAME_MAX];
    size_t length = frame_write(payload, strlen(payload), bytes);
    int result;
    while ((result = SSL_write(session, bytes, (int)length)) <= 0)
        if (!again(session, result, deadline))
            return false;

    struct frame frame;
    enum frame_result found = FRAME_UNFINISHED;
    for (length = 0; found == FRAME_UNFINISHED;) {
        result = SSL_read(session, bytes + length,
                          (int)(sizeof bytes - length));
        if (result > 0) {
            length += (size_t)result;
            found = frame_read(bytes, length, &frame);
        } else if (!again(session, result, deadline)) {
            return false;
        }
    }
    struct message answer;
    if (found != FRAME_WHOLE ||
        message_read(frame.payload, frame.length, &answer) != NULL)
        return false;
    bool came = answer.type == MESSAGE_PONG;
    message_free(&answer);
    return came;
}

/*
 * Ends the conversation in good order: close_notify, and then whatever still
 * comes, until the server ends its side. OpenSSL takes tickets out of that too,
 * and spoils a session that is freed without close_notify. A server that has
 * said its pong owes us nothing more, so it does not matter how this ends.
 */
static void say_goodbye(SSL *session, double deadline)
{
    char rest[256];
    int result;
    while ((result = SSL_shutdown(session)) < 0)
        if (!again(session, result, deadline))
            return;
    while ((result = SSL_read(session, rest, sizeof rest)) > 0
               ? now() < deadline
               : again(session, result, deadline))
        continue;
}

/*
 * Takes the session of a visit that went well, for the next one. `used` is the
 * one that the visit began with, or NULL: when it is still there, no new one
 * has come, which is right in TLS 1.2 and the end of it in 1.3.
 */
static void keep_session(struct server *server, SSL *session,
                         const SSL_SESSION *used)
{
    SSL_SESSION *ticket = SSL_get1_session(session);
    bool good = ticket != NULL && SSL_SESSION_is_resumable(ticket);
    if (good && ticket == used)
        good = SSL_SESSION_get_protocol_version(ticket) != TLS1_3_VERSION;
    if (good)
        server->ticket = ticket;
    else
        SSL_SESSION_free(ticket);
}

/* Does the handshake and the ping inside a connection. Returns 0, and whether
 * the session was resumed; or -1 with the reason. */
static int talk(struct server *server, SSL *session, double deadline,
                bool *resumed, double *end, char reason[REASON_SIZE])
{
    SSL_SESSION *used = server->ticket; /* ours to free from here on */
    server->ticket = NULL;
    bool done = used == NULL || SSL_set_session(session, used) == 1;
    int result;
    ERR_clear_error();
    while (done && (result = SSL_connect(session)) != 1)
        done = again(session, result, deadline);
    if (done && ping(session, deadline)) {
        *resumed = SSL_session_reused(session) == 1;
        *end = now();
        say_goodbye(session, deadline);
        keep_session(server, session, used);
        SSL_SESSION_free(used);
        return 0;
    }
    long verified = SSL_get_verify_result(session);
    const char *error = ERR_reason_error_string(ERR_peek_error());
    snprintf(reason, REASON_SIZE, "%.80s port %.8s: %.150s", server->host,
             server->port,
             verified != X509_V_OK ? X509_verify_cert_error_string(verified)
             : error != NULL       ? error
                                   : "no answer to the ping");
    SSL_SESSION_free(used);
    return -1;
}

/* Visits a server once, prints how it was, and adds it to the one tally or the
 * other. Returns 0, or -1 with the reason. */
static int visit(struct server *server, struct tally *full,
                 struct tally *repeated, char reason[REASON_SIZE])
{
    double begin = now(), end;
    bool resumed;
    int result = -1;
    int socket = connect_to(server->host, server->port, limit, 0, NULL, reason);
    if (socket == -1)
        return -1;
    SSL *session = SSL_new(context);
    if (session == NULL || SSL_set_fd(session, socket) != 1 ||
        !expect_host(session, server->host) ||
        set_nonblocking(socket, true) == -1)
        snprintf(reason, REASON_SIZE, "cannot prepare TLS");
    else
        result = talk(server, session, begin + limit, &resumed, &end, reason);
    SSL_free(session);
    close(socket);
    if (result == -1)
        return -1;

    struct tally *tally = resumed ? repeated : full;
    tally->count++;
    tally->seconds += end - begin;
    printf("%s %.3f\n", resumed ? "resumed" : "full", (end - begin) * 1000);
    return 0;
}

static void print_tally(const char *name, const struct tally *tally)
{
    printf("%s %d mean %.3f\n", name, tally->count,
           tally->count == 0 ? 0 : tally->seconds / tally->count * 1000);
}

int main(int argc, char *argv[])
{
    const char *ca_file = "certs/ca.pem";
    int rounds = 10, option;
    while ((option = getopt(argc, argv, "n:C:t:")) != -1) {
        if (option == 'n')
            rounds = parse_count(optarg);
        else if (option == 'C')
            ca_file = optarg;
        else if (option == 't')
            limit = parse_seconds(optarg);
        if (option == '?' || rounds < 1 || limit <= 0)
            goto usage;
    }
    if (optind == argc || (argc - optind) % 2 != 0)
        goto usage;
    for (int i = optind; i < argc; i += 2)
        if (!is_port(argv[i + 1]))
            goto usage;

    char reason[REASON_SIZE] = "out of memory";
    int status = 1;
    struct tally full = {0}, repeated = {0};
    size_t count = (size_t)(argc - optind) / 2;
    struct server *servers = calloc(count, sizeof *servers);
    if (servers == NULL || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        goto done;
    for (size_t i = 0; i < count; i++) {
        servers[i].host = argv[optind + 2 * (int)i];
        servers[i].port = argv[optind + 2 * (int)i + 1];
    }
    context = tls_client_context(ca_file, reason);
    if (context == NULL)
        goto done;
    for (int round = 0; round < rounds; round++)
        for (size_t i = 0; i < count; i++)
            if (visit(&servers[i], &full, &repeated, reason) == -1)
                goto done;
    print_tally("full", &full);
    print_tally("resumed", &repeated);
    snprintf(reason, sizeof reason, "cannot write standard output");
    if (fflush(stdout) == 0)
        status = 0;

done:
    if (status != 0)
        fprintf(stderr, "3-resume: %s\n", reason);
    for (size_t i = 0; servers != NULL && i < count; i++)
        SSL_SESSION_free(servers[i].ticket);
    free(servers);
    SSL_CTX_free(context);
    return status;

usage:
    fprintf(stderr, "usage: 3-resume [-n N] [-C CA] [-t SECONDS] "
                    "HOST PORT [HOST PORT]...\n");
    return 2;
}

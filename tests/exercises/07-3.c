/*
 * 07-3.c - judges exercise 07-3: a client that resumes sessions.
 *
 * The test is the server, and sees on its own side whether it was resumed.
 */
#include "tls.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define READ "07-tls/README.md, \"Exercises\""

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
static const char *const version_names[] = {"TLS 1.2", "TLS 1.3"};

/* ----------------------------------------------------------------- a server */

/* What a server remembers sessions with. One that is made anew remembers
 * nothing of the old one. */
static SSL_CTX *make_host(const char *pem, int version)
{
    SSL_CTX *host = SSL_CTX_new(TLS_server_method());
    if (host == NULL ||
        SSL_CTX_use_certificate_chain_file(host, certificate(pem)) != 1 ||
        SSL_CTX_use_PrivateKey_file(host, certificate("server.key"),
                                    SSL_FILETYPE_PEM) != 1)
        fail_test("harness: %s: run make again", certificate(pem));
    SSL_CTX_set_min_proto_version(host, version);
    SSL_CTX_set_max_proto_version(host, version);
    SSL_CTX_set_session_cache_mode(host, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(host, SSL_MODE_ENABLE_PARTIAL_WRITE |
                               SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return host;
}

/* It gives its clients no session that they could resume. */
static SSL_CTX *make_forgetful_host(int version)
{
    SSL_CTX *host = make_host("server.pem", version);
    SSL_CTX_set_options(host, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(host, 0);
    return host;
}

/* Takes the next connection and begins TLS. */
static struct peer *take(struct listener *listener, SSL_CTX *host, int tickets,
                         bool may_fail)
{
    struct peer *peer = accept_plainly(listener);
    SSL *session = SSL_new(host);
    SSL_set_accept_state(session);
    if (tickets >= 0)
        SSL_set_num_tickets(session, (size_t)tickets);
    begin_session(peer, session, may_fail);
    return peer;
}

/* A visit on a connection: a ping, a pong `pause` seconds later, the end.
 * Returns whether the session was resumed. */
static bool receive_visit(struct peer *peer, double pause)
{
    static const char pong[] = "\0\0\0\x0f{\"type\":\"pong\"}";
    unsigned char header[4];
    char payload[256];
    receive_bytes(peer, header, sizeof header);
    size_t length = (size_t)header[2] << 8 | header[3];
    if (header[0] != 0 || header[1] != 0 || length >= sizeof payload)
        fail_test("Expected: a ping, in a frame.\n"
                  "What came begins with %02x %02x %02x %02x.",
                  header[0], header[1], header[2], header[3]);
    receive_bytes(peer, payload, length);
    if (memmem(payload, length, "ping", 4) == NULL)
        fail_test("Expected: a ping.\nWhat came: %.*s", (int)length, payload);
    bool resumed = SSL_session_reused(session_of(peer)) == 1;
    if (pause > 0)
        let_pass(pause);
    send_bytes(peer, pong, sizeof pong - 1);
    half_close(peer);
    double until = now() + patience();
    while (receive_some(peer, payload, sizeof payload, patience()) >= 0)
        if (now() > until)
            fail_test("Expected: the client ends its connection after the "
                      "pong.\nIt did not in %.1f s.",
                      patience());
    close_peer(peer);
    note("that was %s", resumed ? "a resumed session" : "a full handshake");
    return resumed;
}

static bool serve(struct listener *listener, SSL_CTX *host)
{
    return receive_visit(take(listener, host, -1, false), 0);
}

/* One visit that must be of this kind. `why` ends a sentence. */
static void expect_visit(struct listener *listener, SSL_CTX *host, bool resumed,
                         const char *why)
{
    if (serve(listener, host) != resumed)
        fail_test("Expected: this visit %s: %s.\nIt %s.",
                  resumed ? "resumes the session" : "is a full handshake", why,
                  resumed ? "was a full handshake" : "resumed a session");
}

/* One visit that fails, for what the server shows is not to be trusted. */
static void expect_refusal(struct listener *listener, SSL_CTX *host,
                           struct program *client, const char *why)
{
    struct peer *peer = take(listener, host, -1, true);
    char came[64];
    ssize_t length = 0;
    if (handshake_within(peer, patience()))
        length = receive_some(peer, came, sizeof came, patience());
    else
        length = -1;
    if (length > 0)
        fail_test("Expected: the client does not talk to this server: %s.\n"
                  "It sent %zd bytes inside TLS, after %s.",
                  why, length,
                  SSL_session_reused(session_of(peer)) ? "it resumed a session"
                                                       : "a full handshake");
    close_peer(peer);
    expect_exit(client, 1);
    expect_complaint(client, "what is wrong with the server");
}

/* ----------------------------------------------------------------- a client */

static struct program *start_rounds(struct listener *listener,
                                    const char *rounds)
{
    return start_client("-n", rounds, "localhost",
                        text_of("%d", port_of_listener(listener)), NULL);
}

/* One line on a visit. Returns the milliseconds. */
static double expect_line(struct program *client, bool resumed)
{
    const char *kind = resumed ? "resumed" : "full";
    const char *line = next_output_line(client);
    char word[16], more;
    double took;
    if (sscanf(line, "%15s %lf%c", word, &took, &more) != 2 ||
        strcmp(word, kind) != 0 || took < 0 || !isfinite(took))
        fail_test("Expected: the line \"%s MILLISECONDS\".\n"
                  "What came: \"%s\"",
                  kind, line);
    return took;
}

/* The line at the end on the visits of one kind, which took so long in all. */
static void expect_tally(struct program *client, const char *kind, int count,
                         double sum)
{
    const char *line = next_output_line(client);
    char word[16], more;
    int number;
    double mean, expected = count == 0 ? 0 : sum / count;
    if (sscanf(line, "%15s %d mean %lf%c", word, &number, &mean, &more) != 3 ||
        strcmp(word, kind) != 0 || number != count ||
        fabs(mean - expected) > 0.002)
        fail_test("Expected: the line \"%s %d mean %.3f\".\n"
                  "What came: \"%s\"",
                  kind, count, expected, line);
}

/* -------------------------------------------------------------------- tests */

TEST(client, resumes_from_the_second_visit_on,
     .promise = "It keeps the session of a connection and hands it to the next "
                "one to the same server.",
     .cause = "To begin with: when the pong has come, keep "
              "SSL_get1_session(session), and give it to the next connection "
              "with SSL_set_session, before SSL_connect.",
     .read = READ)
{
    for (size_t i = 0; i < COUNT(versions); i++) {
        now_trying(version_names[i]);
        SSL_CTX *host = make_host("server.pem", versions[i]);
        struct listener *listener = listen_here();
        struct program *client = start_rounds(listener, "3");
        expect_visit(listener, host, false, "it is the first");
        expect_visit(listener, host, true, "the client was here before");
        usual_cause("The session was resumed once and not again: a visit that "
                    "resumes brings a session for the next one too.");
        expect_visit(listener, host, true, "the client was here before");
        expect_exit(client, 0);
        close_listener(listener);
        SSL_CTX_free(host);
        usual_cause("In TLS 1.3 a session that is taken right after the "
                    "handshake cannot be resumed: its ticket comes later, with "
                    "the first bytes. Take it when the pong has come.");
    }
    now_trying(NULL);
}

TEST(client, says_what_it_was_and_how_long_it_took,
     .promise = "Each visit is a line: \"full 2.417\" or \"resumed 1.288\", "
                "and the milliseconds from before the connection to the pong. "
                "At the end two lines, how many and the mean of their times.",
     .cause = "The sums are kept for all visits together, or in other units; "
              "or the clock is stopped before the pong has come.",
     .read = READ)
{
    SSL_CTX *host = make_host("server.pem", TLS1_3_VERSION);
    struct listener *listener = listen_here();
    double begin = now();
    struct program *client = start_rounds(listener, "4");
    const double pause = 0.03;
    for (int i = 0; i < 4; i++)
        receive_visit(take(listener, host, -1, false), i == 2 ? pause : 0);
    expect_exit(client, 0);
    double longest = (now() - begin) * 1000;
    double full = expect_line(client, false), sum = 0;
    for (int i = 1; i < 4; i++) {
        double took = expect_line(client, true);
        if (i == 2 && took < pause * 1000)
            fail_test("Expected: the third visit took %.0f ms or more: the "
                      "pong came so late.\nThe client says %.3f.",
                      pause * 1000, took);
        sum += took;
    }
    if (full + sum > longest)
        fail_test("Expected: all visits together took no longer than %.0f ms.\n"
                  "The client says %.0f.",
                  longest, full + sum);
    expect_tally(client, "full", 1, full);
    expect_tally(client, "resumed", 3, sum);
    expect_output_end(client);
    close_listener(listener);
    SSL_CTX_free(host);
}

TEST(client, is_content_with_full_handshakes,
     .promise = "A server that does not resume, or gives no session, is fine: "
                "a full handshake.",
     .cause = "Having a session is taken for having resumed it: only "
              "SSL_session_reused knows what the server did. Or a session "
              "that cannot be resumed (SSL_SESSION_is_resumable) is handed "
              "on.",
     .read = READ)
{
    for (size_t i = 0; i < COUNT(versions); i++) {
        now_trying(text_of("%s, a server without tickets", version_names[i]));
        SSL_CTX *host = make_forgetful_host(versions[i]);
        struct listener *listener = listen_here();
        struct program *client = start_rounds(listener, "2");
        expect_visit(listener, host, false, "there was no ticket");
        expect_visit(listener, host, false, "there was no ticket");
        SSL_CTX_free(host);
        expect_exit(client, 0);
        double sum = expect_line(client, false);
        sum += expect_line(client, false);
        expect_tally(client, "full", 2, sum);
        expect_tally(client, "resumed", 0, 0);

        now_trying(text_of("%s, a server that was started anew between the "
                           "visits",
                           version_names[i]));
        client = start_rounds(listener, "3");
        for (int k = 0; k < 3; k++) {
            host = make_host("server.pem", versions[i]);
            expect_visit(listener, host, false,
                         "the server does not know the ticket");
            SSL_CTX_free(host);
        }
        expect_exit(client, 0);
        for (int k = 0; k < 3; k++)
            expect_line(client, false);
        close_listener(listener);
    }
    now_trying(NULL);
}

TEST(client, verifies_whoever_does_not_resume,
     .promise = "A full handshake, and the server is verified as always. One "
                "that fails: a line on standard error, and exit status 1.",
     .cause = "Who hands over a session leaves out the checks, because the "
              "server was verified the last time. Whether this is the same "
              "server, only a server that resumes has shown.",
     .read = READ)
{
    static const char *const liars[] = {"other-name.pem", "stranger.pem"};
    for (size_t i = 0; i < COUNT(versions); i++) {
        now_trying(text_of("%s, another server at the second visit (%s)",
                           version_names[i], liars[i]));
        struct listener *listener = listen_here();
        struct program *client = start_rounds(listener, "3");
        SSL_CTX *host = make_host("server.pem", versions[i]);
        expect_visit(listener, host, false, "it is the first");
        SSL_CTX_free(host);
        host = make_host(liars[i], versions[i]);
        expect_refusal(listener, host, client,
                       "it does not know the session, and its certificate is "
                       "not to be trusted");
        SSL_CTX_free(host);
        close_listener(listener);
    }
    now_trying(NULL);
}

TEST(client, a_session_is_for_one_server,
     .promise = "A session is for the server that it comes from, HOST and "
                "PORT, and for no other one.",
     .cause = "There is one session for all servers. A server that resumes "
              "shows no certificate, and OpenSSL checks no name: what it knew "
              "of the first host is taken for the second one's.",
     .read = READ)
{
    struct listener *one = listen_here(), *two = listen_here();
    const char *ports[] = {text_of("%d", port_of_listener(one)),
                           text_of("%d", port_of_listener(two))};
    SSL_CTX *host = make_host("server.pem", TLS1_3_VERSION);
    now_trying("two ports of one host");
    struct program *client = start_client("-n", "2", "localhost", ports[0],
                                          "localhost", ports[1], NULL);
    expect_visit(one, host, false, "it is the first");
    expect_visit(two, host, false, "it is the first of this server");
    expect_visit(one, host, true, "the client was here before");
    expect_visit(two, host, true, "the client was here before");
    expect_exit(client, 0);
    SSL_CTX_free(host);

    now_trying("a certificate that is for localhost and for no address");
    host = make_host("only-name.pem", TLS1_3_VERSION);
    client = start_client("-n", "2", "localhost", ports[0], "127.0.0.1",
                          ports[0], NULL);
    expect_visit(one, host, false, "it is the first");
    expect_refusal(one, host, client,
                   "its certificate is not for 127.0.0.1, and the session was "
                   "made with localhost");
    SSL_CTX_free(host);
    now_trying(NULL);
}

TEST(client, a_session_of_tls_1_3_is_used_once,
     .promise = "A session of TLS 1.3 is used once. Each visit brings a new "
                "one, or the next is full.",
     .cause = "SSL_get1_session returns the session that this connection was "
              "resumed with when no new ticket has come. It is the same "
              "pointer: then it has been used.",
     .read = READ)
{
    SSL_CTX *host = make_host("server.pem", TLS1_3_VERSION);
    struct listener *listener = listen_here();
    struct program *client = start_rounds(listener, "4");
    bool resumed[4];
    for (int i = 0; i < 4; i++) {
        note("the server gives %s in this visit",
             i == 1 ? "no ticket" : "one ticket");
        resumed[i] = receive_visit(take(listener, host, i == 1 ? 0 : 1, false),
                                   0);
    }
    expect_exit(client, 0);
    if (resumed[0] || !resumed[1])
        fail_test("Expected: the first visit is a full handshake, the second "
                  "resumes its session.\nIt was not so.");
    if (resumed[2])
        fail_test("Expected: the third visit is a full handshake: the second "
                  "has used the ticket of the first, and got none.\n"
                  "It resumed a session.");
    if (!resumed[3])
        fail_test("Expected: the fourth visit resumes the session of the "
                  "third.\nIt was a full handshake.");
    close_listener(listener);
    SSL_CTX_free(host);
}

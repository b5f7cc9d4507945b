/*
 * lesson-07.c - what is lesson 07's own: TLS around the room. What goes inside
 * it is judged in room.c and crowd.c.
 *
 * The test holds one end of each connection. Mostly it speaks TLS like
 * everybody; where a byte on the wire matters (`struct hand`), OpenSSL seals
 * and opens, and the test carries the bytes itself. The last tests leave all
 * of that to programs that others wrote.
 */
#include "guests.h"
#include "inside.h"
#include "tls.h"

#include <openssl/err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* A literal and its length, NULs inside it counted. */
#define RAW(literal) literal, sizeof(literal) - 1

#ifndef TOOLS
#define TOOLS "tests/tools"
#endif

#define IDEA "07-tls/README.md, \"The idea\""
#define CODE "07-tls/README.md, \"The code in reading order\""
#define BREAK "07-tls/README.md, \"Break it\""

/* What a file says has nothing to do with the network. */
#define ONE_SEED true

/* How much later than promised something may come on a machine that has much
 * else to do. */
static double slack(void)
{
    return patience() / 5;
}

/* Bytes as a report shows them: what is no letter is a point. */
static const char *readable(const char *bytes, size_t length)
{
    struct stretch text = {0};
    for (size_t i = 0; i < length && i < 200; i++)
        add_bytes(&text, bytes[i] < ' ' || bytes[i] > '~' ? "." : &bytes[i], 1);
    add_bytes(&text, "", 1);
    return text.bytes;
}

/* ------------------------------------------------------------ in the room */

/* Ends a connection, whatever the room has said meanwhile. */
static void leave_the_room(struct channel *channel)
{
    struct message message;
    half_close_channel(channel);
    while (next_message(channel, &message,
                        "the server ends the connection of a client that has "
                        "ended its side"))
        continue;
    expect_end(channel, ONLY_THE_END);
    close_channel(channel);
}

static void enter(struct channel *channel, const char *name, int members)
{
    send_message(channel, join_as(name));
    expect_welcome(channel, name, members);
}

/* One more message, which has to be a server's of this type about this name. */
static void expect_news(struct channel *channel, const char *type,
                        const char *name)
{
    struct message message;
    const char *expected = text_of("that %s %s", name, type);
    bool came = next_message(channel, &message, expected);
    if (!came || strcmp(message.type, type) != 0 || message.name == NULL ||
        strcmp(message.name, name) != 0)
        fail_test("Expected: %s.\nWhat came: %s", expected,
                  came ? message.shown : "the end of the connection");
}

/* A member who is in the room while others do what they should not. */
static struct channel *let_witness_in(struct program *server)
{
    struct channel *witness = open_channel(server);
    enter(witness, "witness", 1);
    return witness;
}

/* Nobody has noticed anything in the room. */
static void expect_peace(struct channel *witness)
{
    const char *what = "the room goes on";
    send_message(witness, say(what));
    expect_said(witness, "witness", what);
}

/* -------------------------------------------------------- bytes in the hand */

struct hand {
    struct peer *peer;
    SSL *session;
    BIO *in, *out; /* what came from the wire, and what should go there */
};

static struct hand take_in_hand(struct peer *peer, bool as_server,
                                const struct tls_options *options)
{
    struct hand hand = {peer, new_session(as_server, options),
                        BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem())};
    SSL_set_bio(hand.session, hand.in, hand.out);
    return hand;
}

static struct hand connect_by_hand(struct program *server, int version)
{
    return take_in_hand(
        connect_plainly(server), false,
        &(struct tls_options){.lowest = version, .highest = version});
}

/* The bytes that should go to the wire now. */
static struct stretch sealed(struct hand *hand)
{
    struct stretch bytes = {0};
    char *data;
    long length = BIO_get_mem_data(hand->out, &data);
    add_bytes(&bytes, data, length > 0 ? (size_t)length : 0);
    BIO_reset(hand->out);
    return bytes;
}

static struct stretch sealed_message(struct hand *hand, const char *json)
{
    struct stretch frame = {0};
    add_message(&frame, json);
    SSL_write(hand->session, frame.bytes, (int)frame.length);
    return sealed(hand);
}

/* Sends it, `piece` bytes in a segment; 0: all at once. */
static void send_pieces(struct hand *hand, struct stretch bytes, size_t piece)
{
    if (piece == 0)
        send_bytes(hand->peer, bytes.bytes, bytes.length);
    else
        send_slowly(hand->peer, bytes.bytes, bytes.length, piece, 0.0003);
}

/* Takes what comes from the wire; false when nothing more will. */
static bool feed(struct hand *hand, double seconds)
{
    char buffer[16384];
    ssize_t length = receive_some(hand->peer, buffer, sizeof buffer, seconds);
    if (length > 0)
        BIO_write(hand->in, buffer, (int)length);
    return length > 0;
}

/* Does the handshake but for the client's last words, which are returned: they
 * are sealed and not sent. */
static struct stretch shake_hands(struct hand *hand, size_t piece)
{
    double until = now() + patience();
    for (;;) {
        ERR_clear_error();
        int result = SSL_do_handshake(hand->session);
        struct stretch bytes = sealed(hand);
        if (result == 1)
            return bytes;
        if (SSL_get_error(hand->session, result) != SSL_ERROR_WANT_READ)
            fail_test("Expected: the server does the TLS handshake.\n"
                      "OpenSSL, in the hands of the test, says: %s.",
                      ERR_reason_error_string(ERR_peek_error()));
        send_pieces(hand, bytes, piece);
        if (!feed(hand, patience()) || now() > until)
            fail_test("Expected: the server answers in the TLS handshake.\n"
                      "Nothing more came (%s).",
                      SSL_state_string_long(hand->session));
    }
}

/* Opens what comes until it holds a whole frame with this word in it. */
static void expect_word(struct hand *hand, const char *word)
{
    struct stretch text = {0};
    double until = now() + patience();
    while (text.length == 0 ||
           memmem(text.bytes, text.length, word, strlen(word)) == NULL) {
        char buffer[16384];
        int length = SSL_read(hand->session, buffer, sizeof buffer);
        if (length > 0) {
            add_bytes(&text, buffer, (size_t)length);
            continue;
        }
        ERR_clear_error();
        if (now() > until || !feed(hand, patience()))
            fail_test("Expected: an answer with \"%s\" in it.\n"
                      "After %zu bytes inside TLS nothing more came.",
                      word, text.length);
    }
    note("inside TLS there came \"%s\"", word);
}

static void let_go(struct hand *hand)
{
    SSL_free(hand->session);
    close_peer(hand->peer);
}

/* The first message of a handshake, as it stands on the wire. */
static struct stretch client_hello(void)
{
    struct hand hand = take_in_hand(NULL, false, NULL);
    SSL_do_handshake(hand.session);
    struct stretch bytes = sealed(&hand);
    SSL_free(hand.session);
    ERR_clear_error();
    return bytes;
}

/* ======================================================== the handshake === */

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
static const char *const version_names[] = {"TLS 1.2", "TLS 1.3"};

TEST(server, accepts_tls_1_2_and_1_3, .promise = "TLS 1.2 or later.",
     .cause = "The version is fixed (TLSv1_2_method, or a maximum) where only "
              "the minimum should be: SSL_CTX_set_min_proto_version().",
     .read = CODE)
{
    struct program *server = start_server(NULL);
    struct channel *channels[COUNT(versions)];
    for (size_t i = 0; i < COUNT(versions); i++) {
        now_trying(version_names[i]);
        channels[i] = open_tls(server,
                               &(struct tls_options){.lowest = versions[i],
                                                     .highest = versions[i]});
        enter(channels[i], version_names[i], (int)i + 1);
    }
    expect_news(channels[0], "joined", "TLS 1.3");
    for (size_t i = 0; i < COUNT(versions); i++) {
        now_trying(version_names[i]);
        expect_alive(channels[i]);
        send_message(channels[i], say("hello"));
        expect_said(channels[0], version_names[i], "hello");
        expect_said(channels[1], version_names[i], "hello");
    }
    now_trying("a member over TLS 1.2 leaves, one over TLS 1.3 stays");
    leave_the_room(channels[0]);
    expect_news(channels[1], "left", "TLS 1.2");
    expect_alive(channels[1]);
    leave_the_room(channels[1]);
    now_trying(NULL);
}

TEST(server, does_the_handshake_in_any_pieces,
     .promise = "TLS 1.2 or later. A member sees everything from its `welcome` "
                "on.",
     .cause = "The handshake takes several round trips, and each of its "
              "messages may come in pieces. SSL_accept() says WANT_READ then: "
              "poll, and call it again. And the first bytes of the room may "
              "come in one segment with the last ones of the handshake, so "
              "read once more before you poll.",
     .read = CODE)
{
    struct program *server = start_server(NULL);
    for (size_t i = 0; i < COUNT(versions); i++) {
        static const size_t pieces[] = {1, 7, 0};
        for (size_t k = 0; k < COUNT(pieces); k++) {
            const char *case_ = text_of(
                "%s, %s, and the join right behind the handshake",
                version_names[i],
                pieces[k] == 0 ? "the handshake in one piece"
                               : text_of("%zu bytes at a time", pieces[k]));
            now_trying(case_);
            struct hand hand = connect_by_hand(server, versions[i]);
            struct stretch last = shake_hands(&hand, pieces[k]);
            struct stretch join = sealed_message(&hand, join_as("ada"));
            add_bytes(&last, join.bytes, join.length);
            send_pieces(&hand, last, pieces[k]);
            expect_word(&hand, "welcome");

            now_trying(text_of("%s, a record cut after each of its bytes",
                               version_names[i]));
            struct stretch record = sealed_message(&hand, ping);
            send_pieces(&hand, record, 1);
            expect_word(&hand, "pong");
            SSL_shutdown(hand.session);
            send_pieces(&hand, sealed(&hand), pieces[k]);
            while (feed(&hand, patience()))
                continue;
            let_go(&hand);
        }
    }
    now_trying(NULL);
    leave_the_room(let_witness_in(server));
}

/* ---------------------------------------------------------- what is no TLS */

struct first_bytes {
    const char *what;
    const char *bytes;
    size_t length;
};

static const struct first_bytes no_tls[] = {
    {"a join of the room's protocol, without TLS",
     RAW("\0\0\0\x1d{\"type\":\"join\",\"name\":\"eve\"}"
         "\0\0\0\x0f{\"type\":\"ping\"}\0\0\0\x0f{\"type\":\"ping\"}")},
    {"a request of HTTP",
     RAW("GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\n\r\n")},
    {"the first line of SSH", RAW("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u2\r\n"
                                  "0123456789 0123456789 0123456789\r\n")},
    {"64 times NUL",
     RAW("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
         "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")},
    {"a record of TLS that holds no handshake, but a frame",
     RAW("\x17\x03\x03\0\x13\0\0\0\x0f{\"type\":\"ping\"}"
         "\x17\x03\x03\0\x13\0\0\0\x0f{\"type\":\"ping\"}")},
    {"a record of a handshake that holds garbage",
     RAW("\x16\x03\x01\0\x20\x01\0\0\x1c"
         "0123456789012345678901234567")},
    {"the hello of SSL 3.0", RAW("\x16\x03\0\0\x2d\x01\0\0\x29\x03\0"
                                 "01234567890123456789012345678901"
                                 "\0\0\x02\0\x0a\x01\0")},
    {"the hello of SSL 2.0", RAW("\x80\x1f\x01\0\x02\0\x06\0\0\0\x10\x07\0\xc0"
                                 "\x05\0\x80"
                                 "0123456789abcdef")},
};

TEST(server, hears_nothing_that_is_not_tls,
     .promise = "TLS 1.2 or later. Neither side ever falls back to plain TCP.",
     .cause = "What SSL_accept() says is not looked at, or its error ends more "
              "than this one connection. The queue of errors is OpenSSL's own "
              "(ERR_clear_error() before each call): what one connection left "
              "there is taken for another's.",
     .read = BREAK)
{
    struct program *server = start_server(NULL);
    struct channel *witness = let_witness_in(server);
    for (size_t i = 0; i < COUNT(no_tls); i++) {
        now_trying(no_tls[i].what);
        struct peer *peer = connect_plainly(server);
        struct received came = send_and_collect(peer, no_tls[i].bytes,
                                                no_tls[i].length, false, 65536);
        if (memmem(came.bytes, came.length, "type", 4) != NULL)
            fail_test("Expected: no word of the room without TLS.\n"
                      "To %s the server answered %s",
                      no_tls[i].what, readable(came.bytes, came.length));
        if (came.length > 0 && came.bytes[0] == 0x16)
            fail_test("Expected: the handshake is refused.\n"
                      "To %s the server answered with a handshake of its own.",
                      no_tls[i].what);
        if (!came.ended)
            fail_test("Expected: the connection ends: what came is no TLS.\n"
                      "To %s nothing happened for %.1f s.",
                      no_tls[i].what, patience());
        close_peer(peer);
        expect_peace(witness);
    }
    now_trying("TLS of the right kind, when all of these have gone");
    struct channel *channel = open_channel(server);
    enter(channel, "ada", 2);
    expect_news(witness, "joined", "ada");
    now_trying("garbage inside a connection that was good until then");
    struct hand hand = connect_by_hand(server, TLS1_3_VERSION);
    send_pieces(&hand, shake_hands(&hand, 0), 0);
    struct stretch join = sealed_message(&hand, join_as("eve"));
    send_pieces(&hand, join, 0);
    expect_word(&hand, "welcome");
    struct stretch record = sealed_message(&hand, say("changed on the way"));
    record.bytes[record.length - 3] ^= 1;
    send_pieces(&hand, record, 0);
    expect_news(witness, "joined", "eve");
    expect_news(witness, "left", "eve");
    let_go(&hand);
    expect_peace(witness);
    now_trying(NULL);
    leave_the_room(channel);
    leave_the_room(witness);
}

/* A system that forbids the old versions would hide that the program does not:
 * programs on OpenSSL find one here that allows them. */
static void allow_old_versions(void)
{
    setenv("OPENSSL_CONF", certificate("old.cnf"), 1);
}

TEST(server, refuses_what_is_older_than_tls_1_2, .promise = "TLS 1.2 or later.",
     .cause = "The minimum is not set: SSL_CTX_set_min_proto_version(). What "
              "a system's configuration forbids today, another one allows.",
     .read = CODE, .patient = ONE_SEED)
{
    static const int old[] = {TLS1_VERSION, TLS1_1_VERSION};
    static const char *const names[] = {"TLS 1.0", "TLS 1.1"};
    allow_old_versions();
    struct program *server = start_server(NULL);
    struct channel *witness = let_witness_in(server);
    for (size_t i = 0; i < COUNT(old); i++) {
        now_trying(names[i]);
        struct peer *peer = connect_plainly(server);
        begin_tls(peer, false,
                  &(struct tls_options){
                      .lowest = old[i], .highest = old[i], .may_fail = true});
        if (handshake_within(peer, patience()))
            fail_test("Expected: the server refuses %s.\n"
                      "The handshake succeeded (%s, %s).",
                      names[i], SSL_get_version(session_of(peer)),
                      SSL_get_cipher_name(session_of(peer)));
        close_peer(peer);
        expect_peace(witness);
    }
    now_trying(NULL);
    leave_the_room(witness);
}

/* ----------------------------------------------- handshakes that never end */

/* Begins a handshake and stays in the middle of it. */
static struct peer *half_open(struct program *server, size_t way)
{
    struct peer *peer = connect_plainly(server);
    struct stretch hello = client_hello();
    if (way % 3 == 1)
        send_bytes(peer, hello.bytes, hello.length / 2);
    if (way % 3 == 2)
        send_bytes(peer, hello.bytes, hello.length);
    return peer;
}

static const char *const ways_to_stop[] = {"says nothing",
                                           "stops in the middle of its hello",
                                           "says nothing more after its hello"};

TEST(server, others_do_not_wait_for_a_handshake,
     .promise = "In 05-07 nobody holds up the others: not one in "
                "mid-handshake.",
     .cause = "SSL_accept() on a blocking socket waits for one client, and "
              "everybody waits with it. The handshake is a state of the "
              "connection: when it cannot go on, poll.",
     .read = IDEA)
{
    enum { HALF_OPEN = 99 };
    struct program *server = start_server(NULL);
    struct channel *ada = open_channel(server);
    enter(ada, "ada", 1);
    note("%d connections in the middle of their handshakes", HALF_OPEN);
    struct peer *others[HALF_OPEN];
    for (size_t i = 0; i < HALF_OPEN; i++)
        others[i] = half_open(server, i);
    struct hand late = connect_by_hand(server, TLS1_3_VERSION);
    struct stretch last_words = shake_hands(&late, 0);
    now_trying("a member who is in already");
    expect_alive(ada);
    now_trying("somebody new");
    struct channel *grace = open_channel(server);
    enter(grace, "grace", 2);
    expect_news(ada, "joined", "grace");
    send_message(ada, say("undisturbed"));
    expect_said(ada, "ada", "undisturbed");
    expect_said(grace, "ada", "undisturbed");
    expect_idle(server, "while 100 handshakes do not go on");
    now_trying("a handshake that goes on at last");
    send_pieces(&late, last_words, 0);
    send_pieces(&late, sealed_message(&late, join_as("late")), 0);
    expect_word(&late, "welcome");
    expect_news(ada, "joined", "late");
    now_trying("when they break off, in all of these ways");
    for (size_t i = 0; i < HALF_OPEN; i++) {
        if (i % 2 == 0)
            close_peer(others[i]);
        else
            reset_peer(others[i]);
    }
    let_go(&late);
    expect_news(ada, "left", "late");
    expect_alive(ada);
    now_trying(NULL);
    leave_the_room(grace);
    expect_news(ada, "left", "grace");
    leave_the_room(ada);
}

TEST(server, gives_back_what_a_failed_handshake_used,
     .promise = "What a connection used, descriptors, threads, processes and "
                "memory, is free again when it has ended.",
     .cause = "On the way out of a handshake that failed, SSL_free() or "
              "close() is forgotten.",
     .read = BREAK, .patient = ONE_SEED, .slow = true)
{
    enum { ROUNDS = 30, EACH = 40 };
    struct program *server = start_server(NULL);
    struct holdings before = {0}, held = {0};
    size_t memory[ROUNDS];
    size_t without = 0;
    struct stretch hello = client_hello();
    double end = now() + 20;
    size_t round = 0;
    for (; round < ROUNDS && without < 2 && (round < 8 || now() < end);
         round++) {
        for (size_t i = 0; i < EACH; i++) {
            struct peer *peer = connect_plainly(server);
            const struct first_bytes *other = &no_tls[i % COUNT(no_tls)];
            if (i % 4 == 0)
                send_bytes(peer, other->bytes, other->length);
            if (i % 4 == 1)
                send_bytes(peer, hello.bytes, hello.length);
            if (i % 4 == 2)
                send_bytes(peer, hello.bytes, hello.length / 2);
            if (i % 8 < 4)
                reset_peer(peer);
            else
                close_peer(peer);
        }
        struct channel *last = open_channel(server);
        expect_alive(last);
        leave_the_room(last);
        double until = now() + patience();
        held = holdings_of(server);
        while (round > 0 && held.descriptors > before.descriptors &&
               now() < until) {
            let_pass(0.01);
            held = holdings_of(server);
        }
        if (round == 0) {
            let_pass(0.1);
            before = holdings_of(server);
        } else if (held.descriptors > before.descriptors + 5) {
            fail_test("Expected: the descriptor of a connection whose "
                      "handshake failed is closed.\n"
                      "The server held %zu descriptors after %d such "
                      "connections, and holds %zu after %d.",
                      before.descriptors, EACH, held.descriptors,
                      (int)(round + 1) * EACH);
        }
        memory[round] = held.memory;
        bool grew = round == 0 || memory[round] >= memory[round - 1] + 65536;
        without = grew ? 0 : without + 1;
    }
    if (without < 2)
        fail_test("Expected: the server's memory does not grow with handshakes "
                  "that fail.\n"
                  "It holds %zu KiB after %d of them, %zu KiB after %d, and "
                  "%zu KiB after %d.",
                  memory[0] >> 10, EACH, memory[1] >> 10, 2 * EACH,
                  memory[round - 1] >> 10, (int)round * EACH);
}

/* Fails unless a connection ends between `least` and `most` seconds after
 * `from`. */
static void expect_end_between(struct peer *peer, double from, double least,
                               double most, const char *what)
{
    char buffer[4096];
    ssize_t length = 0;
    double until = from + most + slack();
    while (length >= 0 && now() < until)
        length = receive_some(peer, buffer, sizeof buffer, until - now());
    double took = now() - from;
    if (length >= 0)
        fail_test("Expected: a connection that %s is closed after %.1f s.\n"
                  "After %.2f s it is open still.",
                  what, most, took);
    if (took < least)
        fail_test("Expected: a connection that %s may stay for %.1f s.\n"
                  "It ended after %.2f s.",
                  what, most, took);
    note("the connection that %s was closed after %.2f s", what, took);
}

TEST(server, a_handshake_has_a_deadline,
     .promise = "`-i SECONDS`, how long a connection may stay without having "
                "joined (in 07 the handshake counts).",
     .cause = "The clock is started when the handshake is done, or again with "
              "every byte that comes.",
     .read = CODE, .patient = true, .slow = true)
{
    /* The witness has to join within it, on a busy machine too. */
    const double limit = 1 + slack();
    struct program *server = start_server("-i", text_of("%.1f", limit), NULL);
    struct channel *witness = let_witness_in(server);
    double from = now();
    struct peer *stopped[COUNT(ways_to_stop)];
    for (size_t i = 0; i < COUNT(stopped); i++)
        stopped[i] = half_open(server, i);
    struct channel *silent = open_channel(server);
    struct channel *asking = open_channel(server);
    struct peer *dripping = connect_plainly(server);
    struct stretch hello = client_hello();
    size_t dripped = 0;
    bool is_open = true;
    while (is_open && now() < from + limit + slack()) {
        if (now() < from + limit / 2)
            expect_alive(asking);
        if (dripped < hello.length)
            send_until_full(dripping, hello.bytes + dripped++, 1, 0.001);
        char came[100];
        is_open = receive_some(dripping, came, sizeof came, 0.05) >= 0;
    }
    expect_end_between(dripping, from, limit - 0.1, limit,
                       "sends its hello a byte at a time");
    expect_peace(witness);
    for (size_t i = 0; i < COUNT(stopped); i++)
        expect_end_between(stopped[i], from, limit - 0.1, limit,
                           ways_to_stop[i]);
    now_trying("a connection that has done its handshake and does not join");
    expect_end(silent, ERROR_MAY_COME);
    expect_end(asking, ERROR_MAY_COME);
    double took = now() - from;
    if (took > limit + slack() + 1)
        fail_test("Expected: a connection that does not join is closed after "
                  "%.1f s.\nIt was after %.2f s.",
                  limit, took);
    now_trying("a member may stay as long as it likes");
    expect_peace(witness);
    now_trying(NULL);
    leave_the_room(witness);
}

TEST(server, a_connection_too_many_gets_an_error_inside_tls,
     .promise = "A connection over the `-m` limit gets one `error` and is "
                "closed (in 07 after the handshake, which may take at most "
                "2 s).",
     .cause = "The error goes out before the handshake, without TLS; or the "
              "connection is closed without a word; or it is closed at once "
              "behind the error, without close_notify.",
     .read = CODE)
{
    struct program *server = start_server("-m", "3", NULL);
    struct channel *ada = open_channel(server);
    enter(ada, "ada", 1);
    struct channel *visitor = open_channel(server);
    expect_alive(visitor);
    struct peer *in_handshake = half_open(server, 1);
    for (size_t i = 0; i < COUNT(versions); i++) {
        now_trying(text_of("the fourth of three, with %s", version_names[i]));
        struct channel *late = open_tls(
            server, &(struct tls_options){.lowest = versions[i],
                                          .highest = versions[i]});
        if (i == 0)
            send_message(late, join_as("late"));
        expect_error(late);
        expect_end(late, ONLY_THE_END);
        close_channel(late);
    }
    now_trying("those who are in");
    expect_alive(visitor);
    enter(visitor, "grace", 2);
    expect_news(ada, "joined", "grace");
    now_trying("when one has gone there is a place again");
    close_peer(in_handshake);
    struct channel *next;
    struct message message;
    bool came;
    double until = now() + patience();
    for (;;) {
        next = open_channel(server);
        send_message(next, join_as("next"));
        came = next_message(next, &message, "a welcome, when there is a place");
        if (!came || strcmp(message.type, "error") != 0 || now() > until)
            break;
        close_channel(next);
        let_pass(0.02);
    }
    if (!came || strcmp(message.type, "welcome") != 0)
        fail_test("Expected: a welcome: one of three has gone.\n"
                  "What came: %s",
                  came ? message.shown : "the end of the connection");
    expect_news(ada, "joined", "next");
    now_trying(NULL);
    leave_the_room(next);
    leave_the_room(visitor);
    leave_the_room(ada);
}

TEST(server, a_connection_too_many_does_not_stay,
     .promise = "A connection over the `-m` limit gets one `error` and is "
                "closed (in 07 after the handshake, which may take at most "
                "2 s).",
     .cause = "Who is over the limit and never does the handshake stays for as "
              "long as `-i` allows, or its 2 s begin anew with every byte that "
              "comes: a flood of such connections takes all descriptors.",
     .read = CODE, .patient = true, .slow = true)
{
    struct program *server = start_server("-m", "1", NULL);
    struct channel *ada = open_channel(server);
    enter(ada, "ada", 1);
    double from = now(), worked = cpu_time_of_group(server->pid);
    struct peer *stopped[COUNT(ways_to_stop)];
    for (size_t i = 0; i < COUNT(stopped); i++)
        stopped[i] = half_open(server, i);
    struct peer *dripping = connect_plainly(server);
    struct stretch hello = client_hello();
    bool is_open = true;
    size_t looks = 0, seen_busy = 0;
    for (; is_open && now() < from + 2 + slack(); looks++) {
        if (looks < hello.length)
            send_until_full(dripping, hello.bytes + looks, 1, 0.001);
        char came[100];
        is_open = receive_some(dripping, came, sizeof came, 0.05) >= 0;
        seen_busy += group_is_busy(server->pid);
    }
    expect_end_between(dripping, from, 0, 2,
                       "is over the limit and sends its hello a byte at a "
                       "time");
    worked = cpu_time_of_group(server->pid) - worked;
    if (worked > 0.2 && seen_busy * 10 > looks * 7) {
        usual_cause("The error waits for the handshake: SSL_write() says "
                    "WANT_READ, and the server polls for POLLOUT, which is "
                    "nearly always there.");
        fail_test("Expected: the server sleeps while the handshakes of those "
                  "over the limit do not go on.\n"
                  "In %.1f s it worked for %.1f s, and was busy at %zu of %zu "
                  "looks.",
                  now() - from, worked, seen_busy, looks);
    }
    for (size_t i = 0; i < COUNT(stopped); i++)
        expect_end_between(
            stopped[i], from, 0, 2,
            text_of("is over the limit and %s", ways_to_stop[i]));
    expect_alive(ada);
    leave_the_room(ada);
}

/* ====================================================== inside TLS ======== */

/* How a stretch is cut into records. */
static void send_in_records(struct channel *channel,
                            const struct stretch *stretch, size_t record)
{
    send_in_pieces(channel, stretch->bytes, stretch->length, record, 0);
}

TEST(server, records_are_no_frames,
     .promise = "A frame is a 4-byte length N, big-endian, unsigned, then N "
                "bytes of payload. Requests may be pipelined.",
     .cause = "One SSL_read() brings at most one record, and a record knows "
              "nothing of frames: it may hold many of them, or the 16 KiB in "
              "the middle of a large one.",
     .read = IDEA)
{
    struct program *server = start_server(NULL);
    for (size_t i = 0; i < COUNT(versions); i++) {
        struct channel *channel = open_tls(
            server, &(struct tls_options){.lowest = versions[i],
                                          .highest = versions[i]});
        enter(channel, "ada", 1);
        now_trying(text_of("%s: two frames in one record", version_names[i]));
        struct stretch two = {0};
        add_message(&two, ping);
        add_message(&two, say("second"));
        send_stretch(channel, &two);
        expect_pong(channel);
        expect_said(channel, "ada", "second");
        now_trying(text_of("%s: two frames in %zu records of a byte",
                           version_names[i], two.length));
        send_in_records(channel, &two, 1);
        expect_pong(channel);
        expect_said(channel, "ada", "second");
        static const size_t records[] = {511, 4096, 16383, 16384};
        const char *text = repeat("0123456789abcdef", MOST_TEXT / 16);
        for (size_t k = 0; k < COUNT(records); k++) {
            now_trying(text_of("%s: a frame of 65,536 bytes and a small one, "
                               "in records of %zu bytes",
                               version_names[i], records[k]));
            struct stretch large = {0};
            const char *json = say(text);
            add_message(&large,
                        text_of("%s%s", json,
                                repeat(" ", MOST_PAYLOAD - strlen(json))));
            add_message(&large, ping);
            send_in_records(channel, &large, records[k]);
            expect_said(channel, "ada", text);
            expect_pong(channel);
        }
        leave_the_room(channel);
    }
    now_trying(NULL);
}

TEST(server, answers_what_is_decrypted_already,
     .promise = "Requests may be pipelined. They are answered in order, and "
                "each gets exactly its answer.",
     .cause = "SSL_read() took a whole record from the socket and gave out a "
              "part of it. The rest waits inside the library, where poll() "
              "does not see it: read on until SSL_read() says WANT_READ, or "
              "ask SSL_pending() before you poll.",
     .read = BREAK)
{
    struct program *server = start_server(NULL);
    for (size_t i = 0; i < COUNT(versions); i++) {
        struct channel *channel = open_tls(
            server, &(struct tls_options){.lowest = versions[i],
                                          .highest = versions[i]});
        enter(channel, "ada", 1);
        static const size_t pings[] = {2, 3, 60, 500, 862, 3200};
        for (size_t k = 0; k < COUNT(pings); k++) {
            struct stretch all = {0};
            for (size_t n = 0; n < pings[k]; n++)
                add_message(&all, ping);
            now_trying(text_of("%s: %zu pings at once, %zu bytes in %zu "
                               "record(s), then silence",
                               version_names[i], pings[k], all.length,
                               all.length / 16384 + 1));
            send_stretch(channel, &all);
            for (size_t n = 0; n < pings[k]; n++)
                expect_pong(channel);
        }
        now_trying(text_of("%s: a say of 16,000 bytes on the wire, then "
                           "silence",
                           version_names[i]));
        const char *text = repeat("ab", 1000);
        send_message(channel, text_of("%s%s", say(text), repeat(" ", 13900)));
        expect_said(channel, "ada", text);
        now_trying(text_of("%s: 800 pings and close_notify right behind them",
                           version_names[i]));
        struct stretch all = {0};
        for (size_t n = 0; n < 800; n++)
            add_message(&all, ping);
        send_stretch(channel, &all);
        half_close_channel(channel);
        for (size_t n = 0; n < 800; n++)
            expect_pong(channel);
        expect_end(channel, END_OF_FILE_ONLY);
        close_channel(channel);
    }
    now_trying(NULL);
}

/* Many lines at once, with new keys in front of every fifth. */
static void change_keys_among_lines(struct channel *ada,
                                    struct channel *witness)
{
    enum { LINES = 60 };
    now_trying("new keys in the middle of many lines");
    const char *text = repeat("k", 2000);
    for (int i = 0; i < LINES; i++) {
        if (i % 5 == 0)
            SSL_key_update(session_of(peer_of(ada)), SSL_KEY_UPDATE_REQUESTED);
        struct stretch frame = {0};
        add_message(&frame, say(text_of("%d %s", i, text)));
        send_without_reading(ada, frame.bytes, frame.length, patience());
    }
    for (int i = 0; i < LINES; i++)
        expect_said(ada, "ada", text_of("%d %s", i, text));
    for (int i = 0; i < LINES; i++)
        expect_said(witness, "ada", text_of("%d %s", i, text));
}

TEST(server, goes_on_with_new_keys,
     .promise = "TLS 1.2 or later. What one member says arrives in the order "
                "in which it was said.",
     .cause = "In TLS 1.3 either side may change its keys at any time "
              "(KeyUpdate), and the library answers by itself when SSL_read() "
              "and SSL_write() are called again with what they were called "
              "with before. WANT_READ from SSL_write() and WANT_WRITE from "
              "SSL_read() are no errors.",
     .read = IDEA)
{
    enum { CHANGES = 12 };
    struct program *server = start_server(NULL);
    struct channel *witness = let_witness_in(server);
    struct tls_options only_1_3 = {.lowest = TLS1_3_VERSION};
    struct channel *ada = open_tls(server, &only_1_3);
    enter(ada, "ada", 2);
    expect_news(witness, "joined", "ada");
    now_trying("new keys before each line");
    for (int i = 0; i < CHANGES; i++) {
        SSL_key_update(session_of(peer_of(ada)),
                       i % 2 == 0 ? SSL_KEY_UPDATE_REQUESTED
                                  : SSL_KEY_UPDATE_NOT_REQUESTED);
        send_message(ada, say(text_of("line %d", i)));
        expect_said(ada, "ada", text_of("line %d", i));
        expect_said(witness, "ada", text_of("line %d", i));
    }
    /* On the hostile network a write may have to wait at any time. While one
     * waits, OpenSSL itself fails at the second KeyUpdate: SSL_read() says "bad
     * length". Who makes it write into memory does not see that, but the
     * contract asks nobody to. */
    if (hostile_seed() == 0)
        change_keys_among_lines(ada, witness);
    now_trying("a client that wants to negotiate anew, which TLS 1.2 had and a "
               "server may refuse");
    struct channel *old = open_tls(
        server, &(struct tls_options){.lowest = TLS1_2_VERSION,
                                      .highest = TLS1_2_VERSION,
                                      .may_fail = true});
    enter(old, "old", 3);
    expect_news(witness, "joined", "old");
    SSL_renegotiate(session_of(peer_of(old)));
    SSL_do_handshake(session_of(peer_of(old)));
    ends_within(old, 0.1);
    send_message(witness, say("and the others"));
    struct message message;
    bool has_left = false;
    for (;;) {
        if (!next_message(witness, &message, "the witness is heard"))
            fail_test("Expected: nothing that one client does ends the "
                      "connection of another.\n"
                      "When a client wanted to negotiate anew, the connection "
                      "of the witness ended.");
        if (strcmp(message.type, "left") != 0)
            break;
        has_left = true;
    }
    if (message.text == NULL || strcmp(message.text, "and the others") != 0)
        fail_test("Expected: what the witness said.\nWhat came: %s",
                  message.shown);
    reset_channel(old);
    if (!has_left)
        expect_news(witness, "left", "old");
    now_trying(NULL);
    leave_the_room(ada);
    expect_news(witness, "left", "ada");
    leave_the_room(witness);
}

/* What waits in the kernel at the server's end, when the server rests and that
 * changes no more. */
static size_t settled_bytes(struct program *server, struct channel *channel)
{
    double until = now() + 3, changed = now();
    size_t before = bytes_under_way(channel);
    while (now() < until && now() < changed + 0.02) {
        let_pass(0.002);
        size_t after = bytes_under_way(channel);
        if (after != before || group_is_busy(server->pid))
            changed = now();
        before = after;
    }
    return before;
}

/* Sends `lines` lines of 8 KiB, numbered from `first` on, and reads nothing.
 * Returns what waits in the kernel then. */
static size_t send_lines(struct program *server, struct channel *channel,
                         const char *text, int first, int lines)
{
    struct stretch frames = {0};
    for (int i = 0; i < lines; i++)
        add_message(&frames, say(text_of("%05d %s", first + i, text)));
    send_without_reading(channel, frames.bytes, frames.length, patience());
    return settled_bytes(server, channel);
}

/* Sends lines until the kernel takes no more of what the server answers, and
 * some more, so that the server has more and more to send; returns how many.
 * Less than 192 KiB wait in the server then. */
static int fill(struct program *server, struct channel *channel,
                const char *text, int most)
{
    enum { AT_ONCE = 8, MORE = 12 };
    int count = 0;
    size_t before = settled_bytes(server, channel), after = before;
    do {
        before = after;
        after = send_lines(server, channel, text, count, AT_ONCE);
        count += AT_ONCE;
    } while (count < most && after >= before + AT_ONCE * MOST_TEXT / 2);
    for (int i = 0; i < MORE; i++)
        send_lines(server, channel, text, count++, 1);
    return count;
}

TEST(server, a_write_that_waits_is_repeated,
     .promise = "A server may rather stop reading from a client that does not "
                "take the answers to its own requests; when more than 256 KiB "
                "wait for it beyond what the kernel takes, it is closed. "
                "Nothing is lost or reordered.",
     .cause = "SSL_write() that said WANT_WRITE has sealed its bytes already, "
              "and sent a part of them. It has to be called again with the "
              "same bytes (\"bad write retry\" says OpenSSL otherwise), and "
              "with at least as many, before anything else is written.",
     .read = IDEA, .slow = true)
{
    struct program *server = start_server(NULL);
    struct channel *ada = open_channel_with(
        server, &(struct connect_options){.receive_buffer = 4096});
    enter(ada, "ada", 1);
    const char *text = repeat("w", MOST_TEXT - 6);
    int most = hostile_seed() == 0 ? 1600 : 16;
    int count = fill(server, ada, text, most);
    note("%d lines of 8192 bytes, and nothing read", count);
    expect_idle(server, "while one client does not read its answers");
    now_trying("another member, while the server cannot send to the first");
    struct channel *grace = open_channel(server);
    enter(grace, "grace", 2);
    expect_alive(grace);
    now_trying("the first reads again");
    /* A server that had stopped reading hears the last lines only now. */
    const char *expected = "its lines in their order, and once among them or "
                           "behind them that grace joined";
    bool has_joined = false;
    struct message message;
    for (int i = 0; i < count || !has_joined;) {
        bool came = next_message(ada, &message, expected);
        const char *line = text_of("%05d %s", i, text);
        if (came && !has_joined && strcmp(message.type, "joined") == 0)
            has_joined = true;
        else if (came && i < count && message.text != NULL &&
                 strcmp(message.text, line) == 0)
            i++;
        else
            fail_test("Expected: %s.\n"
                      "After %d of %d lines came: %s",
                      expected, i, count,
                      came ? message.shown : "the end of the connection");
    }
    send_message(ada, say("on we go"));
    expect_said(ada, "ada", "on we go");
    do {
        if (!next_message(grace, &message, "what the first says"))
            fail_test("Expected: the other member hears what the first says.\n"
                      "What came: the end of the connection");
    } while (message.text == NULL || strcmp(message.text, "on we go") != 0);
    now_trying(NULL);
    leave_the_room(ada);
    expect_news(grace, "left", "ada");
    leave_the_room(grace);
}

/* ======================================================= how it ends ====== */

TEST(server, ends_with_close_notify,
     .promise = "Half-closing means close_notify (the TCP direction may stay "
                "open), and every orderly close is preceded by it; a peer that "
                "has received it goes on sending what it owes.",
     .cause = "close() without SSL_shutdown() before it; or SSL_shutdown() "
              "while answers still wait to be written; or the server waits for "
              "the end of TCP, which close_notify need not bring.",
     .read = CODE)
{
    struct program *server = start_server(NULL);
    struct channel *witness = let_witness_in(server);
    for (size_t i = 0; i < COUNT(versions); i++) {
        struct tls_options version = {.lowest = versions[i],
                                      .highest = versions[i]};
        now_trying(
            text_of("%s: close_notify, and TCP stays open", version_names[i]));
        struct channel *ada = open_tls(server, &version);
        enter(ada, "ada", 2);
        expect_news(witness, "joined", "ada");
        send_message(ada, say("last words"));
        half_close_channel(ada);
        expect_said(witness, "ada", "last words");
        expect_news(witness, "left", "ada");
        expect_said(ada, "ada", "last words");
        expect_end(ada, END_OF_FILE_ONLY);
        close_channel(ada);

        now_trying(
            text_of("%s: close_notify and the end of TCP", version_names[i]));
        ada = open_tls(server, &version);
        for (int k = 0; k < 200; k++)
            send_message(ada, ping);
        half_close_channel(ada);
        shutdown(descriptor_of(peer_of(ada)), SHUT_WR);
        for (int k = 0; k < 200; k++)
            expect_pong(ada);
        expect_end(ada, END_OF_FILE_ONLY);
        close_channel(ada);

        /* The fate of a send on the hostile network follows from how many came
         * before it: so close_notify is the first, the second, and so on. */
        for (int pings = 0; pings < 8; pings++) {
            now_trying(text_of("%s: pings behind the handshake: %d, then "
                               "close_notify",
                               version_names[i], pings));
            ada = open_tls(server, &version);
            for (int k = 0; k < pings; k++) {
                send_message(ada, ping);
                expect_pong(ada);
            }
            half_close_channel(ada);
            expect_end(ada, END_OF_FILE_ONLY);
            close_channel(ada);
        }

        now_trying(text_of("%s: a length of 0, which the server ends with",
                           version_names[i]));
        ada = open_tls(server, &version);
        send_raw(ada, RAW("\0\0\0\0"));
        expect_error(ada);
        expect_end(ada, END_OF_FILE_ONLY);
        close_channel(ada);
    }
    now_trying("those who stay");
    expect_peace(witness);
    now_trying(NULL);
    leave_the_room(witness);
}

enum cut { FIN, FIN_IN_A_FRAME, FIN_IN_A_RECORD, RST, FIN_AND_DEAF, CUTS };

static const char *const cuts[] = {
    "the end of TCP, and no close_notify",
    "the end of TCP inside a frame, and no close_notify",
    "the end of TCP inside a record",
    "a reset",
    "the end of TCP from a client that has not read its answers",
};

TEST(server, a_member_cut_off_has_left,
     .promise = "The end of TCP without close_notify is for a server the end "
                "of a member like any other. `left`: to everybody still in the "
                "room, however the member went; then its place and its name "
                "are free.",
     .cause = "SSL_read() says SSL_ERROR_SSL (\"unexpected eof\", from OpenSSL "
              "3 on) or SSL_ERROR_SYSCALL there, not SSL_ERROR_ZERO_RETURN: "
              "an error of one connection, and its end.",
     .read = BREAK)
{
    struct program *server = start_server(NULL);
    struct channel *witness = let_witness_in(server);
    for (int round = 0; round < 2 * CUTS; round++) {
        enum cut cut = (enum cut)(round % CUTS);
        int version = versions[round / CUTS];
        now_trying(text_of("%s: %s", version_names[round / CUTS], cuts[cut]));
        struct hand hand = connect_by_hand(server, version);
        send_pieces(&hand, shake_hands(&hand, 0), 0);
        send_pieces(&hand, sealed_message(&hand, join_as("ada")), 0);
        expect_word(&hand, "welcome");
        expect_news(witness, "joined", "ada");
        if (cut == FIN_IN_A_FRAME) {
            SSL_write(hand.session, RAW("\0\0\0\x0f{\"type\":"));
            send_pieces(&hand, sealed(&hand), 0);
        }
        if (cut == FIN_IN_A_RECORD) {
            struct stretch record = sealed_message(&hand, ping);
            record.length /= 2;
            send_pieces(&hand, record, 0);
        }
        if (cut == FIN_AND_DEAF) {
            send_pieces(&hand, sealed_message(&hand, say("a last word")), 0);
            expect_said(witness, "ada", "a last word");
        }
        if (cut == RST) {
            reset_peer(hand.peer);
        } else if (cut == FIN_AND_DEAF) {
            close_peer(hand.peer);
        } else {
            shutdown(descriptor_of(hand.peer), SHUT_WR);
            note("ended TCP");
        }
        expect_news(witness, "left", "ada");
        SSL_free(hand.session);
        close_peer(hand.peer);
        expect_peace(witness);
    }
    now_trying(NULL);
    leave_the_room(witness);
}

TEST(server, ends_although_handshakes_are_under_way,
     .promise = "From lesson 05 on, SIGINT and SIGTERM end a server cleanly: "
                "exit 0 within a second, whatever its clients do.",
     .cause = "The server waits for handshakes to be done, or for its clients' "
              "close_notify (SSL_shutdown() called until it returns 1), "
              "before it ends.",
     .read = CODE)
{
    struct program *server = start_server(NULL);
    struct channel *ada = open_channel(server);
    enter(ada, "ada", 1);
    for (size_t i = 0; i < 6; i++)
        half_open(server, i);
    struct channel *leaving = open_channel(server);
    send_raw(leaving, RAW("\0\0\0\0"));
    expect_error(leaving);
    signal_program(server, SIGTERM);
    expect_exit_within(server, 0, 1 + slack());
}

/* =================================================== the server's files === */

static struct program *start_with(const char *certificate_name,
                                  const char *key_name)
{
    const char *arguments[] = {"-p", "0",
                               "-c", certificate(certificate_name),
                               "-k", certificate(key_name),
                               NULL};
    return start_server_with(
        &(struct start){.arguments = arguments, .bare = true});
}

static const struct {
    const char *what;
    const char *certificate, *key;
} wrong_files[] = {
    {"a certificate that is not there", "nowhere.pem", "server.key"},
    {"a key that is not there", "server.pem", "nowhere.key"},
    {"a certificate that is garbage", "garbage.pem", "server.key"},
    {"a key that is garbage", "server.pem", "garbage.key"},
    {"an empty file for a certificate", "empty.pem", "server.key"},
    {"half a certificate", "cut.pem", "server.key"},
    {"half a key", "server.pem", "cut.key"},
    {"a key instead of the certificate", "server.key", "server.key"},
    {"a certificate instead of the key", "server.pem", "only-name.pem"},
    {"a folder for a key", "server.pem", "folder.key"},
    {"a key of another certificate", "server.pem", "other.key"},
    {"a key that its group may read (0640)", "server.pem", "open-to-group.key"},
    {"a key that others may read (0604)", "server.pem", "open-to-others.key"},
    {"a key that everybody may read (0644)", "server.pem", "open-to-all.key"},
};

TEST(server, does_not_start_with_files_it_cannot_trust,
     .promise = "A certificate or key that cannot be read, a key that its "
                "group or others may read (mode & 0044), or two that do not "
                "belong together: exit 1 before the listening line.",
     .cause = "What SSL_CTX_use_certificate_chain_file(), "
              "SSL_CTX_use_PrivateKey_file() and SSL_CTX_check_private_key() "
              "return is not looked at, so that every handshake fails later; "
              "or nobody asks fstat() for the key's mode.",
     .read = CODE, .patient = ONE_SEED)
{
    enum { AT_ONCE = 4 };
    struct program *servers[AT_ONCE];
    for (size_t from = 0; from < COUNT(wrong_files); from += AT_ONCE) {
        size_t left = COUNT(wrong_files) - from;
        size_t count = left < AT_ONCE ? left : AT_ONCE;
        for (size_t i = 0; i < count; i++)
            servers[i] = start_with(wrong_files[from + i].certificate,
                                    wrong_files[from + i].key);
        for (size_t i = 0; i < count; i++) {
            now_trying(wrong_files[from + i].what);
            expect_exit(servers[i], 1);
            expect_complaint(servers[i], "what is wrong with its files");
            expect_output_end(servers[i]);
        }
    }
    now_trying(NULL);
    note("a key that only its owner may read, and not even write (0400), which "
         "is right:");
    const char *arguments[] = {"-p", "0",
                               "-c", certificate("server.pem"),
                               "-k", certificate("read-only.key"),
                               NULL};
    struct program *server = start_server_ready(
        &(struct start){.arguments = arguments, .bare = true});
    leave_the_room(let_witness_in(server));
}

/* A command of several words may name files that lie in our folder. */
static bool may_run_elsewhere(const char *variable)
{
    const char *program = getenv(variable);
    return program != NULL && program[0] == '/';
}

TEST(server, looks_for_its_files_in_certs,
     .promise = "Defaults, relative to the current directory, "
                "`certs/server.pem`, `certs/server.key`.",
     .cause = "The folder is taken relative to the program's own file, or to "
              "where the source was compiled.",
     .read = CODE, .patient = ONE_SEED)
{
    if (!may_run_elsewhere("SERVER"))
        skip_test("SERVER is not named by its whole path");
    struct program *server = start_server_ready(
        &(struct start){.arguments = (const char *[]){"-p", "0", NULL},
                        .bare = true,
                        .folder = certificate("..")});
    leave_the_room(let_witness_in(server));
    note("in a folder without certs:");
    server = start_server_with(
        &(struct start){.arguments = (const char *[]){"-p", "0", NULL},
                        .bare = true,
                        .folder = certificate("folder.key")});
    expect_exit(server, 1);
    expect_complaint(server, "that its certificate is missing");
    expect_output_end(server);
}

TEST(server, wrong_usage_of_its_files,
     .promise = "A wrong option: a usage line on standard error, exit 2.",
     .cause = "getopt() is not told that -c and -k take a value.", .read = CODE,
     .patient = ONE_SEED)
{
    static const char *const calls[][4] = {
        {"-p", "0", "-c"}, {"-p", "0", "-k"}, {"-p", "0", "-C", "x"}};
    for (size_t i = 0; i < COUNT(calls); i++) {
        const char *const arguments[] = {calls[i][0], calls[i][1], calls[i][2],
                                         calls[i][3], NULL};
        struct program *server = start_server_with(
            &(struct start){.arguments = arguments});
        expect_exit(server, 2);
        expect_complaint(server, "how the server is called");
        expect_output_end(server);
    }
}

/* ========================================================= the client ===== */

static struct program *start_member(struct listener *listener, const char *host)
{
    return start_client("-n", "ada", "-r", "2", host,
                        text_of("%d", port_of_listener(listener)), NULL);
}

/* Takes the client in, as a server does. */
static struct channel *let_in(struct program *client, struct channel *channel)
{
    expect_join(channel, "ada");
    send_message(channel, welcome("ada", 2));
    expect_output_text(client, "* you are ada (2 in the room)\n");
    return channel;
}

static void expect_normal_end(struct program *client, struct channel *channel)
{
    end_input(client);
    expect_end(channel, ONLY_THE_END);
    close_channel(channel);
    expect_exit(client, 0);
    expect_output_end(client);
}

/* Listens where `host` leads to. */
static struct listener *listen_for(const char *host)
{
    return listen_at(strcmp(host, "::1") == 0 ? "::1" : "127.0.0.1", 0);
}

struct identity {
    const char *what;
    const char *certificate;
    const char *host; /* for which the client asks */
};

static const struct identity good[] = {
    {"a certificate for the name, asked by name", "only-name.pem", "localhost"},
    {"a certificate for the address, asked by address", "only-address.pem",
     "127.0.0.1"},
    {"a certificate for the IPv6 address, asked by address", "only-address.pem",
     "::1"},
    {"a certificate for all of them, asked by name", "server.pem", "localhost"},
    {"a certificate that a CA in between has signed, and the CA's own",
     "chain.pem", "127.0.0.1"},
};

TEST(client, trusts_who_can_be_trusted,
     .promise = "TLS 1.2 or later. The client verifies the chain against "
                "CAFILE, the validity period, and HOST against the "
                "certificate's subjectAltName (a dNSName, or an iPAddress when "
                "HOST is an address).",
     .cause = "An address is compared with the names in the certificate "
              "(SSL_set1_host), and not with its addresses "
              "(X509_VERIFY_PARAM_set1_ip_asc); or only one version of TLS is "
              "spoken.",
     .read = CODE, .patient = ONE_SEED)
{
    for (size_t i = 0; i < COUNT(good); i++) {
        now_trying(good[i].what);
        struct listener *listener = listen_for(good[i].host);
        struct program *client = start_member(listener, good[i].host);
        struct tls_options options = {.certificate = good[i].certificate};
        if (i < COUNT(versions))
            options.lowest = options.highest = versions[i];
        struct channel *channel = accept_tls(listener, &options);
        expect_normal_end(client, let_in(client, channel));
    }
    now_trying(NULL);
}

enum fault { CHAIN, VALIDITY, NAME, FAULTS };

static const char *const faults[] = {"the chain", "the validity period",
                                     "the name"};

static const struct {
    struct identity identity;
    enum fault fault;
} bad[] = {
    {{"a certificate that has expired", "expired.pem", "127.0.0.1"}, VALIDITY},
    {{"a certificate that is not valid yet", "future.pem", "127.0.0.1"},
     VALIDITY},
    {{"a certificate that signed itself", "self-signed.pem", "127.0.0.1"},
     CHAIN},
    {{"a certificate of a CA that is not in CAFILE", "stranger.pem",
      "127.0.0.1"},
     CHAIN},
    {{"a certificate of a CA that is not in CAFILE, and the CA's own",
      "stranger-chain.pem", "127.0.0.1"},
     CHAIN},
    {{"a certificate of a CA that only has the name of ours", "impostor.pem",
      "127.0.0.1"},
     CHAIN},
    {{"a certificate signed by one that is no CA", "by-a-leaf.pem",
      "127.0.0.1"},
     CHAIN},
    {{"a certificate that is for clients only (extendedKeyUsage)",
      "purpose.pem", "127.0.0.1"},
     CHAIN},
    {{"a certificate for 192.0.2.1", "other-address.pem", "127.0.0.1"}, NAME},
    {{"a certificate for other.example, asked by name", "other-name.pem",
      "localhost"},
     NAME},
    {{"a certificate for other.example, asked by address", "other-name.pem",
      "127.0.0.1"},
     NAME},
    {{"a certificate for localhost alone, asked by address", "only-name.pem",
      "127.0.0.1"},
     NAME},
    {{"a certificate for the addresses alone, asked by name",
      "only-address.pem", "localhost"},
     NAME},
    {{"a certificate for 192.0.2.1 with the common name localhost",
      "common-name.pem", "localhost"},
     NAME},
    {{"a certificate for localhost.example and not-localhost, asked for "
      "localhost",
      "longer-name.pem", "localhost"},
     NAME},
    {{"a certificate with a name that reads 127.0.0.1, and no address",
      "address-as-name.pem", "127.0.0.1"},
     NAME},
};

/* What the client complained of, without what may differ from call to call. */
static const char *words_of(struct program *client)
{
    size_t length;
    const char *text = standard_error(client, &length);
    struct stretch words = {0};
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            add_bytes(&words, &text[i], 1);
    }
    add_bytes(&words, "", 1);
    return words.bytes;
}

/* The client has been shown something that it cannot trust: it says not a word
 * inside TLS, tells the person, and ends. */
static void expect_refusal(struct program *client, struct listener *listener,
                           const struct tls_options *options, const char *what)
{
    struct peer *peer = accept_plainly(listener);
    begin_tls(peer, true, options);
    handshake_within(peer, patience());
    char said[4096];
    ssize_t length = receive_some(peer, said, sizeof said, patience());
    if (length > 0)
        fail_test("Expected: the client sends nothing of the user's to %s.\n"
                  "Inside TLS it sent %s",
                  what, readable(said, (size_t)length));
    double until = now() + patience();
    while (!has_ended(client) && now() < until) {
        if (accept_plainly_within(listener, 0.01) != NULL)
            fail_test("Expected: a certificate that fails is not retried.\n"
                      "The client came again to %s.",
                      what);
    }
    expect_exit(client, 1);
    expect_complaint(client, "what is wrong with the certificate");
    expect_output_end(client);
    close_peer(peer);
}

#define THE_SYSTEM_TRUSTS                                                      \
    "The client trusts the system's CAs, beside CAFILE or when it is no "      \
    "good: SSL_CTX_set_default_verify_paths(), or Python's "                   \
    "create_default_context() without cafile."

#define NOBODY_ASKS_FOR_WHOM                                                   \
    "Who has signed the certificate is verified, but not for whom it is: "     \
    "SSL_set1_host() for a name, X509_VERIFY_PARAM_set1_ip_asc() for an "      \
    "address (SSL_set_tlsext_host_name() checks nothing). And when no name "   \
    "is in subjectAltName, OpenSSL takes the common name, unless "             \
    "X509_CHECK_FLAG_NEVER_CHECK_SUBJECT is set (in Python: "                  \
    "hostname_checks_common_name is False). Or names are compared by hand, "   \
    "where one stands inside another, and where an address is no name."

TEST(client, tells_nothing_to_who_cannot_be_trusted,
     .promise = "The client verifies the chain against CAFILE, the validity "
                "period, and HOST against the certificate's subjectAltName; on "
                "any failure it sends nothing of the user's, says which of "
                "these it was, and exits 1. A certificate that fails is not "
                "retried.",
     .cause = "A client of OpenSSL verifies nothing until it is told to: "
              "SSL_CTX_set_verify(SSL_VERIFY_PEER) for the chain and the "
              "dates. What SSL_get_verify_result() says later comes too late, "
              "or is not asked.",
     .read = BREAK, .patient = ONE_SEED)
{
    /* The stranger's CA is one of the system's. */
    setenv("SSL_CERT_FILE", certificate("stranger-ca.pem"), 1);
    /* One listener for all: the port stands in what the client says. */
    struct listener *listener = listen_here();
    const char *complaints[FAULTS] = {NULL};
    for (size_t i = 0; i < COUNT(bad); i++) {
        const struct identity *identity = &bad[i].identity;
        now_trying(identity->what);
        usual_cause(bad[i].fault == NAME ? NOBODY_ASKS_FOR_WHOM : NULL);
        if (strcmp(identity->certificate, "stranger.pem") == 0)
            usual_cause(THE_SYSTEM_TRUSTS);
        struct program *client = start_member(listener, identity->host);
        type_and_end(client, RAW("a secret\n"));
        expect_refusal(
            client, listener,
            &(struct tls_options){.certificate = identity->certificate,
                                  .may_fail = true,
                                  .highest = i % 2 == 0 ? 0 : TLS1_2_VERSION},
            text_of("a server that shows %s", identity->what));
        if (strcmp(identity->host, "127.0.0.1") == 0 &&
            complaints[bad[i].fault] == NULL)
            complaints[bad[i].fault] = text_of("%s", words_of(client));
    }
    usual_cause("There is one sentence for every failure. "
                "SSL_get_verify_result() says which check has failed, and "
                "X509_verify_cert_error_string() says it in words.");
    for (int one = 0; one < FAULTS; one++) {
        for (int other = one + 1; other < FAULTS; other++) {
            if (strcmp(complaints[one], complaints[other]) == 0)
                fail_test("Expected: the client says whether the chain, the "
                          "validity period or the name is wrong.\n"
                          "When %s was wrong and when %s was, it said the "
                          "same: %s",
                          faults[one], faults[other], complaints[one]);
        }
    }
    now_trying(NULL);
}

TEST(client, wants_a_ca_file,
     .promise = "The client verifies the chain against CAFILE. No option turns "
                "a check off.",
     .cause = "What SSL_CTX_load_verify_locations() returns is not looked at, "
              "or the system's own CAs are asked when the file is no good.",
     .read = CODE, .patient = ONE_SEED)
{
    static const char *const files[] = {"nowhere.pem", "garbage.pem",
                                        "empty.pem", "cut.pem", "server.key"};
    /* To the system, our CA is as good as any. */
    setenv("SSL_CERT_FILE", certificate("ca.pem"), 1);
    struct listener *listener = listen_here();
    const char *port = text_of("%d", port_of_listener(listener));
    struct program *clients[COUNT(files)], *client;
    for (size_t i = 0; i < COUNT(files); i++) {
        note("%s as CAFILE:", files[i]);
        clients[i] = start_client_with(&(struct start){
            .arguments = (const char *[]){"-C", certificate(files[i]), "-r",
                                          "0", "127.0.0.1", port, NULL},
            .bare = true});
        type_and_end(clients[i], RAW("a secret\n"));
    }
    for (size_t i = 0; i < COUNT(files); i++) {
        now_trying(text_of("%s as CAFILE", files[i]));
        double until = now() + patience();
        while (!has_ended(clients[i]) && now() < until) {
            struct peer *peer = accept_plainly_within(listener, 0.01);
            if (peer == NULL)
                continue;
            begin_tls(peer, true, &(struct tls_options){.may_fail = true});
            char said[4096];
            ssize_t length = -1;
            if (handshake_within(peer, patience()))
                length = receive_some(peer, said, sizeof said, patience());
            if (length > 0)
                fail_test("Expected: without a CAFILE the client trusts "
                          "nobody.\nInside TLS it sent %s",
                          readable(said, (size_t)length));
        }
        expect_exit(clients[i], 1);
        expect_complaint(clients[i], "what is wrong with the file");
        expect_output_end(clients[i]);
    }
    now_trying(NULL);
    note("a CAFILE that holds another CA:");
    usual_cause(THE_SYSTEM_TRUSTS);
    struct listener *other = listen_here();
    client = start_client_with(&(struct start){
        .arguments = (const char *[]){"-C", certificate("stranger-ca.pem"),
                                      "127.0.0.1",
                                      text_of("%d", port_of_listener(other)),
                                      NULL},
        .bare = true});
    type_and_end(client, RAW("a secret\n"));
    expect_refusal(client, other, &(struct tls_options){.may_fail = true},
                   "a server whose CA is not in CAFILE");
    usual_cause(NULL);
    static const char *const options[] = {"-C", "-k", "--insecure"};
    for (size_t i = 0; i < COUNT(options); i++) {
        note("the option %s:", options[i]);
        const char *with_operands[] = {options[i], "127.0.0.1", port, NULL};
        const char *alone[] = {options[i], NULL};
        client = start_client_with(&(struct start){
            .arguments = i == 0 ? alone : with_operands, .empty_input = true});
        expect_exit(client, 2);
        expect_complaint(client, "how the client is called");
        expect_output_end(client);
    }
    if (may_run_elsewhere("CLIENT")) {
        note("no CAFILE named, in a folder that has certs/ca.pem:");
        client = start_client_with(&(struct start){
            .arguments = (const char *[]){"-n", "ada", "127.0.0.1", port, NULL},
            .bare = true,
            .folder = certificate("..")});
        /* Whoever came before is in the backlog still. */
        struct channel *channel = NULL;
        while (channel == NULL) {
            struct peer *peer = accept_plainly(listener);
            begin_tls(peer, true, &(struct tls_options){.may_fail = true});
            if (handshake_within(peer, patience()))
                channel = channel_over(peer);
        }
        act_as_server(channel);
        let_in(client, channel);
        end_input(client);
        ends_within(channel, patience());
        close_channel(channel);
        expect_exit(client, 0);
    }
}

/* All that comes on a connection of TCP alone until it ends. */
static struct received hear_out(struct peer *peer)
{
    return send_and_collect(peer, "", 0, false, 1 << 20);
}

TEST(client, never_falls_back_to_plain_tcp,
     .promise = "Neither side ever falls back to plain TCP. TLS 1.2 or later.",
     .cause = "What SSL_connect() says is not looked at, or the client tries "
              "again without TLS.",
     .read = BREAK, .patient = ONE_SEED)
{
    struct stretch frames = {0};
    add_message(&frames, welcome("ada", 2));
    add_message(&frames, said("eve", "tell me"));
    for (int way = 0; way < 2; way++) {
        now_trying(way == 0 ? "a server that speaks first, without TLS"
                            : "a server that answers the hello without TLS");
        struct listener *listener = listen_here();
        struct program *client = start_client_to(listener, "-r", "0", "-n",
                                                 "ada", NULL);
        type_and_end(client, RAW("a secret\n"));
        struct peer *peer = accept_plainly(listener);
        char first[1] = "";
        if (way == 1)
            receive_some(peer, first, sizeof first, patience());
        send_bytes(peer, frames.bytes, frames.length);
        struct received came = hear_out(peer);
        static const char *const words[] = {"type", "join", "secret"};
        for (size_t i = 0; i < COUNT(words); i++) {
            const char *word = memmem(came.bytes, came.length, words[i],
                                      strlen(words[i]));
            if (word != NULL)
                fail_test(
                    "Expected: no word of the room without TLS.\n"
                    "To a server that speaks no TLS the client sent, "
                    "after other bytes: %s",
                    readable(word, (size_t)(came.bytes + came.length - word)));
        }
        expect_exit(client, 1);
        expect_complaint(client, "that the server speaks no TLS");
        expect_output_end(client);
        close_peer(peer);
    }
    now_trying("a server that speaks no TLS but 1.0 and 1.1");
    usual_cause("The minimum is not set: SSL_CTX_set_min_proto_version().");
    allow_old_versions();
    struct listener *listener = listen_here();
    struct program *client = start_client_to(listener, "-r", "0", "-n", "ada",
                                             NULL);
    type_and_end(client, RAW("a secret\n"));
    struct peer *peer = accept_plainly(listener);
    begin_tls(peer, true,
              &(struct tls_options){.lowest = TLS1_VERSION,
                                    .highest = TLS1_1_VERSION,
                                    .may_fail = true});
    if (handshake_within(peer, patience()))
        fail_test("Expected: the client refuses what is older than TLS 1.2.\n"
                  "The handshake succeeded (%s).",
                  SSL_get_version(session_of(peer)));
    close_peer(peer);
    expect_exit(client, 1);
    expect_complaint(client, "that there is no TLS that both speak");
    expect_output_end(client);
    now_trying(NULL);
}

/* How long a program takes here and at this moment to start and to end. */
static double time_to_start(void)
{
    struct program *client = start_client_with(&(struct start){
        .arguments = (const char *[]){NULL}, .empty_input = true});
    expect_exit(client, 2);
    return age_of(client);
}

TEST(client, a_handshake_has_a_deadline,
     .promise = "An attempt tries every address of HOST in turn, each for at "
                "most SECONDS (in 07 the handshake included). When all have "
                "failed in a way that may pass (timed out) the client pauses "
                "and tries again.",
     .cause = "The deadline holds for connect() alone, or begins anew with "
              "every byte that the server sends.",
     .read = CODE, .patient = true, .slow = true)
{
    double once = 0, twice = 0;
    for (int tries = 0; tries < 3; tries++) {
        double start = time_to_start();
        struct listener *silent = listen_here(), *dripping = listen_here();
        struct program *first = start_client_to(silent, "-t", "0.4", "-r", "0",
                                                NULL);
        struct program *second = start_client_to(dripping, "-t", "0.4", "-r",
                                                 "1", NULL);
        type_and_end(first, RAW("a secret\n"));
        type_and_end(second, RAW("a secret\n"));
        struct peer *one = accept_plainly(silent);
        struct peer *other = accept_plainly(dripping);
        /* The beginning of an answer, a byte at a time, for as long as it is
         * listened to. */
        static const char answer[] = "\x16\x03\x03\x02\0\x02\0\1\xfc\x03\x03";
        double from = now();
        bool is_open = true;
        for (size_t i = 0; is_open && now() < from + 0.8 + slack(); i++) {
            const char *byte = i < sizeof answer - 1 ? answer + i : "x";
            send_until_full(other, byte, 1, 0.001);
            char came[1000];
            is_open = receive_some(other, came, sizeof came, 0.03) >= 0;
        }
        expect_exit(first, 1);
        expect_complaint(first, "that the server did not answer");
        expect_exit(second, 1);
        expect_complaint(second, "that the server did not answer");
        struct received came = hear_out(one);
        if (memmem(came.bytes, came.length, "secret", 6) != NULL)
            fail_test("Expected: nothing of the user's without a handshake.");
        accept_plainly(dripping); /* the second attempt */
        close_listener(silent);
        close_listener(dripping);
        once = age_of(first);
        twice = age_of(second);
        if (once < 0.35 || twice < 0.8 + 0.1 - 0.05)
            break;
        if (once < 0.4 + slack() + 2 * start &&
            twice < 0.8 + 0.5 + slack() + 2 * start)
            return;
    }
    fail_test("With -t 0.4 -r 0 the client should give up a handshake that "
              "does not go on after 0.4 s, with -t 0.4 -r 1 after twice that "
              "and a pause of 0.1 to 0.5 s. It took %.3f s and %.3f s.",
              once, twice);
}

TEST(client, a_handshake_that_hung_is_tried_again,
     .promise = "When all have failed in a way that may pass (timed out) the "
                "client pauses and tries again, at most RETRIES times.",
     .cause = "Only connect() is tried again, or the next attempt uses the SSL "
              "object of the last one, which SSL_connect() has left behind in "
              "the middle of a handshake.",
     .read = CODE, .patient = true, .slow = true)
{
    struct listener *listener = listen_here();
    struct program *client = start_client_to(listener, "-t", "0.6", "-r", "30",
                                             "-n", "ada", NULL);
    struct peer *first = accept_plainly(listener);
    struct peer *second = accept_plainly(listener);
    close_peer(first);
    begin_tls(second, true, &(struct tls_options){.may_fail = true});
    while (!handshake_within(second, 0.5)) {
        /* A machine that is busy may take longer than the 0.6 s. */
        second = accept_plainly(listener);
        begin_tls(second, true, &(struct tls_options){.may_fail = true});
    }
    struct channel *channel = channel_over(second);
    act_as_server(channel);
    expect_join(channel, "ada");
    send_message(channel, welcome("ada", 1));
    expect_output_text(client, "* you are ada (1 in the room)\n");
    let_pass(0.7);
    send_message(channel, said("eve", "the deadline was for the handshake"));
    expect_output_text(client, "eve: the deadline was for the handshake\n");
    end_input(client);
    ends_within(channel, patience());
    close_channel(channel);
    expect_exit(client, 0);
}

TEST(client, tells_a_cut_from_an_end,
     .promise = "A client that meets the end of TCP without close_notify "
                "prints what it has, says that the connection was cut off, and "
                "exits 1. At end of input the client half-closes, prints what "
                "still comes, and exits 0 when the server has closed.",
     .cause = "SSL_read() that returns 0 or -1 is taken for the end, whatever "
              "the reason: only SSL_ERROR_ZERO_RETURN is close_notify. Who "
              "cuts a connection could otherwise hide the end of what was "
              "said. Or SSL_OP_IGNORE_UNEXPECTED_EOF is set.",
     .read = IDEA, .patient = ONE_SEED)
{
    static const char *const ends[] = {
        "the end of TCP, without close_notify",
        "the end of TCP inside a record",
        "a reset",
        "close_notify, and then the end of TCP",
        "close_notify, and TCP stays open",
    };
    enum { CUT, CUT_IN_A_RECORD, CUT_BY_RESET, END, END_OF_TLS };
    struct listener *listener = listen_here();
    for (size_t round = 0; round < 4 * COUNT(ends); round++) {
        size_t end = round / 4;
        size_t version = round / 2 % 2;
        bool input_ended = round % 2 == 0;
        now_trying(text_of("%s: %s, %s the end of input",
                           version_names[version], ends[end],
                           input_ended ? "after" : "before"));
        struct program *client = start_member(listener, "127.0.0.1");
        struct hand hand = take_in_hand(
            accept_plainly(listener), true,
            &(struct tls_options){.highest = versions[version]});
        send_pieces(&hand, shake_hands(&hand, 0), 0);
        expect_word(&hand, "join");
        send_pieces(&hand, sealed_message(&hand, welcome("ada", 2)), 0);
        expect_output_text(client, "* you are ada (2 in the room)\n");
        if (input_ended) {
            end_input(client);
            usual_cause("At the end of its input the client ends TCP "
                        "(shutdown), or nothing. SSL_shutdown() sends "
                        "close_notify, which ends its side of TLS.");
            char byte;
            while (SSL_read(hand.session, &byte, 1) <= 0 &&
                   (SSL_get_shutdown(hand.session) & SSL_RECEIVED_SHUTDOWN) ==
                       0) {
                if (!feed(&hand, patience()))
                    fail_test("Expected: at the end of its input the client "
                              "sends close_notify.\n"
                              "There came the end of TCP, or nothing.");
            }
            note("received close_notify");
            usual_cause(NULL);
        }
        struct stretch bytes = sealed_message(&hand, said("bob", "the last"));
        if (end == CUT_IN_A_RECORD) {
            struct stretch half = sealed_message(&hand, said("bob", "unread"));
            add_bytes(&bytes, half.bytes, half.length / 2);
        }
        if (end == END || end == END_OF_TLS) {
            SSL_shutdown(hand.session);
            struct stretch last = sealed(&hand);
            add_bytes(&bytes, last.bytes, last.length);
        }
        send_pieces(&hand, bytes, 0);
        if (end != CUT_BY_RESET && end != END_OF_TLS)
            shutdown(descriptor_of(hand.peer), SHUT_WR);
        expect_output_text(client, "bob: the last\n");
        if (end == CUT_BY_RESET)
            reset_peer(hand.peer);
        bool is_good = input_ended && end >= END;
        expect_exit(client, is_good ? 0 : 1);
        if (!is_good)
            expect_complaint(client, "that the connection was cut off or "
                                     "closed");
        expect_output_end(client);
        let_go(&hand);
    }
    now_trying(NULL);
}

TEST(client, tells_a_cut_while_it_sends,
     .promise = "A client that meets the end of TCP without close_notify says "
                "that the connection was cut off, and exits 1.",
     .cause = "A send that failed (EPIPE, ECONNRESET) is taken for the end, or "
              "not looked at. It takes the socket's error with it, so that the "
              "next read only finds the end of TCP.",
     .read = IDEA, .patient = ONE_SEED)
{
    enum { LINES = 400, LENGTH = 8000 };
    struct stretch typed = {0};
    const char *line = text_of("%s\n", repeat("t", LENGTH));
    for (int i = 0; i < LINES; i++)
        add_bytes(&typed, line, LENGTH + 1);
    struct listener *listener = listen_here();
    set_receive_buffer(listener, 4096);
    struct program *client = start_member(listener, "127.0.0.1");
    struct channel *channel = let_in(client, accept_channel(listener));
    note("more lines than the server takes:");
    type_and_end(client, typed.bytes, typed.length);
    double until = now() + patience();
    while (now() < until && moves_within(channel, 0.1))
        continue;
    reset_channel(channel);
    expect_exit(client, 1);
    expect_complaint(client, "that the connection was cut off");
    expect_output_end(client);
}

TEST(client, prints_what_is_decrypted_already,
     .promise = "The client prints one line an event. In lessons 05-07 what "
                "others say appears while the user types.",
     .cause = "SSL_read() took a whole record from the socket and gave out a "
              "part of it. The rest waits inside the library, where poll() "
              "does not see it.",
     .read = BREAK)
{
    struct listener *listener = listen_here();
    for (size_t i = 0; i < COUNT(versions); i++) {
        struct program *client = start_member(listener, "127.0.0.1");
        struct channel *channel = let_in(
            client, accept_tls(listener,
                               &(struct tls_options){.lowest = versions[i],
                                                     .highest = versions[i]}));
        static const size_t counts[] = {2, 3, 100, 280, 1500};
        for (size_t k = 0; k < COUNT(counts); k++) {
            now_trying(text_of("%s: %zu events at once, then silence",
                               version_names[i], counts[k]));
            struct stretch events = {0};
            for (size_t n = 0; n < counts[k]; n++)
                add_message(&events, said("bob", "0123456789"));
            send_stretch(channel, &events);
            expect_output_text(client, repeat("bob: 0123456789\n", counts[k]));
        }
        now_trying(text_of("%s: half a line is typed, and others speak",
                           version_names[i]));
        type_text(client, "half a ");
        send_message(channel, said("bob", "while you type"));
        expect_output_text(client, "bob: while you type\n");
        type_text(client, "line\n");
        expect_say(channel, "half a line");
        now_trying(text_of("%s: a frame of 65,536 bytes in records of 100",
                           version_names[i]));
        struct stretch large = {0};
        const char *json = said("bob", "large");
        add_message(&large, text_of("%s%s", json,
                                    repeat(" ", MOST_PAYLOAD - strlen(json))));
        send_in_records(channel, &large, hostile_seed() == 0 ? 100 : 3000);
        expect_output_text(client, "bob: large\n");
        expect_normal_end(client, channel);
    }
    now_trying(NULL);
}

TEST(client, goes_on_with_new_keys,
     .promise = "TLS 1.2 or later. A line typed is said. What one member says "
                "arrives in the order in which it was said.",
     .cause = "In TLS 1.3 the server may change its keys at any time, and send "
              "tickets: SSL_read() then returns no bytes and says WANT_READ, "
              "which is neither an error nor the end. A line that could not be "
              "sent whole has to be sent on, with the same bytes.",
     .read = IDEA)
{
    enum { CHANGES = 6 };
    int lines = hostile_seed() == 0 ? 400 : 12;
    struct listener *listener = listen_here();
    struct program *client = start_member(listener, "127.0.0.1");
    set_receive_buffer(listener, 4096);
    struct channel *channel = let_in(
        client,
        accept_tls(listener, &(struct tls_options){.lowest = TLS1_3_VERSION}));
    SSL *session = session_of(peer_of(channel));
    now_trying("new keys, and tickets, between events");
    for (int i = 0; i < CHANGES; i++) {
        if (i % 3 == 2)
            SSL_new_session_ticket(session);
        else
            SSL_key_update(session, i % 3 == 0 ? SSL_KEY_UPDATE_REQUESTED
                                               : SSL_KEY_UPDATE_NOT_REQUESTED);
        SSL_do_handshake(session);
        let_pass(0.003);
        type_text(client, text_of("line %d\n", i));
        expect_say(channel, text_of("line %d", i));
        send_message(channel, said("ada", text_of("line %d", i)));
        expect_output_text(client, text_of("ada: line %d\n", i));
    }
    now_trying("more lines than the server takes, and new keys meanwhile");
    struct stretch typed = {0};
    const char *text = repeat("t", MOST_TEXT - 6);
    for (int i = 0; i < lines; i++) {
        const char *line = text_of("%05d %s\n", i, text);
        add_bytes(&typed, line, strlen(line));
    }
    type_and_end(client, typed.bytes, typed.length);
    let_pass(0.1);
    for (int i = 0; i < lines; i++) {
        if (i == lines / 3 || i == lines / 2) {
            SSL_key_update(session, SSL_KEY_UPDATE_REQUESTED);
            SSL_do_handshake(session);
        }
        expect_say(channel, text_of("%05d %s", i, text));
    }
    /* It has answered the new keys, too, when it has printed what came after
     * them. */
    send_message(channel, said("eve", "that was all"));
    expect_output_text(client, "eve: that was all\n");
    expect_end(channel, ONLY_THE_END);
    close_channel(channel);
    expect_exit(client, 0);
    now_trying(NULL);
}

/* ============================================ what others have written ==== */

/* Starts a program that is not judged, in the place of the client. */
static struct program *start_foreign(const char *command)
{
    const char *client = getenv("CLIENT");
    const char *kept = client != NULL ? text_of("%s", client) : NULL;
    setenv("CLIENT", command, 1);
    struct program *foreign = start_client_with(&(struct start){.bare = true});
    if (kept != NULL)
        setenv("CLIENT", kept, 1);
    return foreign;
}

static void need(const char *command)
{
    if (system(text_of("%s >/dev/null 2>&1 </dev/null", command)) != 0)
        skip_test("this machine cannot run: %s", command);
}

/* Waits until a program that is not judged has printed this. */
static void expect_to_show(struct program *foreign, const char *word,
                           const char *expected)
{
    double until = now() + patience();
    size_t length;
    for (;;) {
        const char *text = standard_output(foreign, &length);
        if (memmem(text, length, word, strlen(word)) != NULL)
            break;
        if (now() > until || has_ended(foreign))
            fail_test("Expected: %s.\n"
                      "What came: %s, and on standard error: %s",
                      expected, text_of("%zu bytes", length),
                      standard_error(foreign, NULL));
        let_pass(0.01);
    }
    note("there came \"%s\"", word);
}

static void type_message(struct program *foreign, const char *json)
{
    struct stretch frame = {0};
    add_message(&frame, json);
    type_bytes(foreign, frame.bytes, frame.length);
}

TEST(server, works_with_openssl_s_client,
     .promise = "TLS 1.2 or later. A client of any of these lessons works with "
                "the server of any other (07 inside TLS).",
     .cause = "The two programs of one author understand each other, and "
              "nobody else understands them.",
     .read = "07-tls/README.md, \"Try it\"")
{
    static const char *const options[] = {"-tls1_2", "-tls1_3"};
    need("openssl version");
    struct program *server = start_server(NULL);
    struct channel *witness = let_witness_in(server);
    for (size_t i = 0; i < COUNT(options); i++) {
        struct program *visitor = start_foreign(
            text_of("openssl s_client -connect 127.0.0.1:%d -CAfile %s "
                    "-verify_return_error -quiet %s",
                    port_of(server), certificate("ca.pem"), options[i]));
        type_message(visitor, join_as("visitor"));
        expect_to_show(visitor, "welcome", "the server lets s_client in");
        expect_news(witness, "joined", "visitor");
        type_message(visitor, say("hello"));
        expect_said(witness, "visitor", "hello");
        send_message(witness, say("hello, s_client"));
        expect_said(witness, "witness", "hello, s_client");
        expect_to_show(visitor, "hello, s_client", "s_client hears the others");
        kill_program(visitor);
        expect_news(witness, "left", "visitor");
    }
    leave_the_room(witness);
}

TEST(server, works_with_the_ssl_of_python,
     .promise = "A client of any of these lessons works with the server of any "
                "other (07 inside TLS). Every orderly close is preceded by "
                "close_notify.",
     .cause = "The two programs of one author understand each other, and "
              "nobody else understands them.",
     .read = "07-tls/README.md, \"The same in Python\"", .patient = ONE_SEED)
{
    need("python3 -c 'import ssl'");
    struct program *server = start_server(NULL);
    struct program *visitor = start_foreign(
        text_of("python3 %s/tls-client.py %d %s", TOOLS, port_of(server),
                certificate("ca.pem")));
    expect_output_text(visitor, "welcome\nsaid\npong\nthe end\n");
    expect_exit(visitor, 0);
}

TEST(client, works_with_openssl_s_server,
     .promise = "TLS 1.2 or later. A client of any of these lessons works with "
                "the server of any other (07 inside TLS).",
     .cause = "The two programs of one author understand each other, and "
              "nobody else understands them.",
     .read = "07-tls/README.md, \"Try it\"")
{
    static const char *const options[] = {"-tls1_2", "-tls1_3"};
    need("openssl version");
    for (size_t i = 0; i < COUNT(options); i++) {
        int port = unused_port();
        struct program *room = start_foreign(text_of(
            "openssl s_server -accept 127.0.0.1:%d -cert %s -key %s -quiet "
            "-naccept 1 %s",
            port, certificate("server.pem"), certificate("server.key"),
            options[i]));
        struct program *client = start_client(
            "-n", "ada", "-r", "60", "127.0.0.1", text_of("%d", port), NULL);
        expect_to_show(room, "join", "the client joins");
        type_message(room, welcome("ada", 2));
        expect_output_text(client, "* you are ada (2 in the room)\n");
        type_text(client, "hello, s_server\n");
        expect_to_show(room, "hello, s_server", "the client says a line");
        type_message(room, said("ada", "hello, s_server"));
        expect_output_text(client, "ada: hello, s_server\n");
        end_input(client);
        expect_exit(client, 0);
        expect_output_end(client);
        kill_program(room);
    }
}

/*
 * tls.c - what wraps up the bytes of a connection in lesson 07: TLS, as OpenSSL
 * speaks it. Linked into that lesson's tests alone.
 */
#include "tls.h"
#include "inside.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    RECORD = 16384,             /* bytes that one record holds at most */
    MOST_REMEMBERED = 256 << 10 /* bytes for a handshake that is not done */
};

struct wrapping {
    SSL *session;
    int descriptor;
    bool as_server;
    bool may_fail;
    bool is_done;    /* the handshake */
    bool ends;       /* close_notify has to be sent */
    bool has_ended;  /* and has been */
    short waits_for; /* POLLIN or POLLOUT, while it cannot go on */
    enum taken over; /* how the connection ended, TAKEN_NOTHING: it has not */
    bool is_broken;  /* nothing can be sent any more */
    struct bytes queue;  /* taken to be sent, and not sealed yet */
    const char *failure; /* in OpenSSL's words, or NULL */
};

#ifndef CERTIFICATES
#define CERTIFICATES "build/certs"
#endif

const char *certificate(const char *name)
{
    return text_of("%s/%s", CERTIFICATES, name);
}

/* ----------------------------------------------------------------- contexts */

/* What OpenSSL says was wrong first; kept. */
static const char *openssl_reason(void)
{
    unsigned long code = ERR_get_error();
    const char *reason = ERR_reason_error_string(code);
    ERR_clear_error();
    return text_of("%s", reason != NULL ? reason : "no reason given");
}

_Noreturn static void give_up(const char *what)
{
    fail_test("harness: %s: %s", what, openssl_reason());
}

static SSL_CTX *make_context(bool as_server, const struct tls_options *options)
{
    SSL_CTX *context = SSL_CTX_new(as_server ? TLS_server_method()
                                             : TLS_client_method());
    if (context == NULL)
        give_up("SSL_CTX_new");
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    int lowest = options->lowest != 0 ? options->lowest : TLS1_2_VERSION;
    if (lowest < TLS1_2_VERSION)
        SSL_CTX_set_security_level(context, 0);
    if (SSL_CTX_set_min_proto_version(context, lowest) != 1 ||
        SSL_CTX_set_max_proto_version(context, options->highest) != 1)
        skip_test("the OpenSSL of the tests speaks no such version of TLS");
    const char *ciphers = options->ciphers;
    if (ciphers == NULL && lowest < TLS1_2_VERSION)
        ciphers = "ALL:@SECLEVEL=0";
    if (ciphers != NULL && SSL_CTX_set_cipher_list(context, ciphers) != 1)
        give_up("SSL_CTX_set_cipher_list");
    if (options->largest_record > 0)
        SSL_CTX_set_max_send_fragment(context, (long)options->largest_record);
    if (as_server) {
        const char *name = options->certificate != NULL ? options->certificate
                                                        : "server.pem";
        if (SSL_CTX_use_certificate_chain_file(context, certificate(name)) !=
                1 ||
            SSL_CTX_use_PrivateKey_file(context, certificate("server.key"),
                                        SSL_FILETYPE_PEM) != 1)
            give_up(text_of("%s: run make again", certificate(name)));
    } else {
        if (SSL_CTX_load_verify_locations(context, certificate("ca.pem"),
                                          NULL) != 1)
            give_up(text_of("%s: run make again", certificate("ca.pem")));
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    }
    return context;
}

SSL *new_session(bool as_server, const struct tls_options *options)
{
    /* Reading certificates takes time, and most connections want the same. */
    static SSL_CTX *usual[2];
    static const struct tls_options nothing_unusual;
    ERR_clear_error();
    if (usual[as_server] == NULL)
        usual[as_server] = make_context(as_server, &nothing_unusual);
    SSL_CTX *context = usual[as_server];
    if (options != NULL)
        context = make_context(as_server, options);
    SSL *session = SSL_new(context);
    if (options != NULL)
        SSL_CTX_free(context);
    if (session == NULL)
        give_up("SSL_new");
    if (as_server) {
        SSL_set_accept_state(session);
    } else {
        SSL_set_connect_state(session);
        SSL_set1_host(session, "localhost");
        SSL_set_tlsext_host_name(session, "localhost");
    }
    return session;
}

static struct wrapping *begin_with(int descriptor, SSL *session, bool may_fail)
{
    struct wrapping *wrapping = keep(sizeof *wrapping);
    *wrapping = (struct wrapping){.session = session,
                                  .descriptor = descriptor,
                                  .as_server = SSL_is_server(session),
                                  .may_fail = may_fail,
                                  .over = TAKEN_NOTHING};
    /* OpenSSL writes into memory, where no write has to wait. One that waits on
     * a socket wants to be repeated as it was, and when the program meanwhile
     * asks for new keys a second time, SSL_read() fails ("bad length"). */
    BIO *out = BIO_new(BIO_s_mem());
    if (out == NULL || SSL_set_fd(session, descriptor) != 1)
        give_up("SSL_set_fd");
    SSL_set0_wbio(session, out);
    return wrapping;
}

static struct wrapping *tls_begin(int descriptor, bool as_server)
{
    return begin_with(descriptor, new_session(as_server, NULL), false);
}

static void tls_forget(struct wrapping *wrapping)
{
    SSL_free(wrapping->session);
    free_bytes(&wrapping->queue);
}

/* ----------------------------------------------------- what OpenSSL answers */

static const char *tls_about(const struct wrapping *wrapping)
{
    if (wrapping->failure != NULL)
        return text_of("; TLS failed: %s", wrapping->failure);
    if (wrapping->is_done)
        return "";
    return wrapping->over == TAKEN_NOTHING
               ? text_of("; the TLS handshake is not done (%s)",
                         SSL_state_string_long(wrapping->session))
               : "; the TLS handshake was not done when it ended";
}

/* A call has returned `result`, which is no success: true when it may be tried
 * again, now or later. Otherwise notes how the connection ended. */
static bool may_go_on(struct wrapping *wrapping, int result, bool was_sending)
{
    int system_error = errno;
    int error = SSL_get_error(wrapping->session, result);
    wrapping->waits_for = 0;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        wrapping->waits_for = error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        return true;
    }
    if (was_sending)
        wrapping->is_broken = true;
    if (error == SSL_ERROR_ZERO_RETURN) {
        wrapping->over = TAKEN_END;
        return false;
    }
    unsigned long code = ERR_peek_error();
    bool is_end = error == SSL_ERROR_SYSCALL && code == 0 && system_error == 0;
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
    is_end = is_end ||
             (error == SSL_ERROR_SSL &&
              ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING);
#endif
    if (is_end || error == SSL_ERROR_SYSCALL) {
        ERR_clear_error();
        /* What the other side had sent before can still be taken. */
        if (!was_sending || !wrapping->is_done)
            wrapping->over = is_end ? TAKEN_CUT : TAKEN_RESET;
        return false;
    }
    wrapping->failure = openssl_reason();
    wrapping->over = TAKEN_CUT;
    wrapping->is_broken = true;
    const struct program *last = programs; /* the one that came to this test */
    while (last != NULL && last->next != NULL)
        last = last->next;
    if (!wrapping->may_fail)
        fail_test("Expected: %s, and nothing is wrong with it.\n"
                  "OpenSSL, in the hands of the test, says: %s%s.%s",
                  wrapping->is_done     ? "the program speaks TLS"
                  : wrapping->as_server ? "the client does the TLS handshake"
                                        : "the server does the TLS handshake",
                  wrapping->failure,
                  wrapping->is_done ? "" : " (in the handshake)",
                  last != NULL ? text_of("\nThe program: %s %s.", last->name,
                                         state_of(last))
                               : "");
    return false;
}

/* --------------------------------------------------------------------- work */

/* How much OpenSSL has sealed that is not sent yet. */
static size_t sealed_bytes(const struct wrapping *wrapping)
{
    return BIO_ctrl_pending(SSL_get_wbio(wrapping->session));
}

/* Sends as much of that as goes now. */
static void send_sealed(struct wrapping *wrapping)
{
    BIO *out = SSL_get_wbio(wrapping->session);
    while (BIO_ctrl_pending(out) > 0) {
        char *bytes, gone[RECORD];
        long left = BIO_get_mem_data(out, &bytes);
        ssize_t sent = send(wrapping->descriptor, bytes,
                            left < RECORD ? (size_t)left : RECORD,
                            MSG_NOSIGNAL);
        if (sent > 0) {
            BIO_read(out, gone, (int)sent); /* takes them out of the memory */
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            wrapping->waits_for = POLLOUT;
            break;
        } else if (errno != EINTR) {
            /* What the other side had sent before can still be taken. */
            wrapping->is_broken = true;
            if (!wrapping->is_done && wrapping->over == TAKEN_NOTHING)
                wrapping->over = TAKEN_RESET;
            BIO_reset(out);
        }
    }
    /* Nothing follows close_notify; OpenSSL would answer a KeyUpdate. */
    if (wrapping->has_ended && BIO_ctrl_pending(out) == 0)
        SSL_set0_wbio(wrapping->session, BIO_new(BIO_s_null()));
}

static void seal_queue(struct wrapping *wrapping)
{
    while (wrapping->queue.length > 0 && !wrapping->is_broken) {
        size_t piece = wrapping->queue.length < RECORD ? wrapping->queue.length
                                                       : RECORD;
        ERR_clear_error();
        errno = 0;
        int sealed = SSL_write(wrapping->session, wrapping->queue.data,
                               (int)piece);
        if (sealed <= 0) {
            if (may_go_on(wrapping, sealed, true))
                return;
            break;
        }
        wrapping->queue.length -= (size_t)sealed;
        memmove(wrapping->queue.data, wrapping->queue.data + sealed,
                wrapping->queue.length);
    }
    if (wrapping->is_broken)
        free_bytes(&wrapping->queue);
}

static void seal_end(struct wrapping *wrapping)
{
    if (!wrapping->ends || wrapping->has_ended || wrapping->is_broken)
        return;
    ERR_clear_error();
    errno = 0;
    int result = SSL_shutdown(wrapping->session);
    int error = result < 0 ? SSL_get_error(wrapping->session, result)
                           : SSL_ERROR_NONE;
    wrapping->waits_for = error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
    wrapping->has_ended = result >= 0;
    /* Whatever else it is: the connection broke before it could end. */
    if (error != SSL_ERROR_NONE && error != SSL_ERROR_WANT_READ &&
        error != SSL_ERROR_WANT_WRITE)
        wrapping->is_broken = true;
    ERR_clear_error();
}

static void tls_work(struct wrapping *wrapping)
{
    if (wrapping->over != TAKEN_NOTHING && !wrapping->is_done)
        return;
    wrapping->waits_for = 0;
    if (!wrapping->is_done) {
        ERR_clear_error();
        errno = 0;
        int result = SSL_do_handshake(wrapping->session);
        wrapping->is_done = result == 1;
        if (!wrapping->is_done)
            may_go_on(wrapping, result, false);
    }
    if (wrapping->is_done) {
        seal_queue(wrapping);
        if (wrapping->queue.length == 0)
            seal_end(wrapping);
    }
    send_sealed(wrapping);
}

static bool tls_is_at_work(const struct wrapping *wrapping)
{
    if (wrapping->is_broken ||
        (!wrapping->is_done && wrapping->over != TAKEN_NOTHING))
        return false;
    return !wrapping->is_done || wrapping->queue.length > 0 ||
           sealed_bytes(wrapping) > 0 ||
           (wrapping->ends && !wrapping->has_ended);
}

static bool tls_is_ready(const struct wrapping *wrapping)
{
    return wrapping->is_done || wrapping->over != TAKEN_NOTHING;
}

static ssize_t tls_send(struct wrapping *wrapping, const void *bytes,
                        size_t length)
{
    tls_work(wrapping);
    if (wrapping->is_broken || wrapping->ends ||
        (!wrapping->is_done && wrapping->over != TAKEN_NOTHING))
        return -2;
    size_t room = RECORD;
    if (!wrapping->is_done)
        room = MOST_REMEMBERED - wrapping->queue.length;
    else if (wrapping->queue.length > 0 || sealed_bytes(wrapping) > 0)
        room = 0;
    if (room == 0)
        return -1;
    if (length > room)
        length = room;
    append_bytes(&wrapping->queue, bytes, length);
    tls_work(wrapping);
    return wrapping->is_broken ? -2 : (ssize_t)length;
}

static enum taken tls_take(struct wrapping *wrapping, void *buffer, size_t size,
                           size_t *taken)
{
    if (wrapping->over != TAKEN_NOTHING)
        return wrapping->over;
    if (tls_is_at_work(wrapping))
        tls_work(wrapping);
    if (!wrapping->is_done)
        return wrapping->over;
    ERR_clear_error();
    errno = 0;
    int length = SSL_read(wrapping->session, buffer,
                          size > 1 << 30 ? 1 << 30 : (int)size);
    if (length > 0) {
        *taken = (size_t)length;
        send_sealed(wrapping); /* an answer to a KeyUpdate */
        return TAKEN_SOME;
    }
    /* Sending may want something else than reading does. */
    short waits_for = wrapping->waits_for;
    may_go_on(wrapping, length, false);
    if (tls_is_at_work(wrapping))
        wrapping->waits_for = waits_for;
    send_sealed(wrapping);
    return wrapping->over;
}

static void tls_end_side(struct wrapping *wrapping)
{
    wrapping->ends = true;
    tls_work(wrapping);
}

static short tls_events(const struct wrapping *wrapping, short events)
{
    if ((events & POLLIN) != 0 &&
        (wrapping->over != TAKEN_NOTHING || SSL_pending(wrapping->session) > 0))
        return 0;
    if (tls_is_at_work(wrapping)) {
        if (!wrapping->is_done)
            return wrapping->waits_for != 0 ? wrapping->waits_for : POLLIN;
        events &= (short)~POLLOUT;
        events |= wrapping->waits_for != 0 ? wrapping->waits_for : POLLOUT;
    }
    return events;
}

const struct wrapper tls_wrapper = {
    .begin = tls_begin,
    .forget = tls_forget,
    .work = tls_work,
    .is_at_work = tls_is_at_work,
    .is_ready = tls_is_ready,
    .send = tls_send,
    .take = tls_take,
    .end_side = tls_end_side,
    .events = tls_events,
    .about = tls_about,
};

/* ------------------------------------------ connections of a test's own */

struct peer *connect_plainly(struct program *server)
{
    return connect_with(server, &(struct connect_options){.plain = true});
}

void begin_session(struct peer *peer, SSL *session, bool may_fail)
{
    struct wrapping *wrapping = begin_with(descriptor_of(peer), session,
                                           may_fail);
    wrap_up(peer, wrapping);
    tls_work(wrapping);
}

void begin_tls(struct peer *peer, bool as_server,
               const struct tls_options *options)
{
    begin_session(peer, new_session(as_server, options),
                  options != NULL && options->may_fail);
}

bool handshake_within(struct peer *peer, double seconds)
{
    struct wrapping *wrapping = wrapping_of(peer);
    double until = moment_in(seconds);
    tls_work(wrapping);
    while (!tls_is_ready(wrapping) && now() < until) {
        wait_on_peer(peer, POLLIN, until);
        tls_work(wrapping);
    }
    return wrapping->is_done;
}

static struct channel *finish(struct peer *peer, bool as_server,
                              const struct tls_options *options)
{
    begin_tls(peer, as_server, options);
    if (!handshake_within(peer, patience()))
        fail_test("Expected: the %s does the TLS handshake.\n"
                  "It is not done%s.",
                  as_server ? "client" : "server", about_the_wrapping(peer));
    note("the TLS handshake is done: %s, %s", SSL_get_version(session_of(peer)),
         SSL_get_cipher_name(session_of(peer)));
    return channel_over(peer);
}

struct channel *open_tls(struct program *server,
                         const struct tls_options *options)
{
    return finish(connect_plainly(server), false, options);
}

struct channel *accept_tls(struct listener *listener,
                           const struct tls_options *options)
{
    struct channel *channel = finish(accept_plainly(listener), true, options);
    act_as_server(channel);
    return channel;
}

SSL *session_of(const struct peer *peer)
{
    const struct wrapping *wrapping = wrapping_of(peer);
    return wrapping != NULL ? wrapping->session : NULL;
}

const char *failure_of(const struct peer *peer)
{
    const struct wrapping *wrapping = wrapping_of(peer);
    return wrapping != NULL && wrapping->failure != NULL ? wrapping->failure
                                                         : "";
}

void cut_off(struct peer *peer)
{
    note("the next is done without close_notify");
    SSL_set_quiet_shutdown(session_of(peer), 1);
    close_peer(peer);
}

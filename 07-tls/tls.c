/*
 * tls.c - a connection inside TLS, by OpenSSL. tls.h says how to use it.
 *
 * New in this lesson. TLS adds three things to a stream of bytes: nobody on the
 * way can read it, nobody can change it unseen, and the client knows to whom it
 * speaks. The first two OpenSSL does alone. The third is wrong in more programs
 * than it is right, for a connection to a stranger works as well as one to a
 * friend: verify_server() below.
 *
 * To connection.c, TLS is a transport like TCP, with three twists. It may have
 * to send before it can receive and the other way round, because both sides
 * speak during a handshake. It may hold bytes that have come and that poll does
 * not know of. And it may hold bytes that are encrypted and not sent.
 */
#define _POSIX_C_SOURCE 200809L

#include "tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ----------------------------------------------------------------- contexts */

/* What OpenSSL says of the last failure. It keeps a queue of errors for each
 * thread; the newest says least, "PEM lib", so the oldest is asked. */
static const char *last_error(void)
{
    unsigned long error = ERR_peek_error();
    if (ERR_GET_LIB(error) == ERR_LIB_SYS)
        return strerror(ERR_GET_REASON(error));
    const char *text = ERR_reason_error_string(error);
    return text != NULL ? text : "unknown error";
}

enum {
    /* A record carries so many bytes, at most (RFC 8446, section 5.1). */
    RECORD_MAX = 16384,

    /* When so many encrypted bytes wait to be sent we receive nothing. One
     * record of ours may be among them, the rest are answers of OpenSSL's. */
    SEALED_MAX = 4 * RECORD_MAX
};

/* What both sides want. */
static SSL_CTX *new_context(const SSL_METHOD *method)
{
    SSL_CTX *context = SSL_CTX_new(method);
    if (context == NULL)
        return NULL;
    /*
     * TLS 1.0 and 1.1 are broken (RFC 8996), and of the ciphers of TLS 1.2 only
     * those are good that agree on a new key for each connection (ECDHE) and
     * encrypt and authenticate in one step. All of TLS 1.3's do.
     *
     * In TLS 1.2 a peer may ask for a new handshake at any time, which costs it
     * little and us much. We answer that we do not.
     */
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 0 ||
        SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20") == 0) {
        SSL_CTX_free(context);
        return NULL;
    }
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_NO_COMPRESSION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* An idle session needs no buffers: about 15 KiB less for each. */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    /* What comes and holds no bytes of ours, a KeyUpdate for example, ends a
     * call of SSL_read with WANT_READ. Else it would read on until such bytes
     * come: a peer that sends nothing but KeyUpdates would keep it there, and
     * everybody else waiting, and the answers would pile up in memory. */
    SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
    /* Sessions that could be resumed are with the clients, in tickets; a server
     * that kept them too would grow. */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return context;
}

/* Where OpenSSL asks for a key's password. There is nobody to ask. */
static int no_password(char *buffer, int size, int writing, void *of)
{
    (void)buffer, (void)size, (void)writing, (void)of;
    return -1;
}

/*
 * Reads a private key. Who can read it can be this server; so it is refused
 * when others can. The file that is looked at is the one that is read: a check
 * by name would look at whatever has that name a moment earlier.
 * Returns the key, or NULL with the reason.
 */
static EVP_PKEY *read_key(const char *file, char reason[REASON_SIZE])
{
    EVP_PKEY *key = NULL;
    FILE *stream = fopen(file, "r");
    struct stat about;
    if (stream == NULL || fstat(fileno(stream), &about) == -1) {
        snprintf(reason, REASON_SIZE, "key %.150s: %s", file, strerror(errno));
    } else if ((about.st_mode & (S_IRGRP | S_IROTH)) != 0) {
        snprintf(reason, REASON_SIZE,
                 "key %.150s: others may read it; chmod 600 it", file);
    } else {
        key = PEM_read_PrivateKey(stream, NULL, no_password, NULL);
        if (key == NULL)
            snprintf(reason, REASON_SIZE, "key %.150s: %s", file, last_error());
    }
    if (stream != NULL)
        fclose(stream);
    return key;
}

SSL_CTX *tls_server_context(const char *certificate_file, const char *key_file,
                            char reason[REASON_SIZE])
{
    EVP_PKEY *key = NULL;
    ERR_clear_error();
    SSL_CTX *context = new_context(TLS_server_method());
    if (context == NULL) {
        snprintf(reason, REASON_SIZE, "prepare TLS: %s", last_error());
        goto failed;
    }
    if (SSL_CTX_use_certificate_chain_file(context, certificate_file) != 1) {
        snprintf(reason, REASON_SIZE, "certificate %.150s: %s",
                 certificate_file, last_error());
        goto failed;
    }
    key = read_key(key_file, reason);
    if (key == NULL)
        goto failed;
    if (SSL_CTX_use_PrivateKey(context, key) != 1 ||
        SSL_CTX_check_private_key(context) != 1) {
        snprintf(reason, REASON_SIZE,
                 "key %.80s does not belong to certificate %.80s: %s", key_file,
                 certificate_file, last_error());
        goto failed;
    }
    EVP_PKEY_free(key); /* the context holds on to it */
    return context;

failed:
    EVP_PKEY_free(key);
    SSL_CTX_free(context);
    return NULL;
}

SSL_CTX *tls_client_context(const char *ca_file, char reason[REASON_SIZE])
{
    ERR_clear_error();
    SSL_CTX *context = new_context(TLS_client_method());
    if (context == NULL) {
        snprintf(reason, REASON_SIZE, "prepare TLS: %s", last_error());
        return NULL;
    }
    if (SSL_CTX_load_verify_locations(context, ca_file, NULL) != 1) {
        snprintf(reason, REASON_SIZE, "CA certificates %.150s: %s", ca_file,
                 last_error());
        SSL_CTX_free(context);
        return NULL;
    }
    /* Without this line a client speaks to anybody: the handshake goes well,
     * and the result of the check is there for who asks. */
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    return context;
}

/* ------------------------------------------------------------ the transport */

/*
 * Says why OpenSSL could not go on, in errno: EAGAIN when the network must come
 * first, and then `*waits_for` is what poll shall wait for; ECONNRESET when the
 * connection was cut off, EPROTO for anything that is no TLS.
 */
static void explain(SSL *session, int result, short *waits_for)
{
    int error = errno; /* of the last system call, if it was one that failed */
    switch (SSL_get_error(session, result)) {
    case SSL_ERROR_WANT_READ:
        *waits_for = POLLIN;
        errno = EAGAIN;
        break;
    case SSL_ERROR_WANT_WRITE:
        *waits_for = POLLOUT;
        errno = EAGAIN;
        break;
    case SSL_ERROR_SYSCALL:
        errno = error != 0 && error != EPIPE ? error : ECONNRESET;
        break;
    default:
        errno = ERR_GET_REASON(ERR_peek_error()) ==
                        SSL_R_UNEXPECTED_EOF_WHILE_READING
                    ? ECONNRESET
                    : EPROTO;
        break;
    }
}

/*
 * Sends what OpenSSL has encrypted. It writes into memory (a "memory BIO"), and
 * from there the bytes go to the network here.
 *
 * OpenSSL could write to the socket itself. But what is encrypted once has to
 * go out as it is: after a send that was refused, OpenSSL wants the same call
 * with the same bytes again, and it fails when the peer meanwhile asks for new
 * keys a second time (KeyUpdate, RFC 8446, section 4.6.3). Into memory a write
 * always succeeds.
 *
 * Returns 0, or -1 with errno set: EAGAIN when something is left.
 */
static int tls_flush(struct connection *connection)
{
    SSL *session = connection->session;
    BIO *out = SSL_get_wbio(session);
    if (BIO_pending(out) == 0)
        return 0;
    while (BIO_pending(out) > 0) {
        char *bytes, gone[4096];
        long left = BIO_get_mem_data(out, &bytes);
        ssize_t took = tcp.send(connection, bytes,
                                left < (long)sizeof gone ? (size_t)left
                                                         : sizeof gone);
        if (took == -1) {
            int error = errno;
            if (error != EAGAIN)
                BIO_reset(out); /* the connection broke: nobody will have it */
            errno = error;
            return -1;
        }
        BIO_read(out, gone, (int)took); /* takes them out of the memory */
    }
    /* The memory stays as large as it was; a new one has none. */
    BIO *fresh = BIO_new(BIO_s_mem());
    if (fresh != NULL)
        SSL_set0_wbio(session, fresh);
    return 0;
}

/* The same after a call of OpenSSL that could not go on: it may have written
 * something first, an alert for example. Of two failures the first is told. */
static void flush_and_fail(struct connection *connection)
{
    int error = errno;
    if (tls_flush(connection) == 0 || errno == EAGAIN || error != EAGAIN)
        errno = error;
}

/*
 * The end of the stream is a message of TLS, close_notify. The end of TCP
 * without it is no end but a cut: anybody on the way can cut, and who took that
 * for the end would believe half a message (a truncation attack).
 */
static ssize_t tls_receive(struct connection *connection, char *bytes,
                           size_t size)
{
    SSL *session = connection->session;
    if (BIO_pending(SSL_get_wbio(session)) > SEALED_MAX) {
        /* Receiving makes OpenSSL answer now and then, and who does not take
         * the answers could make the memory for them grow. So we receive when
         * we can send; until then nobody is to ask without waiting. */
        connection->receive_waits_for = POLLOUT;
        connection->more = false;
        errno = EAGAIN;
        return -1;
    }

    size_t came;
    ERR_clear_error(); /* SSL_get_error looks at the queue */
    errno = 0;
    int result = SSL_read_ex(session, bytes, size, &came);
    /* A record is decrypted as a whole, up to 16 KiB. What did not fit into
     * `bytes` waits inside the library, and poll knows nothing of it. */
    connection->more = result == 1 && SSL_pending(session) > 0;
    connection->receive_waits_for = POLLIN;
    if (result == 1)
        return (ssize_t)came;
    if (SSL_get_error(session, result) == SSL_ERROR_ZERO_RETURN)
        return 0;
    explain(session, result, &connection->receive_waits_for);
    flush_and_fail(connection);
    return -1;
}

static ssize_t tls_send(struct connection *connection, const char *bytes,
                        size_t length)
{
    SSL *session = connection->session;
    size_t took;
    ERR_clear_error();
    errno = 0;
    int result = SSL_write_ex(session, bytes,
                              length < RECORD_MAX ? length : RECORD_MAX, &took);
    if (result == 1) {
        /* What the network does not take now is kept: taken it is all the
         * same. */
        return tls_flush(connection) == 0 || errno == EAGAIN ? (ssize_t)took
                                                             : -1;
    }
    explain(session, result, &connection->send_waits_for);
    flush_and_fail(connection);
    return -1;
}

/* Sends close_notify. TCP stays open in both directions: what we ended is our
 * side of the stream inside. */
static int tls_end(struct connection *connection)
{
    SSL *session = connection->session;
    ERR_clear_error();
    errno = 0;
    if ((SSL_get_shutdown(session) & SSL_SENT_SHUTDOWN) == 0) {
        int result = SSL_shutdown(session);
        if (result < 0) {
            explain(session, result, &connection->send_waits_for);
            flush_and_fail(connection);
            return -1;
        }
    }
    return tls_flush(connection);
}

static void tls_close(struct connection *connection)
{
    SSL_free(connection->session);
}

static const struct transport tls = {tls_receive, tls_send, tls_flush, tls_end,
                                     tls_close};

/* --------------------------------------------------------------- the server */

/* Puts the connection inside the session, whose output goes into memory from
 * now on. Returns 0, or -1 when memory is out. */
static int put_inside(struct connection *connection, SSL *session)
{
    BIO *out = BIO_new(BIO_s_mem());
    if (out == NULL)
        return -1;
    SSL_set0_wbio(session, out);
    connection->session = session;
    connection->transport = &tls;
    return 0;
}

int tls_accept(struct connection *connection, SSL_CTX *context)
{
    SSL *session = SSL_new(context);
    if (session == NULL || SSL_set_fd(session, connection->socket) != 1 ||
        put_inside(connection, session) == -1) {
        SSL_free(session);
        return -1;
    }
    /* Which side of the handshake we are. It is made by the first call of
     * SSL_read or SSL_write, as far as what has come allows, and by the next
     * ones. So it needs no state of its own here: it waits like the others. */
    SSL_set_accept_state(session);
    return 0;
}

bool tls_established(const struct connection *connection)
{
    return SSL_is_init_finished(connection->session);
}

/* --------------------------------------------------------------- the client */

/*
 * Tells OpenSSL who the server has to be. A certificate that somebody we trust
 * has signed proves that the server is whom the certificate names; so it is
 * worth something only if that is whom we want. Returns 0, or -1.
 */
static int verify_server(SSL *session, const char *host)
{
    X509_VERIFY_PARAM *verify = SSL_get0_param(session);
    /* Names are in subjectAltName. The older place, the subject's common name,
     * is not for names of hosts any more (RFC 9525, section 2). */
    X509_VERIFY_PARAM_set_hostflags(verify,
                                    X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
                                        X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    /* An address is compared as an address, 16 bytes or 4, with iPAddress; a
     * name, as text, with dNSName. */
    if (X509_VERIFY_PARAM_set1_ip_asc(verify, host) == 1)
        return 0;
    ERR_clear_error(); /* it is no address */
    if (host[0] == '\0')
        return -1; /* an empty name would turn the check off */
    if (X509_VERIFY_PARAM_set1_host(verify, host, 0) != 1)
        return -1;
    /* A server with several names learns which one we want (SNI, RFC 6066,
     * section 3). */
    return SSL_set_tlsext_host_name(session, host) == 1 ? 0 : -1;
}

/* Which of the checks has failed, in words. */
static const char *what_is_wrong(long result)
{
    switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "its certificate has expired";
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "its certificate is not valid yet";
    case X509_V_ERR_HOSTNAME_MISMATCH:
        return "its certificate is for another name";
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "its certificate is for another address";
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return "its certificate is signed by itself, by nobody we trust";
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return "its certificate is signed by nobody we trust";
    default:
        return X509_verify_cert_error_string(result);
    }
}

int tls_greet(void *of, int socket, double deadline, char reason[REASON_SIZE])
{
    struct tls_client *client = of;
    SSL *session = SSL_new(client->context);
    if (session == NULL || SSL_set_fd(session, socket) != 1 ||
        verify_server(session, client->host) == -1 ||
        set_nonblocking(socket, true) == -1) {
        snprintf(reason, REASON_SIZE, "prepare TLS: %s", last_error());
        errno = EPROTO;
        goto failed;
    }

    for (;;) {
        ERR_clear_error();
        errno = 0;
        int result = SSL_connect(session);
        if (result == 1) {
            client->session = session;
            return 0;
        }
        short waits_for = 0;
        explain(session, result, &waits_for);
        if (errno != EAGAIN)
            break;
        if (wait_until(socket, waits_for, deadline) == -1) {
            snprintf(reason, REASON_SIZE, "TLS handshake: %s", strerror(errno));
            goto failed;
        }
    }

    int error = errno;
    long verified = SSL_get_verify_result(session);
    if (verified != X509_V_OK)
        snprintf(reason, REASON_SIZE, "I do not trust this server: %s",
                 what_is_wrong(verified));
    else if (error == EPROTO)
        snprintf(reason, REASON_SIZE, "TLS handshake: %s", last_error());
    else
        snprintf(reason, REASON_SIZE, "TLS handshake: it was cut off: %s",
                 strerror(error));
    errno = error;

failed:;
    int why = errno; /* SSL_free may change errno */
    SSL_free(session);
    errno = why;
    return -1;
}

int tls_adopt(struct connection *connection, struct tls_client *client)
{
    int result = put_inside(connection, client->session);
    if (result == -1)
        SSL_free(client->session);
    client->session = NULL;
    return result;
}

/*
 * tls.h - a connection inside TLS 1.2 or 1.3, by OpenSSL.
 *
 * A context (SSL_CTX) holds what all connections have in common: the versions
 * and ciphers, the certificate, whom to trust. A session (SSL) is one
 * connection's: keys, and how far the handshake has come.
 */
#ifndef TLS_H
#define TLS_H

#include "connection.h"
#include "net.h"

#include <openssl/ssl.h>

/*
 * Makes what a server needs: a certificate with the chain behind it, and its
 * private key, both in PEM. A key that its group or others may read is refused
 * (mode & 0044), and so are two that do not belong together. Returns a context
 * that the caller frees with SSL_CTX_free(), or NULL with the reason.
 */
SSL_CTX *tls_server_context(const char *certificate_file, const char *key_file,
                            char reason[REASON_SIZE]);

/* Makes what a client needs: the certificates of those whom it trusts, in PEM.
 * Returns and fails like tls_server_context(). */
SSL_CTX *tls_client_context(const char *ca_file, char reason[REASON_SIZE]);

/*
 * Puts an open connection that a server has accepted inside TLS. From here on
 * the functions of connection.h work as before; the handshake happens in them.
 * The context stays the caller's. Returns 0, or -1 when memory is out: then the
 * connection is as it was, and still to be closed.
 */
int tls_accept(struct connection *connection, SSL_CTX *context);

/* Whether the handshake is done, of a connection that is inside TLS. */
bool tls_established(const struct connection *connection);

/* The client's side, the greeting of connect_to(). */
struct tls_client {
    SSL_CTX *context;
    const char *host; /* whom we want to talk to: a name or an address */
    SSL *session;     /* when connect_to() has returned a socket */
};

/*
 * Makes a handshake as the client, before `deadline` (a moment on the clock of
 * now()), and verifies the server: the chain of its certificate up to somebody
 * we trust, the time in which it is valid, and that it is for the host that we
 * want. `of` is a tls_client. The socket stays the caller's; it is non-blocking
 * from here on.
 *
 * Returns 0, or -1 with errno set and the reason: EPROTO when the server's
 * certificate fails or it speaks no TLS that we accept; ETIMEDOUT; ECONNRESET
 * when it broke off; or what else the system says of the socket.
 */
int tls_greet(void *of, int socket, double deadline, char reason[REASON_SIZE]);

/* Puts an open connection inside the session that tls_greet() has made, and
 * takes the session over. Returns 0, or -1 when memory is out. */
int tls_adopt(struct connection *connection, struct tls_client *client);

#endif

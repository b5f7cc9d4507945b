/*
 * tls.h - TLS in the hands of a test: lesson 07 alone.
 *
 * connect_to(), open_channel(), accept_client() and accept_channel() speak TLS
 * by themselves there, as a peer does that has nothing unusual about it. With
 * what stands here a test makes a connection that is unusual, or looks into
 * one.
 */
#ifndef TLS_H
#define TLS_H

#include "messages.h"

#include <openssl/ssl.h>

/* The path of a file that tests/tools/certs.sh has made. */
const char *certificate(const char *name);

struct tls_options {
    int lowest, highest;     /* TLS1_2_VERSION ...; 0: 1.2 or later */
    const char *certificate; /* of a server; NULL: "server.pem" */
    const char *ciphers;     /* of versions before 1.3; NULL: OpenSSL's */
    size_t largest_record;   /* bytes of plain text; 0: 16,384 */
    bool may_fail;           /* what breaks TLS ends the connection, and does
                                not fail the test */
};

/* A session that is bound to no connection, for who carries its bytes by hand;
 * for SSL_free(). NULL: nothing unusual. */
SSL *new_session(bool as_server, const struct tls_options *options);

/* TCP alone, to be wrapped up later or never. */
struct peer *connect_plainly(struct program *server);

/* Begins TLS on a connection of TCP alone, and returns at once. */
void begin_tls(struct peer *peer, bool as_server,
               const struct tls_options *options);

/* The same with a session that the test has made, of new_session() or a context
 * of its own, and that knows which side it is; the connection takes it over. */
void begin_session(struct peer *peer, SSL *session, bool may_fail);

/* Works on the handshake for at most so long; true when it is done. */
bool handshake_within(struct peer *peer, double seconds);

/* Connects, or takes the next connection, and does the handshake; fails when
 * that does not succeed. */
struct channel *open_tls(struct program *server,
                         const struct tls_options *options);
struct channel *accept_tls(struct listener *listener,
                           const struct tls_options *options);

/* OpenSSL's side of a connection, NULL when it is TCP alone. */
SSL *session_of(const struct peer *peer);

/* Closes the connection without close_notify, as if somebody on the way had cut
 * it off. */
void cut_off(struct peer *peer);

/* Why TLS failed on this connection, in OpenSSL's words; "" when it did not. */
const char *failure_of(const struct peer *peer);

#endif

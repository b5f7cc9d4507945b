/*
 * Exercise 07-1: Mutual TLS.
 *
 * This server knows its name and proves it; of its clients it knows nothing.
 * Change it so that a client has to show a certificate as well, and so that the
 * client's name comes from there and not from what it says.
 *
 *     - `-C FILE` names the CAs that may sign for clients, in PEM. A file that
 *       cannot be used: a line on standard error, exit status 1.
 *     - A client whose certificate one of them has signed is greeted inside TLS
 *       with one line, "hello NAME", and the connection is ended, with
 *       close_notify. NAME is the common name (CN) in the certificate's
 *       subject, in UTF-8. (subjectAltName has no kind for it: a dNSName is a
 *       host's, an rfc822Name an address of mail, and both are ASCII.)
 *     - Whoever has no certificate, or one that is not valid, gets no byte
 *       inside TLS, and the connection is ended. So does a name that the room
 *       does not allow: a subject without a CN or with two, fewer than 1 or
 *       more than 32 code points, a control character in it (U+0000 too), or
 *       bytes that are no text. Each time a line on standard error says why.
 *     - A client that was here before is greeted again.
 *
 * Each client has a process of its own, for 10 seconds at most, so that nobody
 * waits for anybody: that is there already.
 *
 * Beware of the name. It comes from somebody else, and a string in a
 * certificate has a length: "ada\0.evil" is no "ada". And beware of the moment:
 * in TLS 1.3 the client's handshake is over before the server has seen the
 * certificate. A client that may write may still be refused.
 *
 * Try it (certs.sh -k keeps the CA's key, for ada's certificate):
 *
 *     ./certs.sh -k; make exercises/1-mutual
 *     exercises/1-mutual -C certs/ca.pem
 *     cd certs     (in another terminal)
 *     openssl req -new -newkey rsa -nodes -subj /CN=ada -keyout ada.key >csr
 *     openssl x509 -req -in csr -CA ca.pem -CAkey ca.key >ada.pem
 *     openssl s_client -connect localhost:7777 -cert ada.pem -key ada.key
 *
 * Judge it: make exercise-07-1   (in the course's top folder)
 */
#define _POSIX_C_SOURCE 200809L

#include "net.h"
#include "tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CHILDREN_MAX = 100,    /* clients at once; more wait in the backlog */
    CLIENT_SECONDS = 10,   /* how long one may take */
    LAST_WORDS_SECONDS = 2 /* and then, to hear what was said */
};

/* What OpenSSL says of the last failure. It has no text of its own for what
 * the system has refused. */
static const char *last_error(void)
{
    unsigned long error = ERR_peek_error();
    if (ERR_GET_LIB(error) == ERR_LIB_SYS)
        return strerror(ERR_GET_REASON(error));
    const char *text = ERR_reason_error_string(error);
    return text != NULL ? text : "unknown error";
}

/*
 * Makes the server ask for certificates, and take those that the CAs in a file
 * have signed. Returns 0, or -1 with OpenSSL's reason in its queue.
 */
static int demand_certificates(SSL_CTX *context, const char *ca_file)
{
    if (SSL_CTX_load_verify_locations(context, ca_file, NULL) != 1)
        return -1;
    /* YOUR ANSWER: these are trusted. But nobody is asked for anything. */
    return 0;
}

/* Whether a call of OpenSSL that returned `result` is to be made once more: on
 * a blocking socket, a signal came. */
static bool again(SSL *session, int result)
{
    int error = SSL_get_error(session, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

/* Does the handshake, and greets the client by its name. Returns NULL, or a
 * sentence that says why it was not greeted. */
static const char *greet(SSL *session)
{
    int result;
    ERR_clear_error();
    while ((result = SSL_accept(session)) != 1) {
        if (again(session, result))
            continue;
        long verified = SSL_get_verify_result(session);
        const char *reason = ERR_reason_error_string(ERR_peek_error());
        return verified != X509_V_OK ? X509_verify_cert_error_string(verified)
               : reason != NULL      ? reason
                                     : "it broke off";
    }

    /* YOUR ANSWER: the name in the client's certificate, or the sentence that
     * says why the room does not allow it. */
    char line[] = "hello stranger\n";
    int length = (int)strlen(line);
    while ((result = SSL_write(session, line, length)) <= 0)
        if (!again(session, result))
            return "it did not wait for the greeting";
    return NULL;
}

/* Serves one client, in a process of its own. The socket stays open. */
static void serve(SSL_CTX *context, int client, const char *address)
{
    SSL *session = SSL_new(context);
    if (session == NULL || SSL_set_fd(session, client) != 1) {
        fprintf(stderr, "1-mutual: %s: out of memory\n", address);
        SSL_free(session);
        return;
    }
    const char *problem = greet(session);
    if (problem != NULL)
        fprintf(stderr, "1-mutual: refuse %s: %s\n", address, problem);
    int result;
    if (SSL_is_init_finished(session))
        while ((result = SSL_shutdown(session)) < 0 && again(session, result))
            continue;
    SSL_free(session);

    /* In TLS 1.3 the client may have sent its first words long ago. Closing
     * a socket with bytes that nobody has read breaks the connection, and the
     * client would not learn why it was refused: so they are read. */
    char piece[4096];
    shutdown(client, SHUT_WR);
    alarm(LAST_WORDS_SECONDS);
    while (receive(client, piece, sizeof piece) > 0)
        continue;
}

/* Gives a client a process of its own, and takes over the socket. A child keeps
 * no listener: as long as one did, the port would be taken. */
static void start_child(SSL_CTX *context, int listener, int client,
                        const char *address)
{
    static int children;
    /* Those that have ended; when there are too many, wait for one. */
    while (children > 0 &&
           waitpid(-1, NULL, children < CHILDREN_MAX ? WNOHANG : 0) > 0)
        children--;
    pid_t child = fork();
    if (child == 0) {
        close(listener);
        alarm(CLIENT_SECONDS); /* ends this process, whatever it waits for */
        serve(context, client, address);
        close(client);
        SSL_CTX_free(context);
        exit(0);
    }
    if (child == -1)
        fprintf(stderr, "1-mutual: fork: %s\n", strerror(errno));
    else
        children++;
    close(client);
}

int main(int argc, char *argv[])
{
    const char *port = "7777", *ca_file = "certs/ca.pem";
    const char *certificate = "certs/server.pem", *key = "certs/server.key";
    int option;
    while ((option = getopt(argc, argv, "p:c:k:C:")) != -1) {
        if (option == 'p')
            port = optarg;
        else if (option == 'c')
            certificate = optarg;
        else if (option == 'k')
            key = optarg;
        else if (option == 'C')
            ca_file = optarg;
        if (option == '?' || !is_port(port)) {
            fprintf(stderr, "usage: 1-mutual [-p PORT] [-c CERT] [-k KEY] "
                            "[-C CA]\n");
            return 2;
        }
    }

    char reason[REASON_SIZE], address[NAME_SIZE];
    int listener = -1;
    SSL_CTX *context = tls_server_context(certificate, key, reason);
    if (context != NULL && demand_certificates(context, ca_file) == -1)
        snprintf(reason, sizeof reason, "CA certificates %.150s: %s", ca_file,
                 last_error());
    else if (context != NULL)
        listener = listen_on("127.0.0.1", port, reason);
    if (listener == -1) {
        fprintf(stderr, "1-mutual: %s\n", reason);
        SSL_CTX_free(context);
        return 1;
    }
    if (signal(SIGPIPE, SIG_IGN) != SIG_ERR && announce(listener) == 0) {
        int client;
        while ((client = accept_client(listener, address)) != -1)
            start_child(context, listener, client, address);
    }
    perror("1-mutual: wait for clients");
    close(listener);
    SSL_CTX_free(context);
    return 1;
}

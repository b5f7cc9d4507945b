/*
 * 07-1.c - judges exercise 07-1: a server that knows its clients by their
 * certificates.
 *
 * The certificates are made here, each with what the test wants wrong in it,
 * and signed with the key of the CA for clients. They are all for one key.
 */
#include "tls.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define READ "07-tls/README.md, \"Exercises\""

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
static const char *const version_names[] = {"TLS 1.2", "TLS 1.3"};

/* ------------------------------------------------------------ certificates */

/* What stands in a certificate. All zero but the name is a good one. */
struct card {
    const char *what; /* for the report */
    const char *name; /* the CN */
    size_t length;    /* of the name; 0: up to its NUL */
    int type;         /* of the string; 0: V_ASN1_UTF8STRING */
    bool has_no_name;
    const char *second;    /* another CN */
    const char *purpose;   /* NULL: none is named */
    const char *signed_by; /* a key; NULL: the CA's for clients */
    long from, until;      /* seconds from now; 0: a day */
};

static EVP_PKEY *read_key(const char *name)
{
    FILE *file = fopen(certificate(name), "r");
    EVP_PKEY *key = file == NULL ? NULL
                                 : PEM_read_PrivateKey(file, NULL, NULL, NULL);
    if (key == NULL)
        fail_test("harness: cannot read %s: run make again", certificate(name));
    fclose(file);
    return key;
}

static X509 *read_certificate(const char *name)
{
    FILE *file = fopen(certificate(name), "r");
    X509 *read = file == NULL ? NULL : PEM_read_X509(file, NULL, NULL, NULL);
    if (read == NULL)
        fail_test("harness: cannot read %s: run make again", certificate(name));
    fclose(file);
    return read;
}

/* X509_NAME_add_entry_by_NID() would look at the text; this does not. */
static void add_name(X509_NAME *subject, const char *name, size_t length,
                     int type)
{
    X509_NAME_ENTRY *entry = X509_NAME_ENTRY_create_by_NID(
        NULL, NID_commonName, V_ASN1_UTF8STRING, (const unsigned char *)"-", 1);
    ASN1_STRING *string = X509_NAME_ENTRY_get_data(entry);
    ASN1_STRING_set(string, name, (int)length);
    if (type != 0) {
        ASN1_STRING *typed = ASN1_STRING_type_new(type);
        ASN1_STRING_set(typed, name, (int)length);
        ASN1_STRING_copy(string, typed);
        ASN1_STRING_free(typed);
    }
    X509_NAME_add_entry(subject, entry, -1, 0);
    X509_NAME_ENTRY_free(entry);
}

/* Shows the certificate in this session. */
static void show(SSL *session, const struct card *card)
{
    EVP_PKEY *own = read_key("server.key");
    EVP_PKEY *signs = read_key(card->signed_by != NULL ? card->signed_by
                                                       : "clients-ca.key");
    X509 *ca = read_certificate("clients-ca.pem");
    X509 *made = X509_new();
    X509_NAME *subject = X509_NAME_new();
    const long day = 24 * 60 * 60L;
    X509_set_version(made, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made), 7);
    X509_gmtime_adj(X509_getm_notBefore(made),
                    card->from != 0 ? card->from : -day);
    X509_gmtime_adj(X509_getm_notAfter(made),
                    card->until != 0 ? card->until : day);
    X509_set_pubkey(made, own);
    X509_set_issuer_name(made, X509_get_subject_name(ca));
    X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8,
                               (const unsigned char *)"members", -1, -1, 0);
    if (!card->has_no_name)
        add_name(subject, card->name,
                 card->length != 0 ? card->length : strlen(card->name),
                 card->type);
    if (card->second != NULL)
        add_name(subject, card->second, strlen(card->second), 0);
    X509_set_subject_name(made, subject);
    if (card->purpose != NULL) {
        X509_EXTENSION *purpose = X509V3_EXT_conf_nid(
            NULL, NULL, NID_ext_key_usage, card->purpose);
        X509_add_ext(made, purpose, -1);
        X509_EXTENSION_free(purpose);
    }
    if (X509_sign(made, signs, EVP_sha256()) == 0 ||
        SSL_use_certificate(session, made) != 1 ||
        SSL_use_PrivateKey(session, own) != 1)
        fail_test("harness: cannot make a certificate: %s", card->what);
    X509_NAME_free(subject);
    X509_free(made);
    X509_free(ca);
    EVP_PKEY_free(signs);
    EVP_PKEY_free(own);
}

/* ------------------------------------------------------------------ visits */

static struct program *start(void)
{
    return start_server("-C", certificate("clients-ca.pem"), NULL);
}

/* A session of a client with this certificate; NULL: it has none. */
static SSL *session_with(const struct card *card, int version)
{
    SSL *session = new_session(
        false, &(struct tls_options){.lowest = version, .highest = version});
    if (card != NULL)
        show(session, card);
    return session;
}

/* Comes with a session, is greeted, and the server ends. */
static void expect_greeting(struct program *server, SSL *session,
                            const char *name)
{
    struct peer *peer = connect_plainly(server);
    begin_session(peer, session, false);
    expect_text(peer, text_of("hello %s\n", name));
    expect_end_of_file(peer);
    close_peer(peer);
}

static const struct card ada = {.what = "a good certificate", .name = "ada"};

/* Somebody whom the server knows is greeted. */
static void expect_at_work(struct program *server)
{
    expect_greeting(server, session_with(&ada, TLS1_3_VERSION), "ada");
}

/* Comes with a session and gets nothing inside TLS but the end. */
static void expect_refusal(struct program *server, SSL *session,
                           const char *who)
{
    char came[256];
    size_t told = complaint_length(server);
    struct peer *peer = connect_plainly(server);
    begin_session(peer, session, true);
    if (handshake_within(peer, patience()))
        send_text(peer, "first words");
    ssize_t length = receive_some(peer, came, sizeof came, patience());
    if (length >= 0)
        fail_test("Expected: nothing for a client with %s, and the end of its "
                  "connection.\nWhat came inside TLS: %s",
                  who,
                  length == 0
                      ? text_of("nothing, and no end in %.1f s", patience())
                      : text_of("\"%.*s\"", (int)length, came));
    note("a client with %s was refused: %s", who,
         failure_of(peer)[0] != '\0' ? failure_of(peer) : "the end");
    close_peer(peer);
    double until = now() + patience();
    while (complaint_length(server) == told && now() < until)
        let_pass(0.005);
    if (complaint_length(server) == told)
        fail_test("Expected: a line on standard error that says why a client "
                  "with %s was refused.\nNothing came there.",
                  who);
    expect_running(server);
}

/* Tries cards of all kinds, with either version of TLS in turn. */
static void refuse_cards(struct program *server, const struct card *cards,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t k = i % COUNT(versions);
        now_trying(text_of("%s: %s", version_names[k], cards[i].what));
        expect_refusal(server, session_with(&cards[i], versions[k]),
                       cards[i].what);
    }
    now_trying(NULL);
}

/* ------------------------------------------------------------------- tests */

TEST(server, greets_by_the_name_in_the_certificate,
     .promise = "A client whose certificate one of them has signed is greeted "
                "inside TLS with one line, \"hello NAME\".",
     .cause = "To begin with: let the server ask for a certificate "
              "(SSL_CTX_set_verify with SSL_VERIFY_PEER), and take the CN from "
              "the one that it gets (SSL_get0_peer_certificate).",
     .read = READ)
{
    struct program *server = start();
    for (size_t i = 0; i < COUNT(versions); i++) {
        now_trying(version_names[i]);
        expect_greeting(server, session_with(&ada, versions[i]), "ada");
        usual_cause("One was greeted by its name, and this one is not. The "
                    "name is that of this connection's certificate, whichever "
                    "version of TLS it speaks, and may hold blanks.");
        expect_greeting(
            server,
            session_with(&(struct card){.name = "grace hopper"}, versions[i]),
            "grace hopper");
    }
    now_trying(NULL);
}

TEST(server, refuses_who_has_no_certificate,
     .promise = "Whoever has no certificate, or one that is not valid, gets no "
                "byte inside TLS, and the connection is ended.",
     .cause = "SSL_VERIFY_PEER alone asks for a certificate and lets in "
              "whoever has none: then SSL_get0_peer_certificate returns NULL. "
              "SSL_VERIFY_FAIL_IF_NO_PEER_CERT belongs to it.",
     .read = READ)
{
    struct program *server = start();
    for (size_t i = 0; i < COUNT(versions); i++) {
        now_trying(version_names[i]);
        expect_refusal(server, session_with(NULL, versions[i]),
                       "no certificate");
    }
    now_trying(NULL);
    expect_at_work(server);
}

TEST(server, refuses_what_its_own_ca_has_not_signed,
     .promise = "Whoever has no certificate, or one that is not valid, gets no "
                "byte inside TLS, and the connection is ended.",
     .cause = "The result of the check is not looked at, or a callback of "
              "SSL_CTX_set_verify returns 1 whatever it is given: then "
              "anybody signs for anybody.",
     .read = READ)
{
    static const struct card others[] = {
        {.what = "a certificate that another key has signed, in the CA's name",
         .name = "ada",
         .signed_by = "other.key"},
        {.what = "a certificate that it has signed itself, in the CA's name",
         .name = "ada",
         .signed_by = "server.key"},
    };
    struct program *server = start();
    refuse_cards(server, others, COUNT(others));

    now_trying("a certificate of the CA that signs for servers");
    SSL *session = session_with(NULL, TLS1_3_VERSION);
    SSL_use_certificate_file(session, certificate("purpose.pem"),
                             SSL_FILETYPE_PEM);
    SSL_use_PrivateKey_file(session, certificate("server.key"),
                            SSL_FILETYPE_PEM);
    expect_refusal(server, session, "a certificate of another CA");
    now_trying(NULL);
    expect_at_work(server);
}

TEST(server, refuses_certificates_that_are_not_valid,
     .promise = "Whoever has no certificate, or one that is not valid, gets no "
                "byte inside TLS, and the connection is ended.",
     .cause = "Of what OpenSSL checks one thing is taken for harmless: a "
              "certificate counts on its days, and for its purpose.",
     .read = READ)
{
    static const struct card wrong[] = {
        {.what = "a certificate that expired a minute ago",
         .name = "ada",
         .until = -60},
        {.what = "a certificate that is valid from in an hour on",
         .name = "ada",
         .from = 3600},
        {.what = "a certificate that is good for servers only",
         .name = "ada",
         .purpose = "serverAuth"},
    };
    struct program *server = start();
    refuse_cards(server, wrong, COUNT(wrong));
    expect_greeting(
        server,
        session_with(&(struct card){.name = "ada", .purpose = "clientAuth"},
                     TLS1_3_VERSION),
        "ada");
}

/* 32 code points, of four bytes each. */
#define LION "\xf0\x9f\xa6\x81"
#define EIGHT LION LION LION LION LION LION LION LION

TEST(server, takes_every_name_that_the_room_allows,
     .promise = "NAME is the common name (CN) in the certificate's subject, in "
                "UTF-8.",
     .cause = "The name is copied as it stands there, or into a buffer of 32 "
              "or 64 bytes. A certificate may write it in other ways than "
              "UTF-8 (ASN1_STRING_to_UTF8 knows them), and 32 code points "
              "take up to 128 bytes.",
     .read = READ)
{
    struct program *server = start();
    static const struct {
        struct card card;
        const char *name;
    } allowed[] = {
        {{.name = EIGHT EIGHT EIGHT EIGHT}, EIGHT EIGHT EIGHT EIGHT},
        {{.name = "Zo\xc3\xab"}, "Zo\xc3\xab"},
        {{.name = "\0Z\0o\0\xeb", .length = 6, .type = V_ASN1_BMPSTRING},
         "Zo\xc3\xab"},
        {{.name = "ada", .type = V_ASN1_PRINTABLESTRING}, "ada"},
        {{.name = "%s%n \\ /CN=root"}, "%s%n \\ /CN=root"},
    };
    for (size_t i = 0; i < COUNT(allowed); i++)
        expect_greeting(server, session_with(&allowed[i].card, TLS1_3_VERSION),
                        allowed[i].name);
}

TEST(server, refuses_names_that_the_room_does_not_allow,
     .promise = "So does a name that the room does not allow: a subject "
                "without a CN or with two, fewer than 1 or more than 32 code "
                "points, a control character in it (U+0000 too), or bytes that "
                "are no text.",
     .cause = "The name is taken for a C string, which ends at its first NUL: "
              "\"ada\\0.evil\" is not ada. ASN1_STRING_length() says how long "
              "it is. Or another rule of the room is not looked at "
              "(message_check_request).",
     .read = READ)
{
    static const struct card wrong[] = {
        {.what = "a name with a NUL in it", .name = "ada\0.evil", .length = 9},
        {.what = "a name that ends with a NUL", .name = "ada", .length = 4},
        {.what = "a name of 33 code points",
         .name = EIGHT EIGHT EIGHT EIGHT "!"},
        {.what = "a newline in its name", .name = "ada\nhello root"},
        {.what = "a control character in its name (U+0085)",
         .name = "ada\xc2\x85"},
        {.what = "a control character in its name (U+007F)", .name = "ada\x7f"},
        {.what = "no text in its name", .name = "ada\xff"},
        {.what = "a surrogate in its name", .name = "ada\xed\xa0\x80"},
        {.what = "a name that ends in mid-character", .name = "ada\xc3"},
        {.what = "an empty name", .name = ""},
        {.what = "no name", .has_no_name = true},
        {.what = "two names", .name = "ada", .second = "grace"},
    };
    struct program *server = start();
    refuse_cards(server, wrong, COUNT(wrong));
    expect_at_work(server);
}

TEST(server, greets_a_client_that_comes_back,
     .promise = "A client that was here before is greeted again.",
     .cause = "A client that comes back offers to resume its session. A server "
              "that asks for certificates and gives tickets has to say whose "
              "sessions these are (SSL_CTX_set_session_id_context), or OpenSSL "
              "breaks off the handshake. Or give no tickets: SSL_OP_NO_TICKET "
              "and SSL_CTX_set_num_tickets.",
     .read = READ)
{
    struct program *server = start();
    for (size_t i = 0; i < COUNT(versions); i++) {
        now_trying(version_names[i]);
        struct peer *peer = connect_plainly(server);
        begin_session(peer, session_with(&ada, versions[i]), false);
        expect_text(peer, "hello ada\n");
        expect_end_of_file(peer);
        SSL_SESSION *old = SSL_get1_session(session_of(peer));
        SSL *session = session_with(&ada, versions[i]);
        if (SSL_SESSION_is_resumable(old))
            SSL_set_session(session, old);
        SSL_SESSION_free(old);
        close_peer(peer);
        now_trying(text_of("%s, the second time", version_names[i]));
        expect_greeting(server, session, "ada");
    }
    now_trying(NULL);
}

TEST(server, who_is_refused_harms_nobody,
     .promise = "Each client has a process of its own, for 10 seconds at most, "
                "so that nobody waits for anybody.",
     .cause = "What is wrong with one client ends the server, or the handshake "
              "is done before fork().",
     .read = READ)
{
    struct program *server = start();
    struct peer *silent[3];
    for (size_t i = 0; i < COUNT(silent); i++)
        silent[i] = connect_plainly(server);
    send_text(silent[1], "\x16\x03\x01\x02");
    send_text(silent[2], "GET / HTTP/1.1\r\n\r\n");
    expect_at_work(server);
    for (int i = 0; i < 6; i++) {
        struct peer *peer = connect_plainly(server);
        begin_session(peer, session_with(i % 2 == 0 ? NULL : &ada, 0), true);
        if (i % 3 == 0)
            reset_peer(peer);
        else
            close_peer(peer);
    }
    expect_at_work(server);
    reset_peer(silent[0]);
    expect_at_work(server);
}

TEST(server, says_what_is_wrong_with_its_ca,
     .promise = "`-C FILE` names the CAs that may sign for clients, in PEM. A "
                "file that cannot be used: a line on standard error, exit "
                "status 1.",
     .cause = "What SSL_CTX_load_verify_locations returns is not looked at: "
              "the server starts, and refuses everybody.",
     .read = READ, .patient = true)
{
    static const char *const files[] = {"no-such-file.pem", "empty.pem",
                                        "garbage.pem", "cut.pem"};
    for (size_t i = 0; i < COUNT(files); i++) {
        now_trying(files[i]);
        const char *const arguments[] = {"-p", "0", "-C", certificate(files[i]),
                                         NULL};
        struct program *server = start_server_with(
            &(struct start){.arguments = arguments});
        expect_exit(server, 1);
        expect_complaint(server, "what is wrong with the file");
    }
    now_trying(NULL);
}

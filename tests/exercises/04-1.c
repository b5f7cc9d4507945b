/*
 * 04-1.c - judges exercise 04-1: netstrings.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ "04-framing/README.md, \"Exercises\""

/* Bytes that grow; the test ends before they matter. */
struct stream {
    char *bytes;
    size_t length;
};

/* Adds the netstring of a payload, backwards when it is an answer. */
static void add(struct stream *stream, const void *payload, size_t length,
                bool backwards)
{
    stream->bytes = realloc(stream->bytes, stream->length + length + 16);
    if (stream->bytes == NULL)
        abort();
    char *to = stream->bytes + stream->length;
    int header = sprintf(to, "%zu:", length);
    to += header;
    for (size_t i = 0; i < length; i++)
        to[i] = ((const char *)payload)[backwards ? length - 1 - i : i];
    to[length] = ',';
    stream->length += (size_t)header + length + 1;
}

/* A connection and what it says and should hear. */
static void talk(struct peer *client, const void *payload, size_t length)
{
    struct stream sent = {0}, expected = {0};
    add(&sent, payload, length, false);
    add(&expected, payload, length, true);
    exchange(client, sent.bytes, sent.length, expected.bytes, expected.length);
    free(sent.bytes);
    free(expected.bytes);
}

/* The server has to close on these bytes without an answer, though the client
 * would send more; and to serve the next client. */
static void refuses(struct program *server, const char *bytes)
{
    struct peer *client = connect_to(server);
    send_text(client, bytes);
    expect_closed(client);
    close_peer(client);
}

TEST(server, answers_a_netstring,
     .promise = "This server answers each netstring with one that holds the "
                "same payload backwards: 5:olleh, for 5:hello,.",
     .cause = "To begin with: in netstring_read, go through the digits and add "
              "them up, expect a colon, look whether the payload and its "
              "comma have come (FRAME_UNFINISHED when not), and fill in frame. "
              "netstring_write writes the same for an answer.",
     .read = READ)
{
    struct peer *client = connect_to(start_server(NULL));
    send_text(client, "5:hello,");
    expect_text(client, "5:olleh,");
    usual_cause("A length of one digit works. With each further digit the "
                "number is ten times what it was, and the digit; and the "
                "answer's length has as many digits as it needs. Until the "
                "comma has come the netstring is unfinished.");
    send_text(client, "11:hello world,");
    expect_text(client, "11:dlrow olleh,");
    half_close(client);
    expect_end_of_file(client);
}

TEST(server, an_empty_payload_and_any_bytes,
     .promise = "A payload has 0 to 65536 bytes, of any value.",
     .cause = "The length 0 is taken for no length, or the payload is looked "
              "at: it may hold commas, colons, digits and bytes of zero. The "
              "length alone says where it ends.",
     .read = READ)
{
    struct peer *client = connect_to(start_server(NULL));
    send_text(client, "0:,");
    expect_text(client, "0:,");
    send_bytes(client, "8:1:,2:\0,,,", 11);
    expect_bytes(client, "8:,,\0:2,:1,", 11);
    send_text(client, "1:,,");
    expect_text(client, "1:,,");
    talk(client, pattern(1000, 1), 1000);
}

TEST(server, many_at_once_and_in_pieces,
     .promise = "The server answers however the network cuts them and however "
                "many come at once.",
     .cause = "What comes behind a netstring is lost, or the server does not "
              "wait for the rest: netstring_read must return FRAME_UNFINISHED "
              "for every beginning of a netstring (no byte of the length, "
              "half of it, no colon yet, no comma yet) and set frame->size to "
              "all of its bytes.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    struct stream sent = {0}, expected = {0};
    for (size_t i = 0; i < 200; i++) {
        const unsigned char *payload = pattern(i, (unsigned)i);
        add(&sent, payload, i, false);
        add(&expected, payload, i, true);
    }
    exchange(client, sent.bytes, sent.length, expected.bytes, expected.length);
    send_slowly(client, "3:abc,10:0123456789,", 20, 1, 0.001);
    expect_text(client, "3:cba,10:9876543210,");
}

TEST(server, the_largest_payload,
     .promise = "A payload has 0 to 65536 bytes (PAYLOAD_MAX).",
     .cause = "The limit is off by one, or the digits are cut off before the "
              "fifth.",
     .read = READ)
{
    struct peer *client = connect_to(start_server(NULL));
    talk(client, pattern(65536, 2), 65536);
    talk(client, pattern(9, 2), 9);
    talk(client, pattern(65535, 3), 65535);
    talk(client, pattern(10000, 4), 10000);
}

TEST(server, too_long_is_refused_at_once,
     .promise = "A length is refused as soon as it is known to be wrong: a "
                "sixth digit without waiting for a colon, 65537 without "
                "waiting for the payload.",
     .cause = "The length is compared with the limit only when the payload is "
              "there, or when the colon is; or it overflows: 4294967301 is 5 "
              "in 32 bits, 18446744073709551621 in 64. Compare after each "
              "digit.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    refuses(server, "65537:");
    refuses(server, "99999:hello,");
    refuses(server, "100000");
    refuses(server, "4294967301:hello,");
    refuses(server, "18446744073709551621:hello,");
    refuses(server, "1111111111111111111111111111111111111111");
    struct peer *client = connect_to(server);
    talk(client, "next", 4);
}

TEST(server, a_length_is_digits_alone,
     .promise = "A length is digits alone: no sign, no blank. It has no "
                "leading zero. Behind it stands a colon.",
     .cause = "strtoul, atoi or sscanf read the length. They take blanks, a "
              "sign and leading zeros, and they take \"\" for 0. Look at each "
              "byte yourself.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    static const char *const wrong[] = {":,",         ":5:hello,", " 5:hello,",
                                        "+5:hello,",  "-5:hello,", "05:hello,",
                                        "00:,",       "5 :hello,", "5.0:hello,",
                                        "0x5:hello,", "\n5:hello,"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refuses(server, wrong[i]);
    usual_cause("The length is refused too late. That it is wrong is known "
                "with its first wrong byte: do not wait for the colon or for "
                "the payload.");
    static const char *const at_once[] = {"hello", "00", "05",      "-",
                                          " ",     "5;", "5;hello,"};
    for (size_t i = 0; i < sizeof at_once / sizeof *at_once; i++)
        refuses(server, at_once[i]);
    usual_cause(NULL);
    struct peer *client = connect_to(server);
    talk(client, "next", 4);
}

TEST(server, a_comma_stands_at_the_end,
     .promise = "Behind the payload stands a comma. Nothing is answered until "
                "the netstring is whole, the comma too.",
     .cause = "The payload is answered before its comma is there, or the byte "
              "in its place is skipped without a look at it.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    refuses(server, "5:hello;");
    refuses(server, "5:hello5:hello,");
    refuses(server, "0:5:hello,");
    struct peer *client = connect_to(server);
    send_text(client, "5:hello");
    half_close(client);
    expect_closed(client); /* the answer would come before */
    close_peer(client);
    client = connect_to(server);
    talk(client, "next", 4);
}

TEST(server, an_unfinished_one_is_no_answer,
     .promise = "What is the beginning of a netstring is unfinished: nothing "
                "is answered until it is whole.",
     .cause = "The end of the client is taken for the end of the netstring, or "
              "a beginning is taken for something impossible.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    /* The answer to "2:ok," tells that what came with it has been read. */
    static const char *const halves[][3] = {
        {"1", "1:hello world,", "11:dlrow olleh,"},
        {"5", ":hello,", "5:olleh,"},
        {"5:", "hello,", "5:olleh,"},
        {"5:hello", ",", "5:olleh,"}};
    struct peer *client = connect_to(server);
    for (size_t i = 0; i < sizeof halves / sizeof *halves; i++) {
        send_text(client, text_of("2:ok,%s", halves[i][0]));
        expect_text(client, "2:ko,");
        send_text(client, halves[i][1]);
        expect_text(client, halves[i][2]);
    }
    close_peer(client);
    static const char *const beginnings[] = {"1", "65536", "5:", "5:hell",
                                             "65536:much to come"};
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
        client = connect_to(server);
        send_text(client, text_of("2:ok,%s", beginnings[i]));
        expect_text(client, "2:ko,");
        half_close(client);
        expect_end_of_file(client);
        close_peer(client);
    }
}

/*
 * 04-2.c - judges exercise 04-2: lengths as varints.
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#define READ "04-framing/README.md, \"Exercises\""

/* Bytes that grow; the test ends before they matter. */
struct stream {
    char *bytes;
    size_t length;
};

/* Adds the frame of a payload, backwards when it is an answer. */
static void add(struct stream *stream, const void *payload, size_t length,
                bool backwards)
{
    stream->bytes = realloc(stream->bytes, stream->length + length + 3);
    if (stream->bytes == NULL)
        abort();
    char *to = stream->bytes + stream->length;
    size_t header = length < 128 ? 1 : length < 16384 ? 2 : 3;
    for (size_t i = 0; i < header; i++)
        to[i] = (char)(length /
                           (i == 0   ? 1
                            : i == 1 ? 128
                                     : 16384) %
                           128 +
                       (i + 1 < header ? 128 : 0));
    for (size_t i = 0; i < length; i++)
        to[header + i] = ((
            const char *)payload)[backwards ? length - 1 - i : i];
    stream->length += header + length;
}

/* A frame and its answer. */
static void talk(struct peer *client, size_t length)
{
    const unsigned char *payload = pattern(length + 1, (unsigned)length);
    struct stream sent = {0}, expected = {0};
    add(&sent, payload, length, false);
    add(&expected, payload, length, true);
    exchange(client, sent.bytes, sent.length, expected.bytes, expected.length);
    free(sent.bytes);
    free(expected.bytes);
}

/* The server has to close on these bytes without an answer, though the client
 * would send more. */
static void refuses(struct program *server, const char *bytes, size_t length)
{
    struct peer *client = connect_to(server);
    send_bytes(client, bytes, length);
    expect_closed(client);
    close_peer(client);
}

/* The bytes of a string literal, '\0' among them. */
#define BYTES(literal) literal, sizeof(literal) - 1

TEST(server, a_length_of_one_byte,
     .promise = "This server answers each frame with one that holds the same "
                "payload backwards. A payload has 0 bytes or more.",
     .cause = "The server waits for more bytes than there are: a length below "
              "128 is one byte, and behind 00 nothing comes at all. Or it "
              "answers with a longer form than needed.",
     .read = READ)
{
    struct peer *client = connect_to(start_server(NULL));
    send_bytes(client, BYTES("\5hello"));
    expect_bytes(client, BYTES("\5olleh"));
    usual_cause("The server waits for more bytes than there are, or takes 00 "
                "for no length. An empty payload is allowed, and behind its 00 "
                "nothing comes.");
    send_bytes(client, BYTES("\0"));
    expect_bytes(client, BYTES("\0"));
    usual_cause(NULL);
    talk(client, 127);
    half_close(client);
    expect_end_of_file(client);
}

TEST(server, lengths_of_two_and_three_bytes,
     .promise = "A length is a varint: seven bits a byte, those that are worth "
                "least first. A payload has 0 to 65536 bytes.",
     .cause = "To begin with: in varint_read go byte by byte. The lower seven "
              "bits (byte & 0x7F) of byte i count 128 to the power of i: shift "
              "them left by 7 * i. When the highest bit (byte & 0x80) is 0 "
              "this byte was the last. varint_write takes seven bits at a "
              "time from the lower end.",
     .read = READ)
{
    struct peer *client = connect_to(start_server(NULL));
    talk(client, 128);
    usual_cause("128 comes right. In every length byte i counts 128 to the "
                "power of i, the third 16384; read it through unsigned char. "
                "varint_write goes on while more than 127 is left.");
    talk(client, 300);
    talk(client, 255);
    talk(client, 16383);
    talk(client, 16384);
    talk(client, 50000);
    usual_cause("The greatest length, 65536, is allowed.");
    talk(client, 65536);
    usual_cause(NULL);
    talk(client, 1);
}

TEST(server, many_at_once_and_in_pieces,
     .promise = "The server answers however the network cuts the frames and "
                "however many come at once.",
     .cause = "A varint that is cut between its bytes is read to its cut, or "
              "beyond: before each byte compare its place with the length, and "
              "return FRAME_UNFINISHED when it has not come.",
     .read = READ)
{
    struct peer *client = connect_to(start_server(NULL));
    struct stream sent = {0}, expected = {0};
    for (size_t i = 0; i < 200; i++) {
        size_t length = i % 10 == 0 ? 120 + i : i % 5;
        const unsigned char *payload = pattern(length + 1, (unsigned)i);
        add(&sent, payload, length, false);
        add(&expected, payload, length, true);
    }
    exchange(client, sent.bytes, sent.length, expected.bytes, expected.length);

    /* 200, a byte at a time. */
    char frame[2 + 200] = "\xC8\1";
    memset(frame + 2, 'a', 200);
    send_slowly(client, frame, sizeof frame, 1, 0.0002);
    expect_bytes(client, frame, sizeof frame);
}

TEST(server, only_the_shortest_form,
     .promise = "Every number has one form, the shortest. 80 00 is no zero and "
                "85 00 no five.",
     .cause = "A last byte of 00 behind another byte is added up like any "
              "other. Two forms of one number are two ways past everybody who "
              "compares bytes.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    refuses(server, BYTES("\x80\0"));
    refuses(server, BYTES("\x85\0hello"));
    refuses(server, BYTES("\x80\x80\0"));
    refuses(server, BYTES("\xC8\x81\0hello"));
    refuses(server, BYTES("\xFF\0"));
    struct peer *client = connect_to(server);
    talk(client, 128); /* 80 01 */
    talk(client, 0);
}

TEST(server, too_long_is_refused_at_once,
     .promise = "The server closes as soon as this is known: it does not wait "
                "for a payload that is too long.",
     .cause = "The length is compared with PAYLOAD_MAX only when the payload "
              "is there, which it never is.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    refuses(server, BYTES("\x81\x80\4"));
    refuses(server, BYTES("\x80\x80\5"));
    refuses(server, BYTES("\x80\x80\x40"));
    refuses(server, BYTES("\xFF\xFF\x7F"));
    struct peer *client = connect_to(server);
    talk(client, 4);
}

TEST(server, three_bytes_and_no_fourth,
     .promise = "A length has at most three bytes: a third byte says that it "
                "is the last. The server does not wait for a fourth.",
     .cause = "The limit is looked at only when a fourth byte has come, or the "
              "loop goes on for as long as bytes ask for more. Five bytes "
              "overflow 32 bits, ten overflow 64, and a client that sends 80 "
              "for ever never ends its length.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    refuses(server, BYTES("\x80\x80\x80"));
    refuses(server, BYTES("\xFF\xFF\xFF"));
    refuses(server, BYTES("\x85\x80\x80\0hello"));
    refuses(server, BYTES("\x85\x80\x80\x80\x10hello"));
    refuses(server, BYTES("\x85\x80\x80\x80\x80\x80\x80\x80\x80\2hello"));
    struct peer *client = connect_to(server);
    talk(client, 4);
}

TEST(server, an_unfinished_one_is_no_answer,
     .promise = "The beginning of a frame is unfinished: nothing is answered "
                "until it is whole.",
     .cause = "The end of the client is taken for the end of the frame, or a "
              "beginning is taken for something impossible.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    /* The answer to "ok" tells that what came with it has been read. */
    struct peer *client = connect_to(server);
    send_bytes(client, BYTES("\2ok\5"));
    expect_text(client, "\2ko");
    send_text(client, "hello");
    expect_text(client, "\5olleh");
    char expected[2 + 128] = "\x80\1";
    memset(expected + 2, 'a', 128);
    send_bytes(client, BYTES("\2ok\x80"));
    expect_text(client, "\2ko");
    send_bytes(client, expected + 1, sizeof expected - 1);
    expect_bytes(client, expected, sizeof expected);
    close_peer(client);
    static const char *const beginnings[] = {"\x80", "\x80\x80", "\5hell",
                                             "\x80\x80\4much to come"};
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
        client = connect_to(server);
        send_text(client, text_of("\2ok%s", beginnings[i]));
        expect_text(client, "\2ko");
        half_close(client);
        expect_end_of_file(client);
        close_peer(client);
    }
}

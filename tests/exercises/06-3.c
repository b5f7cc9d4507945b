/*
 * 06-3.c - judges exercise 06-3: a server that stops reading.
 */
#include "guests.h"

#include <poll.h>
#include <sys/socket.h>

#define READ "06-poll/README.md, \"The code in reading order\""

/* More than the buffers of both kernels take, many times. */
enum { FLOOD = 24 << 20 };

/* A client that sends without end and does not read. */
struct flood {
    struct peer *client;
    const unsigned char *bytes;
    size_t sent;
};

static struct flood start_flood(struct program *server)
{
    struct connect_options small = {.receive_buffer = 65536,
                                    .send_buffer = 65536};
    struct flood flood = {.client = connect_with(server, &small),
                          .bytes = pattern(FLOOD, 3)};
    flood.sent = send_until_full(flood.client, flood.bytes, FLOOD, 0.2);
    return flood;
}

TEST(server, sends_back_what_comes,
     .promise = "An echo server: what a client sends, it gets back.",
     .cause = "The program did this at the beginning: something of it was "
              "changed.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct peer *first = connect_to(server);
    struct peer *second = connect_to(server);
    send_text(first, "a");
    expect_text(first, "a");
    send_text(second, "second");
    expect_text(second, "second");
    size_t length = 1 << 20;
    exchange(first, pattern(length, 1), length, pattern(length, 1), length);
    half_close(first);
    expect_end_of_file(first);
}

/* Whether the server has closed this connection, on which bytes waited for it:
 * POLLHUP and POLLERR are reported unasked. */
static bool is_closed(struct peer *client)
{
    struct pollfd entry = {.fd = descriptor_of(client), .events = 0};
    return poll(&entry, 1, 0) == 1;
}

TEST(server, closes_nobody_who_does_not_read,
     .promise = "Nobody is closed because 64 KiB wait. When the client reads "
                "again, it gets all that it has sent, in order.",
     .cause = "To begin with: give struct client a flag, `stopped`. Set it in "
              "`serve` in place of closing, clear it when 16 KiB or less wait, "
              "and leave POLLIN out in `events_of` while it is set.",
     .read = READ)
{
    struct program *server = start_server(NULL);
    struct flood flood = start_flood(server);
    if (!is_closed(flood.client))
        usual_cause(
            "Bytes stop coming, or others come: a client that is stopped "
            "still needs POLLOUT, or nothing ever brings it back. Or something "
            "of what it sent is "
            "lost, or changes its place, when it is stopped.");
    expect_bytes(flood.client, flood.bytes, flood.sent);
    usual_cause("The client was stopped, has got everything, and is not read "
                "from again: the flag is not cleared, or events_of is not "
                "asked again.");
    size_t length = 100000;
    exchange(flood.client, pattern(length, 2), length, pattern(length, 2),
             length);
    half_close(flood.client);
    expect_end_of_file(flood.client);
}

TEST(server, holds_little_for_a_client,
     .promise = "The server holds less than 1 MiB for a client, whatever it "
                "sends.",
     .cause = "The server goes on to read from a client that does not read. "
              "Leave POLLIN out while 64 KiB wait for it, and do not receive "
              "either.",
     .read = READ, .patient = true)
{
    /* The address sanitizer keeps for a while what was freed. */
    enum { LIMIT = 6 << 20 };
    struct program *server = start_server(NULL);
    struct peer *other = connect_to(server);
    send_bytes(other, pattern(FLOOD, 3), 1000);
    expect_bytes(other, pattern(FLOOD, 3), 1000);
    size_t before = holdings_of(server).memory;
    struct flood flood = start_flood(server);
    usual_cause("While it does not read, the client is still asked for with "
                "POLLIN, and is not received from: poll returns at once, for "
                "ever. Leave POLLIN out. Or a loop sends until it is done, "
                "without poll.");
    expect_idle(server, "while a client sends without end and does not read");
    usual_cause(NULL);
    size_t after = holdings_of(server).memory;
    note("the kernels and the server have taken %zu KiB; the server holds "
         "%zu KiB more than before",
         flood.sent >> 10, (after > before ? after - before : 0) >> 10);
    if (after > before + LIMIT)
        fail_test("Expected: the server holds less than 1 MiB for a client "
                  "(what is judged is 6).\n"
                  "It holds %zu KiB more than before the client came.",
                  (after - before) >> 10);
}

TEST(server, serves_all_others_meanwhile,
     .promise = "All others are served meanwhile.",
     .cause = "The server waits for the one that does not read: in a loop that "
              "sends until there is less, or with a flag that is one for all.",
     .read = READ, .patient = true)
{
    struct program *server = start_server(NULL);
    struct peer *other = connect_to(server);
    struct flood flood = start_flood(server);
    send_text(other, "are you there?");
    expect_text(other, "are you there?");
    struct peer *next = connect_to(server);
    size_t length = 300000;
    exchange(next, pattern(length, 1), length, pattern(length, 1), length);
    expect_bytes(flood.client, flood.bytes, 1000);
    send_text(other, "and now?");
    expect_text(other, "and now?");
}

TEST(server, serves_to_the_end_who_has_ended,
     .promise = "A client that ends its side gets all that it has sent too, in "
                "order.",
     .cause = "A client that was stopped is not read from again, so that its "
              "end is never found. Or something of what it sent is lost when "
              "it is stopped.",
     .read = READ, .patient = true)
{
    struct program *server = start_server(NULL);
    struct flood flood = start_flood(server);
    half_close(flood.client);
    usual_cause("The end of the client's side is reported at once, for ever, "
                "when POLLIN is asked for and the client is not received from, "
                "or is received from behind its end.");
    expect_idle(server, "while one has ended its side and does not read");
    usual_cause(NULL);
    expect_bytes(flood.client, flood.bytes, flood.sent);
    expect_end_of_file(flood.client);
}

/* Sends until the kernels take no more and a little, less than 64 KiB, waits in
 * the server. Returns how many bytes that are. */
static size_t send_a_little_too_much(struct peer *client,
                                     const unsigned char *bytes)
{
    enum { LITTLE = 32768 };
    struct channel *channel = channel_over(client);
    size_t sent = 0;
    while (sent + LITTLE <= FLOOD) {
        ssize_t length = send(descriptor_of(client), bytes + sent, LITTLE, 0);
        if (length <= 0)
            return sent;
        sent += (size_t)length;
        double until = now() + 0.3;
        while (bytes_under_way(channel) + bytes_waiting(client) < sent) {
            if (now() > until)
                return sent;
            let_pass(0.0005);
        }
    }
    return sent;
}

TEST(server, sends_the_rest_to_who_has_ended,
     .promise = "A client that ends its side gets all that it has sent too, in "
                "order.",
     .cause = "When recv returns 0, the connection is closed, though something "
              "still waits to be sent.",
     .read = READ, .patient = true)
{
#ifndef __linux__
    skip_test("what waits in the kernel can be seen on Linux alone");
#endif
    struct program *server = start_server(NULL);
    struct connect_options small = {.receive_buffer = 65536};
    struct peer *client = connect_with(server, &small);
    const unsigned char *bytes = pattern(FLOOD, 3);
    size_t sent = send_a_little_too_much(client, bytes);
    note("client 1 sent %zu bytes, reading nothing: as many as the kernels "
         "take, and less than 64 KiB more",
         sent);
    half_close(client);
    expect_idle(server, "while the rest waits");
    expect_bytes(client, bytes, sent);
    expect_end_of_file(client);
}

TEST(server, notices_who_breaks_off,
     .promise = "A client that breaks off while it is not read from is gone at "
                "once.",
     .cause = "Nothing is asked of poll for a client that is stopped, or it is "
              "left out of the list: then nobody hears that it has gone. "
              "POLLERR and POLLHUP come unasked, for descriptors that are in "
              "the list, and recv or send tells what they mean.",
     .read = READ, .patient = true)
{
    struct program *server = start_server(NULL);
    struct peer *other = connect_to(server);
    send_text(other, "before");
    expect_text(other, "before");
    size_t before = holdings_of(server).descriptors;
    struct flood flood = start_flood(server);
    reset_peer(flood.client);
    double until = now() + patience();
    while (holdings_of(server).descriptors > before) {
        if (now() > until)
            fail_test("Expected: when a client has broken off, its descriptor "
                      "is free.\n%.0f s later it is not.",
                      patience());
        let_pass(0.01);
    }
    send_text(other, "after");
    expect_text(other, "after");
}

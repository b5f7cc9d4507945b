/*
 * lesson-01.c - what lesson 01 promises: a server that sends back every byte.
 *
 * The tests follow the contract (tests/CONTRACT.md): how the server is called,
 * what it prints, the echo, clients that behave badly, and what it holds and
 * uses. A server may serve its clients one after another or several at once;
 * both keep the contract.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Sentences of the contract. */
#define PROMISE_READY                                                          \
    "A server that is ready prints exactly one line on standard output and "   \
    "flushes it: `listening on 127.0.0.1:7777`, or `listening on "             \
    "[::1]:7777`, with the port that the kernel really bound, once "           \
    "connections can come. All else goes to standard error, in words of its "  \
    "own choice."
#define PROMISE_ECHO                                                           \
    "The server sends back every byte that it receives, in order, without "    \
    "waiting for more, until the client ends its side; then it closes and "    \
    "serves the next."
#define PROMISE_TURNS                                                          \
    "... then it closes and serves the next. One client at a time: others "    \
    "wait in the backlog."
#define PROMISE_READER                                                         \
    "The server sends back every byte that it receives, in order ... (An "     \
    "echo that blocks stops while its client does not read.)"
#define PROMISE_FAILURE                                                        \
    "What is no address, an address that cannot be bound and a port that is "  \
    "taken are failures at run time. Exit status: 1 after a failure at run "   \
    "time, with one line on standard error."
#define PROMISE_SIGPIPE                                                        \
    "No program dies of SIGPIPE. (And: the server ... serves the next.)"
#define PROMISE_RELEASE                                                        \
    "What a connection used (descriptors, threads, processes, memory) is "     \
    "free again when it has ended."
#define PROMISE_REST                                                           \
    "A server that has nothing to do uses no CPU. It does not spin either "    \
    "while it has no descriptors left: it says so, goes on serving those it "  \
    "has, and accepts again when some are free."

/* Where they are explained. */
#define IDEA "01-basic-server/README.md, \"The idea\""
#define CODE "01-basic-server/README.md, \"The code in reading order\""
#define BREAK_IT "01-basic-server/README.md, \"Break it\""

/* A cause that is behind many a failure of this lesson. */
#define SHORT_SEND                                                             \
    "send() and write() may take fewer bytes than they are given; they "       \
    "return how many. The rest has to be sent again, from where it stopped, "  \
    "in a loop. The same loop goes on after EINTR."

/* One client, from its first byte to the server's close. Its text is another
 * each time: bytes left over from an earlier client do not pass. */
static void exchange_once(struct program *server)
{
    static unsigned number;
    const char *text = text_of("client number %u was here\n", ++number);
    struct peer *client = connect_to(server);
    send_text(client, text);
    expect_text(client, text);
    half_close(client);
    expect_end_of_file(client);
    close_peer(client);
}

/* The first exchange of a client that stays. What goes wrong in it has nothing
 * to do with what the test is about. */
static void greet(struct peer *client)
{
    usual_cause(SHORT_SEND);
    send_text(client, "hello");
    expect_text(client, "hello");
    usual_cause(NULL);
}

/* The hostile network cuts the stream into small pieces, so that a megabyte
 * there is as much work as ten here. */
static size_t large(size_t length)
{
    return hostile_seed() == 0 ? length : length / 8;
}

/* Whether this machine lets us use an IPv4 address. */
static bool has_address(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    inet_pton(AF_INET, text, &address.sin_addr);
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = bind(descriptor, (struct sockaddr *)&address, sizeof address) ==
               0;
    close(descriptor);
    return has;
}

/* ---------------------------------------------------- the line, the options */

TEST(server, listening_line, .promise = PROMISE_READY,
     .cause = "The line names what was asked for and not what getsockname() "
              "returns, so that port 0 stays 0; or the port was not turned "
              "round by htons() and ntohs(); or the line waits in a buffer "
              "because nobody called fflush(); or the server listens on "
              "another address, such as 0.0.0.0, which is every address of "
              "the machine.",
     .read = CODE)
{
    exchange_once(start_server(NULL));
    exchange_once(start_server_on(unused_port(), NULL));
    exchange_once(start_server("-a", "127.0.0.1", NULL));
    note("options as getopt(3) reads them: the value may stand in the same "
         "word");
    exchange_once(start_server_ready(&(struct start){
        .arguments = (const char *[]){"-p0", "-a127.0.0.1", NULL}}));
}

TEST(server, listening_address,
     .promise = "server [-a ADDRESS] [-p PORT]; without them 127.0.0.1 and "
                "7777; port 0 lets the kernel choose.",
     .cause = "The server binds INADDR_ANY, or what it binds is not what "
              "inet_pton() made of ADDRESS. 127.0.0.1 reaches this machine "
              "alone; 0.0.0.0 lets in whoever can reach any of its addresses.",
     .read = CODE)
{
    if (!has_address("127.0.0.2"))
        skip_test("this machine has no address 127.0.0.2");

    /* Ports of our own: the kernel gives one number away once for each address,
     * and we would visit somebody else's server. Should somebody have ours all
     * the same, then not three times in a row. */
    int open = 0;
    for (int i = 0; i < 3 && open == i; i++) {
        struct program *server = start_server_on(unused_port(), NULL);
        open += accepts_connections("127.0.0.2", port_of(server));
        exchange_once(server);
    }
    if (open == 3)
        fail_test("Expected: without -a, the server listens on 127.0.0.1 "
                  "alone.\nIt also accepts connections on 127.0.0.2: it "
                  "listens on every address of the machine, whatever its line "
                  "says.");

    open = 0;
    for (int i = 0; i < 3 && open == i; i++) {
        struct program *server = start_server_on(unused_port(), "-a",
                                                 "127.0.0.2", NULL);
        open += accepts_connections("127.0.0.1", port_of(server));
        exchange_once(server);
    }
    if (open == 3)
        fail_test("Expected: with -a 127.0.0.2, the server listens on that "
                  "address alone.\nIt also accepts connections on "
                  "127.0.0.1.");

    note("with -a 0.0.0.0 it listens on every address");
    struct program *server = start_server("-a", "0.0.0.0", NULL);
    exchange_once(server);
    struct peer *client = connect_with(
        server, &(struct connect_options){.address = "127.0.0.2"});
    send_text(client, "over another address");
    expect_text(client, "over another address");
}

TEST(server, listening_line_comes_when_connections_can,
     .promise = PROMISE_READY,
     .cause = "The line is printed before listen(). Who reads it and connects "
              "at once is refused, now and then.",
     .read = CODE)
{
    /* Its standard output takes nothing, so the server hangs in the middle of
     * printing its line. When it can be reached then, the line comes late
     * enough. */
    int port = unused_port();
    struct program *server = start_server_with(&(struct start){
        .arguments = (const char *[]){"-p", text_of("%d", port), NULL},
        .output = OUTPUT_BLOCKED});
    double from = now();
    while (!accepts_connections("127.0.0.1", port)) {
        if (has_ended(server))
            fail_test("Expected: the server waits until its line can be "
                      "printed.\nIt has ended with status %d.",
                      exit_status(server));
        if (now() - from > patience())
            fail_test("Expected: while the server cannot print its line yet, "
                      "because its standard output is a pipe that is full, "
                      "port %d accepts connections already: the line comes "
                      "after listen().\nFor %.1f s it did not.",
                      port, patience());
        let_pass(0.005);
    }
    note("port %d accepts connections while the line is being printed", port);
    unblock_output(server);
    expect_output_text(server, text_of("listening on 127.0.0.1:%d\n", port));
}

TEST(server, one_line_and_no_more, .promise = PROMISE_READY,
     .cause = "Something is printed with printf() for each client. Towards a "
              "pipe it stays in a buffer for a while, which hides it; on a "
              "terminal it comes at once. What is not the line belongs on "
              "standard error.",
     .read = CODE)
{
    struct program *server = start_server_ready(
        &(struct start){.arguments = (const char *[]){"-p", "0", NULL},
                        .output = OUTPUT_TERMINAL});
    exchange_once(server);
    exchange_once(server);
    reset_peer(connect_to(server));
    exchange_once(server);
    expect_no_output(server, 0.02);
}

TEST(server, default_port,
     .promise = "server [-a ADDRESS] [-p PORT]; without them 127.0.0.1 and "
                "7777.",
     .cause = "The default is another one, or an option is demanded that may "
              "be left out.",
     .read = CODE)
{
    reserve_port(7777);
    struct program *server = start_server_ready(
        &(struct start){.arguments = NULL});
    exchange_once(server);
    kill_program(server);
    note("-a without -p");
    exchange_once(start_server_ready(&(struct start){
        .arguments = (const char *[]){"-a", "127.0.0.1", NULL}}));
}

TEST(server, largest_port,
     .promise = "A usage line and exit status 2 are the answer to a port that "
                "is no number from 0 to 65535: 65535 is one.",
     .cause = "The bound is one off: < where <= is meant.", .read = CODE)
{
    reserve_port(65535);
    struct program *server = start_server_with(
        &(struct start){.arguments = (const char *[]){"-p", "65535", NULL}});
    size_t printed = 0;
    double until = now() + patience();
    while (!has_ended(server) && printed == 0 && now() < until) {
        standard_output(server, &printed);
        let_pass(0.001);
    }
    /* Somebody else may have the port: that is a failure at run time. */
    if (has_ended(server))
        expect_exit(server, 1);
    else
        expect_output_text(server, "listening on 127.0.0.1:65535\n");
}

struct call {
    const char *what;
    const char *arguments[5];
};

/* Starts the server in each of these ways; it must refuse every one. */
static void expect_refusal(const struct call calls[], size_t count, int status,
                           const char *about)
{
    enum { AT_ONCE = 3 };
    struct program *servers[32];
    for (size_t i = 0; i < count + AT_ONCE; i++) {
        if (i < count)
            servers[i] = start_server_with(
                &(struct start){.arguments = calls[i].arguments});
        if (i < AT_ONCE)
            continue;
        struct program *server = servers[i - AT_ONCE];
        size_t printed = 0;
        note("%s:", calls[i - AT_ONCE].what);
        double until = now() + patience();
        while (!has_ended(server) && printed == 0 && now() < until) {
            standard_output(server, &printed);
            let_pass(0.001);
        }
        if (printed > 0)
            expect_output_end(server);
        expect_exit(server, status);
        expect_complaint(server, about);
        expect_output_end(server);
    }
}

TEST(server, wrong_usage,
     .promise = "A usage line on standard error and exit status 2 are the "
                "answer to: a wrong option, an operand too many or too few, a "
                "port that is no number from 0 to 65535.",
     .cause = "atoi() takes everything for a number, and what does not fit "
              "into 16 bits loses its upper part in htons(): 65536 becomes 0. "
              "strtol() says where the number ended and whether it was too "
              "large. What is left behind the options (optind) has to be "
              "looked at too.",
     .read = CODE, .patient = true)
{
    static const struct call calls[] = {
        {"an option that there is not", {"-x"}},
        {"another one, behind right ones", {"-p", "0", "-z"}},
        {"an option of lesson 04", {"-p", "0", "-f", "line"}},
        {"-p without a port", {"-p"}},
        {"-a without an address", {"-p", "0", "-a"}},
        {"an operand, where none belongs", {"-p", "0", "7777"}},
        {"an operand alone", {"7777"}},
        {"port 65536", {"-p", "65536"}},
        {"port -1", {"-p", "-1"}},
        {"port 70000, which is 4464 in 16 bits", {"-p", "70000"}},
        {"port 4294967296, which is 0 in 32 bits", {"-p", "4294967296"}},
        {"a port of 20 digits", {"-p", "99999999999999999999"}},
        {"a word for a port", {"-p", "http"}},
        {"a port with letters behind it", {"-p", "80x"}},
        {"an empty port", {"-p", ""}},
    };
    expect_refusal(calls, COUNT(calls), 2, "how it is called");
}

TEST(server, address_that_cannot_be,
     .promise = "ADDRESS is numeric. Lesson 01 knows IPv4 alone: there -a ::1 "
                "fails. " PROMISE_FAILURE,
     .cause = "The result of inet_pton() is not looked at: 0 means that the "
              "text is no address, and the structure stays as it was, often "
              "0.0.0.0, which is every address of the machine. Or names are "
              "looked up, and some libraries take an empty one for every "
              "address. Or bind() fails and nobody looks.",
     .read = CODE, .patient = true)
{
    static const struct call calls[] = {
        {"a text that is no address", {"-p", "0", "-a", "a..b"}},
        {"a name, which is no numeric address", {"-p", "0", "-a", "localhost"}},
        {"an empty text", {"-p", "0", "-a", ""}},
        {"an IPv6 address", {"-p", "0", "-a", "::1"}},
        {"an address that no machine has", {"-p", "0", "-a", "192.0.2.1"}},
    };
    size_t count = COUNT(calls);
    if (has_address("192.0.2.1"))
        count--; /* Linux with ip_nonlocal_bind lets everybody bind it */
    expect_refusal(calls, count, 1, "what is wrong with the address");
}

TEST(server, port_is_taken, .promise = PROMISE_FAILURE,
     .cause = "The result of bind() or listen() is not looked at; or "
              "SO_REUSEPORT was set, with which two servers share a port and "
              "each gets some of the clients. SO_REUSEADDR is the option that "
              "is wanted here.",
     .read = CODE, .patient = true)
{
    struct program *first = start_server(NULL);
    const char *port = text_of("%d", port_of(first));
    note("a second server on the port of the first:");
    struct program *second = start_server_with(
        &(struct start){.arguments = (const char *[]){"-p", port, NULL}});
    expect_exit(second, 1);
    expect_complaint(second, "that the port is taken");
    expect_output_end(second);
    exchange_once(first);
}

TEST(server, privileged_port, .promise = PROMISE_FAILURE,
     .cause = "The result of bind() is not looked at.", .read = CODE,
     .patient = true)
{
    struct program *server = start_server_with(
        &(struct start){.arguments = (const char *[]){"-p", "81", NULL},
                        .no_privileged_ports = true});
    expect_exit(server, 1);
    expect_complaint(server, "that it may not have port 81");
    expect_output_end(server);
}

TEST(server, restart_on_the_same_port,
     .promise = "A server that has ended, however it ended, can be started "
                "again on the same port at once.",
     .cause = "A connection of the server that has ended is still in the "
              "kernel, in FIN_WAIT2 or TIME_WAIT, and bind() answers "
              "EADDRINUSE for a minute. SO_REUSEADDR, set before bind(), "
              "permits it.",
     .read = BREAK_IT)
{
    int port = unused_port();
    struct program *server = start_server_on(port, NULL);
    struct peer *client = connect_to(server);
    greet(client);
    note("it ends while a client is connected");
    kill_program(server);
    server = start_server_on(port, NULL);
    exchange_once(server);
    note("the client of the first server goes too, and leaves a connection in "
         "TIME_WAIT behind");
    close_peer(client);
    kill_program(server);
    server = start_server_on(port, NULL);
    exchange_once(server);
}

/* ----------------------------------------------------------------- the echo */

TEST(server, echo_at_once, .promise = PROMISE_ECHO,
     .cause = "The server waits for a newline (fgets(), getline(), "
              "readline()) or for a full buffer (fread(), recv() with "
              "MSG_WAITALL), or its answer stays in a buffer of its own "
              "(fwrite() without fflush()). recv() returns what is there, and "
              "that is what has to go back.",
     .read = CODE)
{
    static const char *const texts[] = {
        "a",      "bc",           "no newline at the end",
        "\n",     "two\nlines\n", "a line\r\n",
        " ",      "%s%n%x %d %%", "GET / HTTP/1.0\r\n\r\n",
        "quit\n", "exit",         "\n\n",
    };
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    expect_silence(client, 0.05);
    for (size_t i = 0; i < COUNT(texts); i++) {
        send_text(client, texts[i]);
        expect_text(client, texts[i]);
    }
    send_slowly(client, "one byte after another", 22, 1, 0.002);
    expect_text(client, "one byte after another");
    expect_silence(client, 0.05);
    half_close(client);
    expect_end_of_file(client);
}

TEST(server, echo_while_more_comes, .promise = PROMISE_ECHO,
     .cause = "The server calls recv() until nothing more comes for a moment "
              "(settimeout(), SO_RCVTIMEO, a poll() with a timeout), and only "
              "then sends. A client that makes no pause gets no answer. What "
              "one recv() brings has to go back before the next one.",
     .read = CODE)
{
    enum { MOST = 10000 };
    static char dots[MOST];
    memset(dots, '.', MOST);
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    note("the client sends a byte every 5 ms, until something comes back");
    size_t sent = 0;
    double from = now();
    while (bytes_waiting(client) == 0) {
        if (sent == MOST || now() - from > patience())
            fail_test("Expected: bytes come back while the client still "
                      "sends.\nIt has sent %zu, one every 5 ms, and for %.1f s "
                      "none came back.",
                      sent, now() - from);
        if (send(descriptor_of(client), dots, 1, MSG_NOSIGNAL) == 1)
            sent++;
        let_pass(0.005);
    }
    half_close(client);
    expect_bytes(client, dots, sent);
    expect_end_of_file(client);
}

TEST(server, echo_of_any_byte, .promise = PROMISE_ECHO,
     .cause = "The bytes are treated as a string: strlen(), printf(\"%s\"), "
              "strcpy() stop at a NUL byte, and a char that holds 0xFF is "
              "equal to EOF. The number that recv() returns says how many "
              "bytes there are. Languages that tell bytes from text must not "
              "decode them.",
     .read = CODE)
{
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    unsigned char bytes[256];
    note("every byte value alone");
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)i;
        if (hostile_seed() == 0 || i % 16 == 0)
            exchange(client, &bytes[i], 1, &bytes[i], 1);
    }
    note("and all of them together");
    send_bytes(client, bytes, sizeof bytes);
    expect_bytes(client, bytes, sizeof bytes);
    send_bytes(client, "\0", 1);
    expect_bytes(client, "\0", 1);
    send_bytes(client, "before\0behind\n", 14);
    expect_bytes(client, "before\0behind\n", 14);
    send_bytes(client, "\xff\xfe\x80\xc3\x28\xf4\xff\xed\xa0\x80", 10);
    expect_bytes(client, "\xff\xfe\x80\xc3\x28\xf4\xff\xed\xa0\x80", 10);
    half_close(client);
    expect_end_of_file(client);
}

TEST(server, echo_of_any_size, .promise = PROMISE_ECHO, .cause = SHORT_SEND,
     .read = CODE)
{
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    const unsigned char *bytes = pattern(70000, 2);
    for (size_t size = 64; size <= 65536; size *= 4) {
        /* Around the sizes that buffers usually have. */
        for (size_t i = 0; i < 3; i++)
            exchange(client, bytes + i, size - 1 + i, bytes + i, size - 1 + i);
    }
    exchange(client, bytes, 1000, bytes, 1000);
    exchange(client, bytes, 2048, bytes, 2048);
    exchange(client, bytes, 8192, bytes, 8192);
    half_close(client);
    expect_end_of_file(client);
}

TEST(server, ten_megabytes, .promise = PROMISE_ECHO, .cause = SHORT_SEND,
     .read = CODE)
{
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    size_t length = large(10 << 20);
    const unsigned char *bytes = pattern(length, 3);
    size_t first = length / 10;
    double from = now();
    exchange(client, bytes, first, bytes, first);
    if (now() - from > 2) {
        note("that was slow: a third of it has to do");
        length /= 3;
    }
    exchange(client, bytes + first, length - first, bytes + first,
             length - first);
    half_close(client);
    expect_end_of_file(client);
    close_peer(client);
    exchange_once(server);
}

/* ------------------------------------------------------ the end of a client */

static void expect_all_back(struct peer *client, const void *bytes,
                            size_t length)
{
    expect_bytes(client, bytes, length);
    expect_end_of_file(client);
    close_peer(client);
}

TEST(server, half_close, .promise = PROMISE_ECHO,
     .cause = "The client's shutdown() ends one direction only: recv() "
              "returns 0, once everything that came before has been received. "
              "What is still to be sent goes on its way, and then the server "
              "has to close.",
     .read = CODE)
{
    struct program *server = start_server(NULL);
    const unsigned char *bytes = pattern(65536, 4);

    note("a client that sends nothing");
    struct peer *client = connect_to(server);
    half_close(client);
    expect_all_back(client, "", 0);

    note("one that sends a little");
    client = connect_to(server);
    send_text(client, "hello");
    half_close(client);
    expect_all_back(client, "hello", 5);

    note("one that sends 64 KiB before it reads");
    client = connect_to(server);
    send_bytes(client, bytes, 65536);
    half_close(client);
    let_pass(0.02);
    expect_all_back(client, bytes, 65536);

    note("one whose bytes and end the server finds at the same time");
    client = connect_to(server);
    stop_program(server);
    send_bytes(client, bytes, 30000);
    half_close(client);
    continue_program(server);
    expect_all_back(client, bytes, 30000);

    note("one that was there and gone before the server could accept it");
    stop_program(server);
    client = connect_to(server);
    send_bytes(client, bytes + 1000, 10000);
    half_close(client);
    continue_program(server);
    expect_all_back(client, bytes + 1000, 10000);
    exchange_once(server);
}

TEST(server, half_close_of_a_slow_reader, .promise = PROMISE_ECHO,
     .cause = "When the client has ended its side, the server closes at once "
              "and forgets what it has not sent yet. " SHORT_SEND,
     .read = CODE)
{
    struct program *server = start_server(NULL);
    /* More than the kernel's buffers hold (4 MiB on Linux), so that some of it
     * waits in the server. */
    size_t length = large(6 << 20);
    const unsigned char *bytes = pattern(length, 5);
    struct peer *client = connect_with(
        server, &(struct connect_options){.receive_buffer = 16384});
    size_t sent = send_until_full(client, bytes, length, 0.1);
    half_close(client);
    note("it reads only from here on");
    expect_all_back(client, bytes, sent);
    exchange_once(server);
}

/* ------------------------------------------------- one client after another */

TEST(server, next_client_is_served, .promise = PROMISE_TURNS,
     .cause = "The server ends with its first client, or it waits for "
              "something else than the end of what that client sends, or it "
              "never closes the client's socket.",
     .read = CODE)
{
    struct program *server = start_server(NULL);
    for (int i = 0; i < 20; i++)
        exchange_once(server);

    note("a client that ends its side, and stays");
    struct peer *stays = connect_to(server);
    send_text(stays, "one");
    expect_text(stays, "one");
    half_close(stays);
    expect_end_of_file(stays);
    exchange_once(server);

    note("a client that closes without a word, and one that says a little");
    close_peer(connect_to(server));
    exchange_once(server);
    struct peer *client = connect_to(server);
    send_text(client, "good-bye");
    expect_text(client, "good-bye");
    close_peer(client);
    exchange_once(server);
}

TEST(server, second_client_waits, .promise = PROMISE_TURNS,
     .cause = "What a client sends before accept() waits in the kernel; a "
              "server that closes its listener while it serves, or calls "
              "listen() with a backlog of 0, or takes a client and forgets "
              "it, loses the others.",
     .read = IDEA)
{
    struct program *server = start_server(NULL);
    struct peer *first = connect_to(server);
    send_text(first, "I am the first");
    expect_text(first, "I am the first");

    struct peer *second = connect_to(server);
    send_text(second, "I am the second");
    struct peer *third = connect_to(server);
    send_text(third, "I am the third");
    half_close(third);

    note("the first one goes on meanwhile");
    for (int i = 0; i < 5; i++) {
        send_text(first, text_of("line %d", i));
        expect_text(first, text_of("line %d", i));
    }
    half_close(first);
    expect_end_of_file(first);
    close_peer(first);

    expect_text(second, "I am the second");
    send_text(second, ", and here is more");
    expect_text(second, ", and here is more");
    half_close(second);
    expect_end_of_file(second);
    close_peer(second);
    expect_all_back(third, "I am the third", 14);
    exchange_once(server);
}

TEST(server, clients_get_their_own_bytes, .promise = PROMISE_TURNS,
     .cause = "Several clients share a buffer or a descriptor: a global "
              "variable, a pointer to a variable of the loop that the next "
              "turn changes, or bytes of one client that are kept for the "
              "next.",
     .read = CODE)
{
    struct program *server = start_server(NULL);
    exchange_once(server);
    for (unsigned round = 0; round < 5; round++) {
        size_t length = 40000;
        const unsigned char *bytes[2];
        struct peer *clients[2];
        stop_program(server);
        for (unsigned i = 0; i < 2; i++) {
            bytes[i] = pattern(length, 100 + 3 * round + i);
            clients[i] = connect_to(server);
            send_bytes(clients[i], bytes[i], length);
            half_close(clients[i]);
        }
        continue_program(server);
        for (unsigned i = 0; i < 2; i++)
            expect_all_back(clients[i], bytes[i], length);
    }
}

/* ----------------------------------------------------------- unkind clients */

TEST(server, client_reads_late, .promise = PROMISE_READER,
     .cause = SHORT_SEND " A non-blocking socket answers EAGAIN when the "
                         "client does not read; its bytes have to wait, not "
                         "to be thrown away.",
     .read = CODE)
{
    struct program *server = start_server(NULL);
    size_t length = large(6 << 20);
    const unsigned char *bytes = pattern(length, 6);
    struct peer *client = connect_with(
        server, &(struct connect_options){.receive_buffer = 16384});
    size_t sent = send_until_full(client, bytes, length, 0.15);
    expect_running(server);
    note("the client begins to read, and sends a little more");
    if (length > sent + 100000)
        length = sent + 100000;
    exchange(client, bytes + sent, length - sent, bytes, length);
    half_close(client);
    expect_end_of_file(client);
    close_peer(client);
    exchange_once(server);
}

struct way_to_go {
    const char *what;
    bool greeted;     /* has had an exchange before */
    size_t length;    /* bytes it sends without reading the answer */
    bool half_closed; /* ends its side first */
    bool resets;      /* and then resets; otherwise closes */
};

static const struct way_to_go ways_to_go[] = {
    {"connects and closes", false, 0, false, false},
    {"connects and resets", false, 0, false, true},
    {"sends a little and resets", false, 10, false, true},
    {"sends a little and closes", false, 10, false, false},
    {"ends its side and resets", false, 0, true, true},
    {"sends a little, ends its side and resets", false, 10, true, true},
    {"resets after an exchange", true, 0, false, true},
    {"closes after an exchange", true, 0, false, false},
    {"sends a little after an exchange, and resets", true, 10, false, true},
    {"sends 64 KiB after an exchange, and closes", true, 65536, false, false},
    {"sends 64 KiB after an exchange, and resets", true, 65536, false, true},
    {"sends 64 KiB after an exchange, ends its side and resets", true, 65536,
     true, true},
};

static void go(struct program *server, const struct way_to_go *way,
               bool while_stopped)
{
    note("a client %s%s", way->what,
         while_stopped ? ", while the server is stopped" : "");
    if (while_stopped && !way->greeted)
        stop_program(server);
    struct peer *client = connect_to(server);
    if (way->greeted) {
        send_text(client, "hello");
        expect_text(client, "hello");
        if (while_stopped)
            stop_program(server);
    }
    if (way->length > 0)
        send_bytes(client, pattern(way->length, 7), way->length);
    if (way->half_closed)
        half_close(client);
    if (way->resets)
        reset_peer(client);
    else
        close_peer(client);
    if (while_stopped)
        continue_program(server);
}

TEST(server, client_resets_in_mid_echo, .promise = PROMISE_SIGPIPE,
     .cause = "The client has gone when the server sends: the kernel raises "
              "SIGPIPE, which ends every program that does not ignore it (or "
              "send with MSG_NOSIGNAL). Or ECONNRESET or EPIPE on one "
              "connection ends the whole server: an uncaught exception, a "
              "perror() followed by exit().",
     .read = BREAK_IT)
{
    struct program *server = start_server(NULL);
    for (size_t i = 0; i < COUNT(ways_to_go); i++) {
        go(server, &ways_to_go[i], true);
        exchange_once(server);
        go(server, &ways_to_go[i], false);
        exchange_once(server);
    }
}

TEST(server, client_resets_before_accept,
     .promise = PROMISE_TURNS " It must survive a client that vanishes with a "
                              "reset before accept.",
     .cause = "A connection that was reset while it waited makes accept() "
              "fail with ECONNABORTED, or the first recv() with ECONNRESET, "
              "or getpeername() with ENOTCONN. None of that is a reason to "
              "end.",
     .read = CODE)
{
    struct program *server = start_server(NULL);
    for (size_t i = 0; i < 6; i++) {
        struct peer *served = connect_to(server);
        send_text(served, "I am being served");
        expect_text(served, "I am being served");
        go(server, &ways_to_go[i], false);
        half_close(served);
        expect_end_of_file(served);
        close_peer(served);
        exchange_once(server);
    }
}

TEST(server, client_resets_while_the_server_sends, .promise = PROMISE_SIGPIPE,
     .cause = "send() was waiting for room, because the client did not read, "
              "and fails with ECONNRESET or EPIPE when the client resets. "
              "That ends one connection, not the server.",
     .read = BREAK_IT)
{
    struct program *server = start_server(NULL);
    size_t length = 4 << 20;
    const unsigned char *bytes = pattern(length, 8);
    for (int i = 0; i < 4; i++) {
        struct connect_options small = {.receive_buffer = 4096,
                                        .send_buffer = 16384};
        struct peer *client = connect_with(server, &small);
        send_until_full(client, bytes, length, 0.03);
        if (i % 2 == 1)
            half_close(client);
        if (i < 2)
            reset_peer(client);
        else
            close_peer(client);
        exchange_once(server);
    }
}

TEST(server, stopped_and_continued, .promise = PROMISE_ECHO,
     .cause = "A process that is stopped (Ctrl-Z, a debugger, a suspended "
              "machine) and goes on may find a call interrupted (EINTR), or "
              "bytes, ends and resets all at once. None of that is a reason "
              "to give up.",
     .read = CODE)
{
    struct program *server = start_server(NULL);
    note("while it waits for a client");
    stop_program(server);
    continue_program(server);
    exchange_once(server);

    note("while it waits for bytes");
    struct peer *client = connect_to(server);
    send_text(client, "before");
    expect_text(client, "before");
    stop_program(server);
    send_text(client, "meanwhile");
    continue_program(server);
    expect_text(client, "meanwhile");
    stop_program(server);
    continue_program(server);
    send_text(client, "behind");
    expect_text(client, "behind");

    note("while it waits for room to send");
    size_t length = large(1 << 20);
    const unsigned char *bytes = pattern(length, 9);
    size_t sent = send_until_full(client, bytes, length, 0.05);
    stop_program(server);
    continue_program(server);
    exchange(client, bytes + sent, length - sent, bytes, length);
    half_close(client);
    expect_end_of_file(client);
    exchange_once(server);
}

/* --------------------------------------------------- what it uses and holds */

TEST(server, idle_without_clients, .promise = PROMISE_REST,
     .cause = "The server asks again and again whether something has come: a "
              "non-blocking accept() or recv() in a loop, poll() with a "
              "timeout of 0, or a poll() that reports an end of file which "
              "nobody takes out of the list.",
     .read = CODE, .patient = true)
{
    struct program *server = start_server(NULL);
    expect_idle(server, "while nobody has come yet");
    exchange_once(server);
    struct peer *stays = connect_to(server);
    greet(stays);
    half_close(stays);
    expect_end_of_file(stays);
    expect_idle(server, "when all clients are done, one of which has not "
                        "closed its socket yet");
}

TEST(server, silent_client_is_kept, .promise = PROMISE_ECHO,
     .cause = "The server gives up on a client that says nothing, or takes "
              "nothing, for a while (SO_RCVTIMEO, SO_SNDTIMEO, settimeout(), "
              "a poll() with a timeout). Silence is no end: only end of file "
              "is.",
     .read = CODE, .patient = true, .slow = true)
{
    struct program *server = start_server(NULL);
    struct peer *client = connect_to(server);
    greet(client);

    note("another server has a client that does not read");
    struct program *other = start_server(NULL);
    size_t length = large(6 << 20);
    const unsigned char *bytes = pattern(length, 12);
    struct peer *reader = connect_with(
        other, &(struct connect_options){.receive_buffer = 16384});
    size_t sent = send_until_full(reader, bytes, length, 0.1);
    half_close(reader);

    expect_silence(client, 2.5);
    send_text(client, "still here");
    expect_text(client, "still here");
    note("now it reads");
    expect_all_back(reader, bytes, sent);
}

TEST(server, idle_with_clients, .promise = PROMISE_REST,
     .cause = "The server asks again and again whether something has come, or "
              "whether there is room to send, instead of waiting for it in "
              "recv(), send() or poll().",
     .read = CODE, .patient = true)
{
    struct program *server = start_server(NULL);
    struct peer *silent = connect_with(
        server, &(struct connect_options){.receive_buffer = 4096});
    greet(silent);
    struct peer *waits = connect_to(server);
    expect_idle(server, "while one client is silent and another one waits");
    close_peer(waits);
    send_text(silent, "still here");
    expect_text(silent, "still here");
    half_close(silent);
    expect_end_of_file(silent);

    /* As over a long thin line: the server's kernel keeps about 64 KiB for such
     * a client, where it would take megabytes. Little to do for a server that
     * takes a byte at a time. */
    int buffer = 4096, segment = 1400;
    int line = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((in_port_t)port_of(server))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    setsockopt(line, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    setsockopt(line, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    if (connect(line, (struct sockaddr *)&address, sizeof address) == -1)
        fail_test("The next client cannot connect: %s", strerror(errno));
    size_t length = 1 << 20, sent = 0;
    const unsigned char *bytes = pattern(length, 10);
    for (int quiet = 0; quiet < 10 && sent < length; quiet++) {
        ssize_t taken = send(line, bytes + sent, length - sent,
                             MSG_DONTWAIT | MSG_NOSIGNAL);
        if (taken > 0) {
            sent += (size_t)taken;
            quiet = 0;
        }
        let_pass(0.005);
    }
    note("the next client has sent %zu bytes and reads nothing", sent);
    expect_idle(server, "while it waits for a client that does not read");

    /* A server that keeps all it has received sees the end now. */
    usual_cause("poll() goes on reporting an end of file that has been read. "
                "Who has seen it, and still has bytes to send, asks for "
                "POLLOUT alone.");
    shutdown(line, SHUT_WR);
    expect_idle(server, "while it waits for a client that has ended its side "
                        "and does not read");
    close(line);
}

/*
 * Connects to a server without free descriptors until it says that it has
 * none, and returns the connection that it could not serve. A server that was
 * waiting in accept() has a descriptor left (see harness.h) and serves one
 * client first. Some runtimes (libuv) keep a descriptor for this moment and
 * turn the client away with it, without a word: that is seen too.
 */
static struct peer *connect_until_exhausted(struct program *server)
{
    size_t said = complaint_length(server);
    for (int i = 0; i < 4; i++) {
        /* It may still hold the descriptor of the last client, for a while
         * after the end of file, and would have that one free again. */
        let_pass(0.1 * i * i);
        exhaust_descriptors(server);
        struct peer *client = connect_to(server);
        send_text(client, "hello?");
        double until = now() + patience();
        char answer[16];
        ssize_t length = 0;
        while (complaint_length(server) == said && now() < until &&
               length == 0) {
            expect_running(server);
            length = receive_some(client, answer, sizeof answer, 0.002);
        }
        if (complaint_length(server) > said || length < 0)
            return client;
        if (length == 0)
            break;
        note("this one was still served");
        half_close(client);
        while (receive_some(client, answer, sizeof answer, patience()) > 0)
            continue;
        close_peer(client);
    }
    fail_test("Expected: the server says on standard error that it has no "
              "descriptors left.\nIt says nothing.");
}

TEST(server, out_of_descriptors, .promise = PROMISE_REST,
     .cause = "accept() fails with EMFILE, and the client stays in the queue, "
              "so that accept() fails again at once: a server that tries "
              "again without a pause uses a whole core, and one that exits "
              "can be ended by anybody who opens many connections.",
     .read = CODE, .patient = true)
{
    struct program *server = start_server(NULL);
    exchange_once(server);
    struct peer *served = connect_to(server);
    greet(served);
    exhaust_descriptors(server);
    note("who is being served goes on; another one comes");
    struct peer *waits = connect_to(server);
    send_text(served, "still here");
    expect_text(served, "still here");
    restore_descriptors(server);
    close_peer(waits);
    half_close(served);
    expect_end_of_file(served);
    close_peer(served);
    exchange_once(server);
    exchange_once(server);

    note("now nobody is being served, and somebody comes");
    waits = connect_until_exhausted(server);
    expect_no_spinning(server, "while it has no descriptors left and a "
                               "client waits");
    restore_descriptors(server);
    close_peer(waits); /* it may have been served, or turned away */
    usual_cause("After EMFILE the server no longer looks at its listener, or "
                "has closed it.");
    exchange_once(server);
    exchange_once(server);
}

/* What is left over after some connections more. Waits while it is too much:
 * who has just closed may need a moment. */
static void expect_released(struct program *server,
                            const struct holdings *before, size_t connections)
{
    enum { TOLERATED = 3 }; /* a child that has yet to be waited for */
    double until = now() + patience();
    struct holdings held = holdings_of(server);
    while ((held.descriptors > before->descriptors + TOLERATED ||
            held.threads > before->threads + TOLERATED ||
            held.processes > before->processes + TOLERATED) &&
           now() < until) {
        let_pass(0.02);
        held = holdings_of(server);
    }
    note("now it holds %zu descriptors, %zu threads, %zu processes",
         held.descriptors, held.threads, held.processes);
    if (held.descriptors > before->descriptors + TOLERATED)
        fail_test("Expected: after %zu connections more, all of them ended, "
                  "the server holds as many descriptors as before.\n"
                  "Before it held %zu, now %zu. Each accept() needs a "
                  "close(), on every way out.",
                  connections, before->descriptors, held.descriptors);
    if (held.processes > before->processes + TOLERATED)
        fail_test("Expected: after %zu connections more, all of them ended, "
                  "the server has as many processes as before.\n"
                  "Before they were %zu, now %zu. A child that has ended "
                  "stays (a zombie) until its parent waits for it, and one "
                  "that does not end stays as well.",
                  connections, before->processes, held.processes);
    if (held.threads > before->threads + TOLERATED)
        fail_test("Expected: after %zu connections more, all of them ended, "
                  "the server has as many threads as before.\n"
                  "Before they were %zu, now %zu.",
                  connections, before->threads, held.threads);
}

TEST(server, connections_leave_nothing_behind, .promise = PROMISE_RELEASE,
     .cause = "close() is missing on one of the ways out: behind an error, "
              "or in the parent after fork(). Children need waitpid(), "
              "threads pthread_detach() or pthread_join().",
     .read = CODE)
{
    static const size_t ways[] = {1, 5, 8, 11};
    struct program *server = start_server(NULL);
    for (int i = 0; i < 5; i++)
        exchange_once(server);
    for (size_t i = 0; i < COUNT(ways); i++)
        go(server, &ways_to_go[ways[i]], false);
    exchange_once(server);
    let_pass(0.05);
    struct holdings before = holdings_of(server);
    note("it holds %zu descriptors, %zu threads, %zu processes",
         before.descriptors, before.threads, before.processes);

    for (int i = 0; i < 8; i++)
        exchange_once(server);
    expect_released(server, &before, 8);
    usual_cause("The way out behind an error of recv() or send() leaves the "
                "client's socket open.");
    for (size_t i = 0; i < 2 * COUNT(ways); i++)
        go(server, &ways_to_go[ways[i % COUNT(ways)]], false);
    exchange_once(server);
    expect_released(server, &before, 17);
}

TEST(server, connections_leave_no_memory_behind, .promise = PROMISE_RELEASE,
     .cause = "Something is allocated for each connection and not freed when "
              "it has ended.",
     .read = CODE, .patient = true, .slow = true)
{
    enum { BATCH = 200, MOST_BATCHES = 12, STEADY = 2 };
    size_t length = hostile_seed() == 0 ? 4096 : 64;
    struct program *server = start_server(NULL);
    const unsigned char *bytes = pattern(length, 11);
    exchange_once(server);
    if (holdings_of(server).threads > 1)
        skip_test("the server has several threads while nobody is there: in "
                  "a language whose runtime collects garbage, memory says "
                  "nothing");
    size_t first = 0, last = 0, steady = 0, connections = 0;
    double until = now() + 20;

    /* A server that leaks grows with each batch; another one stays at some
     * size after a while. */
    for (int batch = 0; batch < MOST_BATCHES && steady < STEADY; batch++) {
        for (int i = 0; i < BATCH && now() < until; i++, connections++) {
            struct peer *client = connect_to(server);
            send_bytes(client, bytes, length);
            half_close(client);
            expect_all_back(client, bytes, length);
        }
        size_t memory = holdings_of(server).memory;
        if (batch == 0)
            first = memory;
        else
            steady = memory <= last + 4096 ? steady + 1 : 0;
        last = memory;
    }
    note("its memory: %zu KiB at first, %zu KiB after %zu connections",
         first / 1024, last / 1024, connections);
    if (steady < STEADY && connections >= 5 * BATCH && last > first + 65536)
        fail_test("Expected: the server's memory stays the same, however many "
                  "connections have come and gone.\nIt grew with each %d "
                  "connections: from %zu KiB to %zu KiB after %zu of them, "
                  "about %zu bytes for each.",
                  BATCH, first / 1024, last / 1024, connections,
                  (last - first) / (connections - BATCH));
}

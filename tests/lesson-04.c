/*
 * lesson-04.c - what is lesson 04's own: frames that are lines (-f line), and
 * a server that serves one connection at a time. What the room says and hears
 * is judged in room.c.
 */
#include "messages.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* A literal and its length, NULs inside it counted. */
#define RAW(literal) literal, sizeof(literal) - 1

#define LINES "04-framing/README.md, \"The idea\""
#define CODE "04-framing/README.md, \"The code in reading order\""
#define BREAK "04-framing/README.md, \"Break it\""

/* ------------------------------------------------------------- the server */

static struct channel *open_lines(struct program *server)
{
    struct channel *channel = open_channel(server);
    speak_lines(channel);
    return channel;
}

static struct channel *enter_by_line(struct program *server, const char *name)
{
    struct channel *channel = open_lines(server);
    send_message(channel, join_as(name));
    expect_welcome(channel, name, 1);
    return channel;
}

TEST(server, serves_the_next_when_one_has_gone,
     .promise = "In lesson 04 the room holds one member, because the server "
                "serves one connection at a time.",
     .cause = "Connections that come while another one is served are refused "
              "or lost, or what they sent before it was their turn is.",
     .read = CODE)
{
    static const char *const names[] = {"grace", "ada", "barbara"};
    struct program *server = start_server("-f", "length", NULL);
    struct channel *first = open_channel(server);
    send_message(first, join_as("ada"));
    expect_welcome(first, "ada", 1);
    struct channel *others[COUNT(names)];
    for (size_t i = 0; i < COUNT(names); i++) {
        others[i] = open_channel(server);
        send_message(others[i], join_as(names[i]));
        send_message(others[i], say("at last"));
        half_close_channel(others[i]);
    }
    send_message(first, say("still here"));
    expect_said(first, "ada", "still here");
    close_channel(first);
    for (size_t i = 0; i < COUNT(names); i++) {
        now_trying(
            text_of("connection %zu of %zu that waited", i + 1, COUNT(names)));
        expect_welcome(others[i], names[i], 1);
        expect_said(others[i], names[i], "at last");
        expect_end(others[i], ONLY_THE_END);
        close_channel(others[i]);
    }
    now_trying(NULL);
}

static const struct {
    const char *what;
    const char *line;
    size_t length;
} no_messages[] = {
    {"an empty line", RAW("\n")},
    {"a line that is only \\r", RAW("\r\n")},
    {"a line of blanks", RAW("   \n")},
    {"a line that is one NUL", RAW("\0\n")},
    {"a NUL behind the object", RAW("{\"type\":\"ping\"}\0\n")},
    {"a NUL between two objects",
     RAW("{\"type\":\"ping\"}\0{\"type\":\"ping\"}\n")},
    {"a NUL before the object", RAW("\0{\"type\":\"ping\"}\n")},
    {"a form feed behind the object", RAW("{\"type\":\"ping\"}\f\n")},
    {"two objects in one line",
     RAW("{\"type\":\"ping\"}{\"type\":\"ping\"}\n")},
    {"a word", RAW("hello\n")},
    {"the byte ff", RAW("{\"type\":\"ping\",\"x\":\"\xff\"}\n")},
    {"a length, as with -f length", RAW("\0\0\0\x0f{\"type\":\"ping\"}\n")},
};

static void send_lines_that_are_no_messages(struct program *server)
{
    struct channel *channel = enter_by_line(server, "ada");
    for (size_t i = 0; i < COUNT(no_messages); i++) {
        now_trying(no_messages[i].what);
        send_raw(channel, no_messages[i].line, no_messages[i].length);
        expect_error(channel);
        expect_alive(channel);
    }
    now_trying("three empty lines at once");
    send_raw(channel, RAW("\n\n\n"));
    for (int i = 0; i < 3; i++)
        expect_error(channel);
    now_trying("a newline inside a string, which ends the line there");
    static const char broken[] = "{\"type\":\"say\",\"text\":\"a\nb\"}\n";
    send_raw(channel, broken, strlen(broken));
    expect_error(channel);
    expect_error(channel);
    send_message(channel, say("still here"));
    expect_said(channel, "ada", "still here");
    now_trying(NULL);
    leave(channel);
}

TEST(server, speaks_in_lines,
     .promise = "With `-f line` a frame is the payload and one `\\n`. A `\\r` "
                "before it is white space of the JSON text; an empty line is "
                "a payload that is no message.",
     .cause = "The answers have no newline, or one inside: JSON must be "
              "written without indentation here. Or a line is compared as it "
              "came, with its \\r.",
     .read = LINES)
{
    struct program *server = start_server("-f", "line", NULL);
    struct channel *channel = open_lines(server);
    expect_alive(channel);
    send_message(channel, join_as("ada"));
    expect_welcome(channel, "ada", 1);
    now_trying("lines that end with \\r\\n");
    send_raw(channel, RAW("{\"type\":\"ping\"}\r\n"));
    expect_pong(channel);
    now_trying("\\r as white space inside the JSON text");
    send_raw(channel, RAW("\r{\r\"type\":\r\"ping\"\t} \r\n"));
    expect_pong(channel);
    now_trying("newlines in a text, which are escaped on the wire");
    send_message(channel, say("one\ntwo\r\nthree\n"));
    expect_said(channel, "ada", "one\ntwo\r\nthree\n");
    now_trying("U+0000 in a text");
    send_message(channel, "{\"type\":\"say\",\"text\":\"a\\u0000b\"}");
    expect_said_bytes(channel, "ada", "a\0b", 3);
    now_trying("U+0085, U+2028 and U+2029 in a text: none of them ends a line");
    send_message(channel, say("a\xc2\x85z\xe2\x80\xa8z\xe2\x80\xa9z"));
    expect_said(channel, "ada", "a\xc2\x85z\xe2\x80\xa8z\xe2\x80\xa9z");
    now_trying("8192 times U+0001, escaped");
    const char *text = repeat("\x01", MOST_TEXT);
    send_message(channel, say(text));
    expect_said(channel, "ada", text);
    now_trying("a text that is too long");
    send_message(channel, say(repeat("x", MOST_TEXT + 1)));
    expect_error(channel);
    expect_alive(channel);
    expect_quiet(channel, 0.05);
    now_trying(NULL);
    leave(channel);
    usual_cause("Empty lines are skipped without a word; or strlen(), strchr() "
                "or strtok() is asked where the line ends, and a NUL in it, or "
                "an empty line, leads it astray. Or more is taken off a line "
                "than the white space of JSON: blank, tab and \\r.");
    send_lines_that_are_no_messages(server);
}

TEST(server, takes_lines_in_any_pieces,
     .promise = "With `-f line` a frame is the payload and one `\\n`. Requests "
                "may be pipelined.",
     .cause = "One recv() is not one line: it brings half of one, or three "
              "and the beginning of the next.",
     .read = LINES)
{
    struct program *server = start_server("-f", "line", NULL);
    struct channel *channel = enter_by_line(server, "ada");
    struct stretch lines = {.framing = BY_LINE};
    add_message(&lines, ping);
    add_message(&lines, say("h\xc3\xa9"));
    add_bytes(&lines, "\n", 1);
    add_message(&lines, ping);
    for (size_t cut = 1; cut < lines.length; cut += 2) {
        now_trying(text_of("four lines, cut after byte %zu", cut));
        send_raw(channel, lines.bytes, cut);
        let_pass(0.001);
        send_raw(channel, lines.bytes + cut, lines.length - cut);
        expect_pong(channel);
        expect_said(channel, "ada", "h\xc3\xa9");
        expect_error(channel);
        expect_pong(channel);
    }
    now_trying("four lines, a byte at a time");
    send_in_pieces(channel, lines.bytes, lines.length, 1, 0.0002);
    expect_pong(channel);
    expect_said(channel, "ada", "h\xc3\xa9");
    expect_error(channel);
    expect_pong(channel);
    now_trying("two hundred lines at once");
    struct stretch many = {.framing = BY_LINE};
    for (int i = 0; i < 200; i++)
        add_message(&many, say(text_of("line %d %s", i,
                                       repeat("x", (size_t)(i * 7 % 900)))));
    send_stretch(channel, &many);
    half_close_channel(channel);
    for (int i = 0; i < 200; i++)
        expect_said(
            channel, "ada",
            text_of("line %d %s", i, repeat("x", (size_t)(i * 7 % 900))));
    now_trying(NULL);
    expect_end(channel, ONLY_THE_END);
    close_channel(channel);
}

/* A ping and blanks, `length` bytes of payload. */
static const char *long_ping(size_t length)
{
    return text_of("%s%s", ping, repeat(" ", length - strlen(ping)));
}

TEST(server, ends_a_line_without_end,
     .promise = "With `-f line`, more than 65,536 bytes without a `\\n` get "
                "one `error` and the close.",
     .cause = "The buffer grows until a newline comes, or it is smaller than "
              "the contract wants, or the limit is only looked at when the "
              "newline has come, or when a \\r has been taken off.",
     .read = BREAK)
{
    static const size_t too_long[] = {65537, 65600, 1 << 20};
    struct program *server = start_server("-f", "line", NULL);
    struct channel *channel = enter_by_line(server, "ada");
    static const size_t allowed[] = {4095,  4096,  8191,  8192, 8193,
                                     32768, 65534, 65535, 65536};
    for (size_t i = 0; i < COUNT(allowed); i++) {
        now_trying(text_of("a line of %zu bytes and its newline, which is "
                           "allowed, and another line right behind it",
                           allowed[i]));
        struct stretch lines = {.framing = BY_LINE};
        add_message(&lines, long_ping(allowed[i]));
        add_message(&lines, say("x"));
        send_stretch(channel, &lines);
        expect_pong(channel);
        expect_said(channel, "ada", "x");
    }
    now_trying("65,536 bytes, which are allowed, and their newline a while "
               "later");
    send_raw(channel, long_ping(65536), 65536);
    expect_quiet(channel, 0.1);
    send_raw(channel, "\n", 1);
    expect_pong(channel);
    leave(channel);
    for (size_t i = 0; i < 2 * COUNT(too_long); i++) {
        size_t length = too_long[i / 2];
        now_trying(text_of("%zu bytes without a newline%s", length,
                           i % 2 == 0
                               ? ""
                               : ", the last one a \\r, then a newline and "
                                 "another line"));
        channel = open_lines(server);
        struct stretch lines = {.framing = BY_LINE};
        add_message(&lines, ping);
        if (i % 2 == 0) {
            add_bytes(&lines, long_ping(length), length);
        } else {
            add_bytes(&lines, long_ping(length - 1), length - 1);
            add_bytes(&lines, "\r\n", 2);
            add_message(&lines, ping);
        }
        send_without_reading(channel, lines.bytes, lines.length, 0.3);
        expect_pong(channel);
        expect_error(channel);
        expect_end(channel, ONLY_THE_END);
        close_channel(channel);
    }
    now_trying(NULL);
    leave(enter_by_line(server, "ada"));
}

TEST(server, drops_a_line_that_end_of_file_cuts_off,
     .promise = "A frame that end of file cuts off is dropped (an `error` may "
                "be sent).",
     .cause = "What stands behind the last newline is taken for a line. "
              "getline(), fgets() and the line iterators of many languages "
              "return it like one.",
     .read = LINES)
{
    struct program *server = start_server("-f", "line", NULL);
    struct stretch lines = {.framing = BY_LINE};
    add_message(&lines, join_as("ada"));
    add_message(&lines, say("whole"));
    add_bytes(&lines, say("cut off"), strlen(say("cut off")));
    for (int way = 0; way < 2; way++) {
        now_trying(way == 0 ? "a last line that only lacks its newline"
                            : "a last line of which the half is there");
        struct channel *channel = open_lines(server);
        send_raw(channel, lines.bytes, lines.length - (way == 0 ? 0 : 10));
        half_close_channel(channel);
        expect_welcome(channel, "ada", 1);
        expect_said(channel, "ada", "whole");
        expect_end(channel, ERROR_MAY_COME);
        close_channel(channel);
    }
    now_trying("the next connection, after half a line of the last one");
    struct channel *channel = open_lines(server);
    send_raw(channel, RAW("{\"type\":"));
    leave(channel);
    channel = open_lines(server);
    send_raw(channel, RAW("\"ping\"}\n"));
    expect_error(channel);
    expect_alive(channel);
    now_trying("a connection that is reset inside a line");
    send_raw(channel, RAW("{\"type\":"));
    reset_channel(channel);
    channel = enter_by_line(server, "ada");
    now_trying(NULL);
    leave(channel);
}

/* ------------------------------------------------------------- the client */

static struct channel *let_in_by_line(struct program *client,
                                      struct listener *listener)
{
    struct channel *channel = accept_channel(listener);
    speak_lines(channel);
    expect_join(channel, "ada");
    send_message(channel, welcome("ada", 2));
    expect_output_text(client, "* you are ada (2 in the room)\n");
    return channel;
}

TEST(client, speaks_in_lines,
     .promise = "With `-f line` a frame is the payload and one `\\n`. A `\\r` "
                "before it is white space of the JSON text.",
     .cause = "The JSON is written over several lines, or the newline is "
              "missing, or one recv() is taken for one line.",
     .read = LINES)
{
    struct listener *listener = listen_here();
    struct program *client = start_client_to(listener, "-f", "line", "-n",
                                             "ada", NULL);
    struct channel *channel = let_in_by_line(client, listener);
    static const char *const typed[] = {"hello", "  blanks  ", "\"\\\"",
                                        "h\xc3\xa9 \xe2\x80\xa8 x", "\\n"};
    for (size_t i = 0; i < COUNT(typed); i++) {
        type_text(client, text_of("%s\n", typed[i]));
        expect_say(channel, typed[i]);
        send_message(channel, said("ada", typed[i]));
        expect_output_text(client, text_of("ada: %s\n", typed[i]));
    }
    now_trying("typed: 8192 control characters, 49,152 bytes when they are "
               "escaped");
    const char *controls = repeat("\x01", MOST_TEXT);
    type_text(client, text_of("%s\n", controls));
    expect_say(channel, controls);
    send_message(channel, said("ada", controls));
    expect_output_text(client,
                       text_of("ada: %s\n", repeat("\\u{1}", MOST_TEXT)));
    end_input(client);
    expect_end(channel, ONLY_THE_END);

    now_trying("a line that ends with \\r\\n");
    send_raw(channel, RAW("{\"type\":\"joined\",\"name\":\"bob\"}\r\n"));
    expect_output_text(client, "* bob joined\n");
    now_trying("a text with newlines, which are escaped on the wire");
    send_message(channel, said("bob", "one\ntwo\n"));
    expect_output_text(client, "bob: one\\u{A}two\\u{A}\n");
    now_trying("three lines, a byte at a time");
    struct stretch lines = {.framing = BY_LINE};
    add_message(&lines, said("bob", "b\xc3\xa9"));
    add_message(&lines, left("bob"));
    add_message(&lines, error_because("enough"));
    send_in_pieces(channel, lines.bytes, lines.length, 1, 0);
    expect_output_text(client, "bob: b\xc3\xa9\n* bob left\n! enough\n");
    now_trying("three lines at once");
    send_stretch(channel, &lines);
    expect_output_text(client, "bob: b\xc3\xa9\n* bob left\n! enough\n");
    static const size_t sizes[] = {4096, 8192, 65535, 65536};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        now_trying(text_of("a line of %zu bytes and its newline, and another "
                           "one right behind it",
                           sizes[i]));
        struct stretch two = {.framing = BY_LINE};
        const char *json = said("bob", "long");
        add_message(
            &two, text_of("%s%s", json, repeat(" ", sizes[i] - strlen(json))));
        add_message(&two, left("bob"));
        send_stretch(channel, &two);
        expect_output_text(client, "bob: long\n* bob left\n");
    }
    now_trying(NULL);
    close_channel(channel);
    expect_exit(client, 0);
    expect_output_end(client);
}

TEST(client, ends_a_line_without_end,
     .promise = "1 <= N <= 65536; a client closes and exits 1. With `-f line` "
                "more than 65,536 bytes without a `\\n` are no frame.",
     .cause = "The client reads on until a newline comes, however much memory "
              "that takes, and waits for ever when none comes. Or the limit is "
              "forgotten when one comes. Or end of file inside a line is taken "
              "for its end.",
     .read = BREAK)
{
    static const size_t lengths[] = {65537, 1 << 20, 65537, 1 << 20};
    struct listener *listener = listen_here();
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct stretch line = {.framing = BY_LINE};
        const char *json = said("ada", "x");
        add_message(&line, text_of("%s%s", json,
                                   repeat(" ", lengths[i] - strlen(json))));
        if (i < 2)
            line.length--;
        now_trying(text_of("the server sends %zu bytes without a newline%s",
                           lengths[i], i < 2 ? "" : ", then one"));
        struct program *client = start_client_to(listener, "-f", "line", "-n",
                                                 "ada", NULL);
        struct channel *channel = let_in_by_line(client, listener);
        type_text(client, "x\n");
        expect_say(channel, "x");
        send_without_reading(channel, line.bytes, line.length, patience());
        expect_exit(client, 1);
        expect_complaint(client, "what was wrong");
        expect_output_end(client);
        close_channel(channel);
    }
    now_trying("the server closes inside a line, instead of an answer");
    struct program *client = start_client_to(listener, "-f", "line", "-n",
                                             "ada", NULL);
    struct channel *channel = let_in_by_line(client, listener);
    type_text(client, "x\n");
    expect_say(channel, "x");
    send_raw(channel, RAW("{\"type\":\"said\""));
    close_channel(channel);
    expect_exit(client, 1);
    expect_output_end(client);
    now_trying(NULL);
}

/*
 * 04-message.c - fuzzes lesson 04's message.c.
 *
 * The fuzzer's bytes are a payload. It begins with the messages in
 * 04-message.lines, and has the words in 04-message.dict, which it would not
 * find by chance. A tilde stands for 4096 letters, so that a text can be too
 * long.
 */
#include "message.h"

#include "fuzz.h"

#include <string.h>

static bool same(const char *left, size_t left_length, const char *right,
                 size_t right_length)
{
    return left_length == right_length &&
           (left_length == 0 || memcmp(left, right, left_length) == 0);
}

/* Whether a name, in well-formed UTF-8, is one that the contract allows. */
static bool is_allowed(const char *name, size_t length)
{
    size_t code_points = 0;
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)name[i];
        uint8_t next = i + 1 < length ? (uint8_t)name[i + 1] : 0;
        if (byte < 0x20 || byte == 0x7F || (byte == 0xC2 && next < 0xA0))
            return false; /* a control character */
        code_points += (byte & 0xC0) != 0x80;
    }
    return code_points >= 1 && code_points <= NAME_MAX_CODE_POINTS;
}

/* A string of the message is the JSON's, all of it: it may hold U+0000. */
static void check_string(const json_t *json, const char *string, size_t length)
{
    check(string == NULL || (string == json_string_value(json) &&
                             length == json_string_length(json)),
          "a name and a text are those of the JSON, to their end");
}

/* What must be true of a message that was read. */
static void check_message(const struct message *message)
{
    static char payload[PAYLOAD_MAX];
    check_string(json_object_get(message->json, "name"), message->name,
                 message->name_length);
    const char *text = message->type == MESSAGE_ERROR ? "reason" : "text";
    check_string(json_object_get(message->json, text), message->text,
                 message->text_length);

    bool request = message_check_request(message) == NULL;
    if (request) {
        check(message->type <= MESSAGE_PING,
              "a client may join, say something and ping");
        check(message->text_length <= TEXT_MAX, "a text has its limit");
    }

    if (message->type == MESSAGE_JOIN)
        check(request == is_allowed(message->name, message->name_length),
              "a name has 1 to 32 code points, none a control character");

    size_t length = message_write(message, payload);
    check(length <= PAYLOAD_MAX, "a payload has its limit");
    check(length > 0 || !request, "what a client may send fits into a frame");
    if (length == 0)
        return; /* letters that are escaped take up to six bytes */
    check(memchr(payload, '\n', length) == NULL,
          "no newline stands in a payload: it may be sent as a line");

    struct message again;
    check(message_read(payload, length, &again) == NULL,
          "what was written can be read");
    check(again.type == message->type && again.members == message->members &&
              same(again.name, again.name_length, message->name,
                   message->name_length) &&
              same(again.text, again.text_length, message->text,
                   message->text_length),
          "what was written is read as the same message");
    message_free(&again);
}

/* Puts the letters in. Returns how long the payload is, PAYLOAD_MAX at most:
 * what does not fit is left out. */
static size_t expand(const uint8_t *bytes, size_t length,
                     char payload[PAYLOAD_MAX])
{
    size_t end = 0;
    for (size_t i = 0; i < length; i++) {
        size_t count = bytes[i] == '~' ? 4096 : 1;
        if (count > PAYLOAD_MAX - end)
            break;
        memset(payload + end, bytes[i] == '~' ? 'x' : bytes[i], count);
        end += count;
    }
    return end;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static char expanded[PAYLOAD_MAX];
    size_t payload_length = expand(bytes, length, expanded);
    char *payload = allocate(payload_length);
    memcpy(payload, expanded, payload_length);

    struct message message;
    const char *problem = message_read(payload, payload_length, &message);
    if (problem == NULL) {
        check_message(&message);
        message_free(&message);
    } else {
        check(problem[0] != '\0', "a problem is a sentence");
    }
    free(payload);
    return 0;
}

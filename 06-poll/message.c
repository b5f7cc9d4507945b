/*
 * message.c - what client and server of the room say to each other. message.h
 * says how to use it.
 *
 * New in this lesson. Framing says where a message ends; this says what is in
 * it. The JSON is read by jansson, which refuses ill-formed UTF-8, lone
 * surrogates, text behind the object and a hundred thousand brackets. What is
 * left for us: the members that this protocol knows, and their limits.
 */
#include "message.h"

#include "utf8.h"

#include <stdbool.h>
#include <string.h>

/* What each type is called and which members it must have. The order is that
 * of enum message_type. */
static const struct {
    const char *type;
    const char *text; /* what the member with the text is called, or NULL */
    bool name;
    bool members;
} kinds[] = {
    [MESSAGE_JOIN] = {"join", NULL, true, false},
    [MESSAGE_SAY] = {"say", "text", false, false},
    [MESSAGE_PING] = {"ping", NULL, false, false},
    [MESSAGE_WELCOME] = {"welcome", NULL, true, true},
    [MESSAGE_JOINED] = {"joined", NULL, true, false},
    [MESSAGE_SAID] = {"said", "text", true, false},
    [MESSAGE_LEFT] = {"left", NULL, true, false},
    [MESSAGE_PONG] = {"pong", NULL, false, false},
    [MESSAGE_ERROR] = {"error", "reason", false, false},
};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* Finds a member that must be a string. Returns false when there is none. The
 * string may hold U+0000, so its length counts and not where a NUL stands. */
static bool get_string(const json_t *json, const char *member,
                       const char **string, size_t *length)
{
    const json_t *value = json_object_get(json, member);
    if (!json_is_string(value))
        return false;
    *string = json_string_value(value);
    *length = json_string_length(value);
    return true;
}

/* Which type has this name, or KINDS. */
static size_t find_kind(const char *type, size_t length)
{
    size_t kind = 0;
    while (kind < KINDS && (strlen(kinds[kind].type) != length ||
                            memcmp(kinds[kind].type, type, length) != 0))
        kind++;
    return kind;
}

/* Takes the members of a message out of the object. Returns as message_read. */
static const char *read_members(const json_t *json, struct message *message)
{
    const char *type;
    size_t length;
    if (!json_is_object(json))
        return "a message is a JSON object";
    if (!get_string(json, "type", &type, &length))
        return "a message has a string member \"type\"";
    size_t kind = find_kind(type, length);
    if (kind == KINDS)
        return "the type of this message is unknown";
    message->type = (enum message_type)kind;

    if (kinds[kind].name &&
        !get_string(json, "name", &message->name, &message->name_length))
        return "this type needs a string member \"name\"";
    if (kinds[kind].text != NULL &&
        !get_string(json, kinds[kind].text, &message->text,
                    &message->text_length))
        return "this type needs a string member \"text\"";
    if (kinds[kind].members) {
        const json_t *members = json_object_get(json, "members");
        if (!json_is_integer(members))
            return "this type needs a whole number \"members\"";
        message->members = json_integer_value(members);
    }
    return NULL;
}

const char *message_read(const char *payload, size_t length,
                         struct message *message)
{
    *message = (struct message){0};
    /* JSON_ALLOW_NUL: without it jansson refuses `\u0000` in a string, for the
     * sake of those who would use strlen on it. In the name of a member it
     * refuses it all the same, although JSON allows it. */
    json_t *json = json_loadb(payload, length, JSON_ALLOW_NUL, NULL);
    if (json == NULL)
        return "this is no JSON object in UTF-8";
    const char *problem = read_members(json, message);
    if (problem != NULL) {
        json_decref(json);
        return problem;
    }
    message->json = json;
    return NULL;
}

void message_free(struct message *message)
{
    json_decref(message->json); /* NULL is allowed */
    *message = (struct message){0};
}

/* Whether a name has 1 to 32 code points and no control characters. It comes
 * out of jansson, so it is well-formed UTF-8. */
static bool is_name(const char *name, size_t length)
{
    struct utf8_decoder decoder = {0};
    uint32_t code_points[2];
    int count = 0;
    for (size_t i = 0; i < length; i++) {
        int came = utf8_decode(&decoder, (unsigned char)name[i], code_points);
        if (came == 0)
            continue;
        uint32_t code_point = code_points[0];
        if (code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0))
            return false;
        if (++count > NAME_MAX_CODE_POINTS)
            return false;
    }
    return count > 0;
}

const char *message_check_request(const struct message *message)
{
    switch (message->type) {
    case MESSAGE_JOIN:
        return is_name(message->name, message->name_length)
                   ? NULL
                   : "a name has 1 to 32 characters, none of them a control "
                     "character";
    case MESSAGE_SAY:
        return message->text_length >= 1 && message->text_length <= TEXT_MAX
                   ? NULL
                   : "a text has 1 to 8192 bytes";
    case MESSAGE_PING:
        return NULL;
    default:
        return "only a server sends messages of this type";
    }
}

/* Adds a string to an object. Returns 0, or -1 when it is no UTF-8 or memory is
 * out. (jansson calls it "stealing": the object owns the new string.) */
static int set_string(json_t *json, const char *member, const char *string,
                      size_t length)
{
    return json_object_set_new(json, member, json_stringn(string, length));
}

size_t message_write(const struct message *message, char payload[PAYLOAD_MAX])
{
    size_t length = 0;
    const char *type = kinds[message->type].type;
    const char *text = kinds[message->type].text;
    json_t *json = json_object();
    if (set_string(json, "type", type, strlen(type)) == -1)
        goto done;
    if (kinds[message->type].name &&
        set_string(json, "name", message->name, message->name_length) == -1)
        goto done;
    if (text != NULL &&
        set_string(json, text, message->text, message->text_length) == -1)
        goto done;
    if (kinds[message->type].members &&
        json_object_set_new(json, "members", json_integer(message->members)) ==
            -1)
        goto done;
    /* json_dumpb returns how many bytes it needs, also when there is no room
     * for them. JSON_COMPACT: no blanks and, for line.c, no newlines. */
    length = json_dumpb(json, payload, PAYLOAD_MAX, JSON_COMPACT);
    if (length > PAYLOAD_MAX)
        length = 0;
done:
    json_decref(json);
    return length;
}

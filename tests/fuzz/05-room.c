/*
 * 05-room.c - fuzzes lesson 05's room.c.
 *
 * The fuzzer's bytes are what eight people do: who, what, and with which name.
 * Beside the room stands a model of it, an array and a few lines. After each
 * step everybody must have been told what the model says, and nothing else.
 */
#include "room.h"

#include "fuzz.h"

#include <string.h>

enum { PEOPLE = 8 };

static const char *const names[] = {"ada", "grace", "\xC3\xA9va", "ad"};
static const char *const texts[] = {"hello", "\xF0\x9F\x8E\x89", "\n"};

enum { NAMES = sizeof names / sizeof names[0] };
enum { TEXTS = sizeof texts / sizeof texts[0] };

/* What somebody was told in one step: at most one message, in this room. */
struct told {
    int times;
    enum message_type type;
    char name[16], text[64];
    json_int_t members;
};

static struct told heard[PEOPLE];

/* Where a member's connection would be: its place in `heard`. */
static void tell(void *connection, const char *bytes, size_t length)
{
    struct told *told = connection;
    struct frame frame;
    struct message message;
    check(bytes != NULL, "there was memory for a frame");
    check(frame_read(bytes, length, &frame) == FRAME_WHOLE &&
              frame.size == length,
          "what a member is told is one frame");
    check(message_read(frame.payload, frame.length, &message) == NULL,
          "what a member is told is a message");
    check(message.name_length < sizeof told->name &&
              message.text_length < sizeof told->text,
          "a name and a text are no longer than those that were said");
    *told = (struct told){.times = told->times + 1,
                          .type = message.type,
                          .members = message.members};
    if (message.name != NULL)
        memcpy(told->name, message.name, message.name_length);
    if (message.text != NULL)
        memcpy(told->text, message.text, message.text_length);
    message_free(&message);
}

/* ---------------------------------------------------------------- the model */

/* Which name each has, or NAMES: not in the room. */
static size_t name_of[PEOPLE];

static struct told expected[PEOPLE];

static void expect(size_t one, enum message_type type, const char *name,
                   const char *text, json_int_t members)
{
    struct told *told = &expected[one];
    *told = (struct told){.times = 1, .type = type, .members = members};
    strcpy(told->name, name);
    strcpy(told->text, text);
}

static void expect_all_but(size_t one, enum message_type type, const char *name,
                           const char *text)
{
    for (size_t i = 0; i < PEOPLE; i++)
        if (i != one && name_of[i] != NAMES)
            expect(i, type, name, text, 0);
}

static json_int_t how_many(void)
{
    json_int_t count = 0;
    for (size_t i = 0; i < PEOPLE; i++)
        count += name_of[i] != NAMES;
    return count;
}

static bool is_taken(size_t name)
{
    for (size_t i = 0; i < PEOPLE; i++)
        if (name_of[i] == name)
            return true;
    return false;
}

static void model_join(size_t who, size_t name)
{
    if (name_of[who] != NAMES || is_taken(name)) {
        expect(who, MESSAGE_ERROR, "", "", 0);
        return;
    }
    name_of[who] = name;
    expect(who, MESSAGE_WELCOME, names[name], "", how_many());
    expect_all_but(who, MESSAGE_JOINED, names[name], "");
}

static void model_say(size_t who, size_t text)
{
    if (name_of[who] == NAMES)
        expect(who, MESSAGE_ERROR, "", "", 0);
    else
        expect_all_but(PEOPLE, MESSAGE_SAID, names[name_of[who]], texts[text]);
}

static void model_leave(size_t who)
{
    size_t name = name_of[who];
    name_of[who] = NAMES;
    if (name != NAMES)
        expect_all_but(who, MESSAGE_LEFT, names[name], "");
}

/* ----------------------------------------------------------------- the room */

static struct room room;
static struct member people[PEOPLE];

static void check_what_was_heard(void)
{
    for (size_t i = 0; i < PEOPLE; i++) {
        check(
            heard[i].times == expected[i].times,
            "each hears of a step once, or not at all if it is not concerned");
        check(heard[i].type == expected[i].type, "each hears the right thing");
        /* The reason of an error is the room's to choose. */
        if (heard[i].type != MESSAGE_ERROR)
            check(strcmp(heard[i].name, expected[i].name) == 0 &&
                      strcmp(heard[i].text, expected[i].text) == 0 &&
                      heard[i].members == expected[i].members,
                  "each hears the right name, text and number of members");
    }
    check(room.count == (size_t)how_many(),
          "the room knows how many are in it");
}

static void step(struct input *input)
{
    struct message request = {0};
    memset(heard, 0, sizeof heard);
    memset(expected, 0, sizeof expected);

    size_t who = choose(input, PEOPLE);
    size_t what = choose(input, 5);
    size_t which = choose(input, what <= 1 ? NAMES : TEXTS);
    switch (what) {
    case 0:
    case 1:
        request.type = MESSAGE_JOIN;
        request.name = names[which];
        request.name_length = strlen(names[which]);
        model_join(who, which);
        room_answer(&room, &people[who], &request);
        break;
    case 2:
        request.type = MESSAGE_SAY;
        request.text = texts[which];
        request.text_length = strlen(texts[which]);
        model_say(who, which);
        room_answer(&room, &people[who], &request);
        break;
    case 3:
        request.type = MESSAGE_PING;
        expect(who, MESSAGE_PONG, "", "", 0);
        room_answer(&room, &people[who], &request);
        break;
    default:
        model_leave(who);
        room_leave(&room, &people[who]);
    }
    check_what_was_heard();
}

/* Whoever is still in the room at the end stays there: room_close() must free
 * what the room knows of them, and the leak check sees whether it did. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct input input = {bytes, length};
    room_open(&room, tell);
    for (size_t i = 0; i < PEOPLE; i++) {
        people[i] = (struct member){.connection = &heard[i]};
        name_of[i] = NAMES;
    }
    while (input.length > 0)
        step(&input);
    room_close(&room);
    return 0;
}

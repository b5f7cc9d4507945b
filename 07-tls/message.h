/*
 * message.h - what client and server of the room say to each other.
 *
 * A message is one JSON object in UTF-8, the payload of one frame. Names and
 * texts may hold any code point, U+0000 too: they are given by pointer and
 * length, and are no C strings.
 */
#ifndef MESSAGE_H
#define MESSAGE_H

#include "frame.h"

#include <jansson.h>
#include <stddef.h>

enum {
    NAME_MAX_CODE_POINTS = 32,
    TEXT_MAX = 8192 /* bytes of UTF-8 */
};

enum message_type {
    /* from a client */
    MESSAGE_JOIN, /* name */
    MESSAGE_SAY,  /* text */
    MESSAGE_PING,
    /* from a server */
    MESSAGE_WELCOME, /* name, members */
    MESSAGE_JOINED,  /* name */
    MESSAGE_SAID,    /* name, text */
    MESSAGE_LEFT,    /* name */
    MESSAGE_PONG,
    MESSAGE_ERROR /* text: the reason */
};

/* One message. What its type does not have is NULL and 0. */
struct message {
    enum message_type type;
    const char *name;
    size_t name_length;
    const char *text;
    size_t text_length;
    json_int_t members;
    json_t *json; /* the memory that name and text point into, or NULL */
};

/*
 * Reads a message out of a payload. Returns NULL, and the caller ends the use
 * of `message` with message_free(); or returns a sentence that says what is
 * wrong with the payload, and there is nothing to free.
 */
const char *message_read(const char *payload, size_t length,
                         struct message *message);

/* Frees what message_read() has allocated. */
void message_free(struct message *message);

/*
 * Checks what a server has to check of a message before it looks at the
 * state of the room: that it is one that a client may send, and the limits of
 * name and text. Returns NULL or a sentence that says what is wrong.
 */
const char *message_check_request(const struct message *message);

/*
 * Writes a message as a payload. Returns how many bytes that are, or 0 when it
 * does not fit into PAYLOAD_MAX bytes, a text is no UTF-8, or memory is out.
 */
size_t message_write(const struct message *message, char payload[PAYLOAD_MAX]);

#endif

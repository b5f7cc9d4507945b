/*
 * line.c - messages in a stream of bytes, each before a newline. line.h says
 * how to use it.
 *
 * New in this lesson. The delimiter is what people reach for first: one can
 * read it on the wire and type it by hand. The price: the receiver must look
 * at every byte, cannot know how much to expect, and the payload must not
 * hold the delimiter. JSON fits, because in it a newline is written `\n`.
 */
#include "line.h"

#include <string.h>

enum frame_result line_read(const char *bytes, size_t length,
                            struct frame *frame)
{
    /* The payload may hold NUL bytes: memchr goes on where strchr stops. And
     * it never looks further than a line may be long. */
    size_t most = length <= PAYLOAD_MAX ? length : PAYLOAD_MAX + 1;
    const char *end = most == 0 ? NULL : memchr(bytes, '\n', most);
    if (end == NULL)
        return length <= PAYLOAD_MAX ? FRAME_UNFINISHED : FRAME_IMPOSSIBLE;
    frame->payload = bytes;
    frame->length = (size_t)(end - bytes);
    frame->size = frame->length + 1;
    return FRAME_WHOLE;
}

size_t line_write(const char *payload, size_t length, char bytes[FRAME_MAX])
{
    memcpy(bytes, payload, length);
    bytes[length] = '\n';
    return length + 1;
}

const struct framing *framing_named(const char *name)
{
    static const struct framing length = {frame_read, frame_write};
    static const struct framing line = {line_read, line_write};
    if (strcmp(name, "length") == 0)
        return &length;
    return strcmp(name, "line") == 0 ? &line : NULL;
}

/*
 * line.h - messages in a stream of bytes, each before a newline.
 *
 * The same two functions as in frame.h, for the other way to say where a
 * message ends.
 */
#ifndef LINE_H
#define LINE_H

#include "frame.h"

/*
 * Looks for a line at the beginning of `length` bytes: a payload of 0 to
 * PAYLOAD_MAX bytes, then '\n'. Fills in `frame` when the result is
 * FRAME_WHOLE. FRAME_IMPOSSIBLE: more than PAYLOAD_MAX bytes and no end.
 */
enum frame_result line_read(const char *bytes, size_t length,
                            struct frame *frame);

/*
 * Writes a payload and its newline into `bytes`. The payload, 0 to PAYLOAD_MAX
 * bytes, must hold no newline itself. Returns how many bytes that are.
 */
size_t line_write(const char *payload, size_t length, char bytes[FRAME_MAX]);

/* A way to say where a message ends, so that a program can choose one while it
 * runs: line_read and line_write, or frame_read and frame_write. */
struct framing {
    enum frame_result (*read)(const char *bytes, size_t length,
                              struct frame *frame);
    size_t (*write)(const char *payload, size_t length, char bytes[FRAME_MAX]);
};

/* The framing that is called "length" or "line", or NULL for another name. */
const struct framing *framing_named(const char *name);

#endif

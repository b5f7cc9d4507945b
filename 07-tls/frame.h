/*
 * frame.h - messages in a stream of bytes, each behind its length.
 *
 * No socket in sight: bytes go in, frames come out. So the same code serves a
 * server that blocks, one that polls and one inside TLS, and a test can call
 * it without a network.
 */
#ifndef FRAME_H
#define FRAME_H

#include <stddef.h>

enum {
    PAYLOAD_MAX = 65536,        /* bytes in one frame, at most */
    FRAME_MAX = 4 + PAYLOAD_MAX /* and on the wire, with what surrounds them */
};

/* What stands at the beginning of some bytes. */
enum frame_result {
    FRAME_WHOLE,      /* a frame, and all of it */
    FRAME_UNFINISHED, /* the beginning of one: more bytes are needed */
    FRAME_IMPOSSIBLE  /* none, and nobody can say where the next one begins */
};

/* A frame that was found. It points into the bytes where it was found, and is
 * good for as long as they are. */
struct frame {
    const char *payload;
    size_t length; /* of the payload */
    size_t size;   /* of the whole frame: the next one begins so much later */
};

/*
 * Looks for a frame at the beginning of `length` bytes: four bytes that hold
 * the length of the payload, most significant byte first, then the payload,
 * 1 to PAYLOAD_MAX bytes. Fills in `frame` when the result is FRAME_WHOLE.
 */
enum frame_result frame_read(const char *bytes, size_t length,
                             struct frame *frame);

/*
 * Writes the frame of a payload, 1 to PAYLOAD_MAX bytes, into `bytes`.
 * Returns how many bytes that are, at most FRAME_MAX.
 */
size_t frame_write(const char *payload, size_t length, char bytes[FRAME_MAX]);

#endif

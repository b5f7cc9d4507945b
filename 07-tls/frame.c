/*
 * frame.c - messages in a stream of bytes, each behind its length. frame.h
 * says how to use it.
 *
 * New in this lesson. The length comes first, so the receiver knows how much
 * to wait for, and the payload may hold any byte. The price: whoever is out
 * of step once stays out of step for ever. A length that cannot be right is
 * therefore the end of the connection.
 */
#include "frame.h"

#include <stdint.h>
#include <string.h>

enum { HEADER_SIZE = 4 };

enum frame_result frame_read(const char *bytes, size_t length,
                             struct frame *frame)
{
    /* TCP may deliver the header in two pieces, like anything else. */
    if (length < HEADER_SIZE)
        return FRAME_UNFINISHED;

    /*
     * Most significant byte first, put together by shifts: right on every
     * machine. Each byte goes through `unsigned char`, for a plain `char` may
     * be signed and 0xFF would become -1. The sum is unsigned too: as an `int`
     * the length FFFFFFFF would be -1, smaller than any limit.
     */
    uint32_t payload_length = 0;
    for (size_t i = 0; i < HEADER_SIZE; i++)
        payload_length = payload_length << 8 | (unsigned char)bytes[i];

    /* A stranger chose this number. It is bounded here, before anything is
     * allocated, waited for or added to because of it. */
    if (payload_length < 1 || payload_length > PAYLOAD_MAX)
        return FRAME_IMPOSSIBLE;

    if (length - HEADER_SIZE < payload_length)
        return FRAME_UNFINISHED;
    frame->payload = bytes + HEADER_SIZE;
    frame->length = payload_length;
    frame->size = HEADER_SIZE + frame->length;
    return FRAME_WHOLE;
}

size_t frame_write(const char *payload, size_t length, char bytes[FRAME_MAX])
{
    bytes[0] = (char)(length >> 24);
    bytes[1] = (char)(length >> 16);
    bytes[2] = (char)(length >> 8);
    bytes[3] = (char)length;
    memcpy(bytes + HEADER_SIZE, payload, length);
    return HEADER_SIZE + length;
}

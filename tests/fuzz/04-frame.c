/*
 * 04-frame.c - fuzzes lesson 04's frame.c and line.c.
 *
 * The fuzzer's bytes choose a framing and are a stream. Behind them come
 * letters without a meaning, up to some more than a frame may be long, so that
 * the limits are reached with few bytes.
 */
#include "frame.h"

#include "fuzz.h"
#include "line.h"

#include <string.h>

/* What the contract says of the beginning of some bytes. */
static enum frame_result right_result(bool line, const char *bytes,
                                      size_t length)
{
    if (line) {
        for (size_t i = 0; i < length && i <= PAYLOAD_MAX; i++)
            if (bytes[i] == '\n')
                return FRAME_WHOLE;
        return length <= PAYLOAD_MAX ? FRAME_UNFINISHED : FRAME_IMPOSSIBLE;
    }
    if (length < 4)
        return FRAME_UNFINISHED;
    uint64_t payload = 0;
    for (size_t i = 0; i < 4; i++)
        payload = payload * 256 + (uint8_t)bytes[i];
    if (payload == 0 || payload > PAYLOAD_MAX)
        return FRAME_IMPOSSIBLE;
    return payload <= length - 4 ? FRAME_WHOLE : FRAME_UNFINISHED;
}

/* What must be true of a frame that was found at the beginning of `bytes`. */
static void check_frame(const struct framing *framing, const char *bytes,
                        size_t length, const struct frame *frame, size_t some)
{
    check(frame->size >= 1 && frame->size <= length,
          "a frame lies within the bytes where it was found");
    check(frame->length <= PAYLOAD_MAX,
          "a payload is at most PAYLOAD_MAX long");
    check(frame->payload >= bytes &&
              frame->payload + frame->length <= bytes + frame->size,
          "a payload lies within its frame");

    /* The part of it, on its own: reading beyond is seen. */
    struct frame none;
    size_t part = some % frame->size;
    char *beginning = allocate(part);
    memcpy(beginning, bytes, part);
    check(framing->read(beginning, part, &none) == FRAME_UNFINISHED,
          "of a frame that has come in part, more bytes are needed");
    free(beginning);

    static char written[FRAME_MAX];
    check(framing->write(frame->payload, frame->length, written) ==
                  frame->size &&
              memcmp(written, bytes, frame->size) == 0,
          "a payload that was read is written as the frame where it was");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct input input = {bytes, length};
    bool line = choose(&input, 2) == 1;
    const struct framing *framing = framing_named(line ? "line" : "length");
    size_t letters = choose(&input, 65536) + choose(&input, 16);
    size_t some = choose(&input, 65536);

    size_t total = input.length + letters;
    char *stream = allocate(total);
    if (input.length > 0)
        memcpy(stream, input.bytes, input.length);
    memset(stream + input.length, 'x', letters);

    size_t begin = 0;
    enum frame_result result = FRAME_WHOLE;
    while (result == FRAME_WHOLE) {
        struct frame frame;
        result = framing->read(stream + begin, total - begin, &frame);
        check(
            result == right_result(line, stream + begin, total - begin),
            "a frame is whole, unfinished or impossible as the contract says");
        if (result == FRAME_WHOLE) {
            check_frame(framing, stream + begin, total - begin, &frame, some);
            begin += frame.size;
        }
    }
    free(stream);
    return 0;
}

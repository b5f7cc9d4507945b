/*
 * fuzz.h - what the fuzz targets share.
 *
 * A fuzz target is a function that gets bytes which a fuzzer has made up, does
 * something with them, and checks what must be true whatever the bytes are.
 * libFuzzer (a part of clang) calls it thousands of times a second, watches
 * which branches the program takes, and goes on from the bytes that reached new
 * ones. `make fuzz` builds and runs all targets; the address and undefined
 * sanitizers look on.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* The target. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* Ends the program when something is not as it must be; libFuzzer keeps the
 * bytes that led here. `promise` says what must be true. */
static inline void check(bool kept, const char *promise)
{
    if (kept)
        return;
    fprintf(stderr, "BROKEN: %s\n", promise);
    abort();
}

/* Memory, or the end of the program; the caller frees it. A block of exactly
 * the size that is needed: the address sanitizer sees a step beyond it. */
static inline void *allocate(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);
    check(memory != NULL, "the fuzz target has memory");
    return memory;
}

/* The fuzzer's bytes, taken from the front to decide what happens next. */
struct input {
    const uint8_t *bytes;
    size_t length;
};

/* Returns a number below `count` (1 to 65536), made of up to two bytes; 0 when
 * none are left. */
static inline size_t choose(struct input *input, size_t count)
{
    size_t number = 0;
    for (size_t limit = 1; limit < count && input->length > 0; limit *= 256) {
        number = number * 256 + *input->bytes++;
        input->length--;
    }
    return number % count;
}

#endif

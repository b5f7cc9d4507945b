/*
 * bytes.c - memory for the harness: bytes that grow, pieces that live until
 * the end of a run, and material for the tests.
 */
#include "inside.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *memory)
{
    if (memory == NULL) {
        fputs("harness: out of memory\n", stderr);
        abort();
    }
    return memory;
}

void append_bytes(struct bytes *bytes, const void *data, size_t length)
{
    size_t needed = bytes->length + length + 1;
    if (needed > bytes->size) {
        size_t size = bytes->size == 0 ? 256 : bytes->size;
        while (size < needed)
            size *= 2;
        bytes->data = must(realloc(bytes->data, size));
        bytes->size = size;
    }
    if (length > 0)
        memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
    bytes->data[bytes->length] = '\0';
}

void append_arguments(struct bytes *bytes, const char *format, va_list list)
{
    char *text = NULL;
    int length = vasprintf(&text, format, list);
    if (length < 0)
        abort();
    append_bytes(bytes, text, (size_t)length);
    free(text);
}

void append_format(struct bytes *bytes, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    append_arguments(bytes, format, list);
    va_end(list);
}

void free_bytes(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

/* ---------------------------------------- pieces kept until a run has ended */

struct kept {
    struct kept *next;
    max_align_t memory[];
};

static struct kept *all_kept;

void *keep(size_t length)
{
    struct kept *piece = must(malloc(sizeof *piece + length + 1));
    piece->next = all_kept;
    all_kept = piece;
    return piece->memory;
}

void forget_all_kept(void)
{
    while (all_kept != NULL) {
        struct kept *next = all_kept->next;
        free(all_kept);
        all_kept = next;
    }
}

const char *text_of(const char *format, ...)
{
    struct bytes text = {0};
    va_list list;
    va_start(list, format);
    append_arguments(&text, format, list);
    va_end(list);
    char *copy = keep(text.length);
    memcpy(copy, text.data, text.length + 1);
    free_bytes(&text);
    return copy;
}

/* The splitmix64 generator: the same numbers on every machine. */
static uint64_t next_number(uint64_t *state)
{
    uint64_t number = (*state += 0x9e3779b97f4a7c15u);
    number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9u;
    number = (number ^ (number >> 27)) * 0x94d049bb133111ebu;
    return number ^ (number >> 31);
}

const unsigned char *pattern(size_t length, unsigned seed)
{
    unsigned char *bytes = keep(length + 256);
    uint64_t state = seed;

    /* All 256 values, shuffled, come first; numbers at random follow. */
    for (size_t i = 0; i < 256; i++) {
        size_t j = (size_t)(next_number(&state) % (i + 1));
        if (j != i)
            bytes[i] = bytes[j];
        bytes[j] = (unsigned char)i;
    }
    for (size_t i = 256; i < length; i += 8) {
        uint64_t number = next_number(&state);
        memcpy(bytes + i, &number, 8);
    }
    return bytes;
}
